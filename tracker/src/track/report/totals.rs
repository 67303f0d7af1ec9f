//! Counts over the whole recording.

use std::time::Duration;

use pages::track::UntrackedPages;

use super::rounds::RoundCounts;
use super::tally::DifferentPages;
use crate::print::heat::rate;

/// Over all rounds and mappings. Pages of 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RecordingTotals {
    /// Rounds, without the first arming.
    pub rounds: u64,
    /// From the first arming to the last round.
    pub lasted: Duration,
    /// For how long pages could be written: rates are over this time.
    pub open: Duration,
    /// What reading and arming took.
    pub took: Duration,
    /// The most pages tracked in one round.
    pub tracked: u64,
    /// Pages written, each as often as it was.
    pub written: u64,
    /// Different pages; one of shared memory is one, wherever it is mapped.
    pub pages: DifferentPages,
    /// The most different pages of shared memory tracked in one round.
    pub shared: u64,
    /// For each reason the most pages that were not looked at in one round.
    pub not_looked_at: UntrackedPages,
    /// Pages emptied, each as often as it was; `None`: the strategy cannot tell.
    pub zapped: Option<u64>,
    /// The round with the most pages written a second, and that rate.
    pub busiest: Option<(u64, u64)>,
}

impl RecordingTotals {
    /// Sums up.
    pub(super) fn of(
        rounds: &[RoundCounts],
        pages: DifferentPages,
        not_looked_at: UntrackedPages,
    ) -> Self {
        let duration = |of: fn(&RoundCounts) -> Duration| {
            rounds
                .iter()
                .map(of)
                .fold(Duration::ZERO, Duration::saturating_add)
        };
        let rates = rounds
            .iter()
            .map(|r| (r.number, rate(r.written, r.lasted) as u64));
        Self {
            rounds: rounds.iter().filter(|r| r.number != 0).count() as u64,
            lasted: rounds.iter().map(|r| r.at).max().unwrap_or_default(),
            open: duration(|r| r.lasted),
            took: duration(|r| r.took),
            tracked: rounds.iter().map(|r| r.tracked).max().unwrap_or(0),
            written: rounds
                .iter()
                .map(|r| r.written)
                .fold(0, u64::saturating_add),
            pages,
            shared: rounds.iter().map(|r| r.shared).max().unwrap_or(0),
            not_looked_at,
            zapped: rounds
                .iter()
                .filter_map(|r| r.zapped)
                .reduce(u64::saturating_add),
            busiest: rates.max_by_key(|(number, rate)| (*rate, std::cmp::Reverse(*number))),
        }
    }
}
