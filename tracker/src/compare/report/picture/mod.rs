//! Cost against error as SVG: a panel for each workload, then how cost grows with the range.

mod growth;
mod panel;

use std::fmt::Display;

use super::words::headline;
use crate::compare::numbers::SizeNumbers;
use crate::compare::order::Comparison;
use crate::print::svg::{ShortNumber, SvgText, TextAnchor};

const PAGE_WIDTH: f64 = 1280.0;
const MARGIN: f64 = 24.0;
const PANELS_TOP: f64 = 116.0;
/// Panels side by side.
const COLUMNS: usize = 2;
const GAP: f64 = 32.0;
const PANEL_WIDTH: f64 = (PAGE_WIDTH - 2.0 * MARGIN - GAP) / COLUMNS as f64;

/// Two colours of Okabe and Ito's, which differ in brightness too.
const FALSE_POSITIVE: &str = "#e69f00";
const FALSE_NEGATIVE: &str = "#00507d";
const COST: &str = "#22262b";

const STYLE: &str = r##"<style>
text{font-family:"DejaVu Sans",Verdana,sans-serif;font-size:11px;fill:#22262b}
.title{font-size:20px}
.lead{font-size:12.5px;fill:#41474f}
.name{font-size:13px}
.soft{fill:#6b727b}
.light{fill:#ffffff}
.axis{stroke:#6b727b;stroke-width:1}
.grid{stroke:#dfe2e6;stroke-width:1}
.spread{stroke:#22262b;stroke-width:1.5}
</style>
"##;

/// The whole document.
pub(crate) fn svg(comparison: &Comparison) -> String {
    let mut body = SvgText::default();
    let title = "What each strategy costs, and what it gets wrong";
    body.text(MARGIN, 40.0, "title", TextAnchor::Start, title);
    body.text(
        MARGIN,
        61.0,
        "lead",
        TextAnchor::Start,
        &headline(comparison),
    );
    legend(&mut body);
    let (mut y, mut lowest) = (PANELS_TOP, PANELS_TOP);
    let measured = comparison
        .workloads
        .iter()
        .filter_map(|compared| match &compared.sizes[..] {
            [size] => Some((
                compared.workload,
                size,
                SizeNumbers::of(compared.workload, size),
            )),
            _ => None,
        });
    let panels = measured.filter(|(_, _, numbers)| numbers.has_rows());
    for (index, (workload, size, numbers)) in panels.enumerate() {
        let column = index % COLUMNS;
        if column == 0 {
            y = lowest;
        }
        let x = MARGIN + (PANEL_WIDTH + GAP) * column as f64;
        lowest = panel::panel(&mut body, workload, size, &numbers, (x, y)).max(lowest);
    }
    y = lowest;
    for compared in comparison
        .workloads
        .iter()
        .filter(|compared| compared.sizes.len() > 1)
    {
        y = growth::growth(&mut body, compared, y);
    }
    document(&body.finish(), y + MARGIN / 2.0)
}

fn document(body: &str, bottom: f64) -> String {
    let (w, h) = (ShortNumber(PAGE_WIDTH), ShortNumber(bottom));
    let mut svg = SvgText::default();
    svg.raw(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" \
         viewBox=\"0 0 {w} {h}\">\n"
    ));
    svg.raw(STYLE);
    svg.rect(0.0, 0.0, PAGE_WIDTH, bottom, "#ffffff");
    svg.raw(body);
    svg.raw("</svg>\n");
    svg.finish()
}

fn legend(svg: &mut SvgText) {
    let y = 84.0;
    let mut x = MARGIN;
    for (fill, what, width) in [
        (
            FALSE_POSITIVE,
            "false positives: reported, not changed",
            280.0,
        ),
        (
            FALSE_NEGATIVE,
            "false negatives: changed, not reported",
            284.0,
        ),
    ] {
        svg.rect(x, y - 10.0, 20.0, 12.0, fill);
        svg.text(x + 26.0, y, "", TextAnchor::Start, what);
        x += width;
    }
    svg.line((x, y - 4.0), (x + 20.0, y - 4.0), "spread");
    dot(svg, x + 10.0, y - 4.0);
    let what = "time of the work against untracked: median, least to most of all turns";
    svg.text(x + 26.0, y, "", TextAnchor::Start, what);
}

/// A dot for a cost.
fn dot(svg: &mut SvgText, x: f64, y: f64) {
    let all: [(&str, &dyn Display); 4] = [
        ("cx", &ShortNumber(x)),
        ("cy", &ShortNumber(y)),
        ("r", &"3.5"),
        ("fill", &COST),
    ];
    svg.element("circle", &all);
}

/// Powers of a number around all from one to another.
fn powers(base: f64, from: f64, to: f64) -> Vec<f64> {
    let (first, last) = (
        from.log(base).floor() as i32,
        (to.log(base) - 1e-9).ceil() as i32,
    );
    (first..=last.max(first + 1))
        .map(|power| base.powi(power))
        .collect()
}

/// Where a number lies between two on a logarithmic axis, from 0 to 1.
fn place(number: f64, from: f64, to: f64) -> f64 {
    ((number / from).ln() / (to / from).ln()).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;

    #[test]
    fn every_workload_and_strategy_is_in_it() {
        let comparison = sample::comparison();
        let svg = svg(&comparison);
        for compared in &comparison.workloads {
            let has_runs = compared.sizes[0]
                .rows
                .iter()
                .any(|row| !row.runs[0].is_refused());
            let name = compared.workload.name;
            assert_eq!(svg.contains(&format!(">{name}<")), has_runs, "{name}");
        }
        assert!(svg.contains(">none-is-clean<") && !svg.contains("NaN"));
        assert!(crate::print::picture::png::png(&svg).is_ok());
    }

    #[test]
    fn powers_contain_what_they_are_made_for() {
        assert_eq!(powers(10.0, 0.9, 30.0), [0.1, 1.0, 10.0, 100.0]);
        assert_eq!(powers(16.0, 1.0, 1.0), [1.0, 16.0]);
        assert!((place(10.0, 1.0, 100.0) - 0.5).abs() < 1e-9);
    }
}
