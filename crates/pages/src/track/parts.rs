//! From what a round found, area by area, to rows, mapping by mapping: pure functions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::borders;
use super::model::{MappingRound, PageExtent, TrackedMapping, TrackedPages};
use super::vmas::FoundMapping;
use crate::strategy::TrackedArea;
use uffd::pages_in;

/// What a round found so far.
#[derive(Default)]
pub(super) struct RoundParts {
    /// Counts that extents do not tell, by the start of the area.
    counts: BTreeMap<u64, TrackedPages>,
    extents: Vec<PageExtent>,
    /// Areas that are unmapped, in part or whole, with how many of their pages.
    vanished: Vec<(TrackedArea, u64)>,
}

impl RoundParts {
    /// Adds what a round of the area at `start` found.
    pub(super) fn add(
        &mut self,
        start: u64,
        more: TrackedPages,
        extents: impl IntoIterator<Item = PageExtent>,
    ) {
        let optional =
            |a: Option<u64>, b: Option<u64>| a.map_or(b, |a| Some(a + b.unwrap_or_default()));
        let sum = self.counts.entry(start).or_default();
        sum.armed += more.armed;
        sum.touched = optional(sum.touched, more.touched);
        sum.zapped = optional(sum.zapped, more.zapped);
        self.extents.extend(extents);
    }

    /// Adds that so many pages of an area are gone.
    pub(super) fn vanished(&mut self, area: &TrackedArea, pages: u64) {
        if pages != 0 {
            self.vanished.push((area.clone(), pages));
        }
    }

    /// One row per tracked mapping, whose borders need not be those of the areas that were read.
    pub(super) fn rows(self, areas: &[TrackedArea], vmas: &[FoundMapping]) -> Vec<MappingRound> {
        let mut rows = Vec::new();
        let extents = disjoint(self.extents);
        for found in vmas {
            let here = found.area().range;
            let tracked: u64 = borders::overlapping(areas, &here)
                .map(TrackedArea::pages)
                .sum();
            if tracked == 0 {
                continue;
            }
            let mut sum = Self::default();
            for (_, pages) in self.counts.range(here.clone()) {
                sum.add(here.start, *pages, []);
            }
            let mut pages = sum.counts.remove(&here.start).unwrap_or_default();
            pages.tracked = tracked;
            let written = within(&extents, &here);
            count(&written, &mut pages);
            rows.push(MappingRound {
                mapping: found.mapping.clone(),
                pages,
                written,
            });
        }
        for (area, pages) in self.vanished {
            add_vanished(&mut rows, &extents, &area, pages);
        }
        rows
    }
}

/// Tells that so many pages of an area are gone: in the row of what is left of it, or in a row of
/// its own. What was found in it before has a row of its own in any case: it was written.
fn add_vanished(
    rows: &mut Vec<MappingRound>,
    extents: &[PageExtent],
    area: &TrackedArea,
    mut pages: u64,
) {
    for gap in gaps(rows, &area.range) {
        let written = within(extents, &gap);
        if written.is_empty() {
            continue;
        }
        let gone = pages_in(&gap).min(pages);
        pages -= gone;
        let mut row = vanished_row(&area.part(&gap), gone);
        count(&written, &mut row.pages);
        row.written = written;
        let after = rows.partition_point(|row| row.mapping.end <= gap.start);
        rows.insert(after, row);
    }
    if pages == 0 {
        return;
    }
    let after = rows.partition_point(|row| row.mapping.end <= area.range.start);
    match rows.get_mut(after) {
        Some(row) if row.mapping.start < area.range.end => row.pages.vanished += pages,
        _ => rows.insert(after, vanished_row(area, pages)),
    }
}

/// Adds the pages of extents.
fn count(extents: &[PageExtent], pages: &mut TrackedPages) {
    for extent in extents {
        let count = if extent.unknown {
            &mut pages.unknown
        } else {
            &mut pages.written
        };
        *count += extent.pages();
    }
}

/// The parts of a range that no row covers.
fn gaps(rows: &[MappingRound], range: &Range<u64>) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = range.start;
    let first = rows.partition_point(|row| row.mapping.end <= range.start);
    for row in &rows[first..] {
        if row.mapping.start >= range.end {
            break;
        }
        if at < row.mapping.start {
            gaps.push(at..row.mapping.start);
        }
        at = at.max(row.mapping.end);
    }
    if at < range.end {
        gaps.push(at..range.end);
    }
    gaps
}

/// By address; what is reported twice, because a round had to begin again, counts once.
fn disjoint(mut extents: Vec<PageExtent>) -> Vec<PageExtent> {
    extents.sort_by_key(|extent| extent.range.start);
    let mut end = 0;
    extents.retain_mut(|extent| {
        extent.range.start = extent.range.start.max(end);
        end = end.max(extent.range.end);
        extent.range.start < extent.range.end
    });
    extents
}

