//! Events of memory that is tracked with uffd-wp in async mode.

use anyhow::{Result, bail};
use tracker::uffd::{Features, PAGE_SIZE, PMD_SIZE, RegisterMode, Scratch, Userfaultfd};

use crate::clock::{PAGES, event, of_pages};

/// Page tables that a batch allocates.
pub const TABLES: u64 = 64;
/// Pages that one table maps.
pub const STRIDE: u64 = PMD_SIZE / PAGE_SIZE;

/// Measures, and returns what keeps this process a user of uffd-wp.
pub fn measure() -> Result<(Userfaultfd, Scratch)> {
    if !Features::offered()?.is_async() {
        bail!("this kernel has no async mode of uffd-wp, whose events are measured: it needs 6.7");
    }
    let (fd, memory) = (open()?, Scratch::anonymous(PAGES * PAGE_SIZE)?);
    fd.register(&memory.range(), RegisterMode::WP)?;

    (0..PAGES).for_each(|page| memory.write(page));
    event("write to an armed page", || {
        fd.arm(&memory.range())?;
        Ok(of_pages(0..PAGES, |page| memory.write(page)))
    })?;
    event("first read over a marker", || {
        memory.drop_pages()?;
        fd.arm(&memory.range())?;
        Ok(of_pages(0..PAGES, |page| {
            memory.read(page);
        }))
    })?;
    event("first write over a marker (two faults)", || {
        memory.drop_pages()?;
        fd.arm(&memory.range())?;
        Ok(of_pages(0..PAGES, |page| memory.write(page)))
    })?;
    event("first write that allocates a table", || {
        let fresh = Scratch::anonymous((TABLES + 1) * PMD_SIZE)?;
        fd.register(&fresh.range(), RegisterMode::WP)?;
        fresh.write(0);
        Ok(of_pages(0..TABLES, |table| {
            fresh.write((table + 1) * STRIDE);
        }))
    })?;
    Ok((fd, memory))
}

fn open() -> Result<Userfaultfd> {
    let fd = Userfaultfd::open()?;
    fd.enable(Features::WP_ASYNC)?;
    Ok(fd)
}
