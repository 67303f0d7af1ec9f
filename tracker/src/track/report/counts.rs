//! How often each address was written: a step function.

use std::collections::BTreeMap;
use std::ops::Range;

/// A count for each address; most neighbours have the same. Its size is bounded by the different
/// pages in it.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressCounts {
    /// The count from this address on, up to the next.
    steps: BTreeMap<u64, u32>,
    /// Bytes whose count is not 0.
    covered: u64,
}

impl AddressCounts {
    /// Counts a range once more.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        self.change(range, |count| count.saturating_add(1));
    }

    /// Takes back one [`AddressCounts::add`].
    pub(super) fn remove(&mut self, range: &Range<u64>) {
        self.change(range, |count| count.saturating_sub(1));
    }

    /// Bytes whose count is not 0.
    pub(super) fn covered(&self) -> u64 {
        self.covered
    }

    /// The parts of a range whose count is not 0, by address.
    pub(super) fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, u32)> {
        let (from, until) = (range.start, range.end.max(range.start));
        let before = self
            .steps
            .range(..=from)
            .next_back()
            .map(|(_, count)| (from, *count));
        let steps = self
            .steps
            .range(from..until)
            .map(|(at, count)| (*at, *count));
        let starts: Vec<_> = before.into_iter().chain(steps).collect();
        let ends: Vec<_> = starts
            .iter()
            .skip(1)
            .map(|(at, _)| *at)
            .chain([until])
            .collect();
        let parts = starts.into_iter().zip(ends);
        parts
            .map(|((at, count), end)| (at..end, count))
            .filter(|(part, count)| *count > 0 && !part.is_empty())
    }

    fn change(&mut self, range: &Range<u64>, to: impl Fn(u32) -> u32) {
        if range.is_empty() {
            return;
        }
        self.split(range.start);
        self.split(range.end);
        let mut previous: Option<(u64, bool, bool)> = None;
        let mut covered = self.covered;
        let mut settle = |previous: Option<(u64, bool, bool)>, end: u64| match previous {
            Some((at, false, true)) => covered += end - at,
            Some((at, true, false)) => covered -= end - at,
            _ => {}
        };
        for (at, count) in self.steps.range_mut(range.clone()) {
            settle(previous, *at);
            let new = to(*count);
            previous = Some((*at, *count > 0, new > 0));
            *count = new;
        }
        settle(previous, range.end);
        self.covered = covered;
        self.join(range.start);
        self.join(range.end);
    }

    /// Makes a step at this address, of no height.
    fn split(&mut self, at: u64) {
        let here = self.at(at);
        self.steps.entry(at).or_insert(here);
    }

    /// Removes a step of no height.
    fn join(&mut self, at: u64) {
        let before = self
            .steps
            .range(..at)
            .next_back()
            .map_or(0, |(_, count)| *count);
        if self.steps.get(&at) == Some(&before) {
            self.steps.remove(&at);
        }
    }

    fn at(&self, at: u64) -> u32 {
        self.steps
            .range(..=at)
            .next_back()
            .map_or(0, |(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Against an array with a count for each address.
        #[test]
        fn counts_as_an_array_does(
            ranges in prop::collection::vec((0..60_u64, 0..20_u64, any::<bool>()), 0..40)
        ) {
            let (mut counts, mut array) = (AddressCounts::default(), [0_u32; 80]);
            let mut added = Vec::new();
            for (start, length, add) in ranges {
                // Only what was added is taken back.
                let (add, range) = match added.pop() {
                    Some(range) if !add => (false, range),
                    other => {
                        added.extend(other);
                        (true, start..start + length)
                    }
                };
                if add { added.insert(0, range.clone()); }
                if add { counts.add(&range) } else { counts.remove(&range) }
                for count in &mut array[range.start as usize..range.end as usize] {
                    *count = if add { *count + 1 } else { count.saturating_sub(1) };
                }
                let covered = array.iter().filter(|count| **count > 0).count() as u64;
                prop_assert_eq!(counts.covered(), covered);
            }
            for part in [0..80, 10..50, 33..34] {
                let weight = |(range, count): (Range<u64>, u32)| {
                    (range.end - range.start) * u64::from(count)
                };
                let told = counts.within(&part).map(weight);
                let there = &array[part.start as usize..part.end as usize];
                let there = there.iter().map(|count| u64::from(*count));
                prop_assert_eq!(told.sum::<u64>(), there.sum::<u64>());
            }
            let next = counts.steps.values().skip(1);
            prop_assert!(counts.steps.values().zip(next).all(|(a, b)| a != b));
        }
    }
}
