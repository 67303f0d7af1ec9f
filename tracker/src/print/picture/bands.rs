//! The bands of a picture: cells, what is left and right of them, and what lies between.

use std::fmt::{Display, Write as _};

use super::layout::{ADDRESS, BANDS_TOP, BIN, BREAK, LEFT, MARGIN, RIGHT, SEAM, SIZE};
use super::time_axis::TimeAxis;
use crate::print::heat::{HeatBand, HeatMap, SkippedBefore};
use crate::print::span::MappingSpan;
use crate::print::svg::{ShortNumber, SvgText, TextAnchor, width};
use crate::print::words::{elided, printable, size};

const NAME_WIDTH: f64 = SIZE - 62.0 - MARGIN;
/// The base line of a band's first line of text, below its top.
const FIRST_LINE: f64 = 13.0;

/// What cells look like, and what is told of a band.
pub(crate) trait BandLook<C> {
    /// Everything that is painted, in this order.
    fn inks(&self) -> Vec<CellInk>;
    /// Which of them a cell has; `None`: it stays blank.
    fn ink(&self, cell: &C) -> Option<usize>;
    /// Writes what stands right of a band, on this base line.
    fn right(&self, svg: &mut SvgText, band: &HeatBand<C>, base: f64);
}

/// A colour or a pattern, and its class if a style may change it.
pub(crate) struct CellInk {
    /// As in `fill`.
    pub fill: String,
    /// As in `class`.
    pub class: Option<&'static str>,
}

/// Draws all bands; returns where they end.
pub(crate) fn bands<C>(
    svg: &mut SvgText,
    map: &HeatMap<C>,
    times: &TimeAxis,
    look: &impl BandLook<C>,
) -> f64 {
    let inks = look.inks();
    let mut layers = vec![String::new(); inks.len()];
    let mut lines = SvgText::default();
    let mut y = BANDS_TOP;
    for (i, band) in map.bands.iter().enumerate() {
        if i > 0 {
            y += between(&mut lines, band.before, y);
        }
        let height = band.height as f64 * BIN;
        cells(&mut layers, band, look, times, y, height);
        labels(svg, &band.area.span, y, height);
        look.right(svg, band, y + FIRST_LINE);
        lines.line((LEFT - 0.5, y), (LEFT - 0.5, y + height), "axis");
        y += height;
    }
    for (ink, path) in inks.iter().zip(&layers) {
        fill(svg, path, ink);
    }
    svg.raw(&lines.finish());
    y
}

/// What lies between two bands; returns how much room it takes.
fn between(lines: &mut SvgText, before: SkippedBefore, y: f64) -> f64 {
    let class = match before {
        SkippedBefore { folded: 1.., .. } => "folded",
        SkippedBefore { gap: true, .. } => "break",
        SkippedBefore { .. } => return SEAM,
    };
    let middle = y + BREAK / 2.0;
    lines.line((LEFT, middle), (RIGHT, middle), class);
    BREAK
}

/// What stands left of a band.
fn labels(svg: &mut SvgText, span: &MappingSpan, y: f64, height: f64) {
    let base = y + FIRST_LINE;
    let (start, end) = (span.range.start, span.range.end);
    svg.text(MARGIN, base, "", TextAnchor::Start, &fitting_name(span));
    svg.text(SIZE, base, "", TextAnchor::End, &size(span.pages() as f64));
    svg.text(ADDRESS, base, "", TextAnchor::End, &format!("{start:#x}"));
    svg.line((LEFT - 6.0, y), (LEFT, y), "axis");
    let bottom = y + height;
    if height > 60.0 {
        let end = format!("{end:#x}");
        svg.text(ADDRESS, bottom - 2.0, "soft", TextAnchor::End, &end);
        svg.line((LEFT - 6.0, bottom), (LEFT, bottom), "axis");
    }
    if height > 30.0 {
        let kind = kind(span);
        svg.text(MARGIN, base + 14.0, "soft", TextAnchor::Start, &kind);
    }
}

/// As much of the name as there is room for.
fn fitting_name(span: &MappingSpan) -> String {
    let mut name = printable(&span.name());
    let mut most = name.chars().count();
    while width(&name, 11.0) > NAME_WIDTH && most > 1 {
        most -= 1;
        name = elided(&name, most);
    }
    name
}

fn kind(span: &MappingSpan) -> String {
    let backing = span.backing.as_str();
    match span.huge_pages() {
        None => backing.to_owned(),
        Some(size) => format!("{backing}, pages of {size}"),
    }
}

/// Adds the cells of a band to the path of their ink: one path for each, since a recording may have
/// a hundred thousand cells.
fn cells<C>(
    layers: &mut [String],
    band: &HeatBand<C>,
    look: &impl BandLook<C>,
    times: &TimeAxis,
    top: f64,
    height: f64,
) {
    let columns = times.edges().len();
    for (bin, row) in band.cells.chunks(columns.max(1)).enumerate() {
        let edge =
            |bin: usize| ((top + height * bin as f64 / band.bins as f64) * 2.0).round() / 2.0;
        let (y, h) = (edge(bin), edge(bin + 1) - edge(bin));
        let mut run: Option<(Option<usize>, f64, f64)> = None;
        let mut put = |run: Option<(Option<usize>, f64, f64)>| {
            if let Some((Some(ink), left, right)) = run
                && right > left
                && let Some(path) = layers.get_mut(ink)
            {
                rect_path(path, left, y, right - left, h);
            }
        };
        for (cell, (left, right)) in row.iter().zip(times.edges()) {
            let ink = look.ink(cell);
            run = match run {
                Some((same, start, _)) if same == ink => Some((ink, start, *right)),
                other => {
                    put(other);
                    Some((ink, *left, *right))
                }
            };
        }
        put(run);
    }
}

/// Adds a rectangle to a path.
pub(super) fn rect_path(path: &mut String, x: f64, y: f64, width: f64, height: f64) {
    let [x, y, w, h] = [x, y, width, height].map(ShortNumber);
    let _ = write!(path, "M{x} {y}h{w}v{h}h-{w}z");
}

/// Draws a path in one ink.
pub(super) fn fill(svg: &mut SvgText, path: &str, ink: &CellInk) {
    if path.is_empty() {
        return;
    }
    let crisp: (&str, &dyn Display) = ("shape-rendering", &"crispEdges");
    let mut all: Vec<(&str, &dyn Display)> = vec![("fill", &ink.fill), crisp, ("d", &path)];
    if let Some(class) = &ink.class {
        all.push(("class", class));
    }
    svg.element("path", &all);
}
