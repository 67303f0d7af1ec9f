//! Events of memory that uffd-wp tracks in async mode.

use anyhow::{Result, bail};
use uffd::{
    PAGE_SIZE, PMD_SIZE, PageRegion, Pagemap, RegisterMode, ScanQuery, ScratchMapping,
    UffdFeatures, Userfaultfd,
};

use crate::clock::{PAGES, at_once, event, of_pages};

/// Page tables that a batch allocates.
pub const TABLES: u64 = 64;
/// Pages that one table maps.
pub const STRIDE: u64 = PMD_SIZE / PAGE_SIZE;

/// Measures, and returns what makes this process a user of uffd-wp as long as it is kept.
pub fn measure() -> Result<(Userfaultfd, ScratchMapping)> {
    if !UffdFeatures::offered()?.is_async() {
        bail!("this measures the async mode of uffd-wp, which this kernel does not have (6.7)");
    }
    let (fd, memory) = (open()?, ScratchMapping::anonymous(PAGES * PAGE_SIZE)?);
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
        let fresh = ScratchMapping::anonymous((TABLES + 1) * PMD_SIZE)?;
        fd.register(&fresh.range(), RegisterMode::WP)?;
        fresh.write(0);
        Ok(of_pages(0..TABLES, |table| {
            fresh.write((table + 1) * STRIDE);
        }))
    })?;
    ranges(&fd)?;
    Ok((fd, memory))
}

/// Calls that arm or drop all pages of a table; the result is per page.
fn ranges(fd: &Userfaultfd) -> Result<()> {
    let memory = ScratchMapping::anonymous(PMD_SIZE)?;
    let (range, pagemap) = (memory.range(), pagemap()?);
    fd.register(&range, RegisterMode::WP)?;
    let write = || (0..STRIDE).for_each(|page| memory.write(page));
    event("arm a present page (UFFDIO_WRITEPROTECT of 512)", || {
        write();
        at_once(STRIDE, || fd.arm(&range))
    })?;
    event(
        "arm a page that is not there (UFFDIO_WRITEPROTECT of 512)",
        || {
            memory.drop_pages()?;
            fd.resolve(&range)?;
            at_once(STRIDE, || fd.arm(&range))
        },
    )?;
    let mut regions = [PageRegion::default(); 1];
    event(
        "report and arm a written page (PAGEMAP_SCAN of 512)",
        || {
            write();
            at_once(STRIDE, || {
                pagemap.scan_once(&range, &ScanQuery::WRITTEN_AND_ARM, &mut regions)
            })
        },
    )?;
    event("scan an armed page (PAGEMAP_SCAN of 512)", || {
        at_once(STRIDE, || {
            pagemap.scan_once(&range, &ScanQuery::WRITTEN_AND_ARM, &mut regions)
        })
    })?;
    event("drop an armed page (MADV_DONTNEED of 512)", || {
        write();
        fd.arm(&range)?;
        at_once(STRIDE, || memory.drop_pages())
    })
}

fn pagemap() -> Result<Pagemap> {
    Ok(Pagemap::own()?)
}

fn open() -> Result<Userfaultfd> {
    let fd = Userfaultfd::open()?;
    fd.enable(UffdFeatures::WP_ASYNC)?;
    Ok(fd)
}
