//! Where in the picture a time lies.

use std::time::Duration;

use super::super::Column;
use super::super::ticks::{ticks, time_unit};

/// Left edge of the cells.
pub const LEFT: f64 = 392.0;
/// Width of all cells.
pub const WIDTH: f64 = 740.0;

/// The axis of time.
pub struct Times {
    from: f64,
    until: f64,
    edges: Vec<(f64, f64)>,
}

impl Times {
    /// Of these columns. If they took no time, which a recording may claim, all have the same width.
    pub fn new(columns: &[Column]) -> Self {
        let from = columns.first().map_or(0.0, |c| c.from.as_secs_f64());
        // The first round begins a moment after the first arming; only a recording of something else has a late begin.
        let until = columns.last().map_or(0.0, |c| c.until.as_secs_f64());
        let from = if from * 10.0 < until { 0.0 } else { from };
        let mut times = Self {
            from,
            until,
            edges: Vec::new(),
        };
        let count = columns.len() as f64;
        let edge = |(i, column): (usize, &Column)| {
            if until > from {
                (times.x(column.from), times.x(column.until))
            } else {
                let at = |i: f64| LEFT + WIDTH * i / count;
                (at(i as f64), at(i as f64 + 1.0))
            }
        };
        times.edges = columns.iter().enumerate().map(edge).collect();
        times
    }

    /// Left and right edge of each column, on half units, which are pixels of the PNG.
    pub fn edges(&self) -> &[(f64, f64)] {
        &self.edges
    }

    /// Where a time since the first arming lies.
    pub fn x(&self, at: Duration) -> f64 {
        let part = (at.as_secs_f64() - self.from) / (self.until - self.from);
        let part = if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        };
        ((LEFT + WIDTH * part) * 2.0).round() / 2.0
    }

    /// Places and labels of ticks, and the unit they are in.
    pub fn ticks(&self) -> (Vec<(f64, String)>, &'static str) {
        let (unit, seconds) = time_unit(self.until);
        let (ticks, decimals) = ticks(self.until / seconds, 8);
        let place = |tick: &f64| {
            let at = Duration::try_from_secs_f64(tick * seconds).unwrap_or_default();
            (self.x(at), format!("{tick:.decimals$}"))
        };
        let seen = ticks
            .iter()
            .filter(|tick| **tick * seconds >= self.from - 1e-9);
        (
            if self.until > self.from {
                seen.map(place).collect()
            } else {
                Vec::new()
            },
            unit,
        )
    }
}
