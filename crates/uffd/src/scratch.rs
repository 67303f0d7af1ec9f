//! Memory to try things on, touched by volatile accesses only.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::{PAGE_SIZE, PMD_SIZE, UffdError};

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);
/// `MADV_GUARD_INSTALL` and `MADV_GUARD_REMOVE` (asm-generic/mman-common.h).
const GUARD_INSTALL: i32 = 102;
const GUARD_REMOVE: i32 = 103;

/// What came of a write by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelWrite {
    /// The byte was written.
    Done,
    /// The kernel could not (EFAULT).
    Refused,
}

/// Memory of our own to try things on. No reference into it exists: the kernel may change it at any
/// time. It is unmapped when this is dropped.
///
/// Pages are told by their number in it, counted in 4 KiB. A number beyond the end stands for page
/// 0: nothing outside is ever touched.
#[derive(Debug)]
pub struct ScratchMapping {
    /// The whole mapping, including what is lost to alignment.
    mapping: *mut u8,
    mapped: usize,
    start: *mut u8,
    length: usize,
}

// SAFETY: it is a range of addresses; all access is volatile, by byte, and within its length.
unsafe impl Send for ScratchMapping {}
// SAFETY: as above; of two accesses that race, one sees the byte before or after the other.
unsafe impl Sync for ScratchMapping {}

impl ScratchMapping {
    /// Private anonymous memory, aligned to 2 MiB, without huge pages.
    ///
    /// # Errors
    /// ENOMEM: there is not enough memory.
    pub fn anonymous(length: u64) -> Result<Self, UffdError> {
        Self::aligned(length, MapFlags::PRIVATE)
    }

    /// Shared anonymous memory (shmem), aligned to 2 MiB, without huge pages.
    ///
    /// # Errors
    /// ENOMEM: there is not enough memory.
    pub fn shared(length: u64) -> Result<Self, UffdError> {
        Self::aligned(length, MapFlags::SHARED)
    }

