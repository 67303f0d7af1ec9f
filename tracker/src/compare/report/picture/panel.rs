//! One workload: a line for each strategy, with its wrong pages, its cost, and its page tables.

use super::{FALSE_NEGATIVE, FALSE_POSITIVE, PANEL_WIDTH, dot, place, powers};
use crate::compare::numbers::{ComparedNumbers, RowNumbers, SizeNumbers};
use crate::compare::order::ComparedSize;
use crate::compare::report::words::{bytes, more_bytes};
use crate::compare::workload::CompareWorkload;
use crate::print::svg::{SvgText, TextAnchor};
use crate::print::words::{elided, number};

/// Left edges, from that of the panel.
const ERRORS: f64 = 118.0;
const COSTS: f64 = 334.0;
/// Widths.
const ERRORS_WIDE: f64 = 130.0;
const COSTS_WIDE: f64 = 160.0;
const ROW: f64 = 17.0;
const HEAD: f64 = 64.0;
/// A slowdown that is drawn as far right as any.
const LEAST_TOP: f64 = 10.0;

/// Draws a panel with its upper left corner there; returns where it ends.
pub(super) fn panel(
    svg: &mut SvgText,
    workload: &CompareWorkload,
    size: &ComparedSize,
    numbers: &SizeNumbers,
    (x, top): (f64, f64),
) -> f64 {
    let rows = size.rows.iter().zip(&numbers.rows);
    let rows: Vec<_> = rows
        .filter_map(|(row, numbers)| match numbers {
            RowNumbers::Measured(numbers) => Some((row.strategy.as_str(), &**numbers)),
            RowNumbers::NotMeasured(_) => None,
        })
        .collect();
    let what = format!(
        "{} of {}: {}",
        bytes(size.bytes),
        workload.memory.words(),
        workload.what
    );
    svg.text(x, top + 22.0, "name", TextAnchor::Start, workload.name);
    svg.text(x, top + 38.0, "soft", TextAnchor::Start, &elided(&what, 96));
    let bottom = top + HEAD + ROW * rows.len() as f64;
    let scales = PanelScales::of(&rows);
    scales.draw(svg, (x, top + HEAD), bottom);
    for (index, (name, row)) in rows.iter().enumerate() {
        let y = top + HEAD + ROW * index as f64 + ROW / 2.0;
        svg.text(x, y + 4.0, "", TextAnchor::Start, name);
        errors(svg, row, scales.wrong, (x + ERRORS, y));
        cost(svg, row, scales.cost, (x + COSTS, y));
        let right = x + PANEL_WIDTH;
        svg.text(right, y + 4.0, "", TextAnchor::End, &more_bytes(row.tables));
    }
    bottom + 34.0
}

/// What the axes of a panel show.
struct PanelScales {
    /// The most pages that are wrong.
    wrong: f64,
    /// The least and the largest slowdown.
    cost: (f64, f64),
}

impl PanelScales {
    fn of(rows: &[(&str, &ComparedNumbers)]) -> Self {
        let wrong = rows
            .iter()
            .map(|(_, row)| row.false_positives + row.false_negatives);
        let work = || rows.iter().filter_map(|(_, row)| row.times.work);
        let least = work().map(|spread| spread.least).fold(1.0, f64::min);
        let most = work().map(|spread| spread.most).fold(LEAST_TOP, f64::max);
        let marks = powers(10.0, least.max(0.1), most);
        Self {
            wrong: wrong.max().unwrap_or(0).max(1) as f64,
            cost: (
                if least >= 0.5 { 0.5 } else { 0.1 },
                marks.last().copied().unwrap_or(LEAST_TOP),
            ),
        }
    }

    fn draw(&self, svg: &mut SvgText, (x, top): (f64, f64), bottom: f64) {
        let heads = [
            (x + ERRORS, TextAnchor::Start, "wrong pages"),
            (x + COSTS, TextAnchor::Start, "times as long"),
            (x + PANEL_WIDTH, TextAnchor::End, "page tables"),
        ];
        for (x, anchor, text) in heads {
            svg.text(x, top - 6.0, "soft", anchor, text);
        }
        svg.line((x + ERRORS, top), (x + ERRORS, bottom), "axis");
        for mark in powers(10.0, self.cost.0, self.cost.1) {
            if mark < self.cost.0 {
                continue;
            }
            let at = x + COSTS + COSTS_WIDE * place(mark, self.cost.0, self.cost.1);
            let class = if mark == 1.0 { "axis" } else { "grid" };
            svg.line((at, top), (at, bottom), class);
            svg.text(
                at,
                bottom + 13.0,
                "soft",
                TextAnchor::Middle,
                &format!("{mark}"),
            );
        }
    }
}

/// Bars for the pages that are wrong, and their numbers.
fn errors(svg: &mut SvgText, row: &ComparedNumbers, most: f64, (x, y): (f64, f64)) {
    let mut at = x;
    for (pages, fill) in [
        (row.false_positives, FALSE_POSITIVE),
        (row.false_negatives, FALSE_NEGATIVE),
    ] {
        if pages > 0 {
            let wide = (ERRORS_WIDE * pages as f64 / most).max(1.5);
            svg.rect(at, y - 5.0, wide, 10.0, fill);
            at += wide;
        }
    }
    let text = match (row.false_positives, row.false_negatives) {
        (0, 0) => "0".to_owned(),
        (wrong, 0) => format!("{} false pos.", number(wrong)),
        (0, wrong) => format!("{} false neg.", number(wrong)),
        (positive, negative) => format!("{} + {}", number(positive), number(negative)),
    };
    let room = at + 5.0;
    // Numbers of long bars lie on them.
    if at - x > ERRORS_WIDE * 0.6 {
        let class = if row.false_positives >= row.false_negatives {
            ""
        } else {
            "light"
        };
        svg.text(x + 4.0, y + 4.0, class, TextAnchor::Start, &text);
    } else {
        svg.text(room, y + 4.0, "", TextAnchor::Start, &text);
    }
}

/// A dot for the slowdown, with its spread and its number.
fn cost(svg: &mut SvgText, row: &ComparedNumbers, (from, to): (f64, f64), (x, y): (f64, f64)) {
    let Some(spread) = row.times.work else { return };
    let at = |ratio: f64| x + COSTS_WIDE * place(ratio, from, to);
    // A line without a length cannot be drawn.
    if at(spread.most) - at(spread.least) > 0.1 {
        svg.line((at(spread.least), y), (at(spread.most), y), "spread");
    }
    dot(svg, at(spread.median), y);
    let text = if spread.median < 9.95 {
        format!("{:.2}", spread.median)
    } else {
        format!("{:.0}", spread.median)
    };
    svg.text(x + COSTS_WIDE + 40.0, y + 4.0, "", TextAnchor::End, &text);
}
