//! `markers`: arm everything, by markers where nothing is; let the kernel resolve the faults and read what is
//! disarmed (`WP_ASYNC`, `PAGEMAP_SCAN`).

use super::area::{Area, Stats, Written, append};
use super::collect::Collector;
use super::registered::Registered;
use super::{Name, Strategy};
use uffd::{
    Categories, Features, PMD_SIZE, PageRegion, Pagemap, Query, RegisterMode, Result, Userfaultfd,
    pages_in,
};

/// What is written, with what kind of page it is: off the kernel's fast path, 10 ms/GiB instead of 0.5.
const DETAILED: Query = Query {
    returned: Categories(
        Categories::WRITTEN.0 | Categories::PRESENT.0 | Categories::SWAPPED.0 | Categories::HUGE.0,
    ),
    ..Query::WRITTEN_AND_ARM
};

/// The strategy.
#[derive(Debug)]
pub(super) struct Markers {
    registered: Registered,
    collector: Collector,
    detailed: bool,
}

impl Markers {
    /// `detailed`: tell zaps and huge pages, where the kernel calls an empty pte written.
    pub fn new(uffd: Userfaultfd, pagemap: Pagemap, detailed: bool) -> Result<Self> {
        Ok(Self {
            registered: Registered::new(uffd, Features::WP_ASYNC, RegisterMode::WP)?,
            collector: Collector::new(pagemap),
            detailed,
        })
    }
}

impl Strategy for Markers {
    fn name(&self) -> Name {
        Name::Markers
    }

    fn arm(&mut self, area: &Area) -> Result<Option<()>> {
        self.registered.add(area)?;
        // By write-protecting, not by a scan: that splits huge pages of shmem, of which a scan would report all
        // 512, and reaches hugetlb without page tables, where scans of some kernels hang.
        self.registered.arm_all(area).map(|_| Some(()))
    }

    fn round(&mut self, area: &Area, written: &mut Vec<Written>) -> Result<Option<Stats>> {
        let query = if self.detailed {
            DETAILED
        } else {
            Query::WRITTEN_AND_ARM
        };
        let mut stats = Stats::of(area);
        stats.zapped = self.detailed.then_some(0);
        let vanished = self.collector.arm_written(area, &query, |region| {
            let unit = unit(&region, area);
            stats.written += pages_in(&(region.start..region.end));
            stats.zapped = stats.zapped.map(|zapped| zapped + zapped_in(&region));
            append(written, region.start..region.end, unit);
        })?;
        stats.armed = stats.written;
        Ok(vanished.map(|vanished| {
            stats.lose(vanished);
            stats
        }))
    }

    fn redraw(&mut self, old: &[Area], new: &[Area]) {
        self.registered.redraw(old, new);
    }

    fn forget(&mut self, area: &Area) -> Result<()> {
        self.registered.remove(area)
    }

    fn release(self: Box<Self>) -> Result<()> {
        self.registered.release()
    }
}

fn unit(region: &PageRegion, area: &Area) -> u64 {
    if region.categories.contains(Categories::HUGE) {
        area.page_size.max(PMD_SIZE)
    } else {
        area.page_size
    }
}

fn zapped_in(region: &PageRegion) -> u64 {
    let there = Categories::PRESENT.0 | Categories::SWAPPED.0;
    if region.categories.0 & there == 0 {
        pages_in(&(region.start..region.end))
    } else {
        0
    }
}
