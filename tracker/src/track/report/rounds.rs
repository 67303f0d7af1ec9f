//! Counts of each round, and the working set of writes.

use std::collections::VecDeque;
use std::time::Duration;

use pages::track::TrackRound;
use uffd::PAGE_SIZE;

use super::counts::AddressCounts;

/// Rounds of the sliding window.
pub(super) const WINDOW: usize = 10;

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
    /// Different pages written in this round and the [`WINDOW`] - 1 rounds before.
    pub window: u64,
}

/// Which pages were written so far, and which in the sliding window.
#[derive(Debug, Default)]
pub(super) struct WrittenSets<'a> {
    written: AddressCounts,
    unknown: AddressCounts,
    window: AddressCounts,
    in_window: VecDeque<&'a TrackRound>,
}

impl<'a> WrittenSets<'a> {
    /// Adds the next round.
    pub(super) fn round(&mut self, round: &'a TrackRound) -> RoundCounts {
        for extent in round.mappings.iter().flat_map(|m| &m.written) {
            if extent.unknown {
                self.unknown.add(&extent.range);
            } else {
                self.written.add(&extent.range);
                self.window.add(&extent.range);
            }
        }
        self.in_window.push_back(round);
        if self.in_window.len() > WINDOW
            && let Some(old) = self.in_window.pop_front()
        {
            let seen = old
                .mappings
                .iter()
                .flat_map(|m| &m.written)
                .filter(|e| !e.unknown);
            seen.for_each(|extent| self.window.remove(&extent.range));
        }
        let pages = || round.mappings.iter().map(|m| m.pages);
        // Somebody's file: sums may be anything.
        let sum = |counts: &mut dyn Iterator<Item = u64>| counts.fold(0, u64::saturating_add);
        RoundCounts {
            number: round.number,
            at: round.at,
            lasted: round.lasted,
            took: round.took,
            tracked: sum(&mut pages().map(|p| p.tracked)),
            written: sum(&mut pages().map(|p| p.written)),
            unknown: sum(&mut pages().map(|p| p.unknown)),
            zapped: pages().filter_map(|p| p.zapped).reduce(u64::saturating_add),
            set: self.written.covered() / PAGE_SIZE,
            window: self.window.covered() / PAGE_SIZE,
        }
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
