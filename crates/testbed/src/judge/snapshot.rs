//! All memory of a process at one moment, as hashes, without touching a page of it that is not
//! there.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use uffd::{
    PAGE_SIZE, PageCategories, PageRegion, Pagemap, PagemapEntry, ProcVma, ScanQuery, maps,
};
use xxhash_rust::xxh3::xxh3_64;

use super::PageChange;

const PAGE: usize = PAGE_SIZE as usize;
/// How much is read at once.
const CHUNK: u64 = 1 << 20;
/// Files that are longer are looked at only where they are mapped.
const LONG_FILE: u64 = 1 << 30;

/// What names a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PageIdentity {
    /// Private memory: its address.
    Private(u64),
    /// Shared memory: its file, and its number there.
    Shared {
        /// Major and minor.
        device: (u32, u32),
        /// Of the file.
        inode: u64,
        /// In pages of 4 KiB.
        index: u64,
    },
}

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageContent {
    /// Of its bytes.
    hash: u64,
    /// It is in this process's page tables, or in swap.
    there: bool,
    /// It is a copy of a file's page, with the same bytes.
    as_file: bool,
}

/// The memory of a process that stands still.
pub struct MemorySnapshot {
    vmas: Vec<ProcVma>,
    /// Private pages of the process's own, and shared pages that are not all zeroes.
    pages: HashMap<PageIdentity, PageContent>,
    /// What an empty page hashes to.
    empty: u64,
}

impl MemorySnapshot {
    /// Looks at a process, which stands still.
    #[must_use]
    pub fn take(pid: u32) -> Self {
        let vmas: Vec<ProcVma> = maps(pid).unwrap().map(Result::unwrap).collect();
        let mut looking = Looking::at(pid);
        for vma in vmas.iter().filter(|vma| !is_the_kernels(vma)) {
            looking.look(vma);
        }
        Self {
            vmas,
            ..looking.snapshot
        }
    }

    /// Every page that this snapshot or the one before it has something of and that is mapped now.
    #[must_use]
    pub fn identities(&self, before: &Self) -> Vec<PageIdentity> {
        let gone = before
            .pages
            .keys()
            .filter(|page| !self.pages.contains_key(page));
        let all = self.pages.keys().chain(gone).copied();
        all.filter(|page| match *page {
            PageIdentity::Private(address) => self.identify(address) == Some(*page),
            PageIdentity::Shared { .. } => self.pages.contains_key(page),
        })
        .collect()
    }

    /// Where a page is mapped.
    #[must_use]
    pub fn places(&self, page: PageIdentity) -> Vec<u64> {
        match page {
            PageIdentity::Private(address) => vec![address],
            PageIdentity::Shared { index, .. } => {
                let address = |vma: &ProcVma| {
                    let distance = (index * PAGE_SIZE).checked_sub(vma.offset)?;
                    let address = vma.start + distance;
                    (address < vma.end && identity(vma, address) == page).then_some(address)
                };
                self.vmas.iter().filter_map(address).collect()
            }
        }
    }

    /// The mapping that an address is in.
    #[must_use]
    pub fn vma(&self, address: u64) -> Option<&ProcVma> {
        let after = self.vmas.partition_point(|vma| vma.end <= address);
        self.vmas.get(after).filter(|vma| vma.start <= address)
    }

    /// The mapping that begins at an address, for people.
    #[must_use]
    pub fn describe(&self, start: u64) -> String {
        let describe = |vma: &ProcVma| {
            format!(
                "{:#x}-{:#x} {} {}",
                vma.start,
                vma.end,
                String::from_utf8_lossy(&vma.permissions),
                String::from_utf8_lossy(&vma.name)
            )
        };
        self.vma(start)
            .map_or_else(|| "nothing".to_owned(), describe)
    }

    /// What names the page at an address.
    #[must_use]
    pub fn identify(&self, address: u64) -> Option<PageIdentity> {
        self.vma(address).map(|vma| identity(vma, address))
    }

