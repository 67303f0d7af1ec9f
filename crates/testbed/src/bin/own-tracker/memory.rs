//! The memory that is tracked, and the calls of its tracker.

use std::ffi::c_void;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use tracker_ebpf::kernel::PM_SCAN_WP_MATCHING;
use uffd::{
    PAGE_SIZE, PMD_SIZE, PageCategories, PageRegion, Pagemap, PagemapEntry, RegisterMode,
    UffdFeatures, Userfaultfd,
};

/// How memory is mapped.
#[derive(Clone, Copy)]
pub struct MemoryKind {
    flags: i32,
    advice: i32,
    bytes: u64,
}

pub const ANON: MemoryKind = MemoryKind {
    flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    advice: libc::MADV_NOHUGEPAGE,
    bytes: 64 * PAGE_SIZE,
};
pub const SHMEM_HUGE: MemoryKind = MemoryKind {
    flags: libc::MAP_SHARED | libc::MAP_ANONYMOUS,
    advice: libc::MADV_HUGEPAGE,
    bytes: PMD_SIZE,
};
pub const HUGETLB: MemoryKind = MemoryKind {
    flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB,
    advice: libc::MADV_NORMAL,
    bytes: PMD_SIZE,
};

/// Memory with a tracker.
pub struct TrackedMemory {
    pub uffd: Arc<Userfaultfd>,
    pub range: Range<u64>,
    pagemap: Pagemap,
}

/// Memory that nobody tracks yet.
pub struct MappedMemory {
    range: Range<u64>,
}

impl MappedMemory {
    pub fn new(kind: MemoryKind) -> anyhow::Result<Self> {
        Ok(Self { range: map(kind)? })
    }

    /// Writes to pages.
    pub fn store(&self, pages: Range<u64>) {
        for page in pages {
            store(self.range.start + page * PAGE_SIZE, 1);
        }
    }

    /// Reads every page.
    pub fn read(&self) {
        for page in self.range.clone().step_by(PAGE_SIZE as usize) {
            // SAFETY: an address of our own mapping.
            unsafe { (page as *const u8).read_volatile() };
        }
    }

    pub fn register(self, features: UffdFeatures) -> anyhow::Result<TrackedMemory> {
        let uffd = Userfaultfd::open()?;
        uffd.enable(features)?;
        uffd.register(&self.range, RegisterMode::WP)?;
        Ok(TrackedMemory {
            uffd: Arc::new(uffd),
            range: self.range,
            pagemap: Pagemap::own()?,
        })
    }
}

/// What a scan asks for.
#[derive(Clone, Copy)]
pub struct ScanWish {
    /// Whether it arms what it finds.
    pub arms: bool,
    /// Regions that there is room for; 0: it has no vec.
    pub room: usize,
    /// Categories that are returned beside `PAGE_IS_WRITTEN`.
    pub also: PageCategories,
}

/// What most trackers ask for.
pub const SCAN_AND_ARM: ScanWish = ScanWish {
    arms: true,
    room: 64,
    also: PageCategories(0),
};

impl TrackedMemory {
    /// Maps memory and registers it; its pages are there, and not armed.
    pub fn registered(kind: MemoryKind, features: UffdFeatures) -> anyhow::Result<Self> {
        let memory = MappedMemory::new(kind)?;
        let pages = (memory.range.end - memory.range.start) / PAGE_SIZE;
        memory.store(0..pages);
        memory.register(features)
    }

    /// What `/proc/self/pagemap` has of its pages.
    pub fn read_pagemap(&self) -> anyhow::Result<Vec<PagemapEntry>> {
        let pages = (self.range.end - self.range.start) / PAGE_SIZE;
        let mut entries = vec![PagemapEntry::default(); pages as usize];
        self.pagemap.read(&self.range, &mut entries)?;
        Ok(entries)
    }

    /// The first page that is not there.
    pub fn first_absent(&self) -> anyhow::Result<u64> {
        let entries = self.read_pagemap()?;
        let absent = entries.iter().position(|entry| !entry.present());
        Ok(absent.context("all pages are there")? as u64)
    }

    pub const fn page(&self, number: u64) -> u64 {
        self.range.start + number * PAGE_SIZE
    }

    pub const fn pages(&self, numbers: Range<u64>) -> Range<u64> {
        self.page(numbers.start)..self.page(numbers.end)
    }

