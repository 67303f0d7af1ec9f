//! `hash`: compares the content of every page with that of the round before: tells what has
//! changed, not what was written.
//!
//! Takes 8 bytes of memory per page. Reading has effects: a page in swap is read in, and a page of
//! a file or of shmem is mapped. Anonymous memory and hugetlb that are not there are zero, and left
//! alone; so is, in a private mapping of a file that nobody may write at the moment, all that is
//! not the process's own copy.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

use uffd::{Backing, MemoryFile, PAGE_SIZE, PMD_SIZE, Pagemap, PagemapEntry, UffdError};
use xxhash_rust::xxh3::xxh3_64;

use super::area::{AreaStats, TrackedArea, WrittenRun, append, without};
use super::collect::PageCollector;
use super::entry::{AbsentPages, StrategyEntry, TargetWait};
use super::sparse::{AreaPart, SparseRanges};
use super::start::StrategyStart;
use super::{StrategyName, TrackingStrategy};

const PAGE: usize = PAGE_SIZE as usize;
/// Pages of a chunk.
const CHUNK: usize = (PMD_SIZE / PAGE_SIZE) as usize;
/// Stands for what a mapping begins with: zeroes, or the content of its file.
const AS_BEGUN: u64 = 0;
/// Stands for the content of a page that cannot be read.
const UNREADABLE: u64 = 1;

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "hash",
    merit: "needs nothing but to read, and reads everything each round",
    needs: &[],
    waits: TargetWait::Never,
    absent: AbsentPages::Paid,
    reads_content: true,
    observed: false,
    auto: true,
    caveat: None,
    stands_for: None,
    start: StrategyStart::Outside(|target| {
        let scans = target.behaviour.written.is_some();
        let (memory, pagemap) = (MemoryFile::open(target.pid)?, target.pagemap()?);
        Ok(Box::new(HashStrategy::new(memory, pagemap, scans)))
    }),
};

#[derive(Debug)]
pub(super) struct HashStrategy {
    memory: MemoryFile,
    collector: PageCollector,
    /// A scan passes over what is not there.
    scans: bool,
    buffer: Vec<u8>,
    sparse: SparseRanges,
    hashes: PageHashes,
}

impl HashStrategy {
    /// `scans`: the kernel has PAGEMAP_SCAN.
    pub(super) fn new(memory: MemoryFile, pagemap: Pagemap, scans: bool) -> Self {
        Self {
            memory,
            collector: PageCollector::new(pagemap),
            scans,
            buffer: vec![0; PMD_SIZE as usize],
            sparse: SparseRanges::default(),
            hashes: PageHashes::default(),
        }
    }

    /// Hashes what there is of an area and hands over the pages that changed, by address.
    fn update(
        &mut self,
        area: &TrackedArea,
        mut changed: impl FnMut(Range<u64>),
    ) -> Result<(), UffdError> {
        for part in self.sparse.parts(&area.range) {
            let (range, whose) = match part {
                AreaPart::Whole(range) => (range, HashedPages::of(area.backing)),
                AreaPart::Sparse(range) if area.backing == Backing::File => {
                    (range, HashedPages::Copies)
                }
                AreaPart::Sparse(range) => (range, HashedPages::There),
            };
            for chunk in self.chunks(&range, whose)? {
                let new = self.hash_chunk(&chunk, whose)?;
                self.hashes.replace(&chunk, &new, &mut changed);
            }
        }
        Ok(())
    }

    /// The parts of a range, inside a chunk each, in which something is or was.
    fn chunks(
        &mut self,
        range: &Range<u64>,
        whose: HashedPages,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        if whose == HashedPages::All || !self.scans {
            return Ok(chunks_of(range).collect());
        }
        let mut numbers = self.hashes.chunks_in(range);
        for there in self.collector.there(range)? {
            numbers.extend(there.start / PMD_SIZE..there.end.div_ceil(PMD_SIZE));
        }
        numbers.sort_unstable();
        numbers.dedup();
        let chunk = |number: u64| {
            let start = number * PMD_SIZE;
            start.max(range.start)..(start + PMD_SIZE).min(range.end)
        };
        Ok(numbers.into_iter().map(chunk).collect())
    }

    /// What each page of a part of a chunk hashes to.
    fn hash_chunk(&mut self, part: &Range<u64>, whose: HashedPages) -> Result<Vec<u64>, UffdError> {
        let mut hashes = vec![AS_BEGUN; ((part.end - part.start) / PAGE_SIZE) as usize];
        for run in self.runs(part, whose)? {
            let buffer = &mut self.buffer[..(run.end - run.start) as usize];
            let mut at = run.start;
            while at < run.end {
                let rest = &mut buffer[(at - run.start) as usize..];
                let read = self.memory.read(at, rest)?;
                let pages = rest[..read].chunks_exact(PAGE).map(|page| whose.hash(page));
                let first = ((at - part.start) / PAGE_SIZE) as usize;
                let places = hashes[first..].iter_mut();
                let filled = places.zip(pages).map(|(place, hash)| *place = hash).count();
                at += filled as u64 * PAGE_SIZE;
                if at < run.end {
                    hashes[first + filled] = UNREADABLE;
                    at += PAGE_SIZE;
                }
            }
        }
        Ok(hashes)
    }

