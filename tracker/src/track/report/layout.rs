//! From which round to which a mapping is there: of a thousand rounds most have the same mappings,
//! and what is counted for them is counted once.

use std::ops::Range;
use std::sync::Arc;

use pages::track::{MappingRound, TrackedMapping};

/// The mappings of the last round, in its order, each with the round in which it came.
#[derive(Debug, Default)]
pub(super) struct MappingLayout(Vec<(Arc<TrackedMapping>, usize)>);

impl MappingLayout {
    /// Takes the mappings of a round; tells those that are gone, and the rounds in which they were
    /// there. Returns whether there are others than before.
    pub(super) fn round(
        &mut self,
        round: usize,
        mappings: &[MappingRound],
        mut gone: impl FnMut(&TrackedMapping, Range<usize>),
    ) -> bool {
        let mut pairs = self.0.iter().zip(mappings);
        let is_same = pairs.all(|((old, _), new)| Arc::ptr_eq(old, &new.mapping));
        if is_same && self.0.len() == mappings.len() {
            return false;
        }
        let mut before = std::mem::take(&mut self.0).into_iter().peekable();
        self.0.reserve_exact(mappings.len());
        for MappingRound { mapping, .. } in mappings {
            // By address: what is passed over is not there any more.
            while let Some((old, since)) =
                before.next_if(|(old, _)| !Arc::ptr_eq(old, mapping) && old.start <= mapping.start)
            {
                gone(&old, since..round);
            }
            let stays = before.next_if(|(old, _)| Arc::ptr_eq(old, mapping));
            let since = stays.map_or(round, |(_, since)| since);
            self.0.push((Arc::clone(mapping), since));
        }
        before.for_each(|(old, since)| gone(&old, since..round));
        true
    }

    /// Bytes of memory that this takes, and who counts by it.
    pub(super) fn held(&self) -> u64 {
        (self.0.len() * 2 * size_of::<(Arc<TrackedMapping>, usize)>()) as u64
    }

    /// There are so many rounds: all that is left is gone.
    pub(super) fn end(self, rounds: usize, mut gone: impl FnMut(&TrackedMapping, Range<usize>)) {
        self.0
            .iter()
            .for_each(|(old, since)| gone(old, *since..rounds));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::track::arbitrary::any_rounds;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::default()
        })]

        /// Each mapping is told for as many rounds as it was there, also of rounds in no order.
        #[test]
        fn every_round_of_every_mapping_is_told(rounds in any_rounds()) {
            let (mut told, mut there) = (BTreeMap::new(), BTreeMap::new());
            let mut count = |mapping: &TrackedMapping, rounds: Range<usize>| {
                *told.entry((mapping.start, mapping.end)).or_insert(0) += rounds.len();
            };
            let mut layout = MappingLayout::default();
            for (i, round) in rounds.iter().enumerate() {
                layout.round(i, &round.mappings, &mut count);
                for MappingRound { mapping, .. } in &round.mappings {
                    *there.entry((mapping.start, mapping.end)).or_insert(0) += 1;
                }
            }
            layout.end(rounds.len(), count);
            prop_assert_eq!(told, there);
        }
    }
}
