//! The print room: whatever draws or prints for more than one command.
//!
//! ```text
//! words, clock, wrap, table, json     text
//! colour, ticks, svg ─┐
//! span, heat ─────────┼──► picture (SVG, PNG), terminal
//! format              ┘    which formats there are, and what chooses each
//! ```
//!
//! Pure: nothing here reads a process, a file or a flag.

#![forbid(unsafe_code)]

pub(crate) mod clock;
pub(crate) mod colour;
pub(crate) mod format;
pub(crate) mod heat;
pub(crate) mod json;
pub(crate) mod picture;
pub(crate) mod span;
pub(crate) mod svg;
pub(crate) mod table;
pub(crate) mod terminal;
pub(crate) mod ticks;
pub(crate) mod words;
pub(crate) mod wrap;