    /// What of a part of a chunk is to be read.
    fn runs(
        &mut self,
        part: &Range<u64>,
        whose: HashedPages,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        if whose == HashedPages::All {
            return Ok(vec![part.clone()]);
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        self.collector.walk(part, |page, entry| {
            if !has_content(entry) || whose == HashedPages::Copies && entry.of_file() {
                return;
            }
            match runs.last_mut() {
                Some(last) if last.end == page => last.end += PAGE_SIZE,
                _ => runs.push(page..page + PAGE_SIZE),
            }
        })?;
        Ok(runs)
    }
}

impl TrackingStrategy for HashStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::Hash
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.sparse.remove(&area.range);
        self.hashes.forget(&area.range);
        self.update(area, |_| ())
    }

    fn arm_sparse(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.sparse.insert(&area.range);
        self.hashes.forget(&area.range);
        self.update(area, |_| ())
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        let mut stats = AreaStats::of(area);
        self.update(area, |page| {
            stats.written += 1;
            append(written, page, PAGE_SIZE);
        })?;
        Ok(stats)
    }

    fn redraw(&mut self, old: &[TrackedArea], new: &[TrackedArea]) {
        for gone in without(old, new) {
            self.sparse.remove(&gone);
            self.hashes.forget(&gone);
        }
    }

    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.sparse.remove(&area.range);
        self.hashes.forget(&area.range);
        Ok(())
    }

    fn release(self: Box<Self>) -> Result<(), UffdError> {
        Ok(())
    }
}

/// Which pages of a range are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HashedPages {
    /// Each: what is not mapped has content all the same.
    All,
    /// Those that are there: the others are zero.
    There,
    /// Those that the process has a copy of: the others are the file's.
    Copies,
}

impl HashedPages {
    /// Of memory that is hashed as a whole.
    const fn of(backing: Backing) -> Self {
        match backing {
            Backing::Shmem | Backing::File => Self::All,
            Backing::Anon | Backing::Hugetlb => Self::There,
        }
    }

    /// What a page that is there hashes to.
    fn hash(self, page: &[u8]) -> u64 {
        let zero = page.iter().all(|byte| *byte == 0);
        if zero && self != Self::Copies {
            AS_BEGUN
        } else {
            xxh3_64(page).max(UNREADABLE + 1)
        }
    }
}

/// A hash for each page that holds something else than its mapping began with.
#[derive(Debug, Default)]
struct PageHashes(BTreeMap<u64, Box<[u64; CHUNK]>>);

impl PageHashes {
    /// The numbers of the chunks of a range that hold something.
    fn chunks_in(&self, range: &Range<u64>) -> Vec<u64> {
        let numbers = range.start / PMD_SIZE..range.end.div_ceil(PMD_SIZE);
        self.0.range(numbers).map(|(number, _)| *number).collect()
    }

    /// Puts the hashes of a part of a chunk in the place of the old ones, and hands over the pages
    /// that have another.
    fn replace(&mut self, part: &Range<u64>, new: &[u64], mut changed: impl FnMut(Range<u64>)) {
        let number = part.start / PMD_SIZE;
        let nothing = new.iter().all(|hash| *hash == AS_BEGUN);
        if nothing && !self.0.contains_key(&number) {
            return;
        }
        let chunk = self.0.entry(number);
        let chunk = chunk.or_insert_with(|| Box::new([AS_BEGUN; CHUNK]));
        let first = (part.start % PMD_SIZE / PAGE_SIZE) as usize;
        let pages = (part.start..).step_by(PAGE);
        for ((old, new), page) in chunk[first..].iter_mut().zip(new).zip(pages) {
            if std::mem::replace(old, *new) != *new {
                changed(page..page + PAGE_SIZE);
            }
        }
        if nothing && chunk.iter().all(|hash| *hash == AS_BEGUN) {
            self.0.remove(&number);
        }
    }

    /// Forgets a range.
    fn forget(&mut self, range: &Range<u64>) {
        for number in self.chunks_in(range) {
            let start = number * PMD_SIZE;
            let part = start.max(range.start)..(start + PMD_SIZE).min(range.end);
            let pages = ((part.end - part.start) / PAGE_SIZE) as usize;
            self.replace(&part, &vec![AS_BEGUN; pages], |_| ());
        }
    }
}

/// A range cut where chunks end.
fn chunks_of(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let (mut at, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        let start = at;
        at = ((start / PMD_SIZE + 1) * PMD_SIZE).min(end);
        (start < end).then_some(start..at)
    })
}

/// Whether there is a page, in memory or in swap. A marker is none, as far as the reader may see
/// that it is one.
fn has_content(entry: PagemapEntry) -> bool {
    entry.present() || entry.swapped() && !entry.is_marker()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_handed_over_and_what_is_forgotten_is_as_begun() {
        let mut hashes = PageHashes::default();
        let part = PMD_SIZE - 2 * PAGE_SIZE..PMD_SIZE;
        let changes = |hashes: &mut PageHashes, new: [u64; 2]| {
            let mut changed: Vec<u64> = Vec::new();
            hashes.replace(&part, &new, |page| changed.push(page.start));
            changed
        };
        assert_eq!(changes(&mut hashes, [AS_BEGUN, AS_BEGUN]), [0u64; 0]);
        assert_eq!(changes(&mut hashes, [7, AS_BEGUN]), [part.start]);
        assert_eq!(changes(&mut hashes, [7, 8]), [part.start + PAGE_SIZE]);
        hashes.forget(&(part.start..part.start + PAGE_SIZE));
        assert_eq!(changes(&mut hashes, [7, 8]), [part.start]);
        assert_eq!(changes(&mut hashes, [AS_BEGUN; 2]).len(), 2);
        assert!(hashes.0.is_empty(), "nothing is kept of what is as begun");
    }

    #[test]
    fn zeroes_are_what_anonymous_memory_begins_with_and_no_copy_of_a_file() {
        let page = [0; PAGE];
        assert_eq!(HashedPages::There.hash(&page), AS_BEGUN);
        assert_ne!(HashedPages::Copies.hash(&page), AS_BEGUN);
    }
}
