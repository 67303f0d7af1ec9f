//! Tracking that ends, and VMAs that split, merge and move while tracked.

use anyhow::Result;
use rustix::mm::Advice;
use tracker_ebpf::{FaultEntry, MarkerEvent, TableCause};

use crate::area::{MappedArea, MemoryKind};
use crate::row_run::{RowRun, halves};
use crate::tables::PageTables;

/// Disarming removes markers; the tables that held them stay.
pub fn resolve_markers(t: &mut RowRun) -> Result<()> {
    let area = t.marked(MemoryKind::Anon)?;
    t.uffd.resolve(&area.range())?;
    t.expect.markers(&area, MarkerEvent::Dropped, area.units());
    t.expect.pages(&area, 0);
    Ok(())
}

/// Unregistering disarms; writes are ordinary from then on.
pub fn unregister_present(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    t.uffd.unregister(&area.range())?;
    let faults = area.write_all();
    // Entries stay read-only until the first write makes them writable.
    t.check(
        "page faults of writing, at most one each",
        0,
        faults.saturating_sub(area.units()),
    );
    Ok(())
}

/// Unregistering removes markers; their tables stay.
pub fn unregister_markers(t: &mut RowRun) -> Result<()> {
    let area = t.marked(MemoryKind::Anon)?;
    t.uffd.unregister(&area.range())?;
    t.expect.markers(&area, MarkerEvent::Dropped, area.units());
    Ok(())
}

/// Both parts of a split VMA stay armed, each as a VMA of its own.
pub fn split(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    let parts = halves(&area).map(|units| area.part(units));
    parts[1].advise(Advice::LinuxDontDump)?;
    for part in parts {
        part.write_all();
        t.expect_written(&part);
    }
    Ok(())
}

/// The first part is written while the second is read-only, and so another VMA; the second is
/// written when they are one VMA again.
pub fn merge(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    let [first, second] = halves(&area).map(|units| area.part(units));
    second.protect(false)?;
    first.write_all();
    second.protect(true)?;
    second.write_all();
    t.expect_written(&area);
    Ok(())
}

/// Without EVENT_REMAP the moved VMA is not registered any more.
pub fn move_untracked(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    let moved = area.move_to(1)?;
    // Kernels that carry the bits along move whole tables; others clear the bits, table by table.
    let whole_tables = t.is_armed(moved.range().start)?;
    let tables = tables_of_move(&area, whole_tables);
    t.expect.untracked_tables(TableCause::Move, tables);
    t.expect.freed(tables);
    moved.write_all();
    Ok(())
}

/// With EVENT_REMAP the moved VMA is registered, and its pages are armed.
pub fn move_tracked(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    let moved = area.move_to(1)?;
    let tables = tables_of_move(&area, true);
    t.expect.tables(&moved, TableCause::Move, tables);
    t.expect.freed(tables);
    let faults = moved.write_all();
    t.check("page faults of writing", moved.units(), faults);
    t.expect
        .faults(&moved, t.mode, FaultEntry::Pte, moved.units());
    t.expect.pages(&moved, 0);
    Ok(())
}

/// A move allocates at the new place what it then frees at the old: PMD tables, and the PTE tables
/// that it does not move whole. One PUD table has both places.
fn tables_of_move(area: &MappedArea, whole_tables: bool) -> PageTables {
    let needed = area.tables().without_pud();
    let carried = if whole_tables { area.pages() / 512 } else { 0 };
    PageTables {
        pte: needed.pte - carried,
        ..needed
    }
}
