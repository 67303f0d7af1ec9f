//! Reads the iterator `iter/task_vma`, which walks every uffd-wp VMA of the machine in the kernel.

use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use bytemuck::Zeroable;
use tracker_ebpf::IterVma;

use super::error::ProbeError;
use super::hooks::HookId;
use super::iterator;

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

    /// Walks all VMAs now. This also makes processes known to the probes that registered before the
    /// probes were attached.
    ///
    /// # Errors
    /// If the iterator cannot be opened or read.
    pub fn read(&self) -> Result<Vec<IterVma>, ProbeError> {
        let mut file = {
            let mut ebpf = self.ebpf.lock().unwrap_or_else(PoisonError::into_inner);
            iterator::open(&mut ebpf, HookId::task_vma.name())?
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes
            .chunks_exact(size_of::<IterVma>())
            .map(record)
            .collect())
    }
}

fn record(bytes: &[u8]) -> IterVma {
    let mut vma = IterVma::zeroed();
    bytemuck::bytes_of_mut(&mut vma).copy_from_slice(bytes);
    vma
}
