//! What a recording tells: tables, and a heat map of address by time.
//!
//! Pure functions over what was read. [`Report`] counts, [`tables`] prints it, [`HeatMap`] sorts written pages into cells,
//! [`terminal`] and [`picture`] draw them.

mod areas;
mod colour;
mod counts;
mod heat;
pub mod picture;
mod rounds;
pub(crate) mod svg;
pub(crate) mod table;
pub mod tables;
pub mod terminal;
mod ticks;
mod totals;
pub mod words;

pub use areas::Area;
pub use heat::{Band, Cell, Column, HeatMap, Room};
pub use rounds::RoundCounts;
pub use totals::Totals;

use super::recording::Ending;
use areas::Areas;
use pages::track::{TrackHeader, TrackRound};
use rounds::Following;

/// All that is counted of a recording.
#[derive(Clone, Debug)]
pub struct Report<'a> {
    /// Who was tracked.
    pub header: &'a TrackHeader,
    /// What was recorded.
    pub recorded: &'a [TrackRound],
    /// How the recording ends; `None`: it is damaged after these rounds.
    pub ending: Option<&'a Ending>,
    /// Over all rounds and mappings.
    pub totals: Totals,
    /// For each round.
    pub rounds: Vec<RoundCounts>,
    /// For each mapping, by address.
    pub areas: Vec<Area>,
}

impl<'a> Report<'a> {
    /// Counts.
    #[must_use]
    pub fn new(
        header: &'a TrackHeader,
        recorded: &'a [TrackRound],
        ending: Option<&'a Ending>,
    ) -> Self {
        let mut areas = Areas::of(recorded);
        let mut following = Following::default();
        let rounds: Vec<_> = recorded
            .iter()
            .map(|round| following.round(round))
            .collect();
        let (written, unknown) = following.sets();
        areas.count(recorded, written, unknown);
        let areas = areas.into_vec();
        let totals = Totals::of(&rounds, &areas);
        Self {
            header,
            recorded,
            ending,
            totals,
            rounds,
            areas,
        }
    }
}

#[cfg(test)]
mod tests;
