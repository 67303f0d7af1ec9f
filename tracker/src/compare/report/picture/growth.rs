//! How page tables and the time to arm grow with the range: two plots side by side.

use std::fmt::{Display, Write as _};

use super::{GAP, MARGIN, PANEL_WIDTH, place, powers};
use crate::compare::numbers::{ComparedNumbers, RowNumbers, SizeNumbers};
use crate::compare::order::ComparedWorkload;
use crate::compare::report::words::{bytes, time};
use crate::print::svg::{ShortNumber, SvgText, TextAnchor};

const HEIGHT: f64 = 230.0;
/// Room for labels left of a plot, and for names right of it.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 126.0;
/// Room for what is nothing, below a logarithmic axis.
const NOTHING: f64 = 22.0;
/// Least distance of two names.
const LINE: f64 = 13.0;

/// Okabe and Ito's colours in an order in which neighbours differ in brightness too.
const INKS: [&str; 7] = [
    "#0072b2", "#e69f00", "#000000", "#56b4e9", "#d55e00", "#009e73", "#cc79a7",
];

/// The points of a strategy: bytes of the range, and a number that grows.
struct GrowthLine {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// A logarithmic axis of numbers: what they are, of what their marks are powers, and in words.
struct GrowthAxis<'a> {
    title: &'a str,
    base: f64,
    told: &'a dyn Fn(f64) -> String,
}

/// Draws both plots; returns where they end.
pub(super) fn growth(svg: &mut SvgText, compared: &ComparedWorkload, top: f64) -> f64 {
    let tables = lines(compared, |row| Some(row.tables_armed as f64));
    let arming = lines(compared, |row| row.arm.map(|spread| spread.median));
    let (name, what) = (compared.workload.name, compared.workload.what);
    svg.text(MARGIN, top + 22.0, "name", TextAnchor::Start, name);
    svg.text(MARGIN, top + 38.0, "soft", TextAnchor::Start, what);
    let sizes: Vec<_> = compared
        .sizes
        .iter()
        .map(|size| size.bytes as f64)
        .collect();
    let as_bytes = |number: f64| bytes(number as u64);
    let right = MARGIN + PANEL_WIDTH + GAP;
    let taken = GrowthAxis {
        title: "page tables that arming takes",
        base: 16.0,
        told: &as_bytes,
    };
    plot(svg, (MARGIN, top), &taken, &sizes, &tables);
    let lasted = GrowthAxis {
        title: "time to arm",
        base: 10.0,
        told: &time,
    };
    plot(svg, (right, top), &lasted, &sizes, &arming);
    top + HEIGHT + 120.0
}

fn lines(
    compared: &ComparedWorkload,
    of: impl Fn(&ComparedNumbers) -> Option<f64>,
) -> Vec<GrowthLine> {
    let mut lines: Vec<GrowthLine> = Vec::new();
    for size in &compared.sizes {
        let numbers = SizeNumbers::of(compared.workload, size);
        for (row, numbers) in size.rows.iter().zip(&numbers.rows) {
            let RowNumbers::Measured(numbers) = numbers else {
                continue;
            };
            let Some(number) = of(numbers) else { continue };
            let (name, point) = (row.strategy.as_str(), (size.bytes as f64, number));
            match lines.iter_mut().find(|line| line.name == name) {
                Some(line) => line.points.push(point),
                None => lines.push(GrowthLine {
                    name,
                    points: vec![point],
                }),
            }
        }
    }
    lines
}

