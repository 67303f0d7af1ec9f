//! A private mapping to try things on, touched only through volatile accesses.

use std::fs::File;
use std::ops::Range;
use std::ptr;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{PAGE_SIZE, PMD_SIZE, UffdError};

/// `MADV_GUARD_INSTALL`, `MADV_GUARD_REMOVE` (include/uapi/asm-generic/mman-common.h).
const GUARD_INSTALL: i32 = 102;
const GUARD_REMOVE: i32 = 103;

/// Memory of our own, aligned to 2 MiB, whose pages are what its user makes of them. No reference into it
/// exists, so that the kernel may change it at any time.
#[derive(Debug)]
pub struct ScratchMapping {
    /// The whole mapping, including what is lost to alignment.
    mapping: *mut u8,
    mapped: usize,
    start: *mut u8,
    length: usize,
}

// SAFETY: it is an address range; all access is volatile, by byte, and checked against its length.
unsafe impl Send for ScratchMapping {}
// SAFETY: as above; racing byte accesses to it see one or the other value.
unsafe impl Sync for ScratchMapping {}

impl ScratchMapping {
    /// Anonymous private memory without huge pages.
    pub fn anonymous(length: u64) -> Result<Self, UffdError> {
        Self::aligned(length, MapFlags::PRIVATE)
    }

    /// Anonymous shared memory: shmem.
    pub fn shared(length: u64) -> Result<Self, UffdError> {
        Self::aligned(length, MapFlags::SHARED)
    }

    /// Private huge pages of 2 MiB. ENOMEM: so many are not free.
    pub fn hugetlb(length: u64) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PMD_SIZE) as usize;
        let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
        Ok(Self::whole(map(length, flags, None)?, length))
    }

    /// A private mapping of the beginning of a file; what lies beyond its end must not be touched.
    pub fn of_file(file: &File, length: u64) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PAGE_SIZE) as usize;
        Ok(Self::whole(
            map(length, MapFlags::PRIVATE, Some(file))?,
            length,
        ))
    }

    fn whole(mapping: *mut u8, length: usize) -> Self {
        Self {
            mapping,
            mapped: length,
            start: mapping,
            length,
        }
    }

    fn aligned(length: u64, flags: MapFlags) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PAGE_SIZE) as usize;
        let mapped = length + PMD_SIZE as usize;
        let mapping = map(mapped, flags, None)?;
        // SAFETY: the mapping is ours; on a kernel without huge pages the advice fails and is not needed.
        let _ = unsafe { rustix::mm::madvise(mapping.cast(), mapped, Advice::LinuxNoHugepage) };
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
        self.store(page, 1);
    }

    /// Stores a value to the first byte of a page.
    pub fn store(&self, page: u64, value: u8) {
        // SAFETY: `byte` is inside the mapping.
        unsafe { self.byte(page).write_volatile(value) }
    }

    /// Reads the first byte of a page.
    pub fn read(&self, page: u64) -> u8 {
        // SAFETY: `byte` is inside the mapping.
        unsafe { self.byte(page).read_volatile() }
    }

    /// Drops every page (`MADV_DONTNEED`).
    pub fn drop_pages(&self) -> Result<(), UffdError> {
        self.drop_range(0..self.length as u64 / PAGE_SIZE)
    }

    /// Drops some pages (`MADV_DONTNEED`).
    pub fn drop_range(&self, pages: Range<u64>) -> Result<(), UffdError> {
        let whole = self.length as u64 / PAGE_SIZE;
        let (start, end) = (pages.start.min(whole), pages.end.min(whole));
        let length = (end.saturating_sub(start) * PAGE_SIZE) as usize;
        let address = self.start.wrapping_add((start * PAGE_SIZE) as usize);
        // SAFETY: the range is inside the mapping, which is ours, and no reference into it exists.
        unsafe { rustix::mm::madvise(address.cast(), length, Advice::LinuxDontNeed) }
            .map_err(|e| UffdError::system("cannot drop pages of", "a scratch mapping", e))
    }

    /// Makes guards of some pages (`MADV_GUARD_INSTALL`, since 6.13): whoever touches one is killed.
    pub fn install_guards(&self, pages: Range<u64>) -> Result<(), UffdError> {
        self.advise(pages, GUARD_INSTALL, "cannot install guard pages in")
    }

    /// Makes guards plain memory again (`MADV_GUARD_REMOVE`).
    pub fn remove_guards(&self, pages: Range<u64>) -> Result<(), UffdError> {
        self.advise(pages, GUARD_REMOVE, "cannot remove guard pages from")
    }

    /// Advice that rustix does not have.
    fn advise(&self, pages: Range<u64>, advice: i32, what: &'static str) -> Result<(), UffdError> {
        let whole = self.length as u64 / PAGE_SIZE;
        let (start, end) = (pages.start.min(whole), pages.end.min(whole));
        let length = (end.saturating_sub(start) * PAGE_SIZE) as usize;
        let address = self.start.wrapping_add((start * PAGE_SIZE) as usize);
        // SAFETY: the range is inside the mapping, which is ours, and no reference into it exists.
        if unsafe { libc::madvise(address.cast(), length, advice) } == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        let error = rustix::io::Errno::from_raw_os_error(error);
        Err(UffdError::system(what, "a scratch mapping", error))
    }

    /// A page beyond the end stands for the first one: nothing outside is ever touched.
    fn byte(&self, page: u64) -> *mut u8 {
        let offset = (page as usize).saturating_mul(PAGE_SIZE as usize);
        self.start
            .wrapping_add(if offset < self.length { offset } else { 0 })
    }
}

fn map(length: usize, flags: MapFlags, file: Option<&File>) -> Result<*mut u8, UffdError> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let (anywhere, failed) = (ptr::null_mut(), |e| {
        UffdError::system("cannot map", format!("{length} bytes"), e)
    });
    // SAFETY: a new mapping at an address of the kernel's choice; that of a file is private.
    let mapping = unsafe {
        match file {
            None => rustix::mm::mmap_anonymous(anywhere, length, protection, flags),
            Some(file) => rustix::mm::mmap(anywhere, length, protection, flags, file, 0),
        }
    };
    Ok(mapping.map_err(failed)?.cast())
}

impl Drop for ScratchMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing refers to it any more. It cannot fail: whole mapping.
        let _ = unsafe { rustix::mm::munmap(self.mapping.cast(), self.mapped) };
    }
}
