//! The bands of the picture: cells, what is left and right of them, and what lies between.

use std::fmt::Write as _;

use super::super::colour::{LEVELS, hex, level, on_paper};
use super::super::svg::{Anchor, Short, Svg, width};
use super::super::words::{elided, printable, share, size};
use super::super::{Area, Band, HeatMap};
use super::BIN;
use super::draw::{ADDRESS, BANDS_TOP, EVER, IDLE, MARGIN, RIGHT, SHARE, SIZE, UNKNOWN};
use super::scales::{LEFT, Times};
use crate::model::words;
use crate::uffd::PAGE_SIZE;

const NAME_WIDTH: f64 = SIZE - 62.0 - MARGIN;
/// Between bands: where something lies between them, and where nothing does.
const BREAK: f64 = 8.0;
const SEAM: f64 = 1.5;

/// All bands; gives back where they end.
pub fn bands(svg: &mut Svg, map: &HeatMap, times: &Times) -> f64 {
    let mut layers = Layers::default();
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
        cells(&mut layers, band, map.columns.len(), times, y, height);
        labels(svg, band, y, height);
        lines.line((LEFT - 0.5, y), (LEFT - 0.5, y + height), "axis");
        y += height;
    }
    layers.draw(svg);
    svg.raw(&lines.finish());
    y
}

fn labels(svg: &mut Svg, band: &Band, y: f64, height: f64) {
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
    if area.set > 0 {
        svg.text(EVER, base, "", Anchor::End, &size(area.set as f64));
        svg.text(SHARE, base, "", Anchor::End, &share(area.set, area.pages()));
    } else {
        svg.text(SHARE, base, "soft", Anchor::End, "not known");
    }
}

fn kind(area: &Area) -> String {
    let backing = words::backing(area.backing);
    if area.page_size == PAGE_SIZE {
        return backing.to_owned();
    }
    format!(
        "{backing}, pages of {}",
        size(area.page_size as f64 / PAGE_SIZE as f64)
    )
}

/// One path for each colour: a recording may have a hundred thousand cells.
#[derive(Default)]
struct Layers {
    idle: String,
    unknown: String,
    levels: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Ink {
    None,
    Idle,
    Unknown,
    Level(u8),
}

impl Layers {
    fn of(&mut self, ink: Ink) -> Option<&mut String> {
        match ink {
            Ink::None => None,
            Ink::Idle => Some(&mut self.idle),
            Ink::Unknown => Some(&mut self.unknown),
            Ink::Level(level) => {
                self.levels
                    .resize(self.levels.len().max(LEVELS.into()), String::new());
                self.levels.get_mut(usize::from(level))
            }
        }
    }

    fn draw(self, svg: &mut Svg) {
        fill(svg, &self.idle, IDLE);
        fill(svg, &self.unknown, UNKNOWN);
        for (i, path) in self.levels.iter().enumerate() {
            fill(svg, path, &level_colour(i));
        }
    }
}

/// The colour of a level on paper.
pub fn level_colour(level: usize) -> String {
    hex(on_paper(level as f64 / f64::from(LEVELS - 1)))
}

fn cells(layers: &mut Layers, band: &Band, columns: usize, times: &Times, top: f64, height: f64) {
    for (bin, row) in band.cells.chunks(columns.max(1)).enumerate() {
        let edge =
            |bin: usize| ((top + height * bin as f64 / band.bins as f64) * 2.0).round() / 2.0;
        let (y, h) = (edge(bin), edge(bin + 1) - edge(bin));
        let mut run: Option<(Ink, f64, f64)> = None;
        let mut put = |run: Option<(Ink, f64, f64)>| {
            if let Some((ink, left, right)) = run
                && right > left
                && let Some(path) = layers.of(ink)
            {
                rect_path(path, left, y, right - left, h);
            }
        };
        for (cell, (left, right)) in row.iter().zip(times.edges()) {
            let ink = match cell.share() {
                None => Ink::None,
                Some(0.0) if cell.unknown > 0.0 => Ink::Unknown,
                Some(0.0) => Ink::Idle,
                Some(share) => Ink::Level(level(share)),
            };
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

/// A path of one colour.
pub fn fill(svg: &mut Svg, path: &str, colour: &str) {
    if !path.is_empty() {
        svg.element(
            "path",
            &[
                ("fill", &colour),
                ("shape-rendering", &"crispEdges"),
                ("d", &path),
            ],
        );
    }
}
