//! Many threads at once on the same page tables: nothing may be lost or counted twice.

use anyhow::Result;
use rustix::mm::Advice;
use tracker_ebpf::{FaultEntry, MarkerEvent, TableCause};

use super::zap::{allocated_again, freed_by_dontneed};
use crate::area::{MappedArea, MemoryKind};
use crate::row_run::RowRun;

/// Threads race for the tables of fresh memory, and then write every page once per round, armed
/// anew before each round.
pub fn present(t: &mut RowRun) -> Result<()> {
    let area = t.tracked(MemoryKind::Anon)?;
    write_by_all(t, area)?;
    t.expect.tables(&area, TableCause::Fault, area.tables());
    for _ in 0..t.size.rounds {
        t.uffd.arm(&area.range())?;
        write_by_all(t, area)?;
        t.expect
            .faults(&area, t.mode, FaultEntry::Pte, area.units());
    }
    t.expect.pages(&area, 0);
    Ok(())
}

/// Each round begins with nothing but markers.
pub fn markers(t: &mut RowRun) -> Result<()> {
    let area = t.marked(MemoryKind::Anon)?;
    for round in 0..t.size.rounds {
        if round != 0 {
            area.advise(Advice::LinuxDontNeed)?;
            t.expect.freed(freed_by_dontneed(t, &area));
            t.uffd.arm(&area.range())?;
            allocated_again(t, &area, TableCause::Arm);
            t.expect
                .markers(&area, MarkerEvent::Installed, area.units());
        }
        write_by_all(t, area)?;
        t.expect_consumed(&area);
        t.expect
            .faults(&area, t.mode, FaultEntry::Pte, area.units());
    }
    t.expect.pages(&area, 0);
    Ok(())
}

/// Thread n of N writes pages n, n + N, n + 2N and so on, so all work on each table.
fn write_by_all(t: &RowRun, area: MappedArea) -> Result<()> {
    let threads = t.size.threads;
    t.on_all_threads(move |number| {
        (number..area.units())
            .step_by(threads as usize)
            .for_each(|unit| area.write(unit));
    })
}
