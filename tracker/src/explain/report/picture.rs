//! The heat map of verdicts: address by time, each cell in the colour of what its reports came to.

use std::collections::BTreeMap;
use std::time::Duration;

use uffd::pages_in;

use super::ExplainReport;
use super::matrix::AnswerMatrix;
use crate::explain::{ExplainFindings, ReportVerdict, RoundFindings};
use crate::print::heat::{HeatArea, HeatBand, HeatMap, HeatRound};
use crate::print::picture::bands::{BandLook, CellInk, bands};
use crate::print::picture::frame::{PictureEvents, axis, events, heads, notes, rates, told};
use crate::print::picture::layout::{BANDS_TOP, EVER, MARGIN, PAGE_WIDTH, ROOM, SHARE};
use crate::print::picture::time_axis::TimeAxis;
use crate::print::span::spans;
use crate::print::svg::{ShortNumber, SvgText, TextAnchor, width};
use crate::print::words::{number, share};

/// Less than this, or more than all but this, of the compared pages is as good as none, or all.
const FEW: f64 = 0.1;

/// What is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum VerdictInk {
    Idle,
    Changed,
    Mixed,
    Unchanged,
    Zeroed,
    Gone,
    Unknown,
}

impl VerdictInk {
    /// In the order of painting and of the legend.
    const ALL: [Self; 7] = [
        Self::Idle,
        Self::Changed,
        Self::Mixed,
        Self::Unchanged,
        Self::Zeroed,
        Self::Gone,
        Self::Unknown,
    ];

    /// Class, colour or pattern, and what the legend says.
    const fn entry(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Idle => ("idle", "#e3e4e8", "no report"),
            Self::Changed => ("changed", "#0072b2", "changed"),
            Self::Mixed => ("mixed", "url(#mixed)", "some of each"),
            Self::Unchanged => ("unchanged", "url(#unchanged)", "unchanged: false positives"),
            Self::Zeroed => ("zeroed", "url(#zeroed)", "zeroed"),
            Self::Gone => ("gone", "#80868f", "gone"),
            Self::Unknown => ("unknown", "url(#unknown)", "not known"),
        }
    }

    const fn of(verdict: ReportVerdict) -> Self {
        match verdict {
            ReportVerdict::Changed => Self::Changed,
            ReportVerdict::Unchanged => Self::Unchanged,
            ReportVerdict::Zeroed => Self::Zeroed,
            ReportVerdict::Gone => Self::Gone,
            ReportVerdict::Unknown => Self::Unknown,
        }
    }
}

/// Patterns tell apart what colours alone do not tell everybody. What is not known is the quietest of
/// what is reported: it is no finding.
pub(super) const PATTERNS: &str = r##"<defs>
<pattern id="unchanged" width="4" height="4" patternUnits="userSpaceOnUse">
<rect width="4" height="4" fill="#d55e00"/>
<path d="M-1 5L5 -1M-1 1L1 -1M3 5L5 3" stroke="#ffd9a8" stroke-width="1"/>
</pattern>
<pattern id="mixed" width="6" height="6" patternUnits="userSpaceOnUse">
<rect width="6" height="6" fill="#0072b2"/>
<path d="M0 0h3v6h-3z" fill="#d55e00"/>
</pattern>
<pattern id="zeroed" width="4" height="4" patternUnits="userSpaceOnUse">
<rect width="4" height="4" fill="#56b4e9"/>
<circle cx="2" cy="2" r="1" fill="#ffffff"/>
</pattern>
<pattern id="unknown" width="6" height="6" patternUnits="userSpaceOnUse">
<rect class="faint" width="6" height="6" fill="#ffffff"/>
<path class="faint" d="M-1 7L7 -1M-1 1L1 -1M5 7L7 5" stroke="#a6acb4" stroke-width="1"/>
</pattern>
</defs>
"##;

const NOTE: &str = "A cell has the colour of most of its reports; some of each: between 10% and \
                    90% of them are false positives.";

