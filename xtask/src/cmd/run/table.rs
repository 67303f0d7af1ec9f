//! The table of VMAs as it changes.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// A table that a terminal redraws in place; elsewhere each one follows the last, less often.
pub struct RedrawnTable {
    on_terminal: bool,
    height: usize,
}

impl RedrawnTable {
    /// A table on stdout, nothing drawn yet.
    pub fn new() -> Self {
        Self {
            on_terminal: io::stdout().is_terminal(),
            height: 0,
        }
    }

    /// How long to wait before the next `print`.
    pub fn pause(&self) -> Duration {
        Duration::from_secs(if self.on_terminal { 2 } else { 10 })
    }

    /// Draws `lines` in place of the last table.
    pub fn print(&mut self, lines: &[String]) -> Result<()> {
        let mut text = String::new();
        if self.on_terminal && self.height > 0 {
            // Up to the first line of the old table, and erase from there.
            text.push_str(&format!("\x1b[{}A\x1b[J", self.height));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        if !self.on_terminal {
            text.push('\n');
        }
        self.height = lines.len();
        io::stdout()
            .write_all(text.as_bytes())
            .context("cannot write the table")
    }
}
