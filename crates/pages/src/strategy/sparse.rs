//! Private memory that nobody may write at the moment, of which only what is there is armed.
//!
//! It can be written all the same: mprotect(2) makes it writable for as long as a write takes, and
//! `/proc/PID/mem` asks for no permission. Most of it never is, and there can be much: address
//! space that is only reserved, and the code of every library. So it costs no page table.
//!
//! Of anonymous memory the first write makes a page, which has no bit and is found. Then all of its
//! page table is armed, and from there on also what is emptied is seen. Of a file a write makes a
//! copy that is the process's own; every other page is the file's and was not written.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

use uffd::{Backing, PMD_SIZE, PageCategories, PageRegion, ScanQuery, UffdError, pages_in};

use super::area::{AreaStats, TrackedArea, WrittenRun, append, without};
use super::collect::PageCollector;
use super::none_is_clean::THERE_AND_WRITTEN;

/// Copies of a file's pages that have been written.
pub(super) const OWN_AND_WRITTEN: ScanQuery = ScanQuery {
    inverted: PageCategories::FILE,
    all_of: PageCategories(PageCategories::WRITTEN.0 | PageCategories::FILE.0),
    ..THERE_AND_WRITTEN
};

/// What is there, also if it is armed already, as what was tracked here before may be.
const THERE: ScanQuery = ScanQuery {
    all_of: PageCategories(0),
    returned: PageCategories::PFNZERO,
    ..THERE_AND_WRITTEN
};

/// Whatever is not armed, also what is not there.
const UNARMED: ScanQuery = ScanQuery {
    returned: PageCategories(
        PageCategories::PRESENT.0 | PageCategories::SWAPPED.0 | PageCategories::PFNZERO.0,
    ),
    ..ScanQuery::WRITTEN_AND_ARM
};

/// Disjoint ranges: start and end.
#[derive(Clone, Debug, Default)]
pub(super) struct SparseRanges(BTreeMap<u64, u64>);

impl SparseRanges {
    /// Adds a range.
    pub(super) fn insert(&mut self, range: &Range<u64>) {
        self.remove(range);
        self.0.insert(range.start, range.end);
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        let before = self.0.range(..range.start).next_back();
        if let Some((&start, &end)) = before
            && end > range.start
        {
            self.0.insert(start, range.start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
        let inside: Vec<(u64, u64)> = self
            .0
            .range(range.start..range.end.max(range.start))
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in inside {
            self.0.remove(&start);
            if end > range.end {
                self.0.insert(range.end, end);
            }
        }
    }

    /// Takes out what of `old` is not in `new`; both are disjoint and by address.
    pub(super) fn redraw(&mut self, old: &[TrackedArea], new: &[TrackedArea]) {
        without(old, new).iter().for_each(|gone| self.remove(gone));
    }

    /// The parts of a range by address, each inside of these ranges or outside of all.
    pub(super) fn parts(&self, range: &Range<u64>) -> Vec<AreaPart> {
        let mut parts = Vec::new();
        let mut at = range.start;
        let before = self.0.range(..range.start).next_back();
        let inside = self.0.range(range.start..range.end);
        for (&start, &end) in before.into_iter().chain(inside) {
            let (start, end) = (start.max(at), end.min(range.end));
            if start >= end {
                continue;
            }
            if at < start {
                parts.push(AreaPart::Whole(at..start));
            }
            parts.push(AreaPart::Sparse(start..end));
            at = end;
        }
        if at < range.end {
            parts.push(AreaPart::Whole(at..range.end));
        }
        parts
    }
}

/// A part of an area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AreaPart {
    /// All of it is armed.
    Whole(Range<u64>),
    /// Only what is there is armed.
    Sparse(Range<u64>),
}

impl PageCollector {
    /// Arms what is there of an area of which the rest costs nothing; with `tables` also what is
    /// not there, in each page table that is there. Returns the ranges that are armed as a whole
    /// from now on.
    pub(super) fn arm_sparse(
        &mut self,
        area: &TrackedArea,
        tables: bool,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        let mut ignored = AreaStats::default();
        let query = query_of(area, THERE);
        self.scan_sparse(area, query, tables, &mut Vec::new(), &mut ignored)
    }

