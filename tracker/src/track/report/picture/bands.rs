//! The bands of the picture: cells, what is left and right of them, and what lies between.

use std::fmt::{Display, Write as _};

use super::super::colour::{LEVELS, hex, level, on_paper};
use super::super::svg::{Anchor, Short, Svg, width};
use super::super::words::{elided, printable, share, size};
use super::super::{Area, Band, Cell, HeatMap};
use super::BIN;
use super::draw::{ADDRESS, BANDS_TOP, EVER, IDLE, MARGIN, RIGHT, SHARE, SIZE, UNKNOWN};
use super::scales::{LEFT, Times};
use uffd::PAGE_SIZE;

const NAME_WIDTH: f64 = SIZE - 62.0 - MARGIN;
/// Between bands: where something lies between them, and where nothing does.
const BREAK: f64 = 8.0;
const SEAM: f64 = 1.5;

/// What cells look like, and what is told of a band.
pub trait Look<C> {
    /// Everything that is painted, in this order.
    fn inks(&self) -> Vec<Ink>;
    /// Which of them a cell has; `None`: it stays blank.
    fn ink(&self, cell: &C) -> Option<usize>;
    /// What stands right of a band, with this base line.
    fn right(&self, svg: &mut Svg, band: &Band<C>, base: f64);
}

/// A colour or a pattern, and its class if a style may change it.
pub struct Ink {
    /// As in `fill`.
    pub fill: String,
    /// As in `class`.
    pub class: Option<&'static str>,
}

/// All bands; gives back where they end.
pub fn bands<C>(svg: &mut Svg, map: &HeatMap<C>, times: &Times, look: &impl Look<C>) -> f64 {
    let inks = look.inks();
    let mut layers = vec![String::new(); inks.len()];
    let mut lines = Svg::default();
    let mut y = BANDS_TOP;
    for (i, band) in map.bands.iter().enumerate() {
        let broken = band.before.gap || band.before.folded > 0;
        if i > 0 {
            let space = if broken { BREAK } else { SEAM };
            if broken {
                let class = if band.before.folded > 0 {
                    "folded"
                } else {
                    "break"
                };
                lines.line((LEFT, y + space / 2.0), (RIGHT, y + space / 2.0), class);
            }
            y += space;
        }
        let height = band.height as f64 * BIN;
        cells(&mut layers, band, look, times, y, height);
        labels(svg, band, look, y, height);
        lines.line((LEFT - 0.5, y), (LEFT - 0.5, y + height), "axis");
        y += height;
    }
    for (ink, path) in inks.iter().zip(&layers) {
        fill(svg, path, ink);
    }
    svg.raw(&lines.finish());
    y
}

fn labels<C>(svg: &mut Svg, band: &Band<C>, look: &impl Look<C>, y: f64, height: f64) {
    let area = &band.area;
    let base = y + 13.0;
    let mut name = printable(&area.name());
    let mut most = name.chars().count();
    while width(&name, 11.0) > NAME_WIDTH && most > 1 {
        most -= 1;
        name = elided(&name, most);
    }
    svg.text(MARGIN, base, "", Anchor::Start, &name);
    svg.text(SIZE, base, "", Anchor::End, &size(area.pages() as f64));
    svg.text(
        ADDRESS,
        base,
        "",
        Anchor::End,
        &format!("{:#x}", area.range.start),
    );
    svg.line((LEFT - 6.0, y), (LEFT, y), "axis");
    if height > 60.0 {
        svg.text(
            ADDRESS,
            y + height - 2.0,
            "soft",
            Anchor::End,
            &format!("{:#x}", area.range.end),
        );
        svg.line((LEFT - 6.0, y + height), (LEFT, y + height), "axis");
    }
    if height > 30.0 {
        let base = base + 14.0;
        svg.text(MARGIN, base, "soft", Anchor::Start, &kind(area));
    }
    look.right(svg, band, base);
}

fn kind(area: &Area) -> String {
    let backing = area.backing.as_str();
    if area.page_size == PAGE_SIZE {
        return backing.to_owned();
    }
    format!(
        "{backing}, pages of {}",
        size(area.page_size as f64 / PAGE_SIZE as f64)
    )
}

/// Shares of pages written.
pub struct Shares;

impl Look<Cell> for Shares {
    fn inks(&self) -> Vec<Ink> {
        let levels = (0..usize::from(LEVELS)).map(level_colour);
        let fills = [IDLE.to_owned(), UNKNOWN.to_owned()]
            .into_iter()
            .chain(levels);
        fills.map(|fill| Ink { fill, class: None }).collect()
    }

    fn ink(&self, cell: &Cell) -> Option<usize> {
        match cell.share()? {
            0.0 if cell.unknown > 0.0 => Some(1),
            0.0 => Some(0),
            share => Some(2 + usize::from(level(share))),
        }
    }

    fn right(&self, svg: &mut Svg, band: &Band, base: f64) {
        let area = &band.area;
        if area.set > 0 {
            svg.text(EVER, base, "", Anchor::End, &size(area.set as f64));
            svg.text(SHARE, base, "", Anchor::End, &share(area.set, area.pages()));
        } else {
            svg.text(SHARE, base, "soft", Anchor::End, "not known");
        }
    }
}

/// The colour of a level on paper.
pub fn level_colour(level: usize) -> String {
    hex(on_paper(level as f64 / f64::from(LEVELS - 1)))
}

/// Adds the cells of a band to the path of their ink: one path for each, since a recording may have a hundred thousand cells.
fn cells<C>(
    layers: &mut [String],
    band: &Band<C>,
    look: &impl Look<C>,
    times: &Times,
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
pub fn rect_path(path: &mut String, x: f64, y: f64, width: f64, height: f64) {
    let (x, y, w, h) = (Short(x), Short(y), Short(width), Short(height));
    let _ = write!(path, "M{x} {y}h{w}v{h}h-{w}z");
}

/// A path of one ink.
pub fn fill(svg: &mut Svg, path: &str, ink: &Ink) {
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
