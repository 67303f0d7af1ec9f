//! Counts of each round, and the working set of writes.

use std::collections::VecDeque;
use std::time::Duration;

use super::counts::Counts;
use pages::track::TrackRound;
use uffd::PAGE_SIZE;

/// Rounds of the sliding window.
pub const WINDOW: usize = 10;

/// What happened in a round, over all mappings. Pages of 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundCounts {
    /// Its number.
    pub number: u64,
    /// When its reading began, since the first arming.
    pub at: Duration,
    /// For how long pages could be written.
    pub lasted: Duration,
    /// What reading and arming took.
    pub took: Duration,
    /// Pages tracked.
    pub tracked: u64,
    /// Pages written.
    pub written: u64,
    /// Pages of which nobody knows.
    pub unknown: u64,
    /// Pages emptied; `None`: no mapping's strategy can tell.
    pub zapped: Option<u64>,
    /// Different pages written up to here.
    pub set: u64,
    /// Different pages written in this round and the [`WINDOW`] - 1 before.
    pub window: u64,
}

/// What must be remembered from round to round.
#[derive(Debug, Default)]
pub struct Following<'a> {
    written: Counts,
    unknown: Counts,
    window: Counts,
    in_window: VecDeque<&'a TrackRound>,
}

impl<'a> Following<'a> {
    /// The next round.
    pub fn round(&mut self, round: &'a TrackRound) -> RoundCounts {
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
        // Counts are of somebody's file: their sum may be anything.
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

    /// How often each page was written, and how often it was unknown.
    pub fn sets(&self) -> (&Counts, &Counts) {
        (&self.written, &self.unknown)
    }
}
