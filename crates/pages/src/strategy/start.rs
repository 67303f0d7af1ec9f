//! From a name and a target to a strategy that runs.
#![forbid(unsafe_code)]

use std::sync::Arc;

use uffd::{KernelBehaviour, Pagemap, UffdError, Userfaultfd, WrittenMeaning};

use super::observer::{FaultTimeObserver, NotObserved};
use super::{StrategyName, TrackingStrategy};

/// A process to track, and the means. A strategy is bound to the address space that the process has
/// now: exec ends it.
#[derive(Debug)]
pub struct StrategyTarget {
    /// Its process id.
    pub pid: u32,
    /// A userfaultfd of its address space that has no features yet; the tracker must hold its only
    /// copy.
    pub uffd: Option<Userfaultfd>,
    /// What this kernel was seen to do.
    pub behaviour: KernelBehaviour,
    /// Who sees the page faults of the process, for a strategy that asks.
    pub observer: Option<Arc<dyn FaultTimeObserver>>,
    /// Whether to tell zaps and huge pages, where that is possible; a scan is 20 times slower then.
    pub detailed: bool,
}

/// Why a strategy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The target has no userfaultfd for it.
    #[error("{0} acts through a userfaultfd of the process, and there is none")]
    NoDescriptor(StrategyName),
    /// The strategy is not for other processes.
    #[error("{0} tracks only the process it runs in; choose another strategy")]
    InProcessOnly(StrategyName),
    /// Nobody sees its page faults.
    #[error("nobody sees the page faults of the process, which takes eBPF programs")]
    NoObserver,
    /// Whoever should see its page faults cannot.
    #[error("the page faults of the process cannot be seen: {0}")]
    NotObserved(#[from] NotObserved),
    /// The kernel refuses, or the process is gone.
    #[error(transparent)]
    Refused(#[from] UffdError),
}

impl StartError {
    /// Whether the process is gone.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_gone())
    }
}

/// A strategy that has no area yet, or why there is none.
pub(super) type StartResult = Result<Box<dyn TrackingStrategy>, StartError>;

/// How a strategy starts. The constructors of those that work from outside find everything they
/// need in the target.
#[derive(Debug)]
pub(super) enum StrategyStart {
    /// Through a userfaultfd of the process.
    Descriptor(fn(Userfaultfd, &StrategyTarget) -> StartResult),
    /// By reading the process, and what the kernel tells of it.
    Outside(fn(&StrategyTarget) -> StartResult),
    /// In the process itself. Whoever starts it vouches for the memory that it is given.
    OwnProcess(unsafe fn() -> StartResult),
}

/// Starts a strategy; its areas are armed one by one.
///
/// # Errors
/// If something it needs is missing. Ask [`super::verdict()`] first.
pub fn start(name: StrategyName, mut target: StrategyTarget) -> StartResult {
    match &name.entry().start {
        StrategyStart::Descriptor(start) => {
            let uffd = target.uffd.take().ok_or(StartError::NoDescriptor(name))?;
            start(uffd, &target)
        }
        StrategyStart::Outside(start) => start(&target),
        StrategyStart::OwnProcess(_) => Err(StartError::InProcessOnly(name)),
    }
}

impl StrategyTarget {
    /// Opens a pagemap of the process.
    pub(super) fn pagemap(&self) -> Result<Pagemap, StartError> {
        Ok(Pagemap::open(self.pid)?)
    }

    /// Whether zaps and huge pages are asked for and can be told.
    pub(super) fn tells_details(&self) -> bool {
        self.detailed && self.behaviour.written == Some(WrittenMeaning::Fixed)
    }
}

/// Whether the kernel resolves faults itself, and reads and arms in one step.
pub(super) const fn can_scan(behaviour: &KernelBehaviour) -> bool {
    behaviour.features.is_async() && behaviour.written.is_some()
}
