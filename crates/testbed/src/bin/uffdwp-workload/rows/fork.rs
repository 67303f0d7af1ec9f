//! fork(2): EVENT_FORK decides whether the child's copy is tracked.

use anyhow::Result;
use tracker_ebpf::TableCause;

use crate::area::{MappedArea, MemoryKind};
use crate::child::ForkedChild;
use crate::row_run::RowRun;

/// The child's copy is not registered, so nothing of it is counted; the parent's pages stay armed
/// and shared until the parent writes them.
pub fn untracked(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    let child = fork_and_write(&area)?;
    write_as_parent(t, &area);
    t.keep(child);
    Ok(())
}

/// The child has a userfaultfd of its own, which the handler receives; its copy is armed too.
pub fn tracked(t: &mut RowRun) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    let child = fork_and_write(&area)?;
    let mode = t.mode;
    t.expect.of_process(child.pid(), |child| {
        child.tables(&area, TableCause::Fork, area.tables());
        child.faults(&area, mode, tracker_ebpf::FaultEntry::Pte, area.units());
        child.pages(&area, 0);
    });
    write_as_parent(t, &area);
    t.keep(child);
    Ok(())
}

/// The child writes every page and stays until the row ends.
fn fork_and_write(area: &MappedArea) -> Result<ForkedChild> {
    let area = *area;
    let mut child = ForkedChild::fork(move |line| {
        area.write_all();
        line.send(1)?;
        line.receive().map(drop)
    })?;
    child.line().receive()?;
    Ok(child)
}

fn write_as_parent(t: &mut RowRun, area: &MappedArea) {
    area.write_all();
    t.expect_written(area);
}
