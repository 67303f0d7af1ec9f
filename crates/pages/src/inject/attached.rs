//! A userfaultfd of another process in use: what is registered is given back before it closes.
#![forbid(unsafe_code)]

use std::ops::Range;

use uffd::{RegisterMode, UffdError, UffdFeatures, Userfaultfd};

use super::ranges::RangeSet;
use super::{InjectedUffd, ProcessLife, ProcessLifeline};

/// A userfaultfd and what is registered with it. Dropping it unregisters everything, then closes.
///
/// If this process is killed the kernel does the same when it closes the descriptor, except that
/// kernels before 6.12 leave the write-protect bits in the page tables; nobody looks at them
/// without a registration.
#[derive(Debug)]
pub struct UffdLease {
    uffd: Userfaultfd,
    target: ProcessLifeline,
    registered: RangeSet,
}

impl UffdLease {
    /// Begins the protocol with `features`.
    ///
    /// # Errors
    /// If the kernel does not offer all of them.
    pub fn new(injected: InjectedUffd, features: UffdFeatures) -> Result<Self, UffdError> {
        let InjectedUffd { uffd, target, .. } = injected;
        uffd.enable(features)?;
        Ok(Self {
            uffd,
            target,
            registered: RangeSet::default(),
        })
    }

    /// The userfaultfd, to arm and read with.
    #[must_use]
    pub fn uffd(&self) -> &Userfaultfd {
        &self.uffd
    }

    /// The process it belongs to.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// Registers a range, which is unregistered at the latest on drop.
    ///
    /// # Errors
    /// EBUSY: it belongs to another userfaultfd. ENOMEM: the address space is gone, see
    /// [`Self::life`].
    pub fn register(&mut self, range: &Range<u64>, mode: RegisterMode) -> Result<(), UffdError> {
        // What fails is not ours: older kernels would let us take it from its owner.
        self.uffd.register(range, mode)?;
        self.registered.insert(range);
        Ok(())
    }

    /// Whether the userfaultfd still has an address space to work on.
    ///
    /// # Errors
    /// If the target cannot be asked.
    pub fn life(&self) -> Result<ProcessLife, UffdError> {
        self.target.life()
    }

    /// What is mapped now. `None`: it is another address space by now, or cannot be read.
    fn mapped(&self) -> Option<Vec<Range<u64>>> {
        let vmas = uffd::maps(self.target.pid()).ok()?;
        let mapped = vmas.map(|vma| Some(vma.ok()?.range())).collect();
        matches!(self.target.has_memory(), Ok(true)).then_some(mapped)?
    }
}

impl Drop for UffdLease {
    fn drop(&mut self) {
        // Part by part: where a range holds something foreign by now the kernel unregisters nothing
        // of it. What fails is left to the close.
        for mapped in self.mapped().unwrap_or_default() {
            for part in self.registered.common(&mapped) {
                let _ = self.uffd.unregister(&part);
            }
        }
    }
}
