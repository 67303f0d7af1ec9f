//! Counts of each round, and the working set of writes.

use std::time::Duration;

use pages::track::TrackRound;
use uffd::PAGE_SIZE;

use super::counts::AddressCounts;
use crate::track::recording::{MemoryBudget, OverBudget};

/// What happened in a round, over all mappings. Pages of 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoundCounts {
    pub number: u64,
    /// When its reading began, since the first arming.
    pub at: Duration,
    /// For how long pages could be written.
    pub lasted: Duration,
    /// What reading and arming took.
    pub took: Duration,
    pub tracked: u64,
    pub written: u64,
    /// Pages of which nobody knows.
    pub unknown: u64,
    /// Pages emptied; `None`: the strategy cannot tell.
    pub zapped: Option<u64>,
    /// Different pages written up to here.
    pub set: u64,
    /// Different pages written in this round and the [`super::counts::WINDOW`] - 1 rounds before.
    pub window: u64,
}

/// Which pages were written so far, and which in the sliding window.
#[derive(Debug, Default)]
pub(super) struct WrittenSets {
    written: AddressCounts,
    unknown: AddressCounts,
}

impl WrittenSets {
    /// Adds the next round.
    ///
    /// # Errors
    /// If there is no room for it.
    pub(super) fn round(
        &mut self,
        round: &TrackRound,
        budget: &MemoryBudget,
    ) -> Result<RoundCounts, OverBudget> {
        let before = self.held();
        self.written.begin_round();
        self.unknown.begin_round();
        for extent in round.mappings.iter().flat_map(|m| &m.written) {
            if extent.unknown {
                self.unknown.add(&extent.range);
            } else {
                self.written.add(&extent.range);
            }
            budget.check(self.held().saturating_sub(before))?;
        }
        let pages = || round.mappings.iter().map(|m| m.pages);
        // Somebody's file: sums may be anything.
        let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
        Ok(RoundCounts {
            number: round.number,
            at: round.at,
            lasted: round.lasted,
            took: round.took,
            tracked: sum(&mut pages().map(|p| p.tracked)),
            written: sum(&mut pages().map(|p| p.written)),
            unknown: sum(&mut pages().map(|p| p.unknown)),
            zapped: pages().filter_map(|p| p.zapped).reduce(u64::saturating_add),
            set: self.written.covered() / PAGE_SIZE,
            window: self.written.covered_lately() / PAGE_SIZE,
        })
    }

    /// Bytes of memory that this takes.
    pub(super) fn held(&self) -> u64 {
        self.written.held() + self.unknown.held()
    }

    /// How often each page was written.
    pub(super) fn written(&self) -> &AddressCounts {
        &self.written
    }

    /// How often each page was unknown.
    pub(super) fn unknown(&self) -> &AddressCounts {
        &self.unknown
    }
}
