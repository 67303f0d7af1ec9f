//! Reading which pages are written, so that no write falls between reading and arming.
//!
//! With `PAGEMAP_SCAN` both are one step under the page table lock. Without it, only pages that
//! were seen disarmed are armed: one written after it was seen is in this round's report; one that
//! was not seen stays disarmed, and is in the next.
#![forbid(unsafe_code)]

use std::ops::Range;

use uffd::{
    ArmOutcome, PAGE_SIZE, PageCategories, PageRegion, Pagemap, PagemapEntry, ScanQuery, UffdError,
    pages_in, unless_unseen,
};

use super::area::TrackedArea;

/// What the kernel's own buffer holds (`PAGEMAP_WALK_SIZE >> PAGE_SHIFT`).
const REGIONS: usize = 512;
/// 32 KiB: the size the kernel reads pagemap in.
const ENTRIES: usize = 4096;
/// Bytes per scan. It holds the target's mmap lock meanwhile: 0.5 ms for a clean GiB.
pub(super) const SCAN_AT_ONCE: u64 = 1 << 30;
/// How often a round looks again for registered memory while the target keeps replacing it.
const LOOKS: u32 = 4;

/// How to find the pages that are not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnarmedSearch {
    /// `PAGEMAP_SCAN`.
    Scan,
    /// pagemap entries; a page that is not there is armed by a marker.
    Entries,
    /// pagemap entries; a page that is not there cannot be armed and is clean.
    PresentEntries,
}

/// The target's pagemap, with buffers.
#[derive(Debug)]
pub(super) struct PageCollector {
    pagemap: Pagemap,
    regions: Vec<PageRegion>,
    entries: Vec<PagemapEntry>,
}

impl PageCollector {
    pub(super) fn new(pagemap: Pagemap) -> Self {
        Self {
            pagemap,
            regions: vec![PageRegion::default(); REGIONS],
            entries: Vec::new(),
        }
    }

    /// Hands over what is written in an area, and arms it in the same step. Returns how many pages
    /// are no longer registered.
    pub(super) fn arm_written(
        &mut self,
        area: &TrackedArea,
        query: &ScanQuery,
        mut each: impl FnMut(PageRegion),
    ) -> Result<u64, UffdError> {
        // A scan skips holes between mappings silently: look at both ends.
        let whole = self.is_registered(&area.page_at(area.range.start))?
            && self.is_registered(&area.page_at(area.range.end - 1))?;
        let mut pending = if whole {
            vec![area.range.clone()]
        } else {
            self.registered(&area.range)?
        };
        let mut vanished = area.pages() - total(&pending);
        let mut looks = 0;
        while let Some(run) = pending.pop() {
            let rest = match self.arm_run(&run, query, &mut each)? {
                ArmedRun::Done => continue,
                ArmedRun::RefusedAfter(at) => at..run.end,
            };
            looks += 1;
            let left = if looks <= LOOKS {
                self.registered(&rest)?
            } else {
                Vec::new()
            };
            vanished += pages_in(&rest) - total(&left);
            pending.extend(left);
        }
        Ok(vanished)
    }

    fn arm_run(
        &mut self,
        run: &Range<u64>,
        query: &ScanQuery,
        each: &mut impl FnMut(PageRegion),
    ) -> Result<ArmedRun, UffdError> {
        let mut at = run.start;
        while at < run.end {
            let part = at..at.saturating_add(SCAN_AT_ONCE).min(run.end);
            let (filled, walked) = match self.pagemap.arm_once(&part, query, &mut self.regions)? {
                ArmOutcome::Walked(scanned) => (scanned.regions, Some(scanned.walk_end)),
                ArmOutcome::Refused { regions } => (regions, None),
            };
            let regions = &self.regions[..filled];
            regions.iter().copied().for_each(&mut *each);
            match walked {
                Some(end) if end > at => at = end,
                Some(_) => return Err(self.pagemap.stuck(at)),
                None => {
                    return Ok(ArmedRun::RefusedAfter(
                        regions.last().map_or(at, |last| last.end),
                    ));
                }
            }
        }
        Ok(ArmedRun::Done)
    }

