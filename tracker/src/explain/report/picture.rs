//! The heat map of verdicts: address by time, each cell in the colour of what its reports came to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Report;
use super::matrix::Matrix;
use crate::explain::{Findings, RoundLine, Verdict};
use crate::track::report::picture::ROOM;
use crate::track::report::picture::bands::{Ink, Look, bands};
use crate::track::report::picture::draw::{
    self, BANDS_TOP, EVER, MARGIN, PAGE_WIDTH, SHARE, axis, events, heads, notes, rates,
};
use crate::track::report::picture::scales::Times;
use crate::track::report::svg::{Anchor, Short, Svg, width};
use crate::track::report::words::{number, share};
use crate::track::report::{Band, HeatMap, Report as Written};
use pages::track::{MappingRound, PageExtent, TrackRound, TrackedPages};
use uffd::{PAGE_SIZE, pages_in};

/// Less than this, or more than all but this, of the compared pages is as good as none, or all.
const FEW: f64 = 0.1;

/// What is painted: class, colour or pattern, and what the legend says.
const INKS: [(&str, &str, &str); 7] = [
    ("idle", "#e3e4e8", "no report"),
    ("changed", "#0072b2", "changed"),
    ("mixed", "url(#mixed)", "some of each"),
    ("unchanged", "url(#unchanged)", "unchanged: false positives"),
    ("zeroed", "url(#zeroed)", "zeroed"),
    ("gone", "#80868f", "gone"),
    ("unknown", "url(#unknown)", "not known"),
];

/// Patterns tell apart what colours alone do not tell everybody.
pub const PATTERNS: &str = r##"<defs>
<pattern id="unchanged" width="4" height="4" patternUnits="userSpaceOnUse"><rect width="4" height="4" fill="#d55e00"/><path d="M-1 5L5 -1M-1 1L1 -1M3 5L5 3" stroke="#ffd9a8" stroke-width="1"/></pattern>
<pattern id="mixed" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#0072b2"/><path d="M0 0h3v6h-3z" fill="#d55e00"/></pattern>
<pattern id="zeroed" width="4" height="4" patternUnits="userSpaceOnUse"><rect width="4" height="4" fill="#56b4e9"/><circle cx="2" cy="2" r="1" fill="#ffffff"/></pattern>
<pattern id="unknown" width="5" height="5" patternUnits="userSpaceOnUse"><rect width="5" height="5" fill="#f0e442"/><path d="M0 0L5 5M5 0L0 5" stroke="#8a7d00" stroke-width=".7"/></pattern>
</defs>
"##;

const NOTE: &str = "A cell has the colour of most of its reports; some of each: between 10% and 90% of them are false positives.";

/// For a picture that stands alone; in a page the style is the page's.
const STYLE: &str = r##"<style>text{fill:#22262b}.soft{fill:#6b727b}.axis{stroke:#6b727b;stroke-width:1}
.break{stroke:#9aa1a9;stroke-width:1;stroke-dasharray:2 3}.folded{stroke:#b9bec5;stroke-width:3}.event{stroke:#c2255c;stroke-width:1;stroke-dasharray:4 3}
.mark{fill:#c2255c}</style>
"##;

/// The picture, to stand in a page that has [`PATTERNS`] and a style; `None`: there is nothing in it.
pub fn in_page(report: &Report<'_>) -> Option<String> {
    drawn(report.findings, "")
}

/// The picture as a document of its own.
#[must_use]
pub fn document(report: &Report<'_>) -> Option<String> {
    drawn(report.findings, &format!("{PATTERNS}{STYLE}"))
}

/// Reported pages of a cell by verdict, in their order.
#[derive(Clone, Copy, Default)]
struct Verdicts([f64; 5]);

impl Verdicts {
    fn of(&self, verdict: Verdict) -> f64 {
        let at = Verdict::ALL.iter().position(|v| *v == verdict);
        at.and_then(|i| self.0.get(i)).copied().unwrap_or(0.0)
    }

    fn add(&mut self, verdict: Verdict, pages: f64) {
        let at = Verdict::ALL.iter().position(|v| *v == verdict);
        if let Some(count) = at.and_then(|i| self.0.get_mut(i)) {
            *count += pages;
        }
    }
}

/// What bands tell at their right.
struct Told(BTreeMap<u64, (Matrix, u64)>);

impl Look<Verdicts> for Told {
    fn inks(&self) -> Vec<Ink> {
        let ink = |(class, fill, _): (&'static str, &str, &str)| Ink {
            fill: fill.to_owned(),
            class: Some(class),
        };
        INKS.map(ink).into()
    }

    fn ink(&self, cell: &Verdicts) -> Option<usize> {
        let all: f64 = cell.0.iter().sum();
        let (unknown, gone) = (cell.of(Verdict::Unknown), cell.of(Verdict::Gone));
        let (unchanged, zeroed) = (cell.of(Verdict::Unchanged), cell.of(Verdict::Zeroed));
        let compared = all - unknown - gone;
        let class = if all <= 0.0 {
            "idle"
        } else if compared < unknown.max(gone) {
            if unknown >= gone { "unknown" } else { "gone" }
        } else if unchanged > compared * (1.0 - FEW) {
            "unchanged"
        } else if unchanged > compared * FEW {
            "mixed"
        } else if zeroed > compared / 2.0 {
            "zeroed"
        } else {
            "changed"
        };
        INKS.iter().position(|(name, _, _)| *name == class)
    }

    fn right(&self, svg: &mut Svg, band: &Band<Verdicts>, base: f64) {
        let Some((pages, missed)) = self.0.get(&band.area.range.start) else {
            return;
        };
        let unchanged = pages.verdict(Verdict::Unchanged);
        svg.text(EVER, base, "", Anchor::End, &number(pages.all()));
        svg.text(
            SHARE,
            base,
            "",
            Anchor::End,
            &share(unchanged, pages.compared()),
        );
        if *missed > 0 {
            let text = format!("+ {} missed", number(*missed));
            svg.text(SHARE, base + 13.0, "mark", Anchor::End, &text);
        }
    }
}

/// The colour or pattern of a verdict.
pub fn fill(verdict: Verdict) -> &'static str {
    let ink = INKS.iter().find(|(class, _, _)| *class == verdict.as_str());
    ink.map_or("none", |(_, fill, _)| fill)
}

fn drawn(findings: &Findings, style: &str) -> Option<String> {
    let rounds = as_written(&findings.rounds);
    let written = Written::new(&findings.header, &rounds, None);
    let mut map: HeatMap<Verdicts> = HeatMap::empty(&written, ROOM);
    if map.bands.is_empty() {
        return None;
    }
    for (i, round) in findings.rounds.iter().enumerate() {
        for reported in round.reported.iter().flat_map(|(_, all)| all) {
            map.fill(i, &reported.range, |cell, pages| {
                cell.add(reported.why.verdict, pages)
            });
        }
    }
    let times = Times::new(&map.columns);
    let mut body = Svg::default();
    rates(&mut body, &map.columns, &times, "reported, MiB/s");
    heads(&mut body, "reported, unchanged");
    let mut y = bands(&mut body, &map, &times, &told(findings, &map));
    y = events(&mut body, &written, &times, y);
    y = axis(&mut body, map.together, &times, y);
    y = legend(&mut body, y);
    let mut lines = vec![NOTE.to_owned()];
    lines.extend(draw::told(&written));
    y = notes(&mut body, &lines, y);
    Some(document_of(&body.finish(), y + MARGIN / 2.0, style))
}

/// The picture begins where the picture of what was written has its title.
const TOP: f64 = BANDS_TOP - 96.0;

fn document_of(body: &str, bottom: f64, style: &str) -> String {
    let (width, height) = (Short(PAGE_WIDTH), Short(bottom - TOP));
    let view = format!("0 {} {width} {height}", Short(TOP));
    let mut svg = Svg::default();
    svg.raw(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"{view}\" \
         font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"11\" role=\"img\">\n<title>Verdicts by address and time</title>\n"
    ));
    svg.raw(style);
    if !style.is_empty() {
        svg.rect(0.0, TOP, PAGE_WIDTH, bottom - TOP, "#ffffff");
    }
    svg.raw(body);
    svg.raw("</svg>\n");
    svg.finish()
}

