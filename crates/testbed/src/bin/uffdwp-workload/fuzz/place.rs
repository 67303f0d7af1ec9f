//! One place in the address space, with what is mapped there and what each page must hold.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::ptr;
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::MemfdFlags;
use rustix::mm::{Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags};
use uffd::PAGE_SIZE;

/// The most pages of a mapping.
pub const MOST_PAGES: usize = 96;

/// What is mapped at a place.
#[derive(Clone)]
pub enum FuzzBacking {
    /// Private anonymous memory.
    Anon,
    /// A regular file, mapped privately.
    File(Rc<File>),
    /// A memfd, mapped shared, with the first words of its pages: other places may map it, too.
    Shared(Rc<File>, Rc<RefCell<Vec<u64>>>),
}

/// What may be done to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAccess {
    /// Nothing.
    None,
    /// Reading.
    Read,
    /// Reading and executing.
    Execute,
    /// Reading and writing.
    Write,
}

impl PageAccess {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Read, Self::Execute, Self::Write];

    fn mmap(self) -> ProtFlags {
        match self {
            Self::None => ProtFlags::empty(),
            Self::Read => ProtFlags::READ,
            Self::Execute => ProtFlags::READ | ProtFlags::EXEC,
            Self::Write => ProtFlags::READ | ProtFlags::WRITE,
        }
    }

    fn mprotect(self) -> MprotectFlags {
        match self {
            Self::None => MprotectFlags::empty(),
            Self::Read => MprotectFlags::READ,
            Self::Execute => MprotectFlags::READ | MprotectFlags::EXEC,
            Self::Write => MprotectFlags::READ | MprotectFlags::WRITE,
        }
    }
}

/// A page that is mapped.
#[derive(Clone, Copy)]
struct FuzzPage {
    access: PageAccess,
    /// The first word of the process's own copy; none: that of what is behind it.
    own: Option<u64>,
}

/// A place: at most [`MOST_PAGES`] pages, some of which may be unmapped by now.
pub struct FuzzPlace {
    start: u64,
    backing: FuzzBacking,
    pages: Vec<Option<FuzzPage>>,
    /// Whether it was written to through this mapping.
    written: bool,
}

impl FuzzPlace {
    /// Maps `count` pages at `start`, whatever was there.
    pub fn map(start: u64, count: usize, access: PageAccess, backing: FuzzBacking) -> Result<Self> {
        let place = Self {
            start,
            backing,
            pages: vec![Some(FuzzPage { access, own: None }); count],
            written: false,
        };
        place.map_pages(0, count, access)?;
        Ok(place)
    }

    fn map_pages(&self, first: usize, count: usize, access: PageAccess) -> Result<()> {
        let (address, length) = (self.pointer(first), count * PAGE_SIZE as usize);
        let (offset, fixed) = (first as u64 * PAGE_SIZE, MapFlags::FIXED);
        let protection = access.mmap();
        // SAFETY: the place is ours, and nothing refers to what is in it.
        let mapped = unsafe {
            use rustix::mm::{mmap, mmap_anonymous};
            let private = fixed | MapFlags::PRIVATE;
            match &self.backing {
                FuzzBacking::Anon => mmap_anonymous(address, length, protection, private),
                FuzzBacking::File(file) => mmap(address, length, protection, private, file, offset),
                FuzzBacking::Shared(file, _) => {
                    let shared = fixed | MapFlags::SHARED;
                    mmap(address, length, protection, shared, file, offset)
                }
            }
        };
        mapped.map(drop).context("cannot map")
    }

    /// How many pages it has, mapped or not.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// What it is made of.
    pub fn backing(&self) -> &FuzzBacking {
        &self.backing
    }

    /// The address of a page.
    pub fn address(&self, page: usize) -> u64 {
        self.start + page as u64 * PAGE_SIZE
    }

    fn pointer(&self, page: usize) -> *mut libc::c_void {
        ptr::without_provenance_mut(self.address(page) as usize)
    }

    fn word(&self, page: usize) -> *mut u64 {
        self.pointer(page).cast()
    }

    /// What may be done to a page; none: it is not mapped.
    pub fn access(&self, page: usize) -> Option<PageAccess> {
        Some((*self.pages.get(page)?)?.access)
    }

    /// The first word that a page must have.
    fn expected(&self, page: usize) -> Option<u64> {
        let own = (*self.pages.get(page)?)?.own;
        Some(match &self.backing {
            FuzzBacking::Anon => own.unwrap_or(0),
            FuzzBacking::File(_) => own.unwrap_or_else(|| word_of_file(page)),
            FuzzBacking::Shared(_, words) => words.borrow().get(page).copied().unwrap_or(0),
        })
    }

