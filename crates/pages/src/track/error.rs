//! Why a process cannot be tracked, for people.

use crate::inject::InjectError;
use crate::strategy::{StartError, StrategyName};

/// Why not. The process goes on as if nothing had been tried.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// It gives no userfaultfd.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// The strategy asked for does not work here.
    #[error(
        "cannot track process {pid} with the strategy {strategy}: {reason}; `tracker check` lists those that work here"
    )]
    Refused {
        /// The process.
        pid: u32,
        /// The strategy.
        strategy: StrategyName,
        /// What stands against it.
        reason: String,
    },
    /// None works here.
    #[error("no strategy can track process {pid}: {reason}")]
    None {
        /// The process.
        pid: u32,
        /// What stands against each.
        reason: String,
    },
    /// There is no such process.
    #[error("process {0} does not exist (any more)")]
    Gone(u32),
    /// The strategy does not start.
    #[error("cannot track process {pid}: {source}")]
    Start {
        /// The process.
        pid: u32,
        /// Why.
        source: StartError,
    },
    /// It lives, and its memory cannot be read.
    #[error(
        "cannot read the memory of process {0} any more, though it lives: its first thread may have ended, and this \
         strategy reads from outside; try another one"
    )]
    Unreadable(u32),
    /// The kernel refuses something.
    #[error("cannot track process {pid} any further: {source}")]
    Kernel {
        /// The process.
        pid: u32,
        /// What.
        source: uffd::Error,
    },
}

impl TrackError {
    /// The process has no memory (any more).
    pub(super) fn is_the_end(&self) -> bool {
        use InjectError::{Gone, KernelThread, NoLeader, Zombie};
        match self {
            Self::Gone(_)
            | Self::Start {
                source: StartError::Gone(_),
                ..
            } => true,
            Self::Inject(error) => matches!(
                error,
                Gone { .. } | KernelThread { .. } | NoLeader { .. } | Zombie { .. }
            ),
            _ => false,
        }
    }

    /// This kernel or this privilege cannot do it, and trying again would not help.
    #[must_use]
    pub fn is_inability(&self) -> bool {
        match self {
            Self::Inject(error) => error.is_inability(),
            Self::Refused { .. } | Self::None { .. } => true,
            Self::Gone(_) | Self::Unreadable(_) | Self::Start { .. } | Self::Kernel { .. } => false,
        }
    }
}
