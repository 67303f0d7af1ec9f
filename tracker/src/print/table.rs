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

    /// The table in Markdown.
    pub(crate) fn markdown(&self) -> String {
        let escaped = |cell: &String| cell.replace('|', "\\|");
        let line = |row: &Vec<String>| {
            let cells: Vec<_> = row.iter().map(escaped).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = |is_left: &bool| if *is_left { "---|" } else { "---:|" };
        let rules: String = self.is_left.iter().map(rule).collect();
        let mut lines = self.rows.iter().map(line);
        let head = lines.next().unwrap_or_default();
        format!("{head}|{rules}\n{}", lines.collect::<String>())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_has_the_same_cells() {
        let mut table = TextTable::new(&[TableHead::Left("a"), TableHead::Right("b")]);
        table.row(["x|y".to_owned(), "1".to_owned()]);
        assert_eq!(table.markdown(), "| a | b |\n|---|---:|\n| x\\|y | 1 |\n");
    }
}
