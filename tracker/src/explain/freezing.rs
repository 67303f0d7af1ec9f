//! Whether a process stands still while it is read.

use std::time::Duration;

use pages::inject::{self, FrozenProcess, ProcessLife, ProcessLifeline};

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

    /// Stops the process if it is to stand still. If it cannot be stopped at the moment, or has
    /// executed another program, which is attached to first, it runs on in this round.
    pub(super) fn freeze(self, pid: u32, lifeline: &ProcessLifeline) -> Option<FrozenProcess> {
        let lives = || matches!(lifeline.life(), Ok(ProcessLife::Same));
        if self == Self::Never || !lives() {
            return None;
        }
        match inject::freeze(pid, LONGEST) {
            Ok(frozen) if lives() => Some(frozen),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!("process {pid} runs on: {error}");
                None
            }
        }
    }
}