/// The parts of disjoint extents in a range.
fn within(extents: &[PageExtent], range: &Range<u64>) -> Vec<PageExtent> {
    let first = extents.partition_point(|extent| extent.range.end <= range.start);
    let inside = extents[first..]
        .iter()
        .take_while(|extent| extent.range.start < range.end);
    let cut = |extent: &PageExtent| PageExtent {
        range: extent.range.start.max(range.start)..extent.range.end.min(range.end),
        ..extent.clone()
    };
    inside.map(cut).collect()
}

/// The row of a mapping that is gone as a whole.
fn vanished_row(area: &TrackedArea, pages: u64) -> MappingRound {
    MappingRound {
        mapping: Arc::new(TrackedMapping {
            start: area.range.start,
            end: area.range.end,
            name: String::new(),
            backing: area.backing,
            page_size: area.page_size,
            shared: None,
        }),
        pages: TrackedPages {
            vanished: pages,
            ..TrackedPages::default()
        },
        written: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use uffd::Backing;

    use super::super::vmas::MappingLook;
    use super::*;

    const PAGE: u64 = 4096;

    fn extent(pages: Range<u64>, unknown: bool) -> PageExtent {
        PageExtent {
            range: pages.start * PAGE..pages.end * PAGE,
            unit: PAGE,
            unknown,
        }
    }

    fn found(pages: Range<u64>) -> FoundMapping {
        let mapping = Arc::new(TrackedMapping {
            start: pages.start * PAGE,
            end: pages.end * PAGE,
            name: String::new(),
            backing: Backing::Anon,
            page_size: PAGE,
            shared: None,
        });
        FoundMapping {
            mapping,
            look: MappingLook::Writable,
        }
    }

    #[test]
    fn what_was_read_in_one_mapping_is_told_in_the_two_it_became() {
        let vmas = [found(0..10), found(10..20)];
        let areas = [vmas[0].area(), vmas[1].area()];
        let mut parts = RoundParts::default();
        let reported = [extent(8..13, false), extent(15..16, true)];
        parts.add(0, TrackedPages::default(), reported);
        let rows = parts.rows(&areas, &vmas);
        assert_eq!(rows[0].written, [extent(8..10, false)]);
        assert_eq!(
            rows[1].written,
            [extent(10..13, false), extent(15..16, true)]
        );
        let counts = |row: &MappingRound| (row.pages.tracked, row.pages.written, row.pages.unknown);
        assert_eq!(
            (counts(&rows[0]), counts(&rows[1])),
            ((10, 2, 0), (10, 3, 1))
        );
    }

    #[test]
    fn what_is_told_twice_counts_once() {
        let vmas = [found(0..10)];
        let mut parts = RoundParts::default();
        for _ in 0..2 {
            parts.add(0, TrackedPages::default(), [extent(1..3, false)]);
        }
        parts.add(0, TrackedPages::default(), [extent(2..4, true)]);
        let rows = parts.rows(&[vmas[0].area()], &vmas);
        assert_eq!(rows[0].written, [extent(1..3, false), extent(3..4, true)]);
        assert_eq!((rows[0].pages.written, rows[0].pages.unknown), (2, 1));
    }

    #[test]
    fn what_was_found_in_memory_that_is_gone_is_told() {
        let vmas = [found(0..10), found(30..40)];
        let areas = [vmas[0].area(), vmas[1].area()];
        let mut parts = RoundParts::default();
        // One is gone as a whole, of one the end.
        for (start, reported) in [(15, extent(16..18, false)), (30, extent(38..42, false))] {
            parts.add(start * PAGE, TrackedPages::default(), [reported]);
        }
        parts.vanished(&found(15..20).area(), 5);
        parts.vanished(&found(30..45).area(), 5);
        let rows = parts.rows(&areas, &vmas);
        let told = rows.iter().map(|row| {
            let pages = &row.pages;
            let start = row.mapping.start / PAGE;
            (start, pages.tracked, pages.vanished, pages.written)
        });
        assert_eq!(
            told.collect::<Vec<_>>(),
            [(0, 10, 0, 0), (15, 0, 5, 2), (30, 10, 0, 2), (40, 0, 5, 2)]
        );
        assert_eq!(rows[1].written, [extent(16..18, false)]);
        assert_eq!(rows[3].written, [extent(40..42, false)]);
    }

    #[test]
    fn what_is_gone_is_counted_where_it_was() {
        let vmas = [found(0..10), found(30..40)];
        let areas = [vmas[0].area(), vmas[1].area()];
        let mut parts = RoundParts::default();
        parts.vanished(&found(15..20).area(), 5);
        parts.vanished(&found(35..45).area(), 2);
        let rows = parts.rows(&areas, &vmas);
        let vanished: Vec<_> = rows.iter().map(|row| row.pages.vanished).collect();
        assert_eq!(vanished, [0, 5, 2]);
        assert_eq!(rows[1].mapping.start, 15 * PAGE);
    }
}
