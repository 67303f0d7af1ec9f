//! Where everything is in the picture, from top to bottom: title, rate, bands, time, legend, remarks.

use std::fmt::Write as _;

use super::super::colour::{LEVELS, MARKS, place};
use super::super::svg::{Anchor, Short, Svg, width};
use super::super::tables::count;
use super::super::ticks::ticks;
use super::super::words::{elided, number, printable, share, size};
use super::super::{Column, HeatMap, Report};
use super::bands::{Ink, Shares, bands, fill, level_colour, rect_path};
use super::scales::{LEFT, Times, WIDTH};
use crate::track::clock::spoken;
use crate::track::recording::Ending;
use pages::track::SessionEvent;

pub const PAGE_WIDTH: f64 = 1280.0;
pub const MARGIN: f64 = 24.0;
pub const RIGHT: f64 = LEFT + WIDTH;
/// Right edges of what is told left of a band.
pub const ADDRESS: f64 = LEFT - 10.0;
pub const SIZE: f64 = ADDRESS - 104.0;
pub const RATE_TOP: f64 = 98.0;
const RATE_HEIGHT: f64 = 48.0;
pub const BANDS_TOP: f64 = 178.0;
/// Right edges of what is told right of a band.
pub const EVER: f64 = RIGHT + 70.0;
pub const SHARE: f64 = RIGHT + 116.0;
/// Mapped, and nobody wrote: neither the paper nor any share.
pub const IDLE: &str = "#e3e4e8";
pub const UNKNOWN: &str = "url(#unknown)";
/// Room for the number of an event.
const LABEL: f64 = 10.0;
/// Events told below the picture.
const EVENTS: usize = 6;

