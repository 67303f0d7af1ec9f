//! A set of addresses, as disjoint ranges.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ops::Range;

/// The set: end by start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds a range.
    pub(super) fn insert(&mut self, range: &Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return;
        }
        for part in self.touching(range) {
            self.0.remove(&part.start);
            (start, end) = (start.min(part.start), end.max(part.end));
        }
        self.0.insert(start, end);
    }

    /// The parts it has in common with a range.
    pub(super) fn common(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let cut = |part: Range<u64>| part.start.max(range.start)..part.end.min(range.end);
        let parts = self.touching(range).into_iter().map(cut);
        parts.filter(|part| part.start < part.end).collect()
    }

    /// Its parts that overlap or adjoin a range.
    fn touching(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let below = self.0.range(..=range.end).rev();
        let parts = below.take_while(|(_, end)| **end >= range.start);
        parts.map(|(start, end)| *start..*end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_join_and_holes_stay() {
        let mut set = RangeSet::default();
        set.insert(&(0..10));
        set.insert(&(20..30));
        set.insert(&(40..50));
        assert_eq!(set.common(&(5..45)), [40..45, 20..30, 5..10]);
        set.insert(&(10..20));
        assert_eq!(set.0, BTreeMap::from([(0, 30), (40, 50)]));
    }

    proptest! {
        /// Against a set of single addresses.
        #[test]
        fn as_a_set(added: Vec<(u64, u64)>, asked in (0..64u64, 0..64u64)) {
            let (mut set, mut single) = (RangeSet::default(), [false; 64]);
            for (a, b) in added {
                let (start, end) = (a % 64, b % 64);
                let range = start..end.max(start);
                set.insert(&range);
                single[start as usize..range.end as usize].fill(true);
            }
            let asked = asked.0..asked.1.max(asked.0);
            let common: Vec<_> = set.common(&asked).into_iter().flatten().collect();
            let expected: Vec<_> = asked.filter(|at| single[*at as usize]).collect();
            let mut sorted = common.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, expected);
        }
    }
}
