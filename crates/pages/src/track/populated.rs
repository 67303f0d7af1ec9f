//! Which pages of a range are there, in memory or in swap.

use std::ops::Range;

use uffd::{PAGE_SIZE, PageCategories, PageRegion, Pagemap, PagemapEntry, ScanQuery, UffdError};

use super::model::PageExtent;

/// Where a page counts as there. In a range with markers only memory does: the kernel takes markers
/// for swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagePresence {
    /// In memory or in swap.
    Anywhere,
    /// In memory.
    InMemory,
}

/// Whose pages count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageOwner {
    /// All.
    Anybody,
    /// The process's own: in a private mapping of a file, the copies that it has written to.
    Process,
}

/// Finds the pages that are there. The zero page, which nobody has written, is left out where the
/// kernel tells it apart.
#[derive(Debug)]
pub struct PopulatedPages {
    pagemap: Pagemap,
    /// Whether the kernel has `PAGEMAP_SCAN`.
    scans: bool,
    regions: Vec<PageRegion>,
    entries: Vec<PagemapEntry>,
}

impl PopulatedPages {
    /// Through a process's pagemap.
    pub fn new(pagemap: Pagemap, scans: bool) -> Self {
        Self {
            pagemap,
            scans,
            regions: vec![PageRegion::default(); 512],
            entries: vec![PagemapEntry::default(); 4096],
        }
    }

    /// Whether a scan finds them: what is not there takes no time then.
    pub(super) const fn scans(&self) -> bool {
        self.scans
    }

    /// Appends those of a range, by address.
    ///
    /// # Errors
    /// If pagemap cannot be read. [`UffdError::Gone`].
    pub fn append(
        &mut self,
        range: &Range<u64>,
        there: PagePresence,
        whose: PageOwner,
        found: &mut Vec<Range<u64>>,
    ) -> Result<(), UffdError> {
        let mut add = |range: Range<u64>| match found.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => found.push(range),
        };
        if self.scans {
            let query = query(there, whose);
            return self
                .pagemap
                .scan(range, &query, &mut self.regions, |region: PageRegion| {
                    if !region.categories.contains(PageCategories::PFNZERO) {
                        add(region.range());
                    }
                });
        }
        let mut at = range.start;
        while at < range.end {
            let read = self.pagemap.read(&(at..range.end), &mut self.entries)?;
            for entry in self.entries.iter().take(read) {
                let counts = entry.present()
                    || there == PagePresence::Anywhere && entry.swapped() && !entry.is_marker();
                if counts && !(whose == PageOwner::Process && entry.of_file()) {
                    add(at..at + PAGE_SIZE);
                }
                at += PAGE_SIZE;
            }
        }
        Ok(())
    }
}

fn query(there: PagePresence, whose: PageOwner) -> ScanQuery {
    let any_of = match there {
        PagePresence::Anywhere => {
            PageCategories(PageCategories::PRESENT.0 | PageCategories::SWAPPED.0)
        }
        PagePresence::InMemory => PageCategories::PRESENT,
    };
    let not = match whose {
        PageOwner::Anybody => PageCategories(0),
        PageOwner::Process => PageCategories::FILE,
    };
    ScanQuery {
        inverted: not,
        all_of: not,
        any_of,
        returned: PageCategories::PFNZERO,
        arm: false,
        require_async: false,
    }
}

/// Joins two lists of ranges, each disjoint and by address, into extents of unknown pages.
pub(super) fn union(
    mut ranges: Vec<Range<u64>>,
    more: Vec<Range<u64>>,
    unit: u64,
) -> Vec<PageExtent> {
    ranges.extend(more);
    ranges.sort_by_key(|range| range.start);
    let mut extents: Vec<PageExtent> = Vec::new();
    for range in ranges {
        match extents.last_mut() {
            Some(last) if range.start <= last.range.end => {
                last.range.end = last.range.end.max(range.end);
            }
            _ => extents.push(PageExtent {
                range,
                unit,
                unknown: true,
            }),
        }
    }
    extents
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![allow(clippy::single_range_in_vec_init, reason = "lists of ranges")]
    use super::*;
    use uffd::{ScratchMapping, self_test};

    #[test]
    fn ranges_are_joined_and_cut() {
        let extents = union(vec![0..2, 6..8], vec![1..4, 9..10], 4096);
        let ranges: Vec<_> = extents.into_iter().map(|extent| extent.range).collect();
        assert_eq!(ranges, [0..4, 6..8, 9..10]);
    }

    #[test]
    fn pages_that_are_there() {
        let memory = ScratchMapping::anonymous(8 * PAGE_SIZE).unwrap();
        memory.write(2);
        memory.write(3);
        memory.write(6);
        let start = memory.range().start;
        let page = |n: u64| start + n * PAGE_SIZE;
        let scans = self_test().unwrap().written.is_some();
        for scans in [scans, false] {
            let mut populated = PopulatedPages::new(Pagemap::own().unwrap(), scans);
            for there in [PagePresence::Anywhere, PagePresence::InMemory] {
                let mut found = Vec::new();
                populated
                    .append(&memory.range(), there, PageOwner::Anybody, &mut found)
                    .unwrap();
                assert_eq!(
                    found,
                    [page(2)..page(4), page(6)..page(7)],
                    "{there:?} {scans}"
                );
            }
        }
    }
}
