//! A heat map in a terminal, or in a file that shows one.

use std::fmt::Write as _;
use std::iter;
use std::time::Duration;

use super::clock::spoken;
use super::colour::{MARKS, in_terminal, place};
use super::heat::{HeatBand, HeatColumn, HeatMap, HeatRoom};
use super::words::{elided, printable, size};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TerminalShades {
    /// ASCII characters, for files and for whoever wants no colours.
    Plain,
    /// Blocks in 256 colours.
    Palette,
    /// Blocks in all colours.
    True,
}

/// A cell of a heat map, as a terminal shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CellSign {
    /// Nothing was there.
    Blank,
    /// Nothing happened there.
    Idle,
    /// Nobody knows what happened there.
    Unknown,
    /// It happened to this share of its pages.
    Share(f64),
}

type RgbColour = [u8; 3];

/// From the least to the most. None of them is a letter, or the dot of [`CellSign::Idle`].
const PLAIN: &[u8; 8] = b":-=+*#%@";
/// Characters of a band's start and size.
const LABEL: usize = 25;
/// The most that names take of a line.
const NAME: usize = 24;
/// The fewest columns that show anything.
const LEAST_COLUMNS: usize = 16;

/// Where things stand in a line, and how they look.
pub(crate) struct TerminalCanvas {
    /// Characters for cells.
    wide: usize,
    /// Characters for a name.
    name: usize,
    shades: TerminalShades,
}

impl TerminalCanvas {
    /// Lines of at most `width` characters.
    pub(crate) fn new(width: usize, shades: TerminalShades) -> Self {
        let name = width
            .saturating_sub(LABEL + 2 + LEAST_COLUMNS * 2)
            .min(NAME);
        let wide = width.saturating_sub(LABEL + 2 + name).max(LEAST_COLUMNS);
        Self { wide, name, shades }
    }

    /// What it has room for.
    pub(crate) fn room(&self) -> HeatRoom {
        HeatRoom {
            columns: self.wide,
            bands: 30,
            least: 1,
            spare: 16,
        }
    }

    /// The bands, with the axis of time below.
    pub(crate) fn map<C>(&self, map: &HeatMap<C>, sign: impl Fn(&C) -> CellSign) -> String {
        let mut text = String::new();
        for band in &map.bands {
            self.band(&mut text, band, map.columns.len(), &sign);
        }
        self.axis(&mut text, &map.columns);
        text
    }

    /// The signs of some shares, each with its label.
    pub(crate) fn scale(&self) -> String {
        let mut text = String::new();
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
        text
    }

    /// The character of [`CellSign::Idle`].
    pub(crate) fn idle(&self) -> char {
        self.either('.', '·')
    }

    fn either(&self, plain: char, block: char) -> char {
        match self.shades {
            TerminalShades::Plain => plain,
            TerminalShades::Palette | TerminalShades::True => block,
        }
    }

    /// The column that stands at a character: every one stands somewhere.
    fn column(&self, at: usize, columns: usize) -> usize {
        at * columns / self.wide.max(1)
    }

    fn band<C>(
        &self,
        text: &mut String,
        band: &HeatBand<C>,
        columns: usize,
        sign: &impl Fn(&C) -> CellSign,
    ) {
        let span = &band.area.span;
        for (bin, row) in band.cells.chunks(columns.max(1)).enumerate() {
            if bin == 0 {
                let (start, size) = (
                    format!("{:#x}", span.range.start),
                    size(span.pages() as f64),
                );
                let _ = write!(text, "{start:>14} {size:>9} {}", self.either('+', '┬'));
            } else {
                let _ = write!(text, "{:>LABEL$}{}", "", self.either('|', '│'));
            }
            self.cells(text, row, columns, sign);
            if bin == 0 && self.name > 1 {
                let _ = write!(text, " {}", elided(&printable(&span.name()), self.name));
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
    }

    fn cells<C>(
        &self,
        text: &mut String,
        row: &[C],
        columns: usize,
        sign: &impl Fn(&C) -> CellSign,
    ) {
        let mut last = None;
        for at in 0..self.wide {
            let cell = row.get(self.column(at, columns));
            let (colour, sign) = self.drawn(cell.map_or(CellSign::Blank, sign));
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
    fn drawn(&self, sign: CellSign) -> (Option<RgbColour>, char) {
        const GREY: RgbColour = [0x80, 0x80, 0x80];
        const ORANGE: RgbColour = [0xf0, 0x8c, 0x3c];
        let coloured = |colour| (self.shades != TerminalShades::Plain).then_some(colour);
        match sign {
            CellSign::Blank => (None, ' '),
            CellSign::Unknown => (coloured(ORANGE), '?'),
            CellSign::Idle => (coloured(GREY), self.idle()),
            CellSign::Share(share) => self.shade(place(share)),
        }
    }

    fn shade(&self, place: f64) -> (Option<RgbColour>, char) {
        if self.shades == TerminalShades::Plain {
            let at = (place * (PLAIN.len() - 1) as f64).round() as usize;
            return (None, PLAIN.get(at).copied().unwrap_or(b'@').into());
        }
        (Some(in_terminal((place * 12.0).round() / 12.0)), '█')
    }

    fn escape(&self, [r, g, b]: RgbColour) -> String {
        if self.shades == TerminalShades::True {
            return format!("\x1b[38;2;{r};{g};{b}m");
        }
        // The nearest of the cube of 6 x 6 x 6, whose steps are 0, 95, 135, 175, 215, 255.
        let step = |c: u8| match c {
            ..48 => 0,
            _ => (u16::from(c).saturating_sub(35) / 40).clamp(1, 5),
        };
        format!("\x1b[38;5;{}m", 16 + 36 * step(r) + 6 * step(g) + step(b))
    }

    /// A few times, each below the beginning of its column.
    fn axis(&self, text: &mut String, columns: &[HeatColumn]) {
        let mut line = String::new();
        let mut free = 0;
        let mut last = None;
        for at in 0..self.wide {
            let column = self.column(at, columns.len());
            if at < free || last == Some(column) {
                continue;
            }
            let Some(HeatColumn { from, .. }) = columns.get(column) else {
                break;
            };
            // The first round begins a moment after the first arming.
            let is_early = |last: &HeatColumn| *from < last.until / 10;
            let early = at == 0 && columns.last().is_some_and(is_early);
            let tick = format!("'{}", spoken(if early { Duration::ZERO } else { *from }));
            let width = tick.chars().count();
            if at + width > self.wide {
                break;
            }
            let space = (LABEL + 1 + at).saturating_sub(line.chars().count());
            line.extend(iter::repeat_n(' ', space));
            line.push_str(&tick);
            (free, last) = (at + (self.wide / 5).max(width + 2), Some(column));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}