fn plot(
    svg: &mut SvgText,
    (x, top): (f64, f64),
    axis: &GrowthAxis<'_>,
    sizes: &[f64],
    lines: &[GrowthLine],
) {
    let (left, right) = (x + LEFT, x + PANEL_WIDTH - RIGHT);
    let (upper, lower) = (top + 74.0, top + 74.0 + HEIGHT);
    svg.text(x, top + 62.0, "", TextAnchor::Start, axis.title);
    let numbers = || {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|point| point.1)
    };
    let some = || numbers().filter(|number| *number > 0.0);
    let has_nothing = some().count() < numbers().count();
    let (Some(from), Some(to)) = (some().reduce(f64::min), some().reduce(f64::max)) else {
        return;
    };
    let marks = powers(axis.base, from, to);
    let (from, to) = (
        marks.first().copied().unwrap_or(from),
        marks.last().copied().unwrap_or(to),
    );
    let floor = if has_nothing { lower - NOTHING } else { lower };
    let height = |number: f64| {
        if number > 0.0 {
            floor - (floor - upper) * place(number, from, to)
        } else {
            lower
        }
    };
    let (first, last) = (
        sizes.first().copied().unwrap_or(1.0),
        sizes.last().copied().unwrap_or(1.0),
    );
    let across = |size: f64| left + (right - left) * place(size, first, last);
    for mark in marks.into_iter().chain(has_nothing.then_some(0.0)) {
        let y = height(mark);
        svg.line((left, y), (right, y), "grid");
        let text = if mark > 0.0 {
            (axis.told)(mark)
        } else {
            "0".to_owned()
        };
        svg.text(left - 8.0, y + 4.0, "soft", TextAnchor::End, &text);
    }
    for size in sizes {
        let x = across(*size);
        svg.line((x, lower), (x, lower + 5.0), "axis");
        svg.text(
            x,
            lower + 18.0,
            "soft",
            TextAnchor::Middle,
            &bytes(*size as u64),
        );
    }
    svg.line((left, lower), (right, lower), "axis");
    let mut names = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let at = line
            .points
            .iter()
            .map(|(size, number)| (across(*size), height(*number)));
        let at: Vec<_> = at.collect();
        draw(svg, &at, index);
        if let Some((x, y)) = at.last() {
            names.push((*y, *x, index, line.name));
        }
    }
    name_lines(svg, names, right + 10.0);
}

/// Draws a line with its marks.
fn draw(svg: &mut SvgText, at: &[(f64, f64)], index: usize) {
    let ink = ink(index);
    let mut path = String::new();
    for (i, (x, y)) in at.iter().enumerate() {
        let (x, y) = (ShortNumber(*x), ShortNumber(*y));
        let _ = write!(path, "{}{x} {y}", if i == 0 { "M" } else { "L" });
    }
    let line: [(&str, &dyn Display); 4] = [
        ("fill", &"none"),
        ("stroke", &ink),
        ("stroke-width", &"1.5"),
        ("d", &path),
    ];
    svg.element("path", &line);
    for (x, y) in at {
        mark(svg, *x, *y, index);
    }
}

/// A mark whose form tells the strategy without its colour.
fn mark(svg: &mut SvgText, x: f64, y: f64, index: usize) {
    const FORMS: [&str; 7] = [
        "m-4 -4h8v8h-8z",
        "m0 -5l5 9h-10z",
        "m-4 -4l8 8m0 -8l-8 8",
        "m0 -5l5 5l-5 5l-5 -5z",
        "m0 5l5 -9h-10z",
        "m-5 0h10m-5 -5v10",
        "m-2 -5h4l3 5l-3 5h-4l-3 -5z",
    ];
    let form = FORMS.get(index % FORMS.len()).copied().unwrap_or_default();
    let path = format!("M{} {}{form}", ShortNumber(x), ShortNumber(y));
    let ink = ink(index);
    let all: [(&str, &dyn Display); 4] = [
        ("fill", &"#ffffff"),
        ("stroke", &ink),
        ("stroke-width", &"2"),
        ("d", &path),
    ];
    svg.element("path", &all);
}

/// Names at the ends of lines, not on top of each other.
fn name_lines(svg: &mut SvgText, mut names: Vec<(f64, f64, usize, &str)>, x: f64) {
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    // From below, so that what lies at 0 stays there.
    let mut free = f64::INFINITY;
    for (y, _, index, name) in names.into_iter().rev() {
        let y = y.min(free - LINE);
        free = y;
        mark(svg, x + 4.0, y, index);
        svg.text(x + 16.0, y + 4.0, "", TextAnchor::Start, name);
    }
}

fn ink(index: usize) -> &'static str {
    INKS.get(index % INKS.len()).copied().unwrap_or_default()
}