    fn note(&mut self, page: usize, value: u64) {
        self.written = true;
        if let FuzzBacking::Shared(_, words) = &self.backing {
            if let Some(word) = words.borrow_mut().get_mut(page) {
                *word = value;
            }
        } else if let Some(Some(there)) = self.pages.get_mut(page) {
            there.own = Some(value);
        }
    }

    /// Compares what a page holds with what it must.
    pub fn check(&self, page: usize) -> Result<()> {
        let (Some(expected), Some(access)) = (self.expected(page), self.access(page)) else {
            return Ok(());
        };
        if access != PageAccess::None {
            // SAFETY: the page is mapped and readable.
            let found = unsafe { self.word(page).read_volatile() };
            let at = self.address(page);
            ensure!(
                found == expected,
                "{at:#x} has {found:#x} instead of {expected:#x}"
            );
        }
        Ok(())
    }

    /// Stores a word to a page that may be written.
    pub fn store(&mut self, page: usize, value: u64) {
        if self.access(page) == Some(PageAccess::Write) {
            // SAFETY: the page is mapped and writable, and no reference into it exists.
            unsafe { self.word(page).write_volatile(value) };
            self.note(page, value);
        }
    }

    /// Stores a word to a page whatever may be done to it, through `/proc/self/mem`, as debuggers
    /// do. The kernel refuses that for shared memory that is not writable.
    pub fn force(&mut self, page: usize, value: u64, memory: &File) {
        if self.access(page).is_some() {
            let written = memory.write_at(&value.to_ne_bytes(), self.address(page));
            if matches!(written, Ok(8)) {
                self.note(page, value);
            }
        }
    }

    /// Has the kernel store a word to a page: read(2) of a file that has it.
    pub fn read_into(&mut self, page: usize, value: u64) -> Result<()> {
        if self.access(page) != Some(PageAccess::Write) {
            return Ok(());
        }
        let (reader, writer) = rustix::pipe::pipe().context("cannot make a pipe")?;
        rustix::io::write(&writer, &value.to_ne_bytes()).context("cannot write to a pipe")?;
        use std::os::fd::AsRawFd as _;
        // SAFETY: the kernel writes 8 bytes to a page that is mapped and writable.
        let read = unsafe { libc::read(reader.as_raw_fd(), self.pointer(page), 8) };
        ensure!(read == 8, "read(2): {}", std::io::Error::last_os_error());
        self.note(page, value);
        Ok(())
    }

    /// mprotect(2) of the pages of a run that are mapped.
    pub fn protect(&mut self, first: usize, count: usize, access: PageAccess) -> Result<()> {
        for run in self.mapped(first, count) {
            let length = run.len() * PAGE_SIZE as usize;
            // SAFETY: the pages are ours, and nothing refers to what is in them.
            unsafe { rustix::mm::mprotect(self.pointer(run.start), length, access.mprotect()) }
                .context("cannot protect")?;
            for page in self.pages[run].iter_mut().flatten() {
                page.access = access;
            }
        }
        Ok(())
    }

    /// Whether nobody could see any more what was written here if it were unmapped or emptied:
    /// shared memory lives on.
    pub fn must_stay(&self) -> bool {
        self.written && matches!(self.backing, FuzzBacking::Shared(..))
    }

    /// munmap(2) of a run.
    pub fn unmap(&mut self, first: usize, count: usize) -> Result<()> {
        let end = (first + count).min(self.len());
        let length = (end - first) * PAGE_SIZE as usize;
        // SAFETY: the pages are ours, and nothing refers to what is in them.
        unsafe { rustix::mm::munmap(self.pointer(first), length) }.context("cannot unmap")?;
        self.pages[first..end].fill(None);
        Ok(())
    }

    /// Maps a run anew where it was, whatever was there.
    pub fn map_again(&mut self, first: usize, count: usize, access: PageAccess) -> Result<()> {
        let end = (first + count).min(self.len());
        self.map_pages(first, end - first, access)?;
        self.pages[first..end].fill(Some(FuzzPage { access, own: None }));
        Ok(())
    }

    /// MADV_DONTNEED: private memory loses what was written to it.
    pub fn empty(&mut self, first: usize, count: usize) -> Result<()> {
        self.advise(first, count, Advice::LinuxDontNeed)?;
        let end = (first + count).min(self.len());
        for page in self.pages[first..end].iter_mut().flatten() {
            page.own = None;
        }
        Ok(())
    }

