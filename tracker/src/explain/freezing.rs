//! Whether a process stands still while it is read.

use std::time::Duration;

use pages::inject::{self, FrozenProcess};

/// For how long stopping all threads may take.
const LONGEST: Duration = Duration::from_millis(250);

/// When the process stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FreezeMode {
    Never,
    /// In each round, until what was reported has been read.
    EachRound,
}

impl FreezeMode {
    pub(super) const fn of(wanted: bool) -> Self {
        if wanted { Self::EachRound } else { Self::Never }
    }

    /// Stops the process if it is to stand still. It runs on in this round if it cannot be stopped
    /// at the moment, or is not the same any more: another program is attached to first.
    pub(super) fn freeze(self, pid: u32, is_same: impl Fn() -> bool) -> Option<FrozenProcess> {
        if self == Self::Never || !is_same() {
            return None;
        }
        match inject::freeze(pid, LONGEST) {
            Ok(frozen) if is_same() => Some(frozen),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!("process {pid} runs on: {error}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_to_stand_still_is_left_alone() {
        let pid = std::process::id();
        assert!(FreezeMode::of(false).freeze(pid, || true).is_none());
        // Nor is a process of another program touched.
        assert!(FreezeMode::of(true).freeze(pid, || false).is_none());
    }
}
