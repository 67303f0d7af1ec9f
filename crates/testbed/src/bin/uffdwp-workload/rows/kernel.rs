//! Writes that no user instruction makes: the kernel copies into armed pages, for us or for another process.

use std::os::fd::AsFd;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::MemfdFlags;

use crate::area::{Area, Kind, faults_of};
use crate::test::Test;
use crate::writer::Means;

/// read(2) from a pipe, one byte to each page.
pub fn from_pipe(t: &mut Test) -> Result<()> {
    let (reader, writer) = rustix::pipe::pipe().context("cannot make a pipe")?;
    read_into_armed(t, |area, unit| {
        rustix::io::write(&writer, &[1]).context("cannot fill the pipe")?;
        read_byte(&reader, area, unit)
    })
}

/// read(2) from a file, one byte to each page.
pub fn from_file(t: &mut Test) -> Result<()> {
    let memfd = rustix::fs::memfd_create("uffdwp-workload-source", MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&memfd, t.size.pages)?;
    read_into_armed(t, |area, unit| read_byte(&memfd, area, unit))
}

fn read_into_armed(t: &mut Test, mut read: impl FnMut(&Area, u64) -> Result<()>) -> Result<()> {
    let area = t.armed(Kind::Anon)?;
    let mut result = Ok(());
    let faults = faults_of(|| result = (0..area.units()).try_for_each(|unit| read(&area, unit)));
    result?;
    t.check("page faults of read(2)", area.units(), faults);
    t.expect_written(&area);
    Ok(())
}

fn read_byte(from: impl AsFd, area: &Area, unit: u64) -> Result<()> {
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

/// Another process writes one byte to each page: the fault is taken there and belongs to us.
pub fn from_process(t: &mut Test, means: Means) -> Result<()> {
    let area = t.armed(Kind::Anon)?;
    t.writer()?.write(&area, means)?;
    t.expect_written(&area);
    Ok(())
}
