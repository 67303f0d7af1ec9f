//! Writes without a user instruction: the kernel copies into armed pages, for us or for another
//! process.

use std::os::fd::AsFd;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::MemfdFlags;

use crate::area::{MappedArea, MemoryKind, faults_of};
use crate::row_run::RowRun;
use crate::writer::WriteMeans;

/// Reads one byte from a pipe into each page.
pub fn from_pipe(t: &mut RowRun) -> Result<()> {
    let (reader, writer) = rustix::pipe::pipe().context("cannot make a pipe")?;
    read_into_armed(t, |area, unit| {
        rustix::io::write(&writer, &[1]).context("cannot fill the pipe")?;
        read_byte(&reader, area, unit)
    })
}

/// Reads one byte from a file into each page.
pub fn from_file(t: &mut RowRun) -> Result<()> {
    let memfd = rustix::fs::memfd_create("uffdwp-workload-source", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&memfd, t.size.pages)?;
    read_into_armed(t, |area, unit| read_byte(&memfd, area, unit))
}

fn read_into_armed(
    t: &mut RowRun,
    mut read: impl FnMut(&MappedArea, u64) -> Result<()>,
) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    let mut result = Ok(());
    let faults = faults_of(|| result = (0..area.units()).try_for_each(|unit| read(&area, unit)));
    result?;
    t.check("page faults of read(2)", area.units(), faults);
    t.expect_written(&area);
    Ok(())
}

fn read_byte(from: impl AsFd, area: &MappedArea, unit: u64) -> Result<()> {
    use std::os::fd::AsRawFd as _;
    let fd = from.as_fd().as_raw_fd();
    // SAFETY: the kernel writes one byte into the mapping, into which no reference exists.
    let read = unsafe { libc::read(fd, area.address(unit).cast(), 1) };
    ensure!(
        read == 1,
        "read(2) into {:#x?}: {}",
        area.range(),
        std::io::Error::last_os_error()
    );
    Ok(())
}

/// Another process writes one byte to each page: it takes the fault, which belongs to us.
pub fn from_process(t: &mut RowRun, means: WriteMeans) -> Result<()> {
    let area = t.armed(MemoryKind::Anon)?;
    t.writer()?.write(&area, means)?;
    t.expect_written(&area);
    Ok(())
}
