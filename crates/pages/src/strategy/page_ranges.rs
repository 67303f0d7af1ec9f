//! Lists of ranges of addresses, by address and apart from each other: pure.
#![forbid(unsafe_code)]

use std::ops::Range;

/// The union of some ranges in any order.
pub(super) fn union(mut all: Vec<Range<u64>>) -> Vec<Range<u64>> {
    all.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(all.len());
    for range in all {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What of one list is not in another.
pub(super) fn minus(some: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    for range in some {
        let mut at = range.start;
        let first = others.partition_point(|other| other.end <= at);
        for other in others[first..].iter().take_while(|it| it.start < range.end) {
            if at < other.start {
                left.push(at..other.start);
            }
            at = other.end;
        }
        if at < range.end {
            left.push(at..range.end);
        }
    }
    left
}

/// What of one list is in another, too.
pub(super) fn common(some: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    minus(some, &minus(some, others))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        let range = (0u64..60, 1u64..12).prop_map(|(start, length)| start..start + length);
        proptest::collection::vec(range, 0..12)
    }

    fn pages(ranges: &[Range<u64>]) -> BTreeSet<u64> {
        ranges.iter().cloned().flatten().collect()
    }

    proptest! {
        #[test]
        fn they_are_sets(some in ranges(), others in ranges()) {
            let (a, b) = (pages(&some), pages(&others));
            let (some, others) = (union(some), union(others));
            for list in [&some, &others] {
                prop_assert!(list.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
            prop_assert_eq!(pages(&some), a.clone());
            prop_assert_eq!(pages(&minus(&some, &others)), &a - &b);
            prop_assert_eq!(pages(&common(&some, &others)), &a & &b);
        }
    }
}