/// The picture, to stand in a page that has [`PATTERNS`] and a style; `None` if there is nothing in
/// it.
pub(super) fn in_page(report: &ExplainReport<'_>) -> Option<String> {
    let findings = report.findings;
    let map = verdict_map(findings);
    if map.bands.is_empty() {
        return None;
    }
    let happened = happened(&findings.rounds);
    let times = TimeAxis::new(&map.columns);
    let mut body = SvgText::default();
    rates(&mut body, &map.columns, &times, "reported, MiB/s");
    heads(&mut body, "reported, unchanged");
    let mut y = bands(&mut body, &map, &times, &look(findings, &map));
    events(&mut body, &happened, &times, y);
    y = axis(&mut body, map.together, &times, y);
    y = legend(&mut body, y);
    let mut lines = vec![NOTE.to_owned()];
    lines.extend(told(&happened));
    y = notes(&mut body, &lines, y);
    Some(document(&body.finish(), y + MARGIN / 2.0))
}

/// The colour or pattern of a verdict.
pub(super) fn fill(verdict: ReportVerdict) -> &'static str {
    let (_, fill, _) = VerdictInk::of(verdict).entry();
    fill
}

/// Reported pages of a cell by verdict.
#[derive(Clone, Copy, Default)]
struct VerdictCell {
    changed: f64,
    unchanged: f64,
    zeroed: f64,
    gone: f64,
    unknown: f64,
}

impl VerdictCell {
    fn add(&mut self, verdict: ReportVerdict, pages: f64) {
        *match verdict {
            ReportVerdict::Changed => &mut self.changed,
            ReportVerdict::Unchanged => &mut self.unchanged,
            ReportVerdict::Zeroed => &mut self.zeroed,
            ReportVerdict::Gone => &mut self.gone,
            ReportVerdict::Unknown => &mut self.unknown,
        } += pages;
    }

    fn ink(&self) -> VerdictInk {
        let compared = self.changed + self.unchanged + self.zeroed;
        if compared + self.gone + self.unknown <= 0.0 {
            VerdictInk::Idle
        } else if compared < self.unknown.max(self.gone) {
            if self.unknown >= self.gone {
                VerdictInk::Unknown
            } else {
                VerdictInk::Gone
            }
        } else if self.unchanged > compared * (1.0 - FEW) {
            VerdictInk::Unchanged
        } else if self.unchanged > compared * FEW {
            VerdictInk::Mixed
        } else if self.zeroed > compared / 2.0 {
            VerdictInk::Zeroed
        } else {
            VerdictInk::Changed
        }
    }
}

/// Reported and missed pages of each band, by its start.
struct VerdictLook(BTreeMap<u64, (AnswerMatrix, u64)>);

impl BandLook<VerdictCell> for VerdictLook {
    fn inks(&self) -> Vec<CellInk> {
        let ink = |ink: VerdictInk| {
            let (class, fill, _) = ink.entry();
            CellInk {
                fill: fill.to_owned(),
                class: Some(class),
            }
        };
        VerdictInk::ALL.map(ink).into()
    }

    fn ink(&self, cell: &VerdictCell) -> Option<usize> {
        let wanted = cell.ink();
        VerdictInk::ALL.iter().position(|ink| *ink == wanted)
    }

    fn right(&self, svg: &mut SvgText, band: &HeatBand<VerdictCell>, base: f64) {
        let Some((pages, missed)) = self.0.get(&band.area.span.range.start) else {
            return;
        };
        let unchanged = share(pages.verdict(ReportVerdict::Unchanged), pages.compared());
        svg.text(EVER, base, "", TextAnchor::End, &number(pages.all()));
        svg.text(SHARE, base, "", TextAnchor::End, &unchanged);
        if *missed > 0 {
            let text = format!("+ {} missed", number(*missed));
            svg.text(SHARE, base + 13.0, "mark", TextAnchor::End, &text);
        }
    }
}

/// Sorts what was reported into cells.
fn verdict_map(findings: &ExplainFindings) -> HeatMap<VerdictCell> {
    let (rounds, areas) = (heat_rounds(&findings.rounds), areas(findings));
    let mut map = HeatMap::new(&rounds, &areas, ROOM);
    for (i, round) in findings.rounds.iter().enumerate() {
        for reported in round.reported.iter().flat_map(|(_, all)| all) {
            let verdict = reported.why.verdict;
            map.fill(
                &(i..i + 1),
                &reported.range,
                |cell: &mut VerdictCell, pages| cell.add(verdict, pages),
            );
        }
    }
    map
}

/// The picture begins where the picture of what was written has its title.
const TOP: f64 = BANDS_TOP - 96.0;

