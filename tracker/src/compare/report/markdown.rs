//! As Markdown: what a README or a mail takes.

use super::tables::WorkloadTables;
use super::words::{LEGEND, bytes, headline, remarks, strategies};
use crate::compare::order::Comparison;

/// All of it.
pub(crate) fn markdown(comparison: &Comparison) -> String {
    let mut text = headline(comparison) + "\n";
    for compared in &comparison.workloads {
        let workload = compared.workload;
        let sizes: Vec<_> = compared
            .sizes
            .iter()
            .map(|size| bytes(size.bytes))
            .collect();
        text += &format!(
            "\n### `{}`\n\n{} of {}: {}. *{}*\n",
            workload.name,
            sizes.join(", "),
            workload.memory.words(),
            workload.what,
            workload.point
        );
        let shown = WorkloadTables::of(compared);
        for table in &shown.tables {
            text.push('\n');
            text += &table.markdown();
        }
        let reasons = remarks(comparison, &shown);
        if !reasons.is_empty() {
            text.push('\n');
        }
        for line in reasons {
            text += &format!("- {line}\n");
        }
    }
    text += "\n### Columns\n\n";
    for line in LEGEND {
        text += &format!("- {line}\n");
    }
    text += "\n### Strategies\n\n";
    for (name, about) in strategies(comparison) {
        text += &format!("- `{name}`: {about}\n");
    }
    text
}
