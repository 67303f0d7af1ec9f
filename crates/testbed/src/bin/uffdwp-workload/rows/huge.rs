//! Transparent huge pages: 512 pages behind one entry of a PMD table.

use anyhow::Result;
use tracker_ebpf::{FaultEntry, MarkerEvent, TableCause, WpMode};

use super::touch::scan_and_arm;
use crate::area::{MappedArea, MemoryKind};
use crate::needs::SkipReason;
use crate::row_run::RowRun;

/// A write to an armed THP. Async: the kernel splits it (`huge`) and resolves one page (`pte`); the
/// other 511 stay armed. Sync: one message, and the handler resolves all 2 MiB.
pub fn anon(t: &mut RowRun) -> Result<()> {
    let area = populated(t, MemoryKind::Thp)?;
    t.uffd.arm(&area.range())?;
    let faults = area.write_all();
    t.check("page faults of writing", area.units(), faults);
    t.expect
        .faults(&area, t.mode, FaultEntry::Huge, area.units());
    match t.mode {
        WpMode::Sync => t.expect.pages(&area, 0),
        WpMode::Async => {
            t.expect
                .faults(&area, t.mode, FaultEntry::Pte, area.units());
            t.expect.pages(&area, area.pages() - area.units());
        }
    }
    Ok(())
}

/// `UFFDIO_WRITEPROTECT` removes a shmem THP from the page table and leaves 512 markers.
pub fn shmem(t: &mut RowRun) -> Result<()> {
    let area = populated(t, MemoryKind::ShmemThp)?;
    t.uffd.arm(&area.range())?;
    t.expect.tables(
        &area,
        TableCause::Arm,
        crate::tables::PageTables::pte(area.units()),
    );
    t.expect
        .markers(&area, MarkerEvent::Installed, area.pages());

    if let Some(handler) = t.handler() {
        handler.set_unit(uffd::PAGE_SIZE);
    }
    let faults = area.write_all();
    t.check("page faults of writing", 2 * area.units(), faults);
    t.expect_consumed(&area);
    t.expect
        .faults(&area, t.mode, FaultEntry::Pte, area.units());
    t.expect.pages(&area, area.pages() - area.units());
    Ok(())
}

/// `PAGEMAP_SCAN` arms the huge entry itself; the write drops that entry and maps the page anew,
/// unarmed: no event at all, and 512 written pages for one byte.
pub fn shmem_scan(t: &mut RowRun) -> Result<()> {
    let area = populated(t, MemoryKind::ShmemThp)?;
    scan_and_arm(t, &area)?;
    let faults = area.write_all();
    t.check("page faults of writing", area.units(), faults);
    t.expect.pages(&area, 0);
    Ok(())
}

/// Writes every page, which is one fault per 2 MiB if the kernel gave huge pages.
fn populated(t: &mut RowRun, kind: MemoryKind) -> Result<MappedArea> {
    let area = t.tracked(kind)?;
    if area.write_every_page() != area.units() {
        return Err(SkipReason::Machine(
            "the kernel gave small pages: no free 2 MiB of memory".to_owned(),
        )
        .into());
    }
    t.expect.tables(&area, TableCause::Fault, area.tables());
    Ok(area)
}
