//! The processes and their VMAs once, as text.

use std::fmt::Write as _;

use super::columns::{self, TableKind, UsageColumn};
use super::rates::{UsageRow, process_rows, vma_rows};
use super::usage::NodeUsage;
use crate::print::table::{TableHead, TextTable};
use crate::print::words::number;

/// All rows of both tables, the busiest first, with the rates from `earlier` to `now`.
pub(crate) fn text(earlier: Option<&NodeUsage>, now: &NodeUsage) -> String {
    let mut text = format!("level {}: {}\n", now.level, now.level_reason);
    if !now.ready {
        let _ = writeln!(text, "not ready: {}", now.ready_reason);
    }
    if !now.hooks_missing.is_empty() {
        let _ = writeln!(text, "not at work: {}", now.hooks_missing.join(", "));
    }
    let tables = [
        (TableKind::Processes, process_rows(earlier, now)),
        (TableKind::Vmas, vma_rows(earlier, now, None)),
    ];
    for (kind, rows) in tables {
        text.push('\n');
        text += &table(kind, rows);
    }
    if now.vmas_folded != 0 {
        let folded = number(now.vmas_folded);
        let _ = writeln!(
            text,
            "and {folded} VMAs without a row (--max-processes, --max-vmas)"
        );
    }
    text
}

fn table(kind: TableKind, mut rows: Vec<UsageRow>) -> String {
    let columns = kind.columns();
    let head = |column: &UsageColumn| {
        if column.is_text() {
            TableHead::Left(column.head())
        } else {
            TableHead::Right(column.head())
        }
    };
    let heads: Vec<_> = columns.iter().map(head).collect();
    let mut table = TextTable::new(&heads);
    columns::sort(&mut rows, UsageColumn::FaultRate, false);
    for row in &rows {
        table.row(columns.iter().map(|column| column.cell(row, 64)));
    }
    table.text()
}
