//! A table of text.

use std::fmt::Write as _;

/// Columns as wide as what is in them; numbers to the right, the last column as it is.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads; one that is called `NAME`, if it is the last, holds text.
    pub fn new(heads: &[&str]) -> Self {
        Self {
            rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()],
        }
    }

    /// A further row.
    pub fn row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// All of it.
    pub fn text(&self) -> String {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let named = self
                .rows
                .first()
                .and_then(|heads| heads.last())
                .is_some_and(|head| head == "NAME");
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if named && i + 1 == row.len() {
                    let _ = write!(text, "  {cell}");
                } else {
                    let gap = if i == 0 { "" } else { "  " };
                    let _ = write!(text, "{gap}{cell:>width$}");
                }
            }
            text.push('\n');
        }
        text
    }
}
