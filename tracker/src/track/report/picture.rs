//! The heat map of a recording as SVG, from top to bottom: title, rate, bands, time, legend, notes.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use super::RecordingReport;
use super::areas::AreaCounts;
use super::heat::{ShareCell, share_map};
use crate::print::clock::spoken;
use crate::print::colour::{LEVELS, MARKS, hex, level, on_paper, place};
use crate::print::heat::{HeatBand, HeatMap};
use crate::print::picture::bands::{BandLook, CellInk, bands};
use crate::print::picture::frame::{PictureEvents, axis, events, heads, notes, rates, told};
use crate::print::picture::layout::{EVER, MARGIN, PAGE_WIDTH, RATE_TOP, ROOM, SHARE};
use crate::print::picture::time_axis::TimeAxis;
use crate::print::svg::{ShortNumber, SvgText, TextAnchor, width};
use crate::print::words::{count, elided, number, printable, share, size};
use crate::track::recording::{RecordingEnding, RecordingError};

/// Mapped, and nobody wrote: neither the paper nor any share.
const IDLE: &str = "#e3e4e8";
const UNKNOWN: &str = "url(#unknown)";
const PAPER: &str = "#ffffff";

const HEAD: &str = r##"<defs>
<pattern id="unknown" width="4" height="4" patternUnits="userSpaceOnUse">
<rect width="4" height="4" fill="#fbe3d6"/>
<path d="M-1 5L5 -1M-1 1L1 -1M3 5L5 3" stroke="#d9480f" stroke-width="1"/>
</pattern>
</defs>
<style>
text{font-family:"DejaVu Sans",Verdana,sans-serif;font-size:11px;fill:#22262b}
.title{font-size:20px}
.lead{font-size:12.5px;fill:#41474f}
.soft{fill:#6b727b}
.axis{stroke:#6b727b;stroke-width:1}
.break{stroke:#9aa1a9;stroke-width:1;stroke-dasharray:2 3}
.folded{stroke:#b9bec5;stroke-width:3}
.event{stroke:#c2255c;stroke-width:1;stroke-dasharray:4 3}
.mark{fill:#c2255c}
</style>
"##;

/// The whole document.
///
/// # Errors
/// If the recording cannot be read again.
pub(crate) fn svg(report: &RecordingReport<'_>) -> Result<String, RecordingError> {
    let map = share_map(report, ROOM)?;
    let happened = happened(report);
    let times = TimeAxis::new(&map.columns);
    let mut body = SvgText::default();
    title(&mut body, report);
    let mut y;
    if map.bands.is_empty() {
        let why = match map.columns.len() {
            0 => "The recording holds no round.",
            _ => "No page was written.",
        };
        y = RATE_TOP + 14.0;
        body.text(MARGIN, y, "lead", TextAnchor::Start, why);
    } else {
        rates(&mut body, &map.columns, &times, "written, MiB/s");
        heads(&mut body, "ever written");
        y = bands(&mut body, &map, &times, &ShareInks::of(report));
        events(&mut body, &happened, &times, y);
        y = axis(&mut body, map.together, &times, y);
        y = legend(&mut body, y);
    }
    let mut lines = remarks(report, &map);
    lines.extend(told(&happened));
    y = notes(&mut body, &lines, y);
    Ok(document(&body.finish(), y + MARGIN / 2.0))
}

fn document(body: &str, bottom: f64) -> String {
    let (w, h) = (ShortNumber(PAGE_WIDTH), ShortNumber(bottom));
    let mut svg = SvgText::default();
    svg.raw(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" \
         viewBox=\"0 0 {w} {h}\">\n"
    ));
    svg.raw(HEAD);
    svg.rect(0.0, 0.0, PAGE_WIDTH, bottom, PAPER);
    svg.raw(body);
    svg.raw("</svg>\n");
    svg.finish()
}

fn title(svg: &mut SvgText, report: &RecordingReport<'_>) {
    let (header, totals) = (&report.header, &report.totals);
    let comm = elided(&printable(&header.comm), 40);
    let text = format!("{comm} (pid {}): which pages were written when", header.pid);
    svg.text(MARGIN, 40.0, "title", TextAnchor::Start, &text);
    let how = format!(
        "strategy {}, a round every {}, {} in {}",
        elided(&printable(&header.strategy), 30),
        spoken(header.interval),
        count(totals.rounds as usize, "round"),
        spoken(totals.lasted)
    );
    svg.text(MARGIN, 61.0, "lead", TextAnchor::Start, &how);
    let mut what = format!(
        "{} pages written ({}), {} of them different ({}, {} of {} tracked)",
        number(totals.written),
        size(totals.written as f64),
        number(totals.pages.set),
        size(totals.pages.set as f64),
        share(totals.pages.set, totals.tracked),
        size(totals.tracked as f64)
    );
    if totals.pages.unknown > 0 {
        let _ = write!(what, "; {} not known", size(totals.pages.unknown as f64));
    }
    if totals.not_looked_at.total() > 0 {
        let _ = write!(
            what,
            "; {} not looked at",
            size(totals.not_looked_at.total() as f64)
        );
    }
    svg.text(MARGIN, 79.0, "lead", TextAnchor::Start, &what);
}

fn happened(report: &RecordingReport<'_>) -> Vec<PictureEvents> {
    let rounds = report.events.iter();
    rounds
        .filter_map(|round| PictureEvents::of(round.number, round.at, &round.events))
        .collect()
}

/// Cells by the share of their pages that was written; bands tell their different pages.
struct ShareInks<'a>(BTreeMap<u64, &'a AreaCounts>);

impl<'a> ShareInks<'a> {
    fn of(report: &'a RecordingReport<'_>) -> Self {
        let areas = report.areas.iter();
        Self(areas.map(|area| (area.span.range.start, area)).collect())
    }
}

impl BandLook<ShareCell> for ShareInks<'_> {
    fn inks(&self) -> Vec<CellInk> {
        let levels = (0..usize::from(LEVELS)).map(level_colour);
        let fills = [IDLE.to_owned(), UNKNOWN.to_owned()]
            .into_iter()
            .chain(levels);
        fills.map(|fill| CellInk { fill, class: None }).collect()
    }

    fn ink(&self, cell: &ShareCell) -> Option<usize> {
        match cell.share()? {
            0.0 if cell.unknown > 0.0 => Some(1),
            0.0 => Some(0),
            share => Some(2 + usize::from(level(share))),
        }
    }

    fn right(&self, svg: &mut SvgText, band: &HeatBand<ShareCell>, base: f64) {
        let set = self
            .0
            .get(&band.area.span.range.start)
            .map_or(0, |area| area.pages.set);
        if set > 0 {
            let part = share(set, band.area.span.pages());
            svg.text(EVER, base, "", TextAnchor::End, &size(set as f64));
            svg.text(SHARE, base, "", TextAnchor::End, &part);
        } else {
            svg.text(SHARE, base, "soft", TextAnchor::End, "not known");
        }
    }
}

/// The colour of a level on paper.
fn level_colour(level: usize) -> String {
    hex(on_paper(level as f64 / f64::from(LEVELS - 1)))
}

fn legend(svg: &mut SvgText, y: f64) -> f64 {
    let y = y + 24.0;
    let what = "share of a cell's pages written in a round";
    svg.text(MARGIN, y + 11.0, "", TextAnchor::Start, what);
    let (left, step) = (MARGIN + 262.0, 10.0);
    for level in 0..usize::from(LEVELS) {
        let x = left + step * level as f64;
        svg.rect(x, y, step + 0.3, 14.0, &level_colour(level));
    }
    let wide = step * f64::from(LEVELS - 1);
    for (share, label) in MARKS {
        let x = left + step / 2.0 + wide * place(share);
        svg.line((x, y + 14.0), (x, y + 18.0), "axis");
        svg.text(x, y + 30.0, "", TextAnchor::Middle, label);
    }
    let mut x = left + wide + 50.0;
    for (fill, is_framed, label) in [
        (IDLE, false, "mapped, not written"),
        (UNKNOWN, false, "not known: written before?"),
        (PAPER, true, "not mapped"),
    ] {
        svg.rect(x, y, 20.0, 14.0, fill);
        if is_framed {
            let frame: [(&str, &dyn Display); 4] = [
                ("fill", &"none"),
                ("stroke", &"#b9bec5"),
                ("d", &format!("M{x} {y}h20v14h-20z")),
                ("stroke-width", &"1"),
            ];
            svg.element("path", &frame);
        }
        svg.text(x + 26.0, y + 11.0, "", TextAnchor::Start, label);
        x += 26.0 + width(label, 11.0) + 16.0;
    }
    svg.line((x, y + 7.0), (x + 20.0, y + 7.0), "break");
    svg.text(x + 26.0, y + 11.0, "", TextAnchor::Start, "gap");
    svg.line((x + 64.0, y + 7.0), (x + 84.0, y + 7.0), "folded");
    svg.text(x + 90.0, y + 11.0, "", TextAnchor::Start, "folded mappings");
    y + 36.0
}

/// What is not in the picture, and how the recording ends.
fn remarks(report: &RecordingReport<'_>, map: &HeatMap<ShareCell>) -> Vec<String> {
    let mut lines = Vec::new();
    if !map.bands.is_empty() {
        let how =
            "Height of a mapping: by the square root of its size. Low addresses are at the top.";
        lines.push(how.to_owned());
    }
    let (never, pages) = map.never;
    if never > 0 {
        let (never, size) = (count(never, "mapping"), size(pages as f64));
        lines.push(format!("{never} never seen to be written ({size}) folded."));
    }
    let (fewer, pages) = map.fewer;
    if fewer > 0 {
        let (fewer, written) = (count(fewer, "mapping"), number(pages));
        lines.push(format!(
            "{fewer} with the fewest pages written ({written} in all) folded."
        ));
    }
    let damaged = || Some("the recording is damaged after these rounds".to_owned());
    if let Some(remark) = report
        .ending
        .as_ref()
        .map_or_else(damaged, RecordingEnding::remark)
    {
        lines.push(format!("Note: {remark}."));
    }
    lines
}
