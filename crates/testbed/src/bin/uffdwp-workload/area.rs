//! Memory at known addresses, which the rows map, write and read.
//!
//! Every area starts at a multiple of 16 GiB that nothing else uses, so arithmetic tells which page
//! tables it needs. Only volatile accesses touch it; no Rust reference into it ever exists.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};
use std::path::Path;
use std::{io, ptr};

use anyhow::{Context as _, Result};
use rustix::fs::MemfdFlags;
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use uffd::{PAGE_SIZE, PMD_SIZE};

use crate::needs::SkipReason;
use crate::tables::PageTables;

/// Start of the first area: a process maps nothing between here and 17 TiB.
const FIRST: u64 = 0x1000_0000_0000;
/// Distance between the starts of areas; 32 of them share one PUD table.
const STRIDE: u64 = 16 << 30;

/// What backs the pages of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// Private anonymous memory in 4 KiB pages.
    Anon,
    /// Private anonymous memory in transparent huge pages.
    Thp,
    /// `MAP_SHARED | MAP_ANONYMOUS`.
    SharedAnon,
    /// A memfd, mapped shared.
    Memfd,
    /// Memory that only its process can read (memfd_secret(2)).
    Secret,
    /// `MAP_SHARED | MAP_ANONYMOUS` in transparent huge pages.
    ShmemThp,
    /// Private hugetlb pages of 2 MiB.
    Hugetlb,
    /// A regular file, mapped privately.
    FilePrivate,
    /// A regular file, mapped shared.
    FileShared,
}

impl MemoryKind {
    /// The bytes that one write-protect fault concerns if the page is there.
    pub fn unit(self) -> u64 {
        match self {
            Self::Thp | Self::ShmemThp | Self::Hugetlb => PMD_SIZE,
            _ => PAGE_SIZE,
        }
    }

    /// The `backing` label of the metrics.
    pub fn backing(self) -> &'static str {
        match self {
            Self::Anon | Self::Thp => "anon",
            Self::SharedAnon | Self::Memfd | Self::ShmemThp => "shmem",
            Self::Hugetlb => "hugetlb",
            Self::FilePrivate | Self::FileShared | Self::Secret => "file",
        }
    }
}

impl std::str::FromStr for MemoryKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "anon" => Self::Anon,
            "thp" => Self::Thp,
            "shared-anon" => Self::SharedAnon,
            "memfd" => Self::Memfd,
            "secret" => Self::Secret,
            "shmem-thp" => Self::ShmemThp,
            "hugetlb" => Self::Hugetlb,
            "file-private" => Self::FilePrivate,
            "file-shared" => Self::FileShared,
            _ => anyhow::bail!("there is no kind of memory called {text:?}"),
        })
    }
}

/// A mapping, which only the row about unmapping unmaps.
#[derive(Clone, Copy, Debug)]
pub struct MappedArea {
    /// What backs it.
    pub kind: MemoryKind,
    start: *mut u8,
    length: u64,
}

// SAFETY: it is an address range; all access is volatile and checked against its length.
unsafe impl Send for MappedArea {}
// SAFETY: as above; racing byte accesses to it see one or the other value.
unsafe impl Sync for MappedArea {}

impl MappedArea {
    /// Maps `pages` of 4 KiB, rounded up to whole units, at place `place` (0..32).
    pub fn map(kind: MemoryKind, place: u64, pages: u64, directory: &Path) -> Result<Self> {
        Self::map_at(kind, FIRST + place * STRIDE, pages, directory)
    }

    /// Like [`Self::map`], at an address where nothing is mapped.
    pub fn map_at(kind: MemoryKind, address: u64, pages: u64, directory: &Path) -> Result<Self> {
        let length = (pages.max(1) * PAGE_SIZE).next_multiple_of(kind.unit());
        let start = match kind {
            MemoryKind::Anon | MemoryKind::Thp => anonymous(address, length, MapFlags::PRIVATE),
            MemoryKind::SharedAnon | MemoryKind::ShmemThp => {
                anonymous(address, length, MapFlags::SHARED)
            }
            MemoryKind::Hugetlb => hugetlb(address, length)?,
            MemoryKind::Memfd => {
                let memfd = rustix::fs::memfd_create("uffdwp-workload", MemfdFlags::CLOEXEC)?;
                of_file(address, length, MapFlags::SHARED, memfd)
            }
            MemoryKind::Secret => of_file(address, length, MapFlags::SHARED, secret()?),
            MemoryKind::FilePrivate => {
                of_file(address, length, MapFlags::PRIVATE, unnamed(directory)?)
            }
            MemoryKind::FileShared => {
                of_file(address, length, MapFlags::SHARED, unnamed(directory)?)
            }
        };
        Self::of_mapping(kind, address, start, length)
    }

