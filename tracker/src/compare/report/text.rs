//! For a terminal: 100 columns.

use super::tables::WorkloadTables;
use super::words::{LEGEND, bytes, headline, remarks, strategies};
use crate::compare::order::{ComparedWorkload, Comparison};
use crate::print::wrap::wrapped;

/// How far what belongs to a line is indented.
const INDENT: usize = 2;

/// All of it.
pub(crate) fn text(comparison: &Comparison) -> String {
    let mut text = wrapped("", 0, &headline(comparison));
    for compared in &comparison.workloads {
        text += &workload(comparison, compared);
    }
    text.push('\n');
    for line in LEGEND {
        text += &wrapped("", INDENT, line);
    }
    text.push('\n');
    for (name, about) in strategies(comparison) {
        text += &wrapped(&format!("{name}: "), INDENT, &about);
    }
    text
}

fn workload(comparison: &Comparison, compared: &ComparedWorkload) -> String {
    let workload = compared.workload;
    let memory = workload.memory.words();
    let size = match &compared.sizes[..] {
        [one] => format!("{} of ", bytes(one.bytes)),
        _ => String::new(),
    };
    let what = format!("{size}{memory}: {}", workload.what);
    let mut text = wrapped(&format!("\n{}: ", workload.name), INDENT, &what);
    text += &wrapped("  ", INDENT, workload.point);
    let shown = WorkloadTables::of(compared);
    for table in &shown.tables {
        text.push('\n');
        text += &table.text();
    }
    for line in remarks(comparison, &shown) {
        text += &wrapped("", INDENT, &line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample;
    use crate::print::wrap::WIDTH;

    #[test]
    fn it_fits_and_says_why_a_row_is_missing() {
        let text = text(&sample::comparison());
        let wide: Vec<_> = text
            .lines()
            .filter(|line| line.chars().count() > WIDTH)
            .collect();
        assert_eq!(wide, [""; 0]);
        assert!(text.contains("mprotect not measured: not here, as told below"));
        assert!(text.contains("not here: only in the process itself"));
        assert!(text.contains("not measured: it takes 5 free huge pages"));
        assert!(text.contains("stands for an attribute of the VMA"));
    }
}
