//! From a name and what is at hand to a strategy that runs.

use super::hash::HashStrategy;
use super::markers::MarkersStrategy;
use super::missing_zeropage::MissingZeropageStrategy;
use super::none_is_clean::NoneIsCleanStrategy;
use super::prefault::PrefaultStrategy;
use super::soft_dirty::SoftDirtyStrategy;
use super::sync::SyncStrategy;
use super::{StrategyName, TrackingStrategy};
use uffd::{KernelBehaviour, Pagemap, UffdError, Userfaultfd, WrittenMeaning};

/// A process to be tracked, and what there is to do it with. A strategy is bound to the address space that the process
/// has now: exec ends it.
#[derive(Debug)]
pub struct StrategyTarget {
    /// Its pid.
    pub pid: u32,
    /// A userfaultfd of its address space that has no features yet; the tracker must hold its only copy.
    pub uffd: Option<Userfaultfd>,
    /// What this kernel does.
    pub behaviour: KernelBehaviour,
    /// Tell zaps and huge pages too, where that can be told; a scan is 20 times slower then.
    pub detailed: bool,
}

/// Why a strategy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no userfaultfd.
    #[error("{0} acts through a userfaultfd of the process, and there is none")]
    NoDescriptor(StrategyName),
    /// It is not for other processes.
    #[error("{0} tracks only the process it runs in; choose another strategy")]
    InProcessOnly(StrategyName),
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

/// Starts a strategy; its areas are armed one by one.
///
/// # Errors
/// If something it needs is not there. Ask [`super::verdict`] first.
pub fn start(
    name: StrategyName,
    target: StrategyTarget,
) -> Result<Box<dyn TrackingStrategy>, StartError> {
    let pid = target.pid;
    let pagemap = || Pagemap::open(pid);
    let behaviour = target.behaviour;
    let detailed = target.detailed && behaviour.written == Some(WrittenMeaning::Fixed);
    let uffd = target.uffd.ok_or(StartError::NoDescriptor(name));
    Ok(match name {
        StrategyName::Markers => Box::new(MarkersStrategy::new(uffd?, pagemap()?, detailed)?),
        StrategyName::Sync => Box::new(SyncStrategy::new(uffd?, pagemap()?, behaviour)?),
        StrategyName::Prefault if can_scan(&behaviour) => {
            let inner = MarkersStrategy::new(uffd?, pagemap()?, detailed)?;
            Box::new(PrefaultStrategy::new(pid, Box::new(inner)))
        }
        StrategyName::Prefault => {
            let inner = SyncStrategy::new(uffd?, pagemap()?, behaviour)?;
            Box::new(PrefaultStrategy::new(pid, Box::new(inner)))
        }
        StrategyName::MissingZeropage => Box::new(MissingZeropageStrategy::new(
            uffd?,
            [pagemap()?, pagemap()?],
        )?),
        StrategyName::NoneIsClean => Box::new(NoneIsCleanStrategy::new(uffd?, pagemap()?)?),
        StrategyName::SoftDirty => Box::new(SoftDirtyStrategy::new(pid, pagemap()?)),
        StrategyName::Hash => Box::new(HashStrategy::new(pid, pagemap()?)),
        StrategyName::Mprotect => return Err(StartError::InProcessOnly(name)),
    })
}

/// Whether the kernel resolves faults itself and reads and arms in one step.
pub(super) const fn can_scan(behaviour: &KernelBehaviour) -> bool {
    behaviour.features.is_async() && behaviour.written.is_some()
}
