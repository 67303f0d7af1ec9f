//! What stands around the bands: rate, heads, events, time, notes.

use std::time::Duration;

use super::bands::{CellInk, fill, rect_path};
use super::layout::{
    ADDRESS, BANDS_TOP, LEFT, MARGIN, RATE_HEIGHT, RATE_TOP, RIGHT, SHARE, SIZE, WIDTH,
};
use super::time_axis::TimeAxis;
use crate::print::clock::spoken;
use crate::print::heat::HeatColumn;
use crate::print::svg::{SvgText, TextAnchor};
use crate::print::ticks::ticks;
use crate::print::words::{count, elided, printable};

/// Room for the number of an event.
const LABEL: f64 = 10.0;
/// Rounds whose events are told below the picture.
const TOLD: usize = 6;

/// What happened to the process in one round.
#[derive(Clone, Debug)]
pub(crate) struct PictureEvents {
    round: u64,
    /// Since the first arming.
    at: Duration,
    /// In words, all events of the round.
    what: String,
}

impl PictureEvents {
    /// The events of one round; `None` if there are none.
    pub(crate) fn of(round: u64, at: Duration, events: &[impl ToString]) -> Option<Self> {
        let texts: Vec<_> = events.iter().map(ToString::to_string).collect();
        let what = texts.join("; ");
        (!texts.is_empty()).then_some(Self { round, at, what })
    }
}

/// Draws the rate above the bands: MiB a second.
pub(crate) fn rates(svg: &mut SvgText, columns: &[HeatColumn], times: &TimeAxis, label: &str) {
    let bottom = RATE_TOP + RATE_HEIGHT;
    let most = columns.iter().map(|c| c.rate).fold(0.0, f64::max);
    let mib = most / 256.0;
    let (marks, decimals) = ticks(mib, 2);
    let top = marks.last().copied().unwrap_or(0.0).max(mib);
    let height = |mib: f64| {
        if top > 0.0 {
            RATE_HEIGHT * mib / top
        } else {
            0.0
        }
    };
    let mut path = String::new();
    for (column, (left, right)) in columns.iter().zip(times.edges()) {
        let h = height(column.rate / 256.0);
        if h > 0.0 && right > left {
            let h = h.max(0.5);
            rect_path(&mut path, *left, bottom - h, right - left, h);
        }
    }
    let grey = CellInk {
        fill: "#7d8790".to_owned(),
        class: None,
    };
    fill(svg, &path, &grey);
    svg.line((LEFT, bottom), (RIGHT, bottom), "axis");
    for mark in marks {
        let y = bottom - height(mark);
        let text = format!("{mark:.decimals$}");
        svg.line((LEFT - 4.0, y), (LEFT, y), "axis");
        svg.text(LEFT - 8.0, y + 4.0, "soft", TextAnchor::End, &text);
    }
    let middle = RATE_TOP + RATE_HEIGHT / 2.0 + 4.0;
    svg.text(MARGIN, middle, "soft", TextAnchor::Start, label);
}

/// Writes the heads of what stands left and right of the bands.
pub(crate) fn heads(svg: &mut SvgText, right: &str) {
    let y = BANDS_TOP - 8.0;
    svg.text(MARGIN, y, "soft", TextAnchor::Start, "mapping");
    svg.text(SIZE, y, "soft", TextAnchor::End, "size");
    svg.text(ADDRESS, y, "soft", TextAnchor::End, "address");
    svg.text(SHARE, y, "soft", TextAnchor::End, right);
}

/// Draws numbered lines, down to `y`, where something happened to the process.
pub(crate) fn events(svg: &mut SvgText, events: &[PictureEvents], times: &TimeAxis, y: f64) {
    let mut free = LEFT - LABEL;
    for (i, event) in events.iter().take(TOLD).enumerate() {
        let x = times.x(event.at);
        svg.line((x, BANDS_TOP - 4.0), (x, y), "event");
        // Numbers on top of each other cannot be read; the list below is in the same order.
        if x >= free {
            let number = (i + 1).to_string();
            svg.text(x, BANDS_TOP - 8.0, "mark", TextAnchor::Middle, &number);
            free = x + LABEL;
        }
    }
}

/// Draws the axis of time below the bands; returns where it ends.
pub(crate) fn axis(svg: &mut SvgText, together: usize, times: &TimeAxis, y: f64) -> f64 {
    let y = y + 6.0;
    svg.line((LEFT, y), (RIGHT, y), "axis");
    let (ticks, unit) = times.ticks();
    for (x, label) in ticks {
        svg.line((x, y), (x, y + 5.0), "axis");
        svg.text(x, y + 18.0, "", TextAnchor::Middle, &label);
    }
    let column = match together {
        0 | 1 => "a column is a round".to_owned(),
        many => format!("a column is {many} rounds"),
    };
    let label = format!("time since the first arming, {unit} ({column})");
    let middle = LEFT + WIDTH / 2.0;
    svg.text(middle, y + 36.0, "soft", TextAnchor::Middle, &label);
    y + 36.0
}

/// What the numbers above the bands are about, line by line.
pub(crate) fn told(events: &[PictureEvents]) -> Vec<String> {
    let line = |(i, event): (usize, &PictureEvents)| {
        let what = elided(&printable(&event.what), 150);
        let at = spoken(event.at);
        format!("{}: {at}, round {}: {what}", i + 1, event.round)
    };
    let told = events.iter().take(TOLD).enumerate().map(line);
    let rest = events.len().saturating_sub(TOLD);
    let more = (rest > 0).then(|| format!("and events in {} more", count(rest, "round")));
    told.chain(more).collect()
}

/// Writes lines below the picture; returns where they end.
pub(crate) fn notes(svg: &mut SvgText, lines: &[String], y: f64) -> f64 {
    let mut y = y + 8.0;
    for line in lines {
        y += 16.0;
        svg.text(MARGIN, y, "soft", TextAnchor::Start, line);
    }
    y
}
