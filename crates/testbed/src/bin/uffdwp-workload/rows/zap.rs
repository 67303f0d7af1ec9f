//! Pages that go away. Anonymous memory forgets that they were armed; shmem leaves markers.

use anyhow::Result;
use rustix::mm::Advice;
use tracker_ebpf::{MarkerEvent, TableCause};

use crate::area::{MappedArea, MemoryKind};
use crate::row_run::RowRun;
use crate::tables::PageTables;

/// Content becomes zero, so the pages count as written.
pub fn present_anon(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    area.advise(Advice::LinuxDontNeed)?;
    t.expect.freed(freed_by_dontneed(t, &area));
    t.expect.pages(&area, 0);
    Ok(())
}

/// Markers of anonymous memory go too, although they have no pages.
pub fn markers_anon(t: &mut RowRun) -> Result<()> {
    let area = t.marked(MemoryKind::Anon)?;
    area.advise(Advice::LinuxDontNeed)?;
    t.expect.markers(&area, MarkerEvent::Dropped, area.units());
    t.expect.freed(freed_by_dontneed(t, &area));
    t.expect.pages(&area, 0);
    Ok(())
}

/// The content of shmem is still there, so it stays armed: every page becomes a marker, and the
/// tables stay to hold the markers.
pub fn present_shmem(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::SharedAnon)?;
    area.advise(Advice::LinuxDontNeed)?;
    t.expect
        .markers(&area, MarkerEvent::Installed, area.units());
    let armed = t.count_armed(&area)?;
    t.check("pages still armed after MADV_DONTNEED", area.pages(), armed);
    let faults = area.write_all();
    t.check("page faults of writing", 2 * area.units(), faults);
    t.expect_consumed(&area);
    t.expect_written(&area);
    Ok(())
}

/// Unmapping frees every table that held nothing else.
pub fn unmap(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    area.write_all();
    t.expect
        .faults(&area, t.mode, tracker_ebpf::FaultEntry::Pte, area.units());
    area.unmap()?;
    t.expect.freed(area.tables());
    Ok(())
}

/// The tables that MADV_DONTNEED frees: some kernels free a PTE table when a zap of all its 2 MiB
/// leaves it empty (`CONFIG_PT_RECLAIM`).
pub fn freed_by_dontneed(t: &RowRun, area: &MappedArea) -> PageTables {
    PageTables::pte(if t.facts.kernel.dontneed_frees_tables {
        area.pages() / 512
    } else {
        0
    })
}

/// Expects the tables that using the area again allocates after that.
pub fn allocated_again(t: &mut RowRun, area: &MappedArea, cause: TableCause) {
    t.expect.tables(area, cause, freed_by_dontneed(t, area));
}
