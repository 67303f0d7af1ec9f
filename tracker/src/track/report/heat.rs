//! The heat map of a recording: which share of which addresses was written when.

use std::ops::Range;

use pages::track::TrackedMapping;

use super::RecordingReport;
use super::areas::AreaCounts;
use super::layout::MappingLayout;
use super::rounds::RoundCounts;
use crate::print::heat::{HeatArea, HeatMap, HeatRoom, HeatRound};
use crate::track::recording::RecordingError;

/// Pages times rounds of one bin in one column.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ShareCell {
    pub mapped: f64,
    pub written: f64,
    pub unknown: f64,
}

impl ShareCell {
    /// The share of its pages that was written in a round; `None`: it was never mapped.
    pub(super) fn share(&self) -> Option<f64> {
        let pages = self.mapped.max(self.written).max(self.unknown);
        (pages > 0.0).then(|| self.written / pages)
    }
}

/// Sorts what was written into cells, in a pass of its own over the recording.
///
/// # Errors
/// If it cannot be read again.
pub(super) fn share_map(
    report: &RecordingReport<'_>,
    room: HeatRoom,
) -> Result<HeatMap<ShareCell>, RecordingError> {
    let rounds: Vec<_> = report.rounds.iter().map(heat_round).collect();
    let areas: Vec<_> = report.areas.iter().map(heat_area).collect();
    let mut map = HeatMap::new(&rounds, &areas, room);
    let mut layout = MappingLayout::default();
    report.again(|i, round| {
        layout.round(i, &round.mappings, |mapping, rounds| {
            fill_mapped(&mut map, mapping, &rounds);
        });
        for extent in round.mappings.iter().flat_map(|told| &told.written) {
            map.fill(&(i..i + 1), &extent.range, |cell, pages| {
                if extent.unknown {
                    cell.unknown += pages;
                } else {
                    cell.written += pages;
                }
            });
        }
    })?;
    layout.end(rounds.len(), |mapping, rounds| {
        fill_mapped(&mut map, mapping, &rounds);
    });
    Ok(map)
}

fn fill_mapped(map: &mut HeatMap<ShareCell>, mapping: &TrackedMapping, rounds: &Range<usize>) {
    map.fill(rounds, &(mapping.start..mapping.end), |cell, pages| {
        cell.mapped += pages;
    });
}

fn heat_round(round: &RoundCounts) -> HeatRound {
    HeatRound {
        at: round.at,
        lasted: round.lasted,
        pages: round.written,
    }
}

fn heat_area(area: &AreaCounts) -> HeatArea {
    HeatArea {
        span: area.span.clone(),
        is_touched: area.is_written(),
        pages: area.written,
        unknown: area.pages.unknown,
        tracked: area.tracked,
    }
}
