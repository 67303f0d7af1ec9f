//! The kernel fills or pins pages on request.

use anyhow::{Result, ensure};
use rustix::mm::Advice;
use tracker_ebpf::TableCause;
use uffd::{PAGE_SIZE, RegisterMode};

use crate::area::MemoryKind;
use crate::row_run::RowRun;

/// Populating allocates the tables that a first touch would.
pub fn populate_fresh(t: &mut RowRun) -> Result<()> {
    let area = t.tracked(MemoryKind::Anon)?;
    area.advise(Advice::LinuxPopulateWrite)?;
    t.expect.tables(&area, TableCause::Populate, area.tables());
    t.uffd.arm(&area.range())?;
    let faults = area.write_all();
    t.check("page faults of writing", area.units(), faults);
    t.expect_written(&area);
    Ok(())
}

/// Makes armed pages writable, which counts as written although no content changes.
pub fn populate_present(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    area.advise(Advice::LinuxPopulateWrite)?;
    t.expect_written(&area);
    Ok(())
}

/// Replaces markers by pages and makes those writable: two faults, as for a store.
pub fn populate_markers(t: &mut RowRun) -> Result<()> {
    let area = t.marked(MemoryKind::Anon)?;
    area.advise(Advice::LinuxPopulateWrite)?;
    t.expect_consumed(&area);
    t.expect_written(&area);
    Ok(())
}

/// Pins private writable pages as if they were written.
pub fn lock(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    area.lock()?;
    t.expect_written(&area);
    Ok(())
}

/// `UFFDIO_COPY` with its write-protect flag brings pages that are armed from the beginning.
pub fn copy(t: &mut RowRun) -> Result<()> {
    let content = [7u8; PAGE_SIZE as usize];
    let area = t.tracked_for(MemoryKind::Anon, t.size.pages, RegisterMode::MISSING_WP)?;
    for unit in 0..area.units() {
        let page = area.part(unit..unit + 1).range();
        // SAFETY: `content` is as long as the page, into which no reference exists.
        let copied = unsafe { t.uffd.copy(&page, content.as_ptr(), true)? };
        ensure!(
            copied == PAGE_SIZE,
            "UFFDIO_COPY of {page:#x?} stopped after {copied} bytes"
        );
    }
    t.expect.tables(&area, TableCause::Copy, area.tables());
    let faults = area.write_all();
    t.check("page faults of writing", area.units(), faults);
    t.expect_written(&area);
    Ok(())
}