    /// A round of such an area. What was written is appended by address. Returns as
    /// [`Self::arm_sparse`] does.
    pub(super) fn sparse_round(
        &mut self,
        area: &TrackedArea,
        tables: bool,
        written: &mut Vec<WrittenRun>,
        stats: &mut AreaStats,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        let query = query_of(area, THERE_AND_WRITTEN);
        self.scan_sparse(area, query, tables, written, stats)
    }

    fn scan_sparse(
        &mut self,
        area: &TrackedArea,
        query: ScanQuery,
        tables: bool,
        written: &mut Vec<WrittenRun>,
        stats: &mut AreaStats,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        let of_file = area.backing == Backing::File;
        let mut found: Vec<Range<u64>> = Vec::new();
        let mut armed = 0;
        let mut add = |region: PageRegion| {
            armed += pages_in(&region.range());
            if !region.categories.contains(PageCategories::PFNZERO) {
                found.push(region.range());
            }
        };
        let vanished = self.arm_written(area, &query, &mut add)?;
        let mut whole = Vec::new();
        if tables && !of_file {
            whole = tables_of(&area.range, &found);
            for range in &whole {
                let part = area.part(range);
                self.arm_written(&part, &UNARMED, |region| {
                    let there = PageCategories::PRESENT.0 | PageCategories::SWAPPED.0;
                    let zero = region.categories.contains(PageCategories::PFNZERO);
                    if region.categories.0 & there != 0 && !zero {
                        found.push(region.range());
                    }
                })?;
            }
            found.sort_by_key(|range| range.start);
        }
        stats.lose(vanished);
        stats.armed += armed;
        for range in found {
            stats.written += pages_in(&range);
            append(written, range, area.page_size);
        }
        Ok(whole)
    }
}

/// Of a file only copies are the process's own.
fn query_of(area: &TrackedArea, anonymous: ScanQuery) -> ScanQuery {
    match area.backing {
        Backing::File => OWN_AND_WRITTEN,
        _ => anonymous,
    }
}

/// The parts of a range that share a page table with some page of `found`, which are by address.
fn tables_of(range: &Range<u64>, found: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut tables: Vec<Range<u64>> = Vec::new();
    for page in found {
        let start = (page.start / PMD_SIZE * PMD_SIZE).max(range.start);
        let end = page.end.next_multiple_of(PMD_SIZE).min(range.end);
        match tables.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ => tables.push(start..end),
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "lists of ranges")]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_makes_its_table_whole() {
        let table = PMD_SIZE;
        let found = [
            table + 4096..table + 8192,
            3 * table - 4096..3 * table + 4096,
        ];
        let whole = tables_of(&(table + 4096..4 * table), &found);
        assert_eq!(whole, [table + 4096..4 * table]);
        let whole = tables_of(&(0..4 * table), &found[..1]);
        assert_eq!(whole, [table..2 * table]);
    }

    #[test]
    fn parts_cover_a_range() {
        let mut sparse = SparseRanges::default();
        sparse.insert(&(10..20));
        sparse.insert(&(30..40));
        use AreaPart::{Sparse, Whole};
        assert_eq!(
            sparse.parts(&(15..35)),
            [Sparse(15..20), Whole(20..30), Sparse(30..35)]
        );
        assert_eq!(sparse.parts(&(20..30)), [Whole(20..30)]);
    }

    proptest! {
        #[test]
        fn what_is_put_in_and_taken_out(
            steps in proptest::collection::vec((0u64..60, 0u64..20, any::<bool>()), 0..30)
        ) {
            let (mut sparse, mut expected) = (SparseRanges::default(), BTreeSet::new());
            for (start, length, insert) in steps {
                let range = start..start + length;
                if insert && length != 0 {
                    sparse.insert(&range);
                    expected.extend(range);
                } else {
                    sparse.remove(&range);
                    expected.retain(|page| !range.contains(page));
                }
            }
            let mut found = BTreeSet::new();
            let mut at = 0;
            for part in sparse.parts(&(0..100)) {
                let (AreaPart::Whole(range) | AreaPart::Sparse(range)) = &part;
                prop_assert_eq!(range.start, at);
                at = range.end;
                if let AreaPart::Sparse(range) = part {
                    found.extend(range);
                }
            }
            prop_assert_eq!((at, found), (100, expected));
        }
    }
}
