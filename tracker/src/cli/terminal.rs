//! What the terminal on standard output can show.

use crate::track::report::terminal::Shades;
use std::env;
use std::io::{IsTerminal, stdout};

/// Characters of a line, where nobody says.
const WIDTH: usize = 100;
/// What a report can be squeezed into, and what a line can be read at.
const SENSIBLE: std::ops::RangeInclusive<usize> = 60..=240;

/// Characters of a line: `COLUMNS`, or what the terminal says.
pub fn width() -> usize {
    let told = env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok());
    let asked = || {
        rustix::termios::tcgetwinsize(stdout())
            .ok()
            .map(|size| usize::from(size.ws_col))
    };
    let width = told
        .or_else(asked)
        .filter(|width| *width > 0)
        .unwrap_or(WIDTH);
    width.clamp(*SENSIBLE.start(), *SENSIBLE.end())
}

/// Colours, if a person is there to see them and does not mind.
pub fn shades() -> Shades {
    let is = |name: &str, of: fn(&str) -> bool| env::var(name).is_ok_and(|value| of(&value));
    let unwanted = is("NO_COLOR", |value| !value.is_empty()) || is("TERM", |term| term == "dumb");
    if unwanted || !stdout().is_terminal() {
        Shades::Plain
    } else if is("COLORTERM", |value| {
        value.contains("truecolor") || value.contains("24bit")
    }) {
        Shades::True
    } else {
        Shades::Palette
    }
}