    /// How a page changed until `after`; none: it did not.
    #[must_use]
    pub fn change(&self, after: &Self, page: PageIdentity) -> Option<PageChange> {
        let (old, new) = (self.pages.get(&page), after.pages.get(&page));
        let address = match page {
            PageIdentity::Private(address) => address,
            PageIdentity::Shared { .. } => return shared_change(old, new?, self.empty),
        };
        // A copy of a page of the file is one because somebody wrote to it.
        let of_file = after.vma(address).is_some_and(|vma| !vma.is_anonymous());
        let something = |page: &PageContent| of_file || page.hash != self.empty;
        match (old, new) {
            (Some(old), Some(new)) if old.hash == new.hash => None,
            (Some(_), Some(new)) if new.hash == self.empty => Some(PageChange::Emptied),
            (Some(_), Some(_)) => Some(PageChange::Written),
            (None, Some(new)) if new.as_file => Some(PageChange::Copied),
            (None, Some(new)) => something(new).then_some(PageChange::Written),
            (Some(old), None) if of_file => (!old.as_file).then_some(PageChange::CopyDropped),
            (Some(old), None) => (old.hash != self.empty).then_some(PageChange::Emptied),
            (None, None) => None,
        }
    }
}

/// Pages of private mappings of files that are the process's own and armed. Where a marker was, the
/// kernel makes the copy in one fault and takes the protection off in another (mm/memory.c
/// `set_pte_range`): a process that is stopped between the two has not written yet.
#[must_use]
pub fn armed_copies(pid: u32) -> BTreeSet<u64> {
    let looking = Looking::at(pid);
    let mut found = BTreeSet::new();
    let all = maps(pid).unwrap().map(Result::unwrap);
    for vma in all.filter(|vma| !vma.is_shared() && !vma.is_anonymous() && !is_the_kernels(vma)) {
        looking.entries(&vma, |part, entries| {
            let pages = part.clone().step_by(PAGE).zip(entries);
            let armed = pages.filter(|(_, entry)| is_own(**entry) && entry.armed());
            found.extend(armed.map(|(address, _)| address));
        });
    }
    found
}

/// Whether a page is the process's own, and no page of a file.
fn is_own(entry: PagemapEntry) -> bool {
    entry.present() && !entry.of_file() || entry.swapped() && !entry.is_marker()
}

/// How a page changed that has a file of its own.
fn shared_change(old: Option<&PageContent>, new: &PageContent, empty: u64) -> Option<PageChange> {
    match old {
        None => (new.there && new.hash != empty).then_some(PageChange::Mapped),
        Some(old) if old.hash == new.hash => None,
        Some(_) if new.there => Some(PageChange::Written),
        Some(_) => Some(PageChange::WrittenElsewhere),
    }
}

/// Whether the kernel maps it into every process.
fn is_the_kernels(vma: &ProcVma) -> bool {
    vma.name.starts_with(b"[v") || vma.name == b"[uprobes]"
}

/// Where the pages of a mapping have their names.
fn identity(vma: &ProcVma, address: u64) -> PageIdentity {
    if vma.is_shared() {
        PageIdentity::Shared {
            device: vma.device,
            inode: vma.inode,
            index: (vma.offset + (address - vma.start)) / PAGE_SIZE,
        }
    } else {
        PageIdentity::Private(address)
    }
}

/// A snapshot that is being taken.
struct Looking {
    pid: u32,
    memory: File,
    pagemap: Pagemap,
    snapshot: MemorySnapshot,
}

impl Looking {
    fn at(pid: u32) -> Self {
        Self {
            pid,
            memory: File::open(format!("/proc/{pid}/mem")).unwrap(),
            pagemap: Pagemap::open(pid).unwrap(),
            snapshot: MemorySnapshot {
                vmas: Vec::new(),
                pages: HashMap::new(),
                empty: xxh3_64(&[0; PAGE]),
            },
        }
    }

    fn look(&mut self, vma: &ProcVma) {
        if vma.is_shared() {
            self.look_at_shared(vma);
            return;
        }
        let mut own = Vec::new();
        self.entries(vma, |part, entries| {
            let pages = part.clone().step_by(PAGE).zip(entries);
            let there = pages.filter(|(_, entry)| is_own(**entry));
            own.extend(there.map(|(address, _)| address));
        });
        self.look_at_private(vma, &own);
    }

