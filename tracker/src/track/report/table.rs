//! A table of text.

/// Heads of columns that hold text; all others hold numbers.
const TEXT: [&str; 4] = ["NAME", "CAUSE", "WHERE", "PERHAPS BY"];

/// Columns as wide as what is in them: numbers to the right, text to the left.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these heads.
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
        self.lines()
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }

    /// Heads, and a line for each row.
    pub fn lines(&self) -> Vec<String> {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let heads = self.rows.first();
        let is_text = |i: usize| {
            heads
                .and_then(|heads| heads.get(i))
                .is_some_and(|head| TEXT.contains(&head.as_str()))
        };
        let cell = |(i, (cell, width)): (usize, (&String, &usize))| {
            if is_text(i) {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        };
        let line = |row: &Vec<String>| {
            let cells: Vec<_> = row.iter().zip(&widths).enumerate().map(cell).collect();
            cells.join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}
