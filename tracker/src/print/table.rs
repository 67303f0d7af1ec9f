//! A table of text.

/// The head of a column, which says on which side its cells stand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TableHead<'a> {
    /// A column of text.
    Left(&'a str),
    /// A column of numbers.
    Right(&'a str),
}

/// A table whose columns are as wide as their widest cell.
pub(crate) struct TextTable {
    is_left: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table with only its heads.
    pub(crate) fn new(heads: &[TableHead<'_>]) -> Self {
        let name = |head: &TableHead<'_>| match head {
            TableHead::Left(name) | TableHead::Right(name) => (*name).to_owned(),
        };
        let is_left = |head: &TableHead<'_>| matches!(head, TableHead::Left(_));
        Self {
            is_left: heads.iter().map(is_left).collect(),
            rows: vec![heads.iter().map(name).collect()],
        }
    }

    /// Appends a row.
    pub(crate) fn row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// The whole table.
    pub(crate) fn text(&self) -> String {
        self.lines()
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }

    /// A line for the heads, and one for each row.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let cell = |(i, (cell, width)): (usize, (&String, &usize))| {
            if self.is_left.get(i).is_some_and(|is_left| *is_left) {
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