    /// Maps the same shared memory again, at a place.
    pub fn alias(&self, place: u64) -> Result<Self> {
        let Range { start, end } = self.range();
        let path = format!("/proc/self/map_files/{start:x}-{end:x}");
        let file = File::options().read(true).write(true).open(&path);
        let file = file.with_context(|| format!("cannot open {path}"))?;
        Self::map_file(self.kind, FIRST + place * STRIDE, self.pages(), file)
    }

    /// Maps a file of the caller's as shared memory, at an address where nothing is mapped. The
    /// file gets the length of the area.
    pub fn map_file(kind: MemoryKind, address: u64, pages: u64, file: impl AsFd) -> Result<Self> {
        let length = pages.max(1) * PAGE_SIZE;
        let start = of_file(address, length, MapFlags::SHARED, file);
        Self::of_mapping(kind, address, start, length)
    }

    fn of_mapping(
        kind: MemoryKind,
        address: u64,
        start: rustix::io::Result<*mut u8>,
        length: u64,
    ) -> Result<Self> {
        let start = start.with_context(|| format!("cannot map {length} bytes at {address:#x}"))?;
        let area = Self {
            kind,
            start,
            length,
        };
        area.choose_huge_pages()?;
        Ok(area)
    }

    /// Tells the kernel whether to use transparent huge pages here.
    fn choose_huge_pages(&self) -> Result<()> {
        match self.kind {
            MemoryKind::Thp | MemoryKind::ShmemThp => self.advise(Advice::LinuxHugepage),
            MemoryKind::Hugetlb => Ok(()),
            // A kernel without transparent huge pages refuses, but then there are none to avoid.
            _ => self.advise(Advice::LinuxNoHugepage).or(Ok(())),
        }
    }

    /// The part in a range of units.
    pub fn part(&self, units: Range<u64>) -> Self {
        let offset = units.start * self.kind.unit();
        let length = (units.end - units.start) * self.kind.unit();
        assert!(offset + length <= self.length, "a part is inside its area");
        Self {
            start: self.start.wrapping_add(offset as usize),
            length,
            ..*self
        }
    }

    /// The part in a range of 4 KiB pages.
    pub fn pages_part(&self, pages: Range<u64>) -> Self {
        let (offset, length) = (
            pages.start * PAGE_SIZE,
            (pages.end - pages.start) * PAGE_SIZE,
        );
        assert!(offset + length <= self.length, "a part is inside its area");
        Self {
            start: self.start.wrapping_add(offset as usize),
            length,
            ..*self
        }
    }

    /// The addresses of the area.
    pub fn range(&self) -> Range<u64> {
        let start = self.start.addr() as u64;
        start..start + self.length
    }

    /// How many page-table entries it takes: 4 KiB pages, or huge pages of 2 MiB.
    pub fn units(&self) -> u64 {
        self.length / self.kind.unit()
    }

    /// Its size in pages of 4 KiB.
    pub fn pages(&self) -> u64 {
        self.length / PAGE_SIZE
    }

    /// The tables that the first use of all of it allocates.
    pub fn tables(&self) -> PageTables {
        PageTables::of(&self.range(), self.kind)
    }

    /// The address of a unit, for system calls.
    pub fn address(&self, unit: u64) -> *mut u8 {
        assert!(unit < self.units(), "unit {unit} is inside the area");
        self.start.wrapping_add((unit * self.kind.unit()) as usize)
    }

    /// Stores one byte to a unit.
    pub fn write(&self, unit: u64) {
        // SAFETY: the address is inside the mapping, which is writable.
        unsafe { self.address(unit).write_volatile(1) }
    }

    /// Stores the first word of a 4 KiB page. Never inlined, so that a stack names it even without
    /// debug information.
    #[inline(never)]
    pub fn store(&self, page: u64, value: u64) {
        // SAFETY: the address is inside the mapping, which is writable, and aligned to a page.
        unsafe { self.byte(page).cast::<u64>().write_volatile(value) }
    }

    /// The first word of a 4 KiB page.
    pub fn word(&self, page: u64) -> u64 {
        // SAFETY: the address is inside the mapping, which is readable, and aligned to a page.
        unsafe { self.byte(page).cast::<u64>().read_volatile() }
    }

