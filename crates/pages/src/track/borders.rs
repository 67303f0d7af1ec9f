//! Fits what is tracked to the mappings that there are: pure functions.

use std::ops::Range;

use super::vmas::FoundMapping;
use crate::strategy::TrackedArea;

/// What is left of `tracked` in the mappings `vmas`, joined where it touches inside one mapping: no
/// area reaches over a border. Both are disjoint and by address.
///
/// A part whose mapping has other pages by now (another backing, another page size) is not left.
pub(super) fn fit(tracked: &[TrackedArea], vmas: &[FoundMapping]) -> Vec<TrackedArea> {
    let mut fitted: Vec<TrackedArea> = Vec::new();
    for vma in vmas.iter().map(FoundMapping::area) {
        let begun = fitted.len();
        for area in overlapping(tracked, &vma.range) {
            if !area.is_like(&vma) {
                continue;
            }
            let range = area.range.start.max(vma.range.start)..area.range.end.min(vma.range.end);
            match fitted[begun..].last_mut() {
                Some(last) if last.range.end == range.start => last.range.end = range.end,
                _ => fitted.push(TrackedArea {
                    range,
                    ..area.clone()
                }),
            }
        }
    }
    fitted
}

/// The parts of wanted mappings that are not tracked.
pub(super) fn holes<'a>(
    tracked: &[TrackedArea],
    vmas: impl Iterator<Item = &'a FoundMapping>,
) -> Vec<TrackedArea> {
    let mut holes = Vec::new();
    for vma in vmas.map(FoundMapping::area) {
        let mut at = vma.range.start;
        for area in overlapping(tracked, &vma.range) {
            if at < area.range.start {
                holes.push(TrackedArea {
                    range: at..area.range.start,
                    ..vma.clone()
                });
            }
            at = at.max(area.range.end);
        }
        if at < vma.range.end {
            holes.push(TrackedArea {
                range: at..vma.range.end,
                ..vma
            });
        }
    }
    holes
}

/// The areas of `old` and of `new`, both by address, that are not in the other as they are.
pub(super) fn changes(
    old: &[TrackedArea],
    new: &[TrackedArea],
) -> (Vec<TrackedArea>, Vec<TrackedArea>) {
    let only = |these: &[TrackedArea], others: &[TrackedArea]| {
        let known = |area: &&TrackedArea| {
            let at = others.binary_search_by_key(&area.range.start, |other| other.range.start);
            at.ok().and_then(|index| others.get(index)) != Some(*area)
        };
        these.iter().filter(known).cloned().collect()
    };
    (only(old, new), only(new, old))
}

/// Whether a range is inside one mapping.
pub(super) fn is_one(vmas: &[FoundMapping], range: &Range<u64>) -> bool {
    let at = vmas.partition_point(|found| found.mapping.end <= range.start);
    vmas.get(at)
        .is_some_and(|found| found.mapping.start <= range.start && range.end <= found.mapping.end)
}

/// The areas with an address in `range`. `areas` are disjoint and by address.
pub(super) fn overlapping<'a>(
    areas: &'a [TrackedArea],
    range: &Range<u64>,
) -> impl Iterator<Item = &'a TrackedArea> + use<'a> {
    let first = areas.partition_point(|area| area.range.end <= range.start);
    let end = range.end;
    areas[first..]
        .iter()
        .take_while(move |area| area.range.start < end)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;
    use uffd::Backing;

    use super::super::model::TrackedMapping;
    use super::super::vmas::MappingLook;
    use super::*;

    fn area(range: Range<u64>, backing: Backing) -> TrackedArea {
        TrackedArea {
            range,
            backing,
            page_size: 1,
            shared: false,
        }
    }

    fn found(range: Range<u64>, backing: Backing) -> FoundMapping {
        let mapping = Arc::new(TrackedMapping {
            start: range.start,
            end: range.end,
            name: String::new(),
            backing,
            page_size: 1,
            shared: None,
        });
        FoundMapping {
            mapping,
            look: MappingLook::Writable,
        }
    }

    #[test]
    fn a_mapping_that_grows_is_one_area() {
        let vmas = [found(0..30, Backing::Anon)];
        let tracked = [area(10..20, Backing::Anon)];
        let holes = holes(&tracked, vmas.iter());
        assert_eq!(
            holes,
            [area(0..10, Backing::Anon), area(20..30, Backing::Anon)]
        );
        let all = [holes[0].clone(), tracked[0].clone(), holes[1].clone()];
        assert_eq!(fit(&all, &vmas), [area(0..30, Backing::Anon)]);
    }

    #[test]
    fn inside_one_mapping_or_not() {
        let vmas = [found(0..10, Backing::Anon), found(10..30, Backing::Anon)];
        let inside = [0..10, 10..30, 12..13].map(|range| is_one(&vmas, &range));
        assert_eq!(inside, [true; 3]);
        let outside = [0..11, 20..31, 30..31].map(|range| is_one(&vmas, &range));
        assert_eq!(outside, [false; 3]);
    }

    #[test]
    fn a_mapping_that_is_split_or_replaced() {
        let tracked = [area(0..30, Backing::Anon)];
        let vmas = [
            found(0..10, Backing::Anon),
            found(10..20, Backing::Anon),
            found(20..30, Backing::Shmem),
        ];
        let fitted = fit(&tracked, &vmas);
        assert_eq!(
            fitted,
            [area(0..10, Backing::Anon), area(10..20, Backing::Anon)]
        );
        assert_eq!(holes(&fitted, vmas.iter()), [area(20..30, Backing::Shmem)]);
        let (old, new) = changes(&tracked, &fitted);
        assert_eq!((old.len(), new.len()), (1, 2));
        assert_eq!(changes(&fitted, &fitted), (vec![], vec![]));
    }

    /// Disjoint ranges by address, from their borders.
    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        proptest::collection::btree_set(0u64..60, 0..16).prop_map(|borders| {
            let borders: Vec<_> = borders.into_iter().collect();
            borders
                .chunks_exact(2)
                .map(|pair| pair[0]..pair[1])
                .collect()
        })
    }

    fn covered<'a>(ranges: impl IntoIterator<Item = &'a Range<u64>>) -> BTreeSet<u64> {
        ranges.into_iter().flat_map(Clone::clone).collect()
    }

    proptest! {
        #[test]
        fn tracked_and_holes_cover_the_mappings_and_nothing_else(
            tracked in ranges(),
            vmas in ranges(),
        ) {
            let anon = |range| area(range, Backing::Anon);
            let wanted = |range: &Range<u64>| found(range.clone(), Backing::Anon);
            let tracked: Vec<_> = tracked.into_iter().map(anon).collect();
            let found: Vec<_> = vmas.iter().map(wanted).collect();
            let fitted = fit(&tracked, &found);
            let holes = holes(&fitted, found.iter());
            let before = covered(tracked.iter().map(|area| &area.range));
            let mapped = covered(&vmas);
            let kept = covered(fitted.iter().map(|area| &area.range));
            let added = covered(holes.iter().map(|area| &area.range));
            prop_assert_eq!(&kept, &before.intersection(&mapped).copied().collect());
            prop_assert_eq!(&added, &mapped.difference(&kept).copied().collect());
            let mut all: Vec<_> = fitted.into_iter().chain(holes).collect();
            all.sort_by_key(|area| area.range.start);
            let joined = fit(&all, &found);
            prop_assert_eq!(joined.iter().map(|area| area.range.clone()).collect::<Vec<_>>(), vmas);
        }
    }
}