/// Rounds as those that track tell them: its report knows where mappings and times lie.
fn as_written(rounds: &[RoundLine]) -> Vec<TrackRound> {
    let mut before = std::time::Duration::ZERO;
    let round = |round: &RoundLine| {
        let lasted = round.at.saturating_sub(before);
        before = round.at;
        TrackRound {
            number: round.number,
            at: round.at,
            lasted,
            mappings: round.reported.iter().map(mapping_round).collect(),
            events: round.events.clone(),
            ..TrackRound::default()
        }
    };
    rounds.iter().map(round).collect()
}

fn mapping_round(
    (mapping, reported): &(
        Arc<pages::track::TrackedMapping>,
        Vec<crate::explain::Reported>,
    ),
) -> MappingRound {
    let extent = |one: &crate::explain::Reported| PageExtent {
        range: one.range.clone(),
        unit: PAGE_SIZE,
        unknown: false,
    };
    let written = reported.iter().map(|one| pages_in(&one.range));
    MappingRound {
        mapping: Arc::clone(mapping),
        pages: TrackedPages {
            tracked: pages_in(&(mapping.start..mapping.end)),
            written: written.fold(0, u64::saturating_add),
            ..TrackedPages::default()
        },
        written: reported.iter().map(extent).collect(),
    }
}

/// Reported and missed pages of each band.
fn told(findings: &Findings, map: &HeatMap<Verdicts>) -> Told {
    let bands = map
        .bands
        .iter()
        .map(|band| (band.area.range.start, Default::default()));
    let mut told: BTreeMap<u64, (Matrix, u64)> = bands.collect();
    let ends: BTreeMap<_, _> = map
        .bands
        .iter()
        .map(|band| (band.area.range.start, band.area.range.end))
        .collect();
    let start_of = |address: u64| {
        let (start, end) = ends.range(..=address).next_back()?;
        (address < *end).then_some(*start)
    };
    let reported = findings.rounds.iter().flat_map(|round| &round.reported);
    for one in reported.flat_map(|(_, all)| all) {
        if let Some((pages, _)) = start_of(one.range.start).and_then(|start| told.get_mut(&start)) {
            pages.add(one.why, pages_in(&one.range));
        }
    }
    for (_, missed) in &findings.missed {
        if let Some((_, count)) =
            start_of(missed.range.start).and_then(|start| told.get_mut(&start))
        {
            *count = count.saturating_add(pages_in(&missed.range));
        }
    }
    Told(told)
}

fn legend(svg: &mut Svg, y: f64) -> f64 {
    let y = y + 24.0;
    let mut x = MARGIN;
    for (class, fill, label) in INKS {
        let path = format!("M{} {}h26v14h-26z", Short(x), Short(y));
        svg.element("path", &[("class", &class), ("fill", &fill), ("d", &path)]);
        svg.text(x + 32.0, y + 11.0, "", Anchor::Start, label);
        x += 32.0 + width(label, 11.0) + 22.0;
    }
    y + 14.0
}