    /// Writes to pages.
    pub fn store(&self, pages: &[u64]) {
        for page in pages {
            store(self.page(*page), 2);
        }
    }

    pub fn arm(&self) -> anyhow::Result<()> {
        Ok(self.uffd.arm(&self.range)?)
    }

    /// One PAGEMAP_SCAN; returns how many regions it found.
    pub fn scan(&self, range: &Range<u64>, wish: ScanWish) -> anyhow::Result<usize> {
        const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
        let mut regions = vec![PageRegion::default(); wish.room];
        let vec = match wish.room {
            0 => 0,
            _ => regions.as_mut_ptr().expose_provenance() as u64,
        };
        let flags = if wish.arms { PM_SCAN_WP_MATCHING } else { 0 };
        let written = PageCategories::WRITTEN;
        let returned = written | wish.also;
        let (start, end, room) = (range.start, range.end, wish.room as u64);
        let mut words = [
            96, flags, start, end, 0, vec, room, 0, 0, written.0, 0, returned.0,
        ];
        let file = self.pagemap.as_fd().as_raw_fd();
        // SAFETY: the words are a pm_scan_arg; the kernel writes as many regions as there is room
        // for.
        let found = unsafe { libc::ioctl(file, PAGEMAP_SCAN, words.as_mut_ptr()) };
        usize::try_from(found).with_context(std::io::Error::last_os_error)
    }

    /// Registers all of it again.
    pub fn register_again(&self) -> anyhow::Result<()> {
        Ok(self.uffd.register(&self.range, RegisterMode::WP)?)
    }

    /// Fills pages that are not there, and does not arm them.
    pub fn copy(&self, pages: Range<u64>) -> anyhow::Result<()> {
        let range = self.pages(pages);
        let content = vec![1_u8; (range.end - range.start) as usize];
        // SAFETY: the source is as long as the range, to which nothing refers.
        let copied = unsafe { self.uffd.copy(&range, content.as_ptr(), false) }?;
        ensure!(copied == range.end - range.start);
        Ok(())
    }

    pub fn advise(&self, pages: Range<u64>, advice: i32) -> anyhow::Result<()> {
        advise(&self.pages(pages), advice)
    }

    /// Whether it has not been moved away.
    pub fn is_there(&self) -> bool {
        let length = (self.range.end - self.range.start) as usize;
        let start = self.range.start as *mut c_void;
        // SAFETY: it asks for nothing to be done, and fails where nothing is mapped.
        unsafe { libc::msync(start, length, libc::MS_ASYNC) == 0 }
    }

    /// Moves it to another place.
    pub fn move_away(&self) -> anyhow::Result<()> {
        let length = (self.range.end - self.range.start) as usize;
        let (flags, place) = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, map(ANON)?);
        let (old, new) = (self.range.start as *mut c_void, place.start as *mut c_void);
        // SAFETY: both are ours, and nothing refers to them.
        let moved = unsafe { libc::mremap(old, length, length, flags, new) };
        ensure!(moved == new, std::io::Error::last_os_error());
        Ok(())
    }
}

/// Maps memory at an address that is a multiple of 2 MiB. It is never unmapped.
fn map(kind: MemoryKind) -> anyhow::Result<Range<u64>> {
    let huge = kind.flags & libc::MAP_HUGETLB != 0;
    let whole = if huge {
        kind.bytes
    } else {
        kind.bytes + PMD_SIZE
    } as usize;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), whole, protection, kind.flags, -1, 0) };
    ensure!(at != libc::MAP_FAILED, std::io::Error::last_os_error());
    let start = (at as u64).next_multiple_of(PMD_SIZE);
    let range = start..start + kind.bytes;
    advise(&range, kind.advice)?;
    Ok(range)
}

fn advise(range: &Range<u64>, advice: i32) -> anyhow::Result<()> {
    let length = (range.end - range.start) as usize;
    // SAFETY: a range of our own mapping, to which nothing refers.
    let result = unsafe { libc::madvise(range.start as *mut c_void, length, advice) };
    ensure!(result == 0, std::io::Error::last_os_error());
    Ok(())
}

fn store(address: u64, value: u8) {
    // SAFETY: only called with addresses of our own mappings.
    unsafe { (address as *mut u8).write_volatile(value) }
}
