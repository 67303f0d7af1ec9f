//! Why a process cannot be tracked.

use uffd::{OtherPidNamespace, ProcessGone, UffdError};

use super::{UntrackedDetail, UntrackedMapping, UntrackedPages};
use crate::inject::InjectError;
use crate::strategy::{NoStrategy, StartError, StrategyName, VerdictReason};

/// Why a process cannot be tracked. It goes on as if nothing had been tried.
#[derive(Debug, thiserror::Error)]
pub enum TrackError {
    /// The process gave no userfaultfd.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// The strategy asked for does not work here.
    #[error(
        "cannot track process {pid} with the strategy {strategy}: {reason}; `tracker check` lists \
         those that work here"
    )]
    Refused {
        /// The process.
        pid: u32,
        /// The strategy.
        strategy: StrategyName,
        /// What stands against it.
        reason: VerdictReason,
    },
    /// The strategy asked for arms no pages, which explaining needs.
    #[error(
        "cannot track process {pid} with the strategy {strategy}: explaining needs one that arms \
         pages, and compares content in any case ({reason}); `tracker check` lists those that work \
         here"
    )]
    ArmsNothing {
        /// The process.
        pid: u32,
        /// The strategy.
        strategy: StrategyName,
        /// Why this one.
        reason: String,
    },
    /// All of its memory is such as cannot be tracked.
    #[error("nothing of process {pid} can be tracked: {}", why_nothing(.untracked))]
    Nothing {
        /// The process.
        pid: u32,
        /// What it has, and what stands against each.
        untracked: Vec<UntrackedMapping>,
    },
    /// None works here.
    #[error("no strategy can track process {pid}: {reason}")]
    None {
        /// The process.
        pid: u32,
        /// What stands against each.
        reason: NoStrategy,
    },
    /// There is no such process.
    #[error(transparent)]
    Gone(#[from] ProcessGone),
    /// Which process is meant cannot be told.
    #[error(transparent)]
    OtherNamespace(#[from] OtherPidNamespace),
    /// The strategy does not start.
    #[error("cannot track process {pid}: {source}")]
    Start {
        /// The process.
        pid: u32,
        /// Why.
        source: StartError,
    },
    /// The process lives, and its memory cannot be read.
    #[error(
        "cannot read the memory of process {0} any more, though it lives: its first thread may \
         have ended, and this strategy reads from outside; try another one"
    )]
    Unreadable(u32),
    /// The kernel refuses something.
    #[error("cannot track process {pid} any further: {source}")]
    Kernel {
        /// The process.
        pid: u32,
        /// What.
        source: UffdError,
    },
}

impl TrackError {
    /// The process has no memory (any more).
    pub(super) fn is_the_end(&self) -> bool {
        use InjectError::{KernelThread, NoLeader, Zombie};
        let has_none = matches!(
            self,
            Self::Inject(KernelThread { .. } | NoLeader { .. } | Zombie { .. })
        );
        let is_unseen = matches!(self, Self::Kernel { source, .. } if source.is_unseen());
        self.is_gone() || is_unseen || has_none
    }

    /// Whether it may be possible later, by nothing but the passing of time.
    pub(super) const fn may_pass(&self) -> bool {
        matches!(self, Self::Inject(error) if error.may_pass())
    }

    /// Whether the process is gone.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        match self {
            Self::Gone(_) => true,
            Self::Inject(error) => error.is_gone(),
            Self::Start { source, .. } => source.is_gone(),
            Self::Kernel { source, .. } => source.is_gone(),
            Self::Refused { .. }
            | Self::ArmsNothing { .. }
            | Self::None { .. }
            | Self::Nothing { .. }
            | Self::OtherNamespace(_)
            | Self::Unreadable(_) => false,
        }
    }

    /// What an answer of the kernel means to whoever tracks process `pid`.
    pub fn kernel(pid: u32) -> impl Fn(UffdError) -> Self + Copy {
        move |source| match source {
            UffdError::Gone(gone) => Self::Gone(gone),
            UffdError::OtherNamespace(namespace) => Self::OtherNamespace(namespace),
            source => Self::Kernel { pid, source },
        }
    }

    /// This kernel or this privilege cannot do it, and trying again would not help.
    #[must_use]
    pub fn is_inability(&self) -> bool {
        match self {
            Self::Inject(error) => error.is_inability(),
            Self::Refused { .. }
            | Self::ArmsNothing { .. }
            | Self::None { .. }
            | Self::OtherNamespace(_) => true,
            Self::Gone(_)
            | Self::Nothing { .. }
            | Self::Unreadable(_)
            | Self::Start { .. }
            | Self::Kernel { .. } => false,
        }
    }
}

/// The reasons with their pages, and who holds what is held.
fn why_nothing(untracked: &[UntrackedMapping]) -> String {
    let count = |it: &UntrackedMapping| (it.reason, it.pages);
    let pages: UntrackedPages = untracked.iter().map(count).collect();
    let mut holders = untracked.iter().map(|it| &it.detail);
    let holder = holders.find_map(|detail| match detail {
        UntrackedDetail::Holder(holder) => Some(format!(" ({holder})")),
        _ => None,
    });
    format!("{pages}{}", holder.unwrap_or_default())
}