    /// Reads a byte of a 4 KiB page.
    pub fn load(&self, page: u64) {
        // SAFETY: the address is inside the mapping, which is readable.
        unsafe { self.byte(page).read_volatile() };
    }

    /// Reads one byte of a file into a 4 KiB page by read(2).
    pub fn read_into(&self, page: u64, file: impl AsFd) -> Result<()> {
        use std::os::fd::AsRawFd as _;
        let fd = file.as_fd().as_raw_fd();
        // SAFETY: the kernel writes one byte, inside the mapping.
        match unsafe { libc::read(fd, self.byte(page).cast(), 1) } {
            1 => Ok(()),
            _ => Err(io::Error::last_os_error()).context("read(2) into the area"),
        }
    }

    /// The first byte of a 4 KiB page.
    pub fn byte(&self, page: u64) -> *mut u8 {
        assert!(page < self.pages(), "page {page} is inside the area");
        self.start.wrapping_add((page * PAGE_SIZE) as usize)
    }

    /// Stores one byte to each unit; returns how many page faults that took.
    pub fn write_all(&self) -> u64 {
        faults_of(|| (0..self.units()).for_each(|unit| self.write(unit)))
    }

    /// Stores one byte to each 4 KiB page; returns how many page faults that took.
    pub fn write_every_page(&self) -> u64 {
        faults_of(|| {
            for page in 0..self.pages() {
                let byte = self.start.wrapping_add((page * PAGE_SIZE) as usize);
                // SAFETY: the address is inside the mapping, which is writable.
                unsafe { byte.write_volatile(1) }
            }
        })
    }

    /// Reads one byte of each unit; returns the page faults this thread took for it.
    pub fn read_all(&self) -> u64 {
        faults_of(|| {
            for unit in 0..self.units() {
                // SAFETY: the address is inside the mapping, which is readable.
                unsafe { self.address(unit).read_volatile() };
            }
        })
    }

    /// madvise(2) of all of it.
    pub fn advise(&self, advice: Advice) -> Result<()> {
        // SAFETY: the mapping is ours and no reference into it exists.
        unsafe { rustix::mm::madvise(self.start.cast(), self.length as usize, advice) }
            .with_context(|| format!("madvise({advice:?}) of {:#x?}", self.range()))
    }