    /// Private huge pages of 2 MiB (hugetlb).
    ///
    /// # Errors
    /// ENOMEM: so many are not free (`vm.nr_hugepages`).
    pub fn hugetlb(length: u64) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PMD_SIZE) as usize;
        let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
        Ok(Self::whole(map(length, READ_WRITE, flags, None)?, length))
    }

    /// A private mapping of the beginning of a file. Who touches a page beyond the end of the file
    /// is killed by SIGBUS.
    ///
    /// # Errors
    /// EACCES: the file is not open for reading. ENODEV: it cannot be mapped.
    pub fn of_file(file: &File, length: u64) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PAGE_SIZE) as usize;
        Ok(Self::whole(
            map(length, READ_WRITE, MapFlags::PRIVATE, Some(file))?,
            length,
        ))
    }

    /// Private anonymous memory that can be executed, as code made at run time is. Who writes to it
    /// is killed by SIGSEGV.
    ///
    /// # Errors
    /// EACCES: a security module forbids such memory.
    pub fn executable(length: u64) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PAGE_SIZE) as usize;
        let protection = ProtFlags::READ | ProtFlags::EXEC;
        let mapping = map(length, protection, MapFlags::PRIVATE, None)?;
        Ok(Self::whole(mapping, length))
    }

    /// Private anonymous memory, aligned to 2 MiB, in huge pages where the kernel has some
    /// (`MADV_HUGEPAGE`).
    ///
    /// # Errors
    /// ENOMEM: there is not enough memory. EINVAL: this kernel has no transparent huge pages.
    pub fn huge(length: u64) -> Result<Self, UffdError> {
        let scratch = Self::aligned(length, MapFlags::PRIVATE)?;
        scratch.advise(0..length / PAGE_SIZE, Advice::LinuxHugepage)?;
        Ok(scratch)
    }

    /// As [`Self::hugetlb`], without reserving pages: who touches one when none is free is killed by
    /// SIGBUS.
    pub(crate) fn hugetlb_unreserved(length: u64) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PMD_SIZE) as usize;
        let huge = MapFlags::HUGETLB | MapFlags::HUGE_2MB | MapFlags::NORESERVE;
        let mapping = map(length, READ_WRITE, MapFlags::PRIVATE | huge, None)?;
        Ok(Self::whole(mapping, length))
    }

    /// Private anonymous memory whose pages are there from the beginning (`MAP_POPULATE`).
    pub(crate) fn populated(length: u64) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PAGE_SIZE) as usize;
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        Ok(Self::whole(map(length, READ_WRITE, flags, None)?, length))
    }

    /// Private anonymous memory at a place where nothing is mapped (EEXIST otherwise).
    pub(crate) fn at(start: u64, length: u64) -> Result<Self, UffdError> {
        let length = length.next_multiple_of(PAGE_SIZE) as usize;
        let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
        let place = ptr::without_provenance_mut(start as usize);
        // SAFETY: the kernel refuses a place where something is mapped.
        let mapping = unsafe { rustix::mm::mmap_anonymous(place, length, READ_WRITE, flags) };
        let mapping = mapping
            .map_err(|e| UffdError::system("cannot map", format!("a page at {start:#x}"), e))?;
        Ok(Self::whole(mapping.cast(), length))
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
        let mapping = map(mapped, READ_WRITE, flags, None)?;
        // SAFETY: the mapping is ours. A kernel without huge pages refuses, and needs no advice.
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
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        let start = self.start.addr() as u64;
        start..start + self.length as u64
    }

    /// Stores 1 to the first byte of a page.
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

    /// Drops every page (`MADV_DONTNEED` of madvise(2)).
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn drop_pages(&self) -> Result<(), UffdError> {
        self.drop_range(0..self.length as u64 / PAGE_SIZE)
    }

    /// Drops some pages (`MADV_DONTNEED` of madvise(2)).
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn drop_range(&self, pages: Range<u64>) -> Result<(), UffdError> {
        self.advise(pages, Advice::LinuxDontNeed)
    }

    /// Has the kernel reclaim some pages (`MADV_PAGEOUT` of madvise(2)): shmem is unmapped, and
    /// whatever can goes to swap. It may leave any of them where they are.
    ///
    /// # Errors
    /// EINVAL: this kernel is older than 5.4, or the memory is locked or hugetlb.
    pub fn page_out(&self, pages: Range<u64>) -> Result<(), UffdError> {
        self.advise(pages, Advice::LinuxPageOut)
    }

    /// Stores a value to the first byte of some pages in a child of fork(2), to its own copy of
    /// private memory, and waits for its end.
    ///
    /// # Errors
    /// EAGAIN or ENOMEM: there cannot be another process. EIO: the child was killed.
    pub fn store_in_child(
        &self,
        pages: impl Iterator<Item = u64>,
        value: u8,
    ) -> Result<(), UffdError> {
        let failed = |error: io::Error| {
            UffdError::system("cannot store in a child to", "a scratch mapping", error)
        };
        // SAFETY: the child stores to memory of its own and leaves by _exit(2); it takes no lock.
        let child = unsafe { libc::fork() };
        if child == 0 {
            pages.for_each(|page| self.store(page, value));
            // SAFETY: ends the child, and runs nothing of this program.
            unsafe { libc::_exit(0) };
        }
        let child = Pid::from_raw(child.max(0)).ok_or_else(io::Error::last_os_error);
        let child = child.map_err(failed)?;
        let waited = loop {
            match waitpid(Some(child), WaitOptions::empty()) {
                Err(Errno::INTR) => (),
                waited => break waited.map_err(|error| failed(error.into()))?,
            }
        };
        match waited {
            Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
            _ => Err(failed(Errno::IO.into())),
        }
    }

    fn advise(&self, pages: Range<u64>, advice: Advice) -> Result<(), UffdError> {
        let (address, length) = self.within(pages);
        // SAFETY: the range is inside the mapping, which is ours, and no reference into it exists.
        unsafe { rustix::mm::madvise(address.cast(), length, advice) }
            .map_err(|e| UffdError::system("cannot advise the kernel on", "a scratch mapping", e))
    }

    /// Makes some pages guards (`MADV_GUARD_INSTALL` of madvise(2), 6.13): who touches one is
    /// killed by SIGSEGV.
    ///
    /// # Errors
    /// EINVAL: the kernel has no guard pages.
    pub fn install_guards(&self, pages: Range<u64>) -> Result<(), UffdError> {
        self.advise_by_number(pages, GUARD_INSTALL)
    }

    /// Makes guards ordinary pages again.
    pub(crate) fn remove_guards(&self, pages: Range<u64>) -> Result<(), UffdError> {
        self.advise_by_number(pages, GUARD_REMOVE)
    }

    /// Gives the kernel advice that rustix has no name for (madvise(2)).
    pub(crate) fn advise_by_number(&self, pages: Range<u64>, advice: i32) -> Result<(), UffdError> {
        let (address, length) = self.within(pages);
        // SAFETY: the range is inside the mapping, which is ours, and no reference into it exists.
        if unsafe { libc::madvise(address.cast(), length, advice) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        let on = format!("{advice} to a scratch mapping");
        Err(UffdError::system("cannot give advice", on, error))
    }

    /// Has the kernel write a byte to a page (getrandom(2)).
    pub(crate) fn write_by_kernel(&self, page: u64) -> KernelWrite {
        // SAFETY: `byte` is inside the mapping, and no reference into it exists.
        match unsafe { libc::getrandom(self.byte(page).cast(), 1, 0) } {
            1 => KernelWrite::Done,
            _ => KernelWrite::Refused,
        }
    }

    /// Moves the first page to another place and back (mremap(2), `MREMAP_DONTUNMAP` of 5.7), until
    /// it was moved so often.
    pub(crate) fn move_to_and_fro(&self, times: u64) -> Result<(), UffdError> {
        let other = Self::anonymous(PAGE_SIZE)?;
        let places = [self.start, other.start];
        for n in 0..times as usize {
            let (from, to) = (places[n % 2], places[(n + 1) % 2]);
            let size = PAGE_SIZE as usize;
            let flags = MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP;
            // SAFETY: both places are ours, stay mapped all the time, and no reference into them
            // exists.
            unsafe { rustix::mm::mremap_fixed(from.cast(), size, size, flags, to.cast()) }
                .map_err(|e| UffdError::system("cannot move", "a scratch mapping", e))?;
        }
        Ok(())
    }

    /// Address and length of those pages that are inside.
    fn within(&self, pages: Range<u64>) -> (*mut u8, usize) {
        let whole = self.length as u64 / PAGE_SIZE;
        let (start, end) = (pages.start.min(whole), pages.end.min(whole));
        let length = (end.saturating_sub(start) * PAGE_SIZE) as usize;
        let address = self.start.wrapping_add((start * PAGE_SIZE) as usize);
        (address, length)
    }

    /// The first byte of a page.
    fn byte(&self, page: u64) -> *mut u8 {
        let offset = (page as usize).saturating_mul(PAGE_SIZE as usize);
        self.start
            .wrapping_add(if offset < self.length { offset } else { 0 })
    }
}

fn map(
    length: usize,
    protection: ProtFlags,
    flags: MapFlags,
    file: Option<&File>,
) -> Result<*mut u8, UffdError> {
    let (anywhere, failed) = (ptr::null_mut(), |e| {
        UffdError::system("cannot map", format!("{length} bytes"), e)
    });
    // SAFETY: a new mapping, at an address of the kernel's choice; that of a file is private.
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
        // SAFETY: the mapping is ours, and nothing refers to it any more. A whole one can be
        // unmapped.
        let _ = unsafe { rustix::mm::munmap(self.mapping.cast(), self.mapped) };
    }
}
