//! Counts of each round, and the working set of writes.

use std::ops::Range;
use std::time::Duration;

use pages::track::TrackRound;

use super::shared::{FileBook, FileCounts};
use super::tally::{DifferentPages, PageTally};
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
    /// Different pages tracked.
    pub tracked: u64,
    /// Those of them that are shared memory.
    pub shared: u64,
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

/// Which pages were written so far, and which in the sliding window. A page of shared memory is the
/// same wherever it is mapped.
#[derive(Debug, Default)]
pub(super) struct WrittenSets {
    /// Private memory, by address.
    private: PageTally,
    /// Shared memory, by address.
    mapped: PageTally,
    /// Shared memory, by file.
    files: FileBook,
    /// Different pages of shared memory that are tracked now, and the sum over mappings.
    shared: (u64, u64),
}

impl WrittenSets {
    /// Adds the next round. `is_new`: its mappings are others than those of the round before.
    ///
    /// # Errors
    /// If there is no room for it.
    pub(super) fn round(
        &mut self,
        round: &TrackRound,
        is_new: bool,
        budget: &MemoryBudget,
    ) -> Result<RoundCounts, OverBudget> {
        let before = self.held();
        self.private.begin_round();
        self.mapped.begin_round();
        // In most rounds most mappings have nothing to tell.
        for told in round
            .mappings
            .iter()
            .filter(|told| !told.written.is_empty())
        {
            let tally = match told.mapping.shared {
                None => &mut self.private,
                Some(_) => &mut self.mapped,
            };
            let held = tally.held();
            for extent in &told.written {
                tally.add(extent, &extent.range);
                budget.check(tally.held().saturating_sub(held))?;
            }
            budget.check(self.held().saturating_sub(before))?;
        }
        let grown = self.held().saturating_sub(before);
        self.files.round(round, is_new, |more| {
            budget.check(grown.saturating_add(more))
        })?;
        self.count_shared(round, is_new);
        Ok(self.counts(round))
    }

    /// Counts it anew only where it has changed.
    fn count_shared(&mut self, round: &TrackRound, is_new: bool) {
        let rows = round
            .mappings
            .iter()
            .filter(|row| row.mapping.shared.is_some());
        let sum = rows
            .map(|row| row.pages.tracked)
            .fold(0, u64::saturating_add);
        if is_new || self.shared.1 != sum {
            self.shared = (round.shared(), sum);
        }
    }

    fn counts(&self, round: &TrackRound) -> RoundCounts {
        let pages = || round.mappings.iter().map(|m| m.pages);
        // Somebody's file: sums may be anything.
        let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
        let private = round
            .mappings
            .iter()
            .filter(|row| row.mapping.shared.is_none());
        let private = sum(&mut private.map(|row| row.pages.tracked));
        RoundCounts {
            number: round.number,
            at: round.at,
            lasted: round.lasted,
            took: round.took,
            tracked: private.saturating_add(self.shared.0),
            shared: self.shared.0,
            written: sum(&mut pages().map(|p| p.written)),
            unknown: sum(&mut pages().map(|p| p.unknown)),
            zapped: pages().filter_map(|p| p.zapped).reduce(u64::saturating_add),
            set: self.private.set().saturating_add(self.files.set()),
            window: self.private.window().saturating_add(self.files.window()),
        }
    }

    /// Bytes of memory that this takes.
    pub(super) fn held(&self) -> u64 {
        self.private.held() + self.mapped.held() + self.files.held()
    }

    /// Private pages of a range of addresses.
    pub(super) fn private(&self, range: &Range<u64>, rounds: u64) -> DifferentPages {
        self.private.within(range, rounds)
    }

    /// Shared pages of a range of addresses, by address.
    pub(super) fn mapped(&self, range: &Range<u64>, rounds: u64) -> DifferentPages {
        self.mapped.within(range, rounds)
    }

    /// The files of shared memory.
    pub(super) fn into_files(self) -> Vec<FileCounts> {
        self.files.into_files()
    }
}
