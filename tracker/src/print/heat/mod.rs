//! The heat map as numbers: what happened to which addresses when.
//!
//! Columns are rounds, or several rounds in a row. Bands are spans of mappings, those to which most
//! happened; a band has one or more bins of addresses. How it is drawn and how large is not decided
//! here: [`HeatRoom`] says how much a drawing has room for.

mod band;
mod choose;
mod columns;

use std::ops::Range;
use std::time::Duration;

use uffd::PAGE_SIZE;

use super::span::MappingSpan;
pub(crate) use band::{HeatBand, SkippedBefore};
pub(crate) use columns::{HeatColumn, rate};

/// How much a drawing has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeatRoom {
    /// The most columns.
    pub columns: usize,
    /// The most bands; spans to which least happened are folded.
    pub bands: usize,
    /// The fewest bins of a band.
    pub least: usize,
    /// Bins to share out beyond that, by the square root of pages: a small mapping stays visible
    /// beside a large one.
    pub spare: usize,
}

/// A round, as far as its column needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeatRound {
    /// When its reading began, since the first arming.
    pub at: Duration,
    /// For how long something could happen.
    pub lasted: Duration,
    /// Pages to which it happened.
    pub pages: u64,
}

/// A span, as far as its band needs it. Pages of 4 KiB.
#[derive(Clone, Debug)]
pub(crate) struct HeatArea {
    pub span: MappingSpan,
    /// Whether anything happened to it.
    pub is_touched: bool,
    /// Pages to which it happened, each as often as it did.
    pub pages: u64,
    /// Pages of which nobody knows.
    pub unknown: u64,
    /// The most pages tracked in one round.
    pub tracked: u64,
}

/// Cells of bands by columns. What a cell holds is up to who fills it.
#[derive(Clone, Debug)]
pub(crate) struct HeatMap<C> {
    /// Columns, by time.
    pub columns: Vec<HeatColumn>,
    /// So many rounds are a column.
    pub together: usize,
    /// Bands, by address.
    pub bands: Vec<HeatBand<C>>,
    /// Spans to which nothing happened: their number, and their tracked pages.
    pub never: (usize, u64),
    /// Spans that are folded because more happened to others: their number, and their pages.
    pub fewer: (usize, u64),
}

impl<C: Clone + Default> HeatMap<C> {
    /// A map with empty cells.
    pub(crate) fn new(rounds: &[HeatRound], areas: &[HeatArea], room: HeatRoom) -> Self {
        let together = rounds.len().div_ceil(room.columns.max(1)).max(1);
        let columns = columns::columns(rounds, together);
        let mut bands = choose::bands(areas, room);
        for band in &mut bands {
            band.cells = vec![C::default(); band.bins * columns.len()];
        }
        let shown = |area: &&HeatArea| {
            let same = |band: &HeatBand<C>| band.area.span.range == area.span.range;
            bands.iter().any(same)
        };
        let (touched, never): (Vec<_>, Vec<_>) = areas.iter().partition(|area| area.is_touched);
        let fewer: Vec<_> = touched.into_iter().filter(|area| !shown(area)).collect();
        Self {
            columns,
            together,
            never: (never.len(), sum(never.iter().map(|area| area.tracked))),
            fewer: (fewer.len(), sum(fewer.iter().map(|area| area.pages))),
            bands,
        }
    }

    /// Adds the pages of a range to the cells that it touches, once for each of these rounds, which
    /// are told by their index.
    pub(crate) fn fill(
        &mut self,
        rounds: &Range<usize>,
        range: &Range<u64>,
        add: impl Fn(&mut C, f64),
    ) {
        let (width, together) = (self.columns.len(), self.together.max(1));
        let after = self
            .bands
            .partition_point(|band| band.area.span.range.start <= range.start);
        let Some(band) = after.checked_sub(1).and_then(|i| self.bands.get_mut(i)) else {
            return;
        };
        let (start, end) = (range.start, range.end.min(band.area.span.range.end));
        if start >= end || rounds.is_empty() {
            return;
        }
        let columns = rounds.start / together..=(rounds.end - 1) / together;
        let first = band.bin(start);
        for bin in first..=band.bin(end - 1).max(first) {
            let of = band.addresses(bin);
            let bytes = end.min(of.end).saturating_sub(start.max(of.start));
            let pages = bytes as f64 / PAGE_SIZE as f64;
            for column in columns.clone() {
                let of = column * together..(column + 1) * together;
                let times = of.end.min(rounds.end) - of.start.max(rounds.start);
                if let Some(cell) = band.cells.get_mut(bin * width + column) {
                    add(cell, pages * times as f64);
                }
            }
        }
    }
}

/// Numbers of somebody's file: their sum may be anything.
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}
