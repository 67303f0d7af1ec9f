//! How often each address was written, and when last: a step function.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Range;

/// Rounds of the sliding window.
pub(super) const WINDOW: usize = 10;
/// Bytes of a step, with its part of the tree.
const STEP: u64 = 48;

/// Counts for each address; most neighbours have the same. Its size is bounded by the different
/// pages in it.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressCounts {
    /// What is counted from this address on, up to the next.
    steps: BTreeMap<u64, AddressStep>,
    /// Bytes whose count is not 0.
    covered: u64,
    /// The round that is counted, from 1.
    now: u64,
    /// Bytes that were last counted in each of the last [`WINDOW`] rounds.
    recent: [u64; WINDOW],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct AddressStep {
    count: u32,
    /// The last round that counted it; 0: none.
    last: u64,
}

impl AddressCounts {
    /// Begins the next round.
    pub(super) fn begin_round(&mut self) {
        self.now += 1;
        if let Some(oldest) = self.recent.get_mut(place(self.now)) {
            *oldest = 0;
        }
    }

    /// Counts a range once more.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.split(range.start);
        self.split(range.end);
        let mut previous: Option<(u64, AddressStep)> = None;
        let (now, recent, covered) = (self.now, &mut self.recent, &mut self.covered);
        let mut settle = |previous: Option<(u64, AddressStep)>, end: u64| {
            let Some((at, step)) = previous else { return };
            let bytes = end - at;
            if step.count == 0 {
                *covered += bytes;
            }
            if let Some(then) = recent.get_mut(place(step.last)).filter(|_| step.is_in(now)) {
                *then -= bytes;
            }
            if let Some(then) = recent.get_mut(place(now)) {
                *then += bytes;
            }
        };
        for (at, step) in self.steps.range_mut(range.clone()) {
            settle(previous, *at);
            previous = Some((*at, *step));
            step.count = step.count.saturating_add(1);
            step.last = now;
        }
        settle(previous, range.end);
        self.join_within(range);
    }

    /// Bytes whose count is not 0.
    pub(super) fn covered(&self) -> u64 {
        self.covered
    }

    /// Bytes that were counted in the last [`WINDOW`] rounds.
    pub(super) fn covered_lately(&self) -> u64 {
        self.recent.iter().sum()
    }

    /// Bytes of memory that this takes.
    pub(super) fn held(&self) -> u64 {
        self.steps.len() as u64 * STEP
    }

    /// The parts of a range whose count is not 0, by address.
    pub(super) fn within(&self, range: &Range<u64>) -> impl Iterator<Item = (Range<u64>, u32)> {
        let (mut at, until) = (range.start, range.end.max(range.start));
        let mut count = self.at(at).count;
        let steps = self.steps.range(at..until);
        let steps = steps.map(|(start, step)| (*start, step.count));
        let parts = steps.chain(iter::once((until, 0))).map(move |(end, next)| {
            let part = (at..end, count);
            (at, count) = (end, next);
            part
        });
        parts.filter(|(part, count)| *count > 0 && !part.is_empty())
    }

    /// Makes a step at this address, of no height.
    fn split(&mut self, at: u64) {
        let here = self.at(at);
        self.steps.entry(at).or_insert(here);
    }

    /// Removes steps of no height: those at both ends of a range and between.
    fn join_within(&mut self, range: &Range<u64>) {
        let before = self.steps.range(..range.start).next_back();
        let mut before = before.map_or(AddressStep::default(), |(_, step)| *step);
        let mut level = Vec::new();
        for (at, step) in self.steps.range(range.start..=range.end) {
            if *step == before {
                level.push(*at);
            }
            before = *step;
        }
        for at in level {
            self.steps.remove(&at);
        }
    }

    fn at(&self, at: u64) -> AddressStep {
        let step = self.steps.range(..=at).next_back();
        step.map_or(AddressStep::default(), |(_, step)| *step)
    }
}

impl AddressStep {
    /// Whether it was counted in the window that ends with this round.
    fn is_in(&self, now: u64) -> bool {
        self.last > 0 && now - self.last < WINDOW as u64
    }
}

/// Where a round has its place in the window.
fn place(round: u64) -> usize {
    (round % WINDOW as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Against an array with a count and a round for each address.
        #[test]
        fn counts_as_an_array_does(
            ranges in prop::collection::vec((0..60_u64, 0..20_u64, any::<bool>()), 0..60)
        ) {
            let (mut counts, mut array) = (AddressCounts::default(), [(0_u32, 0_u64); 80]);
            let mut now = 1;
            counts.begin_round();
            for (start, length, is_next) in ranges {
                if is_next {
                    now += 1;
                    counts.begin_round();
                }
                counts.add(&(start..start + length));
                for (count, last) in &mut array[start as usize..(start + length) as usize] {
                    (*count, *last) = (*count + 1, now);
                }
                let covered = array.iter().filter(|(count, _)| *count > 0).count() as u64;
                prop_assert_eq!(counts.covered(), covered);
                let lately = array.iter().filter(|(_, last)| *last > 0 && now - last < 10);
                prop_assert_eq!(counts.covered_lately(), lately.count() as u64);
            }
            for part in [0..80, 10..50, 33..34] {
                let weight = |(range, count): (Range<u64>, u32)| {
                    (range.end - range.start) * u64::from(count)
                };
                let told = counts.within(&part).map(weight);
                let there = &array[part.start as usize..part.end as usize];
                let there = there.iter().map(|(count, _)| u64::from(*count));
                prop_assert_eq!(told.sum::<u64>(), there.sum::<u64>());
            }
            let next = counts.steps.values().skip(1);
            prop_assert!(counts.steps.values().zip(next).all(|(a, b)| a != b));
        }
    }
}
