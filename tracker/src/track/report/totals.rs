//! Counts over the whole recording.

use std::time::Duration;

use super::areas::AreaCounts;
use super::rounds::RoundCounts;
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
    /// Different pages written.
    pub set: u64,
    /// Different pages written in every round.
    pub hot: u64,
    /// Different pages written in one round only.
    pub once: u64,
    /// Different pages of which nobody knows, and which were never seen to be written.
    pub unknown: u64,
    /// Pages emptied, each as often as it was; `None`: the strategy cannot tell.
    pub zapped: Option<u64>,
    /// The round with the most pages written a second, and that rate.
    pub busiest: Option<(u64, u64)>,
}

impl RecordingTotals {
    /// Sums up.
    pub(super) fn of(rounds: &[RoundCounts], areas: &[AreaCounts]) -> Self {
        let duration = |of: fn(&RoundCounts) -> Duration| {
            rounds
                .iter()
                .map(of)
                .fold(Duration::ZERO, Duration::saturating_add)
        };
        let pages = |of: fn(&AreaCounts) -> u64| areas.iter().map(of).fold(0, u64::saturating_add);
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
            set: pages(|a| a.set),
            hot: pages(|a| a.hot),
            once: pages(|a| a.once),
            unknown: pages(|a| a.unknown),
            zapped: rounds
                .iter()
                .filter_map(|r| r.zapped)
                .reduce(u64::saturating_add),
            busiest: rates.max_by_key(|(number, rate)| (*rate, std::cmp::Reverse(*number))),
        }
    }
}
