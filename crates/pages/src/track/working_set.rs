//! Which pages were written at all, over all rounds.

use roaring::RoaringTreemap;
use uffd::PAGE_SIZE;

use super::model::{TrackEnd, TrackRound, TrackSummary};

/// The union of the pages that rounds report.
#[derive(Clone, Debug, Default)]
pub struct WorkingSet {
    written: RoaringTreemap,
    unknown: RoaringTreemap,
    rounds: u64,
    reported: u64,
    tracked: u64,
    lasted: std::time::Duration,
    took: std::time::Duration,
}

impl WorkingSet {
    /// Adds a round.
    pub fn add(&mut self, round: &TrackRound) {
        for extent in round.mappings.iter().flat_map(|mapping| &mapping.written) {
            let pages = extent.range.start / PAGE_SIZE..extent.range.end / PAGE_SIZE;
            if extent.unknown {
                self.unknown.insert_range(pages);
            } else {
                self.written.insert_range(pages);
            }
        }
        let pages = |count: fn(&super::model::TrackedPages) -> u64| {
            round
                .mappings
                .iter()
                .map(|mapping| count(&mapping.pages))
                .sum::<u64>()
        };
        self.rounds += u64::from(round.number != 0);
        self.reported += pages(|pages| pages.written);
        self.tracked = self.tracked.max(pages(|pages| pages.tracked));
        self.lasted = self.lasted.max(round.at);
        self.took += round.took;
    }

    /// Different pages written so far, in 4 KiB.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.written.len()
    }

    /// What all rounds come to.
    #[must_use]
    pub fn summary(&self, end: TrackEnd, status: Option<i32>) -> TrackSummary {
        TrackSummary {
            rounds: self.rounds,
            lasted: self.lasted,
            written_set: self.written.len(),
            written: self.reported,
            unknown_set: self.unknown.len() - self.unknown.intersection_len(&self.written),
            tracked: self.tracked,
            took: self.took,
            end,
            status,
        }
    }
}