    /// Advice that changes no content; the kernel may refuse it.
    pub fn advise(&self, first: usize, count: usize, advice: Advice) -> Result<()> {
        for run in self.mapped(first, count) {
            let length = run.len() * PAGE_SIZE as usize;
            // SAFETY: the pages are ours, and nothing refers to what is in them.
            let advised = unsafe { rustix::mm::madvise(self.pointer(run.start), length, advice) };
            if advice == Advice::LinuxDontNeed {
                advised.context("cannot empty")?;
            }
        }
        Ok(())
    }

    /// Whether all of its pages are mapped.
    fn is_whole(&self) -> bool {
        self.pages.iter().all(Option::is_some)
    }

    /// mremap(2) to another address, where it replaces what is there. False: nothing is mapped any
    /// more.
    pub fn move_to(&mut self, start: u64) -> Result<bool> {
        let whole = self.is_whole();
        let first = self.access(0);
        let even = (0..self.len()).all(|page| self.access(page) == first);
        if !whole || !even || start == self.start {
            // Several mappings cannot be moved at once, and none to where it is.
            return Ok(true);
        }
        let length = self.len() * PAGE_SIZE as usize;
        let target = ptr::without_provenance_mut(start as usize);
        let flags = MremapFlags::MAYMOVE;
        // SAFETY: both places are ours, and nothing refers to what is in them.
        let moved =
            unsafe { rustix::mm::mremap_fixed(self.pointer(0), length, length, flags, target) };
        match moved {
            Ok(_) => {
                self.start = start;
                Ok(true)
            }
            // It looks like one mapping from here, and is several for the kernel, which may have
            // moved some of them.
            Err(rustix::io::Errno::FAULT) if !self.must_stay() => {
                for address in [self.pointer(0), target] {
                    // SAFETY: as above.
                    unsafe { rustix::mm::munmap(address, length) }.context("cannot unmap")?;
                }
                Ok(false)
            }
            Err(errno) => Err(errno).context("cannot move"),
        }
    }

    /// mremap(2) in place, to a length that anonymous memory may have.
    pub fn resize(&mut self, count: usize) -> Result<()> {
        let whole = self.is_whole();
        let Some(access) = self.access(self.len() - 1) else {
            return Ok(());
        };
        if !whole || !matches!(self.backing, FuzzBacking::Anon) {
            return Ok(());
        }
        let bytes = |count: usize| count * PAGE_SIZE as usize;
        let flags = MremapFlags::empty();
        // SAFETY: the place is ours, and nothing refers to what is in it.
        let resized =
            unsafe { rustix::mm::mremap(self.pointer(0), bytes(self.len()), bytes(count), flags) };
        if resized.is_ok() {
            self.pages
                .resize(count, Some(FuzzPage { access, own: None }));
        }
        Ok(())
    }

    /// The runs of mapped pages in a run.
    fn mapped(&self, first: usize, count: usize) -> Vec<std::ops::Range<usize>> {
        let end = (first + count).min(self.len());
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for page in (first..end).filter(|page| self.pages[*page].is_some()) {
            match runs.last_mut() {
                Some(run) if run.end == page => run.end += 1,
                _ => runs.push(page..page + 1),
            }
        }
        runs
    }
}

/// What the file of [`file`] has in the first word of a page.
fn word_of_file(page: usize) -> u64 {
    0xf11e_0000 + page as u64
}

/// A file that is gone when it is closed and unmapped, with a word in each page.
pub fn file(directory: &Path, thread: u64) -> Result<File> {
    let path = directory.join(format!("uffdwp-fuzz.{}.{thread}", std::process::id()));
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    let create = || -> std::io::Result<File> {
        let file = options.open(&path)?;
        std::fs::remove_file(&path)?;
        file.set_len(MOST_PAGES as u64 * PAGE_SIZE)?;
        for page in 0..MOST_PAGES {
            let word = word_of_file(page).to_ne_bytes();
            file.write_all_at(&word, page as u64 * PAGE_SIZE)?;
        }
        Ok(file)
    };
    create().with_context(|| format!("cannot create {}", path.display()))
}

/// Shared memory of [`MOST_PAGES`] pages.
pub fn shared() -> Result<FuzzBacking> {
    let memfd = rustix::fs::memfd_create("uffdwp-fuzz", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&memfd, MOST_PAGES as u64 * PAGE_SIZE)?;
    let words = Rc::new(RefCell::new(vec![0; MOST_PAGES]));
    Ok(FuzzBacking::Shared(Rc::new(memfd.into()), words))
}
