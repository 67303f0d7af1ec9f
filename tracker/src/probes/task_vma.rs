//! Reads the iterator `iter/task_vma`, which walks every uffd-wp VMA of the machine in the kernel.

use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use bytemuck::Zeroable;
use tracker_ebpf::IterVma;

use super::error::ProbeError;
use super::hooks::HookId;
use super::iterator;

/// VMAs that are read from the kernel with one call.
const AT_ONCE: usize = 512;

/// The loaded iterator.
#[derive(Clone)]
pub struct TaskVmaIterator {
    ebpf: Arc<Mutex<Ebpf>>,
}

impl TaskVmaIterator {
    /// The iterator of an object in which it is loaded.
    #[must_use]
    pub const fn new(ebpf: Arc<Mutex<Ebpf>>) -> Self {
        Self { ebpf }
    }

    /// Walks all VMAs now, and tells `each` of those that use uffd-wp. This also makes processes
    /// known to the probes that registered before the probes were attached.
    ///
    /// # Errors
    /// If the iterator cannot be opened or read.
    pub fn read(&self, each: &mut dyn FnMut(&IterVma)) -> Result<(), ProbeError> {
        let file = {
            let mut ebpf = self.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
            iterator::open(&mut ebpf, HookId::task_vma.name())?
        };
        let mut file = BufReader::with_capacity(AT_ONCE * size_of::<IterVma>(), file);
        let mut vma = IterVma::zeroed();
        while !file.fill_buf()?.is_empty() {
            file.read_exact(bytemuck::bytes_of_mut(&mut vma))?;
            each(&vma);
        }
        Ok(())
    }
}
