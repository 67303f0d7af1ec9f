//! The heat map of a recording: which share of which addresses was written when.

use super::RecordingReport;
use super::areas::AreaCounts;
use super::rounds::RoundCounts;
use crate::print::heat::{HeatArea, HeatMap, HeatRoom, HeatRound};

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

/// Sorts what was written into cells.
pub(super) fn share_map(report: &RecordingReport<'_>, room: HeatRoom) -> HeatMap<ShareCell> {
    let rounds: Vec<_> = report.rounds.iter().map(heat_round).collect();
    let areas: Vec<_> = report.areas.iter().map(heat_area).collect();
    let mut map = HeatMap::new(&rounds, &areas, room);
    for (i, round) in report.recorded.iter().enumerate() {
        for told in &round.mappings {
            let whole = told.mapping.start..told.mapping.end;
            map.fill(i, &whole, |cell: &mut ShareCell, pages| {
                cell.mapped += pages
            });
            for extent in &told.written {
                map.fill(i, &extent.range, |cell, pages| {
                    if extent.unknown {
                        cell.unknown += pages;
                    } else {
                        cell.written += pages;
                    }
                });
            }
        }
    }
    map
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
        unknown: area.unknown,
        tracked: area.tracked,
    }
}