const HEAD: &str = r##"<defs><pattern id="unknown" width="4" height="4" patternUnits="userSpaceOnUse">
<rect width="4" height="4" fill="#fbe3d6"/><path d="M-1 5L5 -1M-1 1L1 -1M3 5L5 3" stroke="#d9480f" stroke-width="1"/></pattern></defs>
<style>text{font-family:"DejaVu Sans",Verdana,sans-serif;font-size:11px;fill:#22262b}.title{font-size:20px}.lead{font-size:12.5px;fill:#41474f}
.soft{fill:#6b727b}.axis{stroke:#6b727b;stroke-width:1}.grid{stroke:#ffffff;stroke-opacity:.55;stroke-width:.5}
.break{stroke:#9aa1a9;stroke-width:1;stroke-dasharray:2 3}.folded{stroke:#b9bec5;stroke-width:3}.event{stroke:#c2255c;stroke-width:1;stroke-dasharray:4 3}
.mark{fill:#c2255c}</style>
"##;

/// The whole document.
pub fn document(report: &Report<'_>, map: &HeatMap) -> String {
    let times = Times::new(&map.columns);
    let mut body = Svg::default();
    title(&mut body, report);
    let mut y;
    if map.bands.is_empty() {
        let why = match map.columns.len() {
            0 => "The recording holds no round.",
            _ => "No page was written.",
        };
        y = RATE_TOP + 14.0;
        body.text(MARGIN, y, "lead", Anchor::Start, why);
    } else {
        rates(&mut body, &map.columns, &times, "written, MiB/s");
        heads(&mut body, "ever written");
        y = bands(&mut body, map, &times, &Shares);
        y = events(&mut body, report, &times, y);
        y = axis(&mut body, map.together, &times, y);
        y = legend(&mut body, y);
    }
    y = remarks(&mut body, report, map, y);
    let mut svg = Svg::default();
    let (w, h) = (Short(PAGE_WIDTH), Short(y + MARGIN / 2.0));
    let view = format!("0 0 {w} {h}");
    svg.raw(&format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"{view}\">\n"));
    svg.raw(HEAD);
    svg.rect(0.0, 0.0, PAGE_WIDTH, h.0, "#ffffff");
    svg.raw(&body.finish());
    svg.raw("</svg>\n");
    svg.finish()
}

fn title(svg: &mut Svg, report: &Report<'_>) {
    let (header, totals) = (report.header, &report.totals);
    let comm = elided(&printable(&header.comm), 40);
    let text = format!("{comm} (pid {}): which pages were written when", header.pid);
    svg.text(MARGIN, 40.0, "title", Anchor::Start, &text);
    let how = format!(
        "strategy {}, a round every {}, {} in {}",
        elided(&printable(&header.strategy), 30),
        spoken(header.interval),
        count(report.totals.rounds as usize, "round"),
        spoken(totals.lasted)
    );
    svg.text(MARGIN, 61.0, "lead", Anchor::Start, &how);
    let mut what = format!(
        "{} pages written ({}), {} of them different ({}, {} of {} tracked)",
        number(totals.written),
        size(totals.written as f64),
        number(totals.set),
        size(totals.set as f64),
        share(totals.set, totals.tracked),
        size(totals.tracked as f64)
    );
    if totals.unknown > 0 {
        let _ = write!(what, "; {} not known", size(totals.unknown as f64));
    }
    svg.text(MARGIN, 79.0, "lead", Anchor::Start, &what);
}

/// Pages a second, over the same axis of time.
pub fn rates(svg: &mut Svg, columns: &[Column], times: &Times, label: &str) {
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
            rect_path(
                &mut path,
                *left,
                bottom - h.max(0.5),
                right - left,
                h.max(0.5),
            );
        }
    }
    let grey = Ink {
        fill: "#7d8790".to_owned(),
        class: None,
    };
    fill(svg, &path, &grey);
    svg.line((LEFT, bottom), (RIGHT, bottom), "axis");
    for mark in marks {
        let y = bottom - height(mark);
        svg.line((LEFT - 4.0, y), (LEFT, y), "axis");
        svg.text(
            LEFT - 8.0,
            y + 4.0,
            "soft",
            Anchor::End,
            &format!("{mark:.decimals$}"),
        );
    }
    svg.text(
        MARGIN,
        RATE_TOP + RATE_HEIGHT / 2.0 + 4.0,
        "soft",
        Anchor::Start,
        label,
    );
}

/// What stands left and right of the bands.
pub fn heads(svg: &mut Svg, right: &str) {
    let y = BANDS_TOP - 8.0;
    svg.text(MARGIN, y, "soft", Anchor::Start, "mapping");
    svg.text(SIZE, y, "soft", Anchor::End, "size");
    svg.text(ADDRESS, y, "soft", Anchor::End, "address");
    svg.text(SHARE, y, "soft", Anchor::End, right);
}

/// Lines where something happened to the process, numbered.
pub fn events(svg: &mut Svg, report: &Report<'_>, times: &Times, y: f64) -> f64 {
    let mut free = LEFT - LABEL;
    for (i, round) in happened(report).take(EVENTS).enumerate() {
        let x = times.x(round.at);
        svg.line((x, BANDS_TOP - 4.0), (x, y), "event");
        // Numbers on top of each other cannot be read; the list below is in the same order.
        if x >= free {
            svg.text(
                x,
                BANDS_TOP - 8.0,
                "mark",
                Anchor::Middle,
                &(i + 1).to_string(),
            );
            free = x + LABEL;
        }
    }
    y
}

fn happened<'a>(report: &Report<'a>) -> impl Iterator<Item = &'a pages::track::TrackRound> {
    report
        .recorded
        .iter()
        .filter(|round| !round.events.is_empty())
}