fn document(body: &str, bottom: f64) -> String {
    let (width, height) = (ShortNumber(PAGE_WIDTH), ShortNumber(bottom - TOP));
    let view = format!("0 {} {width} {height}", ShortNumber(TOP));
    let mut svg = SvgText::default();
    svg.raw(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"{view}\" font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"11\" \
         role=\"img\">\n<title>Verdicts by address and time</title>\n"
    ));
    svg.raw(body);
    svg.raw("</svg>\n");
    svg.finish()
}

fn heat_rounds(rounds: &[RoundFindings]) -> Vec<HeatRound> {
    let mut before = Duration::ZERO;
    let round = |round: &RoundFindings| {
        let lasted = round.at.saturating_sub(before);
        before = round.at;
        HeatRound {
            at: round.at,
            lasted,
            pages: reported_pages(round),
        }
    };
    rounds.iter().map(round).collect()
}

fn reported_pages(round: &RoundFindings) -> u64 {
    let reported = round.reported.iter().flat_map(|(_, all)| all);
    let pages = reported.map(|one| pages_in(&one.range));
    pages.fold(0, u64::saturating_add)
}

/// Spans of mappings with the pages that were reported of them.
fn areas(findings: &ExplainFindings) -> Vec<HeatArea> {
    let told = || findings.rounds.iter().flat_map(|round| &round.reported);
    let spans = spans(told().map(|(mapping, _)| mapping));
    let mut areas: BTreeMap<u64, HeatArea> = spans
        .into_iter()
        .map(|span| {
            let area = HeatArea {
                is_touched: false,
                pages: 0,
                unknown: 0,
                tracked: span.pages(),
                span,
            };
            (area.span.range.start, area)
        })
        .collect();
    for (mapping, reported) in told() {
        let Some((_, area)) = areas.range_mut(..=mapping.start).next_back() else {
            continue;
        };
        for one in reported {
            let pages = pages_in(&one.range);
            area.is_touched |= pages > 0;
            area.pages = area.pages.saturating_add(pages);
        }
    }
    areas.into_values().collect()
}

fn happened(rounds: &[RoundFindings]) -> Vec<PictureEvents> {
    rounds
        .iter()
        .filter_map(|round| PictureEvents::of(round.number, round.at, &round.events))
        .collect()
}

/// Counts what bands tell at their right.
fn look(findings: &ExplainFindings, map: &HeatMap<VerdictCell>) -> VerdictLook {
    let ranges = map.bands.iter().map(|band| &band.area.span.range);
    let ends: BTreeMap<u64, u64> = ranges.map(|range| (range.start, range.end)).collect();
    let start_of = |address: u64| {
        let (start, end) = ends.range(..=address).next_back()?;
        (address < *end).then_some(*start)
    };
    let mut told: BTreeMap<u64, (AnswerMatrix, u64)> = BTreeMap::new();
    for start in ends.keys() {
        told.insert(*start, Default::default());
    }
    let mut at = |address: u64, add: &mut dyn FnMut(&mut AnswerMatrix, &mut u64)| {
        let entry = start_of(address).and_then(|start| told.get_mut(&start));
        if let Some((pages, missed)) = entry {
            add(pages, missed);
        }
    };
    let reported = findings.rounds.iter().flat_map(|round| &round.reported);
    for one in reported.flat_map(|(_, all)| all) {
        let count = pages_in(&one.range);
        at(one.range.start, &mut |pages, _| pages.add(one.why, count));
    }
    for (_, gone) in &findings.missed {
        let count = pages_in(&gone.range);
        at(gone.range.start, &mut |_, missed| {
            *missed = missed.saturating_add(count);
        });
    }
    VerdictLook(told)
}

fn legend(svg: &mut SvgText, y: f64) -> f64 {
    let y = y + 24.0;
    let mut x = MARGIN;
    for ink in VerdictInk::ALL {
        let (class, fill, label) = ink.entry();
        let path = format!("M{} {}h26v14h-26z", ShortNumber(x), ShortNumber(y));
        svg.element("path", &[("class", &class), ("fill", &fill), ("d", &path)]);
        svg.text(x + 32.0, y + 11.0, "", TextAnchor::Start, label);
        x += 32.0 + width(label, 11.0) + 22.0;
    }
    y + 14.0
}