    /// The entries of a mapping, a part at a time.
    fn entries(&self, vma: &ProcVma, mut part_of: impl FnMut(&Range<u64>, &[PagemapEntry])) {
        let mut entries = Vec::new();
        for run in self.there(vma) {
            let mut at = run.start;
            while at < run.end {
                let part = at..(at + CHUNK).min(run.end);
                at = part.end;
                let pages = (part.end - part.start) / PAGE_SIZE;
                entries.resize(pages as usize, PagemapEntry::default());
                let read = self.pagemap.read(&part, &mut entries).unwrap();
                part_of(&part, &entries[..read]);
            }
        }
    }

    /// The parts of a mapping in which something is. Where the kernel has no PAGEMAP_SCAN, all of
    /// it.
    fn there(&self, vma: &ProcVma) -> Vec<Range<u64>> {
        let categories = PageCategories::PRESENT | PageCategories::SWAPPED;
        let query = ScanQuery {
            any_of: categories,
            ..ScanQuery::default()
        };
        let mut runs = Vec::new();
        let mut regions = vec![PageRegion::default(); 512];
        let scanned = self
            .pagemap
            .scan(&vma.range(), &query, &mut regions, |region| {
                runs.push(region.range());
            });
        scanned.map_or_else(|_| vec![vma.range()], |()| runs)
    }

    /// What is the process's own: anonymous pages, also of a private mapping of a file.
    fn look_at_private(&mut self, vma: &ProcVma, own: &[u64]) {
        let file = self.file(vma);
        let mut behind = [0; PAGE];
        let mut page = [0; PAGE];
        for &address in own {
            if self.memory.read_exact_at(&mut page, address).is_ok() {
                let offset = vma.offset + (address - vma.start);
                let as_file = file.as_ref().is_some_and(|file| {
                    file.read_exact_at(&mut behind, offset).is_ok() && behind == page
                });
                self.insert(PageIdentity::Private(address), &page, true, as_file);
            }
        }
    }

    /// The file behind a mapping, if it is one that can be read without any effect.
    fn file(&self, vma: &ProcVma) -> Option<File> {
        let path = format!("/proc/{}/map_files/{:x}-{:x}", self.pid, vma.start, vma.end);
        let regular = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file());
        regular.then(|| File::open(&path).ok()).flatten()
    }

    /// Through its file, so that nothing is mapped that was not.
    fn look_at_shared(&mut self, vma: &ProcVma) {
        let Some(file) = self.file(vma) else { return };
        let long = vma.end - vma.start > LONG_FILE;
        let mut buffer = vec![0; CHUNK as usize];
        let mut entries = vec![PagemapEntry::default(); (CHUNK / PAGE_SIZE) as usize];
        let mut at = vma.start;
        while at < vma.end {
            let part = at..(at + CHUNK).min(vma.end);
            at = part.end;
            let mapped = self.pagemap.read(&part, &mut entries).unwrap();
            let there: Vec<bool> = entries[..mapped].iter().map(|e| e.present()).collect();
            if long && !there.contains(&true) {
                continue;
            }
            let length = (part.end - part.start) as usize;
            let offset = vma.offset + (part.start - vma.start);
            // What is behind the end of the file cannot be read.
            let read = file.read_at(&mut buffer[..length], offset).unwrap_or(0);
            let addresses = (part.start..).step_by(PAGE);
            for (index, (bytes, address)) in
                buffer[..read].chunks_mut(PAGE).zip(addresses).enumerate()
            {
                let mut page = [0; PAGE];
                page[..bytes.len()].copy_from_slice(bytes);
                let there = there.get(index).copied().unwrap_or(false);
                let identity = identity(vma, address);
                self.insert(identity, &page, there, false);
            }
        }
    }

    fn insert(&mut self, identity: PageIdentity, page: &[u8], there: bool, as_file: bool) {
        let hash = xxh3_64(page);
        let content = self.snapshot.pages.entry(identity);
        let content = content.or_insert(PageContent {
            hash,
            there,
            as_file,
        });
        content.there |= there;
    }
}