    /// madvise(2) of all of it, for advice that rustix does not know.
    pub fn advise_number(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: the mapping is ours and no reference into it exists.
        match unsafe { libc::madvise(self.start.cast(), self.length as usize, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Makes all of it read-only or writable, by mprotect(2).
    pub fn protect(&self, writable: bool) -> Result<()> {
        let flags = if writable {
            MprotectFlags::READ | MprotectFlags::WRITE
        } else {
            MprotectFlags::READ
        };
        // SAFETY: the mapping is ours; while it is read-only nobody writes to it.
        unsafe { rustix::mm::mprotect(self.start.cast(), self.length as usize, flags) }
            .with_context(|| format!("mprotect of {:#x?}", self.range()))
    }

    /// Lets KSM merge what is equal in it.
    pub fn offer_to_ksm(&self) -> Result<()> {
        // SAFETY: the mapping is ours, and merging does not change what is in it.
        unsafe {
            rustix::mm::madvise(
                self.start.cast(),
                self.length as usize,
                Advice::LinuxMergeable,
            )
        }
        .with_context(|| format!("MADV_MERGEABLE of {:#x?}", self.range()))
    }

    /// Makes it a mapping of its own or not, by mprotect(2); it stays writable all the time.
    pub fn set_apart(&self, apart: bool) -> Result<()> {
        let executable = if apart {
            MprotectFlags::EXEC
        } else {
            MprotectFlags::empty()
        };
        let flags = MprotectFlags::READ | MprotectFlags::WRITE | executable;
        // SAFETY: the mapping is ours; nobody executes what is in it.
        unsafe { rustix::mm::mprotect(self.start.cast(), self.length as usize, flags) }
            .with_context(|| format!("mprotect of {:#x?}", self.range()))
    }

    /// Appends pages in place, by mremap(2).
    pub fn grow(&mut self, pages: u64) -> Result<()> {
        let (old, new) = (self.length, self.length + pages * PAGE_SIZE);
        let flags = rustix::mm::MremapFlags::empty();
        // SAFETY: the mapping is ours, and stays where it is.
        unsafe { rustix::mm::mremap(self.start.cast(), old as usize, new as usize, flags) }
            .context("cannot grow the area")?;
        self.length = new;
        Ok(())
    }

    /// Locks all of it, by mlock(2).
    pub fn lock(&self) -> Result<()> {
        // SAFETY: the mapping is ours; locking changes no content.
        unsafe { rustix::mm::mlock(self.start.cast(), self.length as usize) }
            .with_context(|| format!("mlock of {:#x?}", self.range()))
    }

    /// Moves all of it to another place, by mremap(2).
    pub fn move_to(&self, place: u64) -> Result<Self> {
        self.move_to_address(FIRST + place * STRIDE)
    }

    /// Moves all of it to an address where nothing is mapped, by mremap(2).
    pub fn move_to_address(&self, address: u64) -> Result<Self> {
        self.remap(address, MremapFlags::MAYMOVE)
    }

    /// Moves its pages to an address where nothing is mapped, by mremap(2); the mapping stays and
    /// is empty.
    pub fn move_pages_to_address(&self, address: u64) -> Result<Self> {
        self.remap(address, MremapFlags::MAYMOVE | MremapFlags::DONTUNMAP)
    }

    fn remap(&self, address: u64, flags: MremapFlags) -> Result<Self> {
        let target = ptr::without_provenance_mut(address as usize);
        let length = self.length as usize;
        let old = self.start.cast();
        // SAFETY: the mapping is ours, nothing refers to it, and nothing is mapped at the target.
        let moved = unsafe { rustix::mm::mremap_fixed(old, length, length, flags, target) };
        Ok(Self {
            start: moved.context("cannot move the area")?.cast(),
            ..*self
        })
    }

    /// Unmaps all of it, by munmap(2); it must not be touched any more.
    pub fn unmap(&self) -> Result<()> {
        // SAFETY: the mapping is ours and nothing refers to it.
        unsafe { rustix::mm::munmap(self.start.cast(), self.length as usize) }
            .context("cannot unmap the area")
    }
}

/// The page faults that `work` costs this thread; each counts when the kernel completes it.
pub fn faults_of(work: impl FnOnce()) -> u64 {
    let before = completed_faults();
    work();
    completed_faults() - before
}

fn completed_faults() -> u64 {
    // SAFETY: all zeroes is a valid rusage, and getrusage fills in one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    (usage.ru_minflt + usage.ru_majflt) as u64
}

const READ_WRITE: ProtFlags = ProtFlags::READ.union(ProtFlags::WRITE);

fn anonymous(address: u64, length: u64, flags: MapFlags) -> rustix::io::Result<*mut u8> {
    let (hint, flags) = (
        ptr::without_provenance_mut(address as usize),
        flags | MapFlags::FIXED_NOREPLACE,
    );
    // SAFETY: a new mapping that replaces none.
    unsafe {
        rustix::mm::mmap_anonymous(hint, length as usize, READ_WRITE, flags).map(<*mut _>::cast)
    }
}

fn hugetlb(address: u64, length: u64) -> Result<rustix::io::Result<*mut u8>> {
    let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
    match anonymous(address, length, flags) {
        Err(rustix::io::Errno::NOMEM) => Err(SkipReason::Machine(format!(
            "needs {} free huge pages of 2 MiB: raise vm.nr_hugepages",
            length / PMD_SIZE
        ))
        .into()),
        result => Ok(result),
    }
}

/// A file of memory that only this process can read.
fn secret() -> Result<OwnedFd> {
    // SAFETY: takes flags, and returns a new descriptor or an error.
    let number = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let Ok(number @ 0..) = i32::try_from(number) else {
        return Err(io::Error::last_os_error()).context("memfd_secret(2)");
    };
    // SAFETY: the kernel has just made it, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn of_file(
    address: u64,
    length: u64,
    flags: MapFlags,
    file: impl AsFd,
) -> rustix::io::Result<*mut u8> {
    rustix::fs::ftruncate(&file, length)?;
    let (hint, flags) = (
        ptr::without_provenance_mut(address as usize),
        flags | MapFlags::FIXED_NOREPLACE,
    );
    // SAFETY: a new mapping that replaces none, of a file that only we can reach.
    unsafe {
        rustix::mm::mmap(hint, length as usize, READ_WRITE, flags, file, 0).map(<*mut _>::cast)
    }
}

/// A file without a name, which is gone once it is closed and unmapped.
fn unnamed(directory: &Path) -> Result<File> {
    let path = directory.join(format!("uffdwp-workload.{}", std::process::id()));
    let create = || -> io::Result<File> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    };
    create().with_context(|| format!("cannot create {}; choose another --dir", path.display()))
}
