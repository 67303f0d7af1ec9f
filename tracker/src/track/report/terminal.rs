//! The heat map in a terminal, or in a file that shows one.

use std::fmt::Write as _;
use std::iter;
use std::time::Duration;

use super::colour::{MARKS, in_terminal, place};
use super::tables::count;
use super::words::{elided, number, printable, size};
use super::{Band, Cell, Column, HeatMap, Report, Room};
use crate::track::clock::spoken;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shades {
    /// Letters of ASCII, for files and for who wants no colours.
    Plain,
    /// Blocks in 256 colours.
    Palette,
    /// Blocks in all colours.
    True,
}

/// From the least to the most. None of them is a letter or the dot of what is mapped and not written.
const PLAIN: &[u8; 8] = b":-=+*#%@";
/// Start address and size of a band.
const LABEL: usize = 25;
/// The most that names take of a line.
const NAME: usize = 24;
/// The least columns that show anything.
const LEAST_COLUMNS: usize = 16;

/// The heat map, in lines of at most `width` characters.
#[must_use]
pub fn heat_map(report: &Report<'_>, width: usize, shades: Shades) -> String {
    let name = width
        .saturating_sub(LABEL + 2 + LEAST_COLUMNS * 2)
        .min(NAME);
    let wide = width.saturating_sub(LABEL + 2 + name).max(LEAST_COLUMNS);
    let room = Room {
        columns: wide,
        bands: 30,
        least: 1,
        spare: 16,
    };
    let map = HeatMap::new(report, room);
    let mut text = String::new();
    if map.bands.is_empty() {
        let why = if map.columns.is_empty() {
            "the recording holds no round"
        } else {
            "no page was written"
        };
        return why.to_owned() + "\n";
    }
    let canvas = Canvas {
        columns: map.columns.len(),
        wide,
        name,
        shades,
    };
    for band in &map.bands {
        canvas.band(&mut text, band);
    }
    canvas.axis(&mut text, &map);
    canvas.legend(&mut text, &map);
    text
}

struct Canvas {
    columns: usize,
    wide: usize,
    name: usize,
    shades: Shades,
}

impl Canvas {
    /// The column that stands at a character: every one is somewhere.
    fn column(&self, at: usize) -> usize {
        at * self.columns / self.wide.max(1)
    }

    fn band(&self, text: &mut String, band: &Band) {
        let plain = self.shades == Shades::Plain;
        for (bin, row) in band.cells.chunks(self.columns.max(1)).enumerate() {
            if bin == 0 {
                let start = format!("{:#x}", band.area.range.start);
                let _ = write!(
                    text,
                    "{start:>14} {:>9} {}",
                    size(band.area.pages() as f64),
                    if plain { '+' } else { '┬' }
                );
            } else {
                let _ = write!(text, "{:>LABEL$}{}", "", if plain { '|' } else { '│' });
            }
            self.cells(text, row);
            if bin == 0 && self.name > 1 {
                let _ = write!(
                    text,
                    " {}",
                    elided(&printable(&band.area.name()), self.name)
                );
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
    }

    fn cells(&self, text: &mut String, row: &[Cell]) {
        let mut last = None;
        for at in 0..self.wide {
            let cell = row.get(self.column(at)).copied().unwrap_or_default();
            let (colour, sign) = self.sign(&cell);
            if colour != last {
                text.push_str("\x1b[0m");
                text.push_str(&colour.map(|colour| self.escape(colour)).unwrap_or_default());
                last = colour;
            }
            text.push(sign);
        }
        if last.is_some() {
            text.push_str("\x1b[0m");
        }
    }

    /// The colour, if any, and the character of a cell.
    fn sign(&self, cell: &Cell) -> (Option<[u8; 3]>, char) {
        const GREY: [u8; 3] = [0x80, 0x80, 0x80];
        const ORANGE: [u8; 3] = [0xf0, 0x8c, 0x3c];
        let coloured = |colour| (self.shades != Shades::Plain).then_some(colour);
        match cell.share() {
            None => (None, ' '),
            Some(0.0) if cell.unknown > 0.0 => (coloured(ORANGE), '?'),
            Some(0.0) => (
                coloured(GREY),
                if self.shades == Shades::Plain {
                    '.'
                } else {
                    '·'
                },
            ),
            Some(share) => self.shade(place(share)),
        }
    }

    fn shade(&self, place: f64) -> (Option<[u8; 3]>, char) {
        if self.shades == Shades::Plain {
            let sign = PLAIN
                .get((place * (PLAIN.len() - 1) as f64).round() as usize)
                .copied()
                .unwrap_or(b'@');
            return (None, sign.into());
        }
        (Some(in_terminal((place * 12.0).round() / 12.0)), '█')
    }

    fn escape(&self, [r, g, b]: [u8; 3]) -> String {
        if self.shades == Shades::True {
            return format!("\x1b[38;2;{r};{g};{b}m");
        }
        // The nearest of the cube of 6 x 6 x 6, whose steps are 0, 95, 135, 175, 215, 255.
        let step = |c: u8| {
            if c < 48 {
                0
            } else {
                (u16::from(c).saturating_sub(35) / 40).clamp(1, 5)
            }
        };
        format!("\x1b[38;5;{}m", 16 + 36 * step(r) + 6 * step(g) + step(b))
    }

    /// A few times, each under the beginning of its column.
    fn axis(&self, text: &mut String, map: &HeatMap) {
        let mut line = String::new();
        let mut free = 0;
        let mut last = None;
        for at in 0..self.wide {
            let column = self.column(at);
            if at < free || last == Some(column) {
                continue;
            }
            let Some(Column { from, .. }) = map.columns.get(column) else {
                break;
            };
            // The first round begins a moment after the first arming.
            let early = at == 0
                && map
                    .columns
                    .last()
                    .is_some_and(|last| *from < last.until / 10);
            let tick = format!("'{}", spoken(if early { Duration::ZERO } else { *from }));
            let width = tick.chars().count();
            if at + width > self.wide {
                break;
            }
            line.extend(iter::repeat_n(
                ' ',
                (LABEL + 1 + at).saturating_sub(line.chars().count()),
            ));
            line.push_str(&tick);
            (free, last) = (at + (self.wide / 5).max(width + 2), Some(column));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }

    fn legend(&self, text: &mut String, map: &HeatMap) {
        text.push_str("share of pages written in a round: ");
        for (share, label) in MARKS {
            let (colour, sign) = self.shade(place(share));
            match colour {
                Some(colour) => {
                    let _ = write!(text, "{}{sign}\x1b[0m {label}  ", self.escape(colour));
                }
                None => {
                    let _ = write!(text, "{sign} {label}  ");
                }
            }
        }
        let idle = if self.shades == Shades::Plain {
            '.'
        } else {
            '·'
        };
        let _ = write!(text, "{idle} not written");
        if map.bands.iter().any(|band| band.area.unknown > 0) {
            text.push_str("  ? not known");
        }
        text.push_str("  blank: not mapped\n");
        let (never, pages) = map.never;
        if never > 0 {
            let _ = writeln!(
                text,
                "not shown: {} never seen to be written ({})",
                count(never, "mapping"),
                size(pages as f64)
            );
        }
        let (fewer, pages) = map.fewer;
        if fewer > 0 {
            let _ = writeln!(
                text,
                "not shown: {} with the fewest pages written ({})",
                count(fewer, "mapping"),
                number(pages)
            );
        }
    }
}
