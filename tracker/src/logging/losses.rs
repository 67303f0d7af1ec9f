//! How many log lines were not written, and why.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a log line was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLoss {
    /// Too many of its kind came at once.
    Rate,
    /// stderr took no bytes: a full disk, a closed pipe, a reader that stands still.
    Unwritable,
}

static LOST: [AtomicU64; LogLoss::ALL.len()] = [const { AtomicU64::new(0) }; LogLoss::ALL.len()];

impl LogLoss {
    /// All reasons, in the order of their index and of their words.
    pub(crate) const ALL: [Self; 2] = [Self::Rate, Self::Unwritable];

    /// The word, as in `uffdwp_log_lines_lost_total{reason}`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Unwritable => "unwritable",
        }
    }

    /// How many lines this program has lost so.
    pub(crate) fn lines(self) -> u64 {
        LOST[self as usize].load(Ordering::Relaxed)
    }

    /// The word of each reason, and how many lines were lost so.
    pub(crate) fn told() -> [(&'static str, u64); Self::ALL.len()] {
        Self::ALL.map(|loss| (loss.as_str(), loss.lines()))
    }

    /// Counts a line.
    pub(super) fn count(self) {
        LOST[self as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_index() {
        let mut all = LogLoss::ALL.iter().enumerate();
        assert!(all.all(|(index, loss)| *loss as usize == index));
        assert!(LogLoss::ALL.map(LogLoss::as_str).is_sorted());
    }
}
