//! What the terminal on standard output can show.

use std::env;
use std::io::{IsTerminal as _, stdout};

use crate::print::terminal::TerminalShades;

/// Characters of a line if nobody says how many.
const WIDTH: usize = 100;
/// The least that a report can be squeezed into, and the most at which a line can be read.
const SENSIBLE: std::ops::RangeInclusive<usize> = 60..=240;

/// Characters of a line: `COLUMNS`, or what the terminal says.
pub(crate) fn width() -> usize {
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

/// Colours, if somebody is there to see them and does not mind.
pub(crate) fn shades() -> TerminalShades {
    let is = |name: &str, of: fn(&str) -> bool| env::var(name).is_ok_and(|value| of(&value));
    let unwanted = is("NO_COLOR", |value| !value.is_empty()) || is("TERM", |term| term == "dumb");
    if unwanted || !stdout().is_terminal() {
        TerminalShades::Plain
    } else if is("COLORTERM", |value| {
        value.contains("truecolor") || value.contains("24bit")
    }) {
        TerminalShades::True
    } else {
        TerminalShades::Palette
    }
}