    fn is_registered(&self, page: &Range<u64>) -> Result<bool, UffdError> {
        let mut region = [PageRegion::default()];
        let scanned = self
            .pagemap
            .scan_once(page, &ScanQuery::REGISTERED, &mut region)?;
        Ok(scanned.regions != 0)
    }

    /// The parts of a range that are registered for async write-protection, the last one first.
    pub(super) fn registered(&mut self, range: &Range<u64>) -> Result<Vec<Range<u64>>, UffdError> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        let each = |region: PageRegion| match runs.last_mut() {
            Some(last) if last.end == region.start => last.end = region.end,
            _ => runs.push(region.range()),
        };
        self.pagemap
            .scan(range, &ScanQuery::REGISTERED, &mut self.regions, each)?;
        runs.reverse();
        Ok(runs)
    }

    /// The pages of a range that are in memory or in swap, and markers, as ranges. Needs
    /// `PAGEMAP_SCAN`.
    pub(super) fn there(&mut self, range: &Range<u64>) -> Result<Vec<Range<u64>>, UffdError> {
        const THERE: ScanQuery = ScanQuery {
            inverted: PageCategories(0),
            all_of: PageCategories(0),
            any_of: PageCategories(PageCategories::PRESENT.0 | PageCategories::SWAPPED.0),
            returned: PageCategories(0),
            arm: false,
            require_async: false,
        };
        let mut found: Vec<Range<u64>> = Vec::new();
        let each = |region: PageRegion| found.push(region.range());
        self.pagemap.scan(range, &THERE, &mut self.regions, each)?;
        Ok(found)
    }

    /// The pages of a range that are not armed, as ranges.
    pub(super) fn unarmed(
        &mut self,
        range: &Range<u64>,
        how: UnarmedSearch,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut add = |range: Range<u64>| match found.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => found.push(range),
        };
        match how {
            UnarmedSearch::Scan => {
                let each = |region: PageRegion| add(region.range());
                self.pagemap
                    .scan(range, &ScanQuery::WRITTEN, &mut self.regions, each)?;
            }
            UnarmedSearch::Entries => self.entries(range, |_| true, add)?,
            UnarmedSearch::PresentEntries => {
                self.entries(range, |entry| entry.present() || entry.swapped(), add)?;
            }
        }
        Ok(found)
    }

    fn entries(
        &mut self,
        range: &Range<u64>,
        counts: impl Fn(PagemapEntry) -> bool,
        mut each: impl FnMut(Range<u64>),
    ) -> Result<(), UffdError> {
        self.walk(range, |page, entry| {
            if !entry.armed() && counts(entry) {
                each(page..page + PAGE_SIZE);
            }
        })
    }

    /// Hands over the pagemap entry of each 4 KiB page.
    pub(super) fn walk(
        &mut self,
        range: &Range<u64>,
        mut each: impl FnMut(u64, PagemapEntry),
    ) -> Result<(), UffdError> {
        self.entries.resize(ENTRIES, PagemapEntry::default());
        let mut at = range.start;
        while at < range.end {
            let read = self.pagemap.read(&(at..range.end), &mut self.entries)?;
            for entry in &self.entries[..read] {
                each(at, *entry);
                at += PAGE_SIZE;
            }
        }
        Ok(())
    }

    /// Scans once with a query that arms; returns whether it found anything. In a process that is
    /// gone it finds nothing.
    pub(super) fn arm_if(
        &mut self,
        page: &Range<u64>,
        query: &ScanQuery,
    ) -> Result<bool, UffdError> {
        let scan = unless_unseen(self.pagemap.arm_once(page, query, &mut self.regions[..1]))?;
        Ok(matches!(scan, Some(ArmOutcome::Walked(scanned)) if scanned.regions != 0))
    }
}

enum ArmedRun {
    Done,
    /// Something that is not registered lies after this address.
    RefusedAfter(u64),
}

fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(pages_in).sum()
}
