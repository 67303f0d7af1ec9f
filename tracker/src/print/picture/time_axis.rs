//! Where in the picture a time lies.

use std::time::Duration;

use super::layout::{LEFT, WIDTH};
use crate::print::heat::HeatColumn;
use crate::print::ticks::{ticks, time_unit};

/// The axis of time.
pub(crate) struct TimeAxis {
    from: f64,
    until: f64,
    edges: Vec<(f64, f64)>,
}

impl TimeAxis {
    /// The axis of these columns. If they took no time, which a recording may claim, all are
    /// equally wide.
    pub(crate) fn new(columns: &[HeatColumn]) -> Self {
        let from = columns.first().map_or(0.0, |c| c.from.as_secs_f64());
        // The first round begins a moment after the first arming; a late beginning is somebody's.
        let until = columns.last().map_or(0.0, |c| c.until.as_secs_f64());
        let from = if from * 10.0 < until { 0.0 } else { from };
        let mut axis = Self {
            from,
            until,
            edges: Vec::new(),
        };
        let count = columns.len() as f64;
        let edge = |(i, column): (usize, &HeatColumn)| {
            if until > from {
                (axis.x(column.from), axis.x(column.until))
            } else {
                let at = |i: f64| LEFT + WIDTH * i / count;
                (at(i as f64), at(i as f64 + 1.0))
            }
        };
        axis.edges = columns.iter().enumerate().map(edge).collect();
        axis
    }

    /// Left and right edge of each column, on half units, which are pixels of the PNG.
    pub(crate) fn edges(&self) -> &[(f64, f64)] {
        &self.edges
    }

    /// Where a time since the first arming lies.
    pub(crate) fn x(&self, at: Duration) -> f64 {
        let part = (at.as_secs_f64() - self.from) / (self.until - self.from);
        let part = if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        };
        ((LEFT + WIDTH * part) * 2.0).round() / 2.0
    }

    /// Places and labels of ticks, and their unit.
    pub(crate) fn ticks(&self) -> (Vec<(f64, String)>, &'static str) {
        let (unit, seconds) = time_unit(self.until);
        if self.until <= self.from {
            return (Vec::new(), unit);
        }
        let (ticks, decimals) = ticks(self.until / seconds, 8);
        let place = |tick: &f64| {
            let at = Duration::try_from_secs_f64(tick * seconds).unwrap_or_default();
            (self.x(at), format!("{tick:.decimals$}"))
        };
        let seen = |tick: &&f64| **tick * seconds >= self.from - 1e-9;
        (ticks.iter().filter(seen).map(place).collect(), unit)
    }
}
