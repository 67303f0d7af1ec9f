//! Stores and loads of the program, on which everything else is based.

use anyhow::Result;
use tracker_ebpf::{MarkerEvent, TableCause};
use uffd::{PageRegion, ScanQuery};

use crate::area::{MappedArea, MemoryKind};
use crate::row_run::RowRun;

/// A write to an armed page is one fault, whether the kernel or a handler resolves it.
pub fn present(t: &mut RowRun, kind: MemoryKind) -> Result<()> {
    let area = t.armed(kind)?;
    let faults = area.write_all();
    t.check("page faults of writing", area.units(), faults);
    t.expect_written(&area);
    Ok(())
}

/// The same for pages that were only read: the write also copies them.
pub fn read_then_write(t: &mut RowRun, kind: MemoryKind) -> Result<()> {
    let area = t.tracked(kind)?;
    area.read_all();
    t.expect.tables(&area, TableCause::Fault, area.tables());
    t.uffd.arm(&area.range())?;
    let faults = area.write_all();
    t.check("page faults of writing", area.units(), faults);
    t.expect_written(&area);
    Ok(())
}

/// A write to a marker is two faults: the first replaces the marker by an armed page, the second is
/// a write to that page.
pub fn marker_write(t: &mut RowRun, kind: MemoryKind) -> Result<()> {
    let area = t.marked(kind)?;
    let faults = area.write_all();
    t.check("page faults of writing", 2 * area.units(), faults);
    t.expect_consumed(&area);
    t.expect_written(&area);
    Ok(())
}

/// A read of a marker is only the first of these faults: the page stays armed.
pub fn marker_read(t: &mut RowRun, kind: MemoryKind) -> Result<()> {
    let area = t.marked(kind)?;
    let faults = area.read_all();
    t.check("page faults of reading", area.units(), faults);
    t.expect_consumed(&area);
    t.expect.pages(&area, area.pages());
    Ok(())
}

/// `PAGEMAP_SCAN` arms tables that hold one page each: it sets the bit of that page and makes every
/// other entry a marker, with one `make_uffd_wp_pte` each.
pub fn scan_ptes(t: &mut RowRun) -> Result<()> {
    let area = t.tracked(MemoryKind::Anon)?;
    let populated = (0..area.units())
        .step_by(512)
        .inspect(|&unit| area.write(unit))
        .count() as u64;
    t.expect.tables(&area, TableCause::Fault, area.tables());

    scan_and_arm(t, &area)?;
    let markers = area.units() - populated;
    t.expect.markers(&area, MarkerEvent::Installed, markers);

    let faults = area.write_all();
    t.check("page faults of writing", area.units() + markers, faults);
    t.expect
        .faults(&area, t.mode, tracker_ebpf::FaultEntry::Marker, markers);
    t.expect.markers(&area, MarkerEvent::Consumed, markers);
    t.expect_written(&area);
    Ok(())
}

/// `PAGEMAP_SCAN` of a range without tables: kernels differ in whether an empty range counts as
/// written, and so in whether it is armed.
pub fn scan_hole(t: &mut RowRun) -> Result<()> {
    let area = t.tracked(MemoryKind::Anon)?;
    scan_and_arm(t, &area)?;
    if !t.facts.kernel.scan_arms_holes {
        t.expect.pages(&area, 0);
        return Ok(());
    }
    t.expect.tables(&area, TableCause::Scan, area.tables());
    t.expect
        .markers(&area, MarkerEvent::Installed, area.units());
    t.expect.pages(&area, area.pages());
    Ok(())
}

/// One round of tracking: arms everything that is written.
pub fn scan_and_arm(t: &RowRun, area: &MappedArea) -> Result<()> {
    let mut regions = [PageRegion::default(); 16];
    t.pagemap.scan(
        &area.range(),
        &ScanQuery::WRITTEN_AND_ARM,
        &mut regions,
        |_| (),
    )?;
    Ok(())
}
