//! `hash`: compares the content of every page with that of the round before: tells what has
//! changed, not what was written.
//!
//! Takes 8 bytes of memory per page. Reading has effects: a page in swap is read in, and a page of
//! a file or of shmem is mapped. Anonymous memory and hugetlb that are not there are zero, and left
//! alone.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::ops::Range;

use uffd::{Backing, PAGE_SIZE, Pagemap, PagemapEntry, ProcessMemory, UffdError, pages_in};
use xxhash_rust::xxh3::xxh3_64;

use super::area::{AreaStats, TrackedArea, WrittenRun, append};
use super::collect::PageCollector;
use super::entry::{AbsentPages, StrategyEntry, TargetWait};
use super::start::StrategyStart;
use super::{StrategyName, TrackingStrategy};

/// Bytes per read.
const CHUNK: u64 = 1 << 20;
const PAGE: usize = PAGE_SIZE as usize;
/// Stands for the content of a page that cannot be read.
const UNREADABLE: u64 = 0;

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "hash",
    merit: "needs nothing but to read, and reads everything each round",
    needs: &[],
    waits: TargetWait::Never,
    absent: AbsentPages::Paid,
    reads_content: true,
    auto: true,
    caveat: None,
    start: StrategyStart::Outside(|target| {
        Ok(Box::new(HashStrategy::new(target.pid, target.pagemap()?)))
    }),
};

#[derive(Debug)]
pub(super) struct HashStrategy {
    memory: ProcessMemory,
    collector: PageCollector,
    buffer: Vec<u8>,
    /// The hash of an empty page.
    empty: u64,
    /// A hash per page, by the start of the area.
    hashes: HashMap<u64, Vec<u64>>,
}

impl HashStrategy {
    pub(super) fn new(pid: u32, pagemap: Pagemap) -> Self {
        Self {
            memory: ProcessMemory::of(pid),
            collector: PageCollector::new(pagemap),
            buffer: vec![0; CHUNK as usize],
            empty: xxh3_64(&[0; PAGE]),
            hashes: HashMap::new(),
        }
    }

    /// Hashes every page of an area, and hands over those that changed.
    fn update(
        &mut self,
        area: &TrackedArea,
        hashes: &mut [u64],
        mut changed: impl FnMut(Range<u64>),
    ) -> Result<(), UffdError> {
        for (part, hashes) in area.parts(CHUNK).scan(hashes, |rest, part| {
            let hashes = rest.split_off_mut(..pages_in(&part) as usize)?;
            Some((part, hashes))
        }) {
            let mut new = vec![self.empty; hashes.len()];
            for run in self.there(area, &part)? {
                self.hash(&part, &run, &mut new)?;
            }
            for (index, (old, new)) in hashes.iter_mut().zip(new).enumerate() {
                if std::mem::replace(old, new) != new {
                    let start = part.start + index as u64 * PAGE_SIZE;
                    changed(start..start + PAGE_SIZE);
                }
            }
        }
        Ok(())
    }

    /// The ranges of a part to read.
    fn there(
        &mut self,
        area: &TrackedArea,
        part: &Range<u64>,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        if matches!(area.backing, Backing::Shmem | Backing::File) {
            return Ok(vec![part.clone()]);
        }
        let mut runs: Vec<Range<u64>> = Vec::new();
        self.collector.walk(part, |page, entry| {
            if !has_content(entry) {
                return;
            }
            match runs.last_mut() {
                Some(last) if last.end == page => last.end += PAGE_SIZE,
                _ => runs.push(page..page + PAGE_SIZE),
            }
        })?;
        Ok(runs)
    }

    /// Hashes the pages of a run into their places among those of the part.
    fn hash(
        &mut self,
        part: &Range<u64>,
        run: &Range<u64>,
        new: &mut [u64],
    ) -> Result<(), UffdError> {
        let mut at = run.start;
        while at < run.end {
            // A huge page may be larger than the buffer.
            let bytes = (run.end - at).min(CHUNK) as usize;
            let read = self.memory.read(at, &mut self.buffer[..bytes])?;
            let mut hashes: Vec<_> = self.buffer[..read]
                .chunks_exact(PAGE)
                .map(xxh3_64)
                .collect();
            if read < bytes {
                hashes.push(UNREADABLE);
            }
            let index = ((at - part.start) / PAGE_SIZE) as usize;
            at += hashes.len() as u64 * PAGE_SIZE;
            for (place, hash) in new.iter_mut().skip(index).zip(hashes) {
                *place = hash;
            }
        }
        Ok(())
    }
}

impl TrackingStrategy for HashStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::Hash
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        let mut hashes = vec![UNREADABLE; area.pages() as usize];
        let hashed = self.update(area, &mut hashes, |_| ());
        self.hashes.insert(area.range.start, hashes);
        hashed
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        let mut hashes = self.hashes.remove(&area.range.start).unwrap_or_default();
        // An area that was never armed has no content to compare with: all of it is reported.
        hashes.resize(area.pages() as usize, UNREADABLE);
        let mut stats = AreaStats::of(area);
        let hashed = self.update(area, &mut hashes, |page| {
            stats.written += 1;
            append(written, page, PAGE_SIZE);
        });
        // Kept even if the memory cannot be read at the moment: the next round compares with them.
        self.hashes.insert(area.range.start, hashes);
        hashed.map(|()| stats)
    }

    fn redraw(&mut self, old: &[TrackedArea], new: &[TrackedArea]) {
        let mut known: Vec<_> = old
            .iter()
            .filter_map(|area| Some((area, self.hashes.remove(&area.range.start)?)))
            .collect();
        for area in new {
            let mut hashes = vec![UNREADABLE; area.pages() as usize];
            for (from, old) in &mut known {
                copy_common(&from.range, old, &area.range, &mut hashes);
            }
            self.hashes.insert(area.range.start, hashes);
        }
    }

    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.hashes.remove(&area.range.start);
        Ok(())
    }

    fn release(self: Box<Self>) -> Result<(), UffdError> {
        Ok(())
    }
}

/// Copies the hashes of the pages that two ranges share.
fn copy_common(from: &Range<u64>, old: &[u64], to: &Range<u64>, new: &mut [u64]) {
    let common = from.start.max(to.start)..from.end.min(to.end);
    let skip = |range: &Range<u64>| pages_in(&(range.start..common.start)) as usize;
    let (Some(old), Some(new)) = (old.get(skip(from)..), new.get_mut(skip(to)..)) else {
        return;
    };
    let count = pages_in(&common) as usize;
    for (new, old) in new.iter_mut().zip(old).take(count) {
        *new = *old;
    }
}

/// Whether there is a page, in memory or in swap. A marker is none, if our privilege suffices to
/// tell it from swap.
fn has_content(entry: PagemapEntry) -> bool {
    entry.present() || entry.swapped() && !entry.is_marker()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_follow_their_pages_when_borders_move() {
        let (page, mut new) = (PAGE_SIZE, vec![0; 3]);
        copy_common(
            &(page..4 * page),
            &[1, 2, 3],
            &(2 * page..5 * page),
            &mut new,
        );
        assert_eq!(new, [2, 3, 0]);
        copy_common(&(5 * page..6 * page), &[9], &(2 * page..5 * page), &mut new);
        assert_eq!(new, [2, 3, 0], "nothing in common");
        copy_common(
            &(4 * page..6 * page),
            &[7, 8],
            &(2 * page..5 * page),
            &mut new,
        );
        assert_eq!(new, [2, 3, 7]);
    }
}
