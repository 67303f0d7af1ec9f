//! A private mapping to try things on, touched only through volatile accesses.

use std::ops::Range;
use std::ptr;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{Error, PAGE_SIZE, PMD_SIZE, Result};

/// Memory of our own, aligned to 2 MiB, whose pages are what its user makes of them. No reference into it
/// exists, so that the kernel may change it at any time.
#[derive(Debug)]
pub struct Scratch {
    /// The whole mapping, including what is lost to alignment.
    mapping: *mut u8,
    mapped: usize,
    start: *mut u8,
    length: usize,
}

// SAFETY: it is an address range; all access is volatile, by byte, and checked against its length.
unsafe impl Send for Scratch {}
// SAFETY: as above; racing byte accesses to it see one or the other value.
unsafe impl Sync for Scratch {}

impl Scratch {
    /// Anonymous private memory without huge pages.
    pub fn anonymous(length: u64) -> Result<Self> {
        Self::map(length, MapFlags::PRIVATE)
    }

    /// Anonymous shared memory: shmem.
    pub fn shared(length: u64) -> Result<Self> {
        Self::map(length, MapFlags::SHARED)
    }

    fn map(length: u64, flags: MapFlags) -> Result<Self> {
        let failed = |e| Error::system("cannot map", format!("{length} bytes"), e);
        let length = length.next_multiple_of(PAGE_SIZE) as usize;
        let mapped = length + PMD_SIZE as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let mapping = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), mapped, protection, flags)
                .map_err(failed)?
        };
        // SAFETY: the mapping is ours; on a kernel without huge pages the advice fails and is not needed.
        let _ = unsafe { rustix::mm::madvise(mapping, mapped, Advice::LinuxNoHugepage) };
        let mapping = mapping.cast::<u8>();
        let start = mapping.map_addr(|address| address.next_multiple_of(PMD_SIZE as usize));
        Ok(Self {
            mapping,
            mapped,
            start,
            length,
        })
    }

    /// Its addresses.
    pub fn range(&self) -> Range<u64> {
        let start = self.start.addr() as u64;
        start..start + self.length as u64
    }

    /// Stores to the first byte of a page.
    pub fn write(&self, page: u64) {
        // SAFETY: `byte` is inside the mapping.
        unsafe { self.byte(page).write_volatile(1) }
    }

    /// Reads the first byte of a page.
    pub fn read(&self, page: u64) -> u8 {
        // SAFETY: `byte` is inside the mapping.
        unsafe { self.byte(page).read_volatile() }
    }

    /// Drops every page (`MADV_DONTNEED`).
    pub fn drop_pages(&self) -> Result<()> {
        // SAFETY: the mapping is ours and no reference into it exists.
        unsafe {
            rustix::mm::madvise(self.start.cast(), self.length, Advice::LinuxDontNeed)
                .map_err(|e| Error::system("cannot drop pages of", "a scratch mapping", e))
        }
    }

    /// A page beyond the end stands for the first one: nothing outside is ever touched.
    fn byte(&self, page: u64) -> *mut u8 {
        let offset = (page as usize).saturating_mul(PAGE_SIZE as usize);
        self.start
            .wrapping_add(if offset < self.length { offset } else { 0 })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more. It cannot fail: whole mapping.
        let _ = unsafe { rustix::mm::munmap(self.mapping.cast(), self.mapped) };
    }
}
