//! What a recording tells: tables, and a heat map of address by time.
//!
//! Pure functions over what was read. [`RecordingReport`] counts; `tables`, `terminal` and
//! `picture` show it, with the tools of the print room.

mod areas;
mod counts;
mod heat;
pub(crate) mod picture;
mod rounds;
pub(crate) mod tables;
pub(crate) mod terminal;
mod totals;

use pages::track::{TrackHeader, TrackRound};

use super::recording::RecordingEnding;
use areas::{AreaBook, AreaCounts};
use rounds::{RoundCounts, WrittenSets};
use totals::RecordingTotals;

/// All that is counted of a recording.
#[derive(Clone, Debug)]
pub(crate) struct RecordingReport<'a> {
    header: &'a TrackHeader,
    recorded: &'a [TrackRound],
    ending: Option<&'a RecordingEnding>,
    totals: RecordingTotals,
    rounds: Vec<RoundCounts>,
    /// By address.
    areas: Vec<AreaCounts>,
}

impl<'a> RecordingReport<'a> {
    /// Counts everything that is shown.
    pub(crate) fn new(
        header: &'a TrackHeader,
        recorded: &'a [TrackRound],
        ending: Option<&'a RecordingEnding>,
    ) -> Self {
        let mut areas = AreaBook::of(recorded);
        let mut sets = WrittenSets::default();
        let rounds: Vec<_> = recorded.iter().map(|round| sets.round(round)).collect();
        areas.count(recorded, sets.written(), sets.unknown());
        let areas = areas.into_vec();
        let totals = RecordingTotals::of(&rounds, &areas);
        Self {
            header,
            recorded,
            ending,
            totals,
            rounds,
            areas,
        }
    }

    /// Who was tracked.
    pub(crate) fn header(&self) -> &'a TrackHeader {
        self.header
    }

    /// What was recorded.
    pub(crate) fn recorded(&self) -> &'a [TrackRound] {
        self.recorded
    }

    /// How the recording ends; `None`: it is damaged after these rounds.
    pub(crate) fn ending(&self) -> Option<&'a RecordingEnding> {
        self.ending
    }
}

#[cfg(test)]
mod tests;