fn joined(events: &[SessionEvent]) -> String {
    let texts: Vec<_> = events.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// The axis of time below the bands.
pub fn axis(svg: &mut Svg, together: usize, times: &Times, y: f64) -> f64 {
    let y = y + 6.0;
    svg.line((LEFT, y), (RIGHT, y), "axis");
    let (ticks, unit) = times.ticks();
    for (x, label) in ticks {
        svg.line((x, y), (x, y + 5.0), "axis");
        svg.text(x, y + 18.0, "", Anchor::Middle, &label);
    }
    let column = match together {
        0 | 1 => "a column is a round".to_owned(),
        many => format!("a column is {many} rounds"),
    };
    let label = format!("time since the first arming, {unit} ({column})");
    svg.text(LEFT + WIDTH / 2.0, y + 36.0, "soft", Anchor::Middle, &label);
    y + 36.0
}

fn legend(svg: &mut Svg, y: f64) -> f64 {
    let y = y + 24.0;
    svg.text(
        MARGIN,
        y + 11.0,
        "",
        Anchor::Start,
        "share of a cell's pages written in a round",
    );
    let (left, step) = (MARGIN + 262.0, 10.0);
    for level in 0..usize::from(LEVELS) {
        svg.rect(
            left + step * level as f64,
            y,
            step + 0.3,
            14.0,
            &level_colour(level),
        );
    }
    let wide = step * f64::from(LEVELS - 1);
    for (share, label) in MARKS {
        let x = left + step / 2.0 + wide * place(share);
        svg.line((x, y + 14.0), (x, y + 18.0), "axis");
        svg.text(x, y + 30.0, "", Anchor::Middle, label);
    }
    let mut x = left + wide + 50.0;
    for (ink, label) in [
        (IDLE, "mapped, not written"),
        (UNKNOWN, "not known: written before?"),
        ("#ffffff", "not mapped"),
    ] {
        svg.rect(x, y, 20.0, 14.0, ink);
        if ink == "#ffffff" {
            let frame: [(&str, &dyn std::fmt::Display); 4] = [
                ("fill", &"none"),
                ("stroke", &"#b9bec5"),
                ("d", &format!("M{x} {y}h20v14h-20z")),
                ("stroke-width", &"1"),
            ];
            svg.element("path", &frame);
        }
        svg.text(x + 26.0, y + 11.0, "", Anchor::Start, label);
        x += 26.0 + width(label, 11.0) + 16.0;
    }
    svg.line((x, y + 7.0), (x + 20.0, y + 7.0), "break");
    svg.text(x + 26.0, y + 11.0, "", Anchor::Start, "gap");
    svg.line((x + 64.0, y + 7.0), (x + 84.0, y + 7.0), "folded");
    svg.text(x + 90.0, y + 11.0, "", Anchor::Start, "folded mappings");
    y + 36.0
}

fn remarks(svg: &mut Svg, report: &Report<'_>, map: &HeatMap, y: f64) -> f64 {
    let mut lines = Vec::new();
    if !map.bands.is_empty() {
        let how =
            "Height of a mapping: by the square root of its size. Low addresses are at the top.";
        lines.push(how.to_owned());
    }
    let (never, pages) = map.never;
    if never > 0 {
        lines.push(format!(
            "{} never seen to be written ({}) folded.",
            count(never, "mapping"),
            size(pages as f64)
        ));
    }
    let (fewer, pages) = map.fewer;
    if fewer > 0 {
        let written = number(pages);
        lines.push(format!(
            "{} with the fewest pages written ({written} in all) folded.",
            count(fewer, "mapping")
        ));
    }
    let damaged = || Some("the recording is damaged after these rounds".to_owned());
    if let Some(remark) = report.ending.map_or_else(damaged, Ending::remark) {
        lines.push(format!("Note: {remark}."));
    }
    lines.extend(told(report));
    notes(svg, &lines, y)
}

/// What the numbers above the bands are about.
pub fn told(report: &Report<'_>) -> Vec<String> {
    let line = |(i, round): (usize, &pages::track::TrackRound)| {
        let what = elided(&printable(&joined(&round.events)), 150);
        format!(
            "{}: {}, round {}: {what}",
            i + 1,
            spoken(round.at),
            round.number
        )
    };
    let all = happened(report).count();
    let mut lines: Vec<_> = happened(report)
        .take(EVENTS)
        .enumerate()
        .map(line)
        .collect();
    if all > EVENTS {
        lines.push(format!(
            "and events in {} more",
            count(all - EVENTS, "round")
        ));
    }
    lines
}

/// Lines below the picture; gives back where they end.
pub fn notes(svg: &mut Svg, lines: &[String], y: f64) -> f64 {
    let mut y = y + 8.0;
    for line in lines {
        y += 16.0;
        svg.text(MARGIN, y, "soft", Anchor::Start, line);
    }
    y
}
