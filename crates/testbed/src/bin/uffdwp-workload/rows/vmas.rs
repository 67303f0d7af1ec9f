//! As many VMAs as pages, as in a process with very many mappings.

use anyhow::{Context as _, Result};
use tracker_ebpf::{FaultEntry, TableCause};
use uffd::{PAGE_SIZE, PMD_SIZE, RegisterMode};

use crate::area::{MappedArea, MemoryKind};
use crate::row_run::RowRun;
use crate::tables::PageTables;

/// Every second page of an area is unmapped, so that each of the others is a VMA of its own. Each
/// is written once while it is armed.
pub fn many(t: &mut RowRun) -> Result<()> {
    let count = t.size.pages;
    let area = t.tracked_for(MemoryKind::Anon, 2 * count, RegisterMode::WP)?;
    for gap in 0..count {
        area.part(2 * gap + 1..2 * gap + 2)
            .unmap()
            .with_context(|| format!("VMA {gap} of {count}: raise vm.max_map_count"))?;
    }
    let vma = |number: u64| area.part(2 * number..2 * number + 1);
    for number in 0..count {
        vma(number).write(0);
        t.uffd.arm(&vma(number).range())?;
        vma(number).write(0);
    }
    expect_tables(t, &area);
    let mode = t.mode;
    t.expect.of_each(count, 2 * PAGE_SIZE, |each| {
        each.faults(&vma(0), mode, FaultEntry::Pte, 1);
        each.pages(&vma(0), 0);
    });
    Ok(())
}

/// A table counts for the VMA that needed it first: the first one in its span.
fn expect_tables(t: &mut RowRun, area: &MappedArea) {
    let (first, tables) = (area.part(0..1), area.tables());
    let one = PageTables::default();
    for (each, count, span) in [
        (PageTables { pte: 1, ..one }, tables.pte, PMD_SIZE),
        (PageTables { pmd: 1, ..one }, tables.pmd, 1 << 30),
        (PageTables { pud: 1, ..one }, tables.pud, 1 << 39),
    ] {
        t.expect.of_each(count, span, |first_in_span| {
            first_in_span.tables(&first, TableCause::Fault, each);
        });
    }
}
