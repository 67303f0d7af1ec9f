//! Whether a process stands still while it is read.

use pages::inject::{self, FrozenProcess, InjectNote, InjectOptions};

/// When the process stands still.
#[derive(Clone, Debug)]
pub(super) enum FreezeMode {
    Never,
    /// In each round, until what was reported has been read; how to stop it.
    EachRound(InjectOptions),
}

/// What came of stopping a process.
pub(super) struct FreezeOutcome {
    /// It stands still.
    pub(super) frozen: Option<FrozenProcess>,
    /// What its owner might notice.
    pub(super) notes: Vec<InjectNote>,
}

impl FreezeMode {
    pub(super) fn of(wanted: bool, options: &InjectOptions) -> Self {
        if wanted {
            Self::EachRound(options.clone())
        } else {
            Self::Never
        }
    }

    /// Stops the process if it is to stand still. It runs on in this round if it cannot be stopped
    /// at the moment, or is not the same any more: another program is attached to first. What was
    /// done to it by then is in the notes.
    pub(super) fn freeze(&self, pid: u32, is_same: impl Fn() -> bool) -> FreezeOutcome {
        let runs = |notes: &[InjectNote]| FreezeOutcome {
            frozen: None,
            notes: notes.to_vec(),
        };
        let Self::EachRound(options) = self else {
            return runs(&[]);
        };
        if !is_same() {
            return runs(&[]);
        }
        match inject::freeze(pid, options) {
            Ok(frozen) if is_same() => FreezeOutcome {
                notes: frozen.notes().to_vec(),
                frozen: Some(frozen),
            },
            Ok(frozen) => runs(frozen.notes()),
            Err(error) => {
                tracing::debug!("process {pid} runs on: {error}");
                runs(error.notes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_to_stand_still_is_left_alone() {
        let (pid, options) = (std::process::id(), InjectOptions::default());
        assert!(
            FreezeMode::of(false, &options)
                .freeze(pid, || true)
                .frozen
                .is_none()
        );
        // Nor is a process of another program touched.
        assert!(
            FreezeMode::of(true, &options)
                .freeze(pid, || false)
                .frozen
                .is_none()
        );
    }
}
