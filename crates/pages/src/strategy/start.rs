//! From a name and what is at hand to a strategy that runs.

use super::hash::Hash;
use super::markers::Markers;
use super::missing_zeropage::MissingZeropage;
use super::none_is_clean::NoneIsClean;
use super::prefault::Prefault;
use super::soft_dirty::SoftDirty;
use super::sync::Sync;
use super::{Name, Strategy};
use uffd::{Behaviour, Pagemap, Userfaultfd, WrittenMeaning};

/// A process to be tracked, and what there is to do it with. A strategy is bound to the address space that the process
/// has now: exec ends it.
#[derive(Debug)]
pub struct Target {
    /// Its pid.
    pub pid: u32,
    /// A userfaultfd of its address space that has no features yet; the tracker must hold its only copy.
    pub uffd: Option<Userfaultfd>,
    /// What this kernel does.
    pub behaviour: Behaviour,
    /// Tell zaps and huge pages too, where that can be told; a scan is 20 times slower then.
    pub detailed: bool,
}

/// Why a strategy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no userfaultfd.
    #[error("{0} acts through a userfaultfd of the process, and there is none")]
    NoDescriptor(Name),
    /// It is not for other processes.
    #[error("{0} tracks only the process it runs in; choose another strategy")]
    InProcessOnly(Name),
    /// The process has ended.
    #[error("process {0} has ended")]
    Gone(u32),
    /// The kernel refuses.
    #[error(transparent)]
    Refused(#[from] uffd::Error),
}

/// Starts a strategy; its areas are armed one by one.
///
/// # Errors
/// If something it needs is not there. Ask [`super::verdict`] first.
pub fn start(name: Name, target: Target) -> Result<Box<dyn Strategy>, StartError> {
    let pid = target.pid;
    let pagemap = || Pagemap::open(pid)?.ok_or(StartError::Gone(pid));
    let behaviour = target.behaviour;
    let detailed = target.detailed && behaviour.written == Some(WrittenMeaning::Fixed);
    let uffd = target.uffd.ok_or(StartError::NoDescriptor(name));
    Ok(match name {
        Name::Markers => Box::new(Markers::new(uffd?, pagemap()?, detailed)?),
        Name::Sync => Box::new(Sync::new(uffd?, pagemap()?, behaviour)?),
        Name::Prefault if can_scan(&behaviour) => {
            let inner = Markers::new(uffd?, pagemap()?, detailed)?;
            Box::new(Prefault::new(pid, Box::new(inner)))
        }
        Name::Prefault => {
            let inner = Sync::new(uffd?, pagemap()?, behaviour)?;
            Box::new(Prefault::new(pid, Box::new(inner)))
        }
        Name::MissingZeropage => Box::new(MissingZeropage::new(uffd?, [pagemap()?, pagemap()?])?),
        Name::NoneIsClean => Box::new(NoneIsClean::new(uffd?, pagemap()?)?),
        Name::SoftDirty => Box::new(SoftDirty::new(pid, pagemap()?)),
        Name::Hash => Box::new(Hash::new(pid, pagemap()?)),
        Name::Mprotect => return Err(StartError::InProcessOnly(name)),
    })
}

/// Whether the kernel resolves faults itself and reads and arms in one step.
pub(super) const fn can_scan(behaviour: &Behaviour) -> bool {
    behaviour.features.is_async() && behaviour.written.is_some()
}
