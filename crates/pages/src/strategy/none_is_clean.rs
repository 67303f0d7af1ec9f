//! `none-is-clean`: arms only what is there; a page that is not there is untouched, and was never
//! written.
//!
//! As far as user space can go towards an attribute of the VMA with which protection starts at
//! registering. A page touched later is there and not armed: written, unless it is the zero page.
#![forbid(unsafe_code)]

use std::sync::Arc;

use uffd::{
    PageCategories, PageRegion, Pagemap, RegisterMode, ScanQuery, UffdError, UffdFeatures,
    Userfaultfd, pages_in,
};

use super::area::{AreaStats, TrackedArea, WrittenRun, append};
use super::collect::PageCollector;
use super::entry::{AbsentPages, KernelNeed, StrategyEntry, TargetWait};
use super::registered::{EmergencyRelease, RegisteredAreas};
use super::sparse::{AreaPart, SparseRanges};
use super::start::StrategyStart;
use super::{StrategyName, TrackingStrategy};

/// Written and there. The zero page, which only a read maps, is armed with the rest, and told apart
/// afterwards.
pub(super) const THERE_AND_WRITTEN: ScanQuery = ScanQuery {
    any_of: PageCategories(PageCategories::PRESENT.0 | PageCategories::SWAPPED.0),
    returned: PageCategories(PageCategories::WRITTEN.0 | PageCategories::PFNZERO.0),
    ..ScanQuery::WRITTEN_AND_ARM
};

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "none-is-clean",
    merit: "no page table for what is not there, and zaps go unseen",
    needs: &[KernelNeed::AsyncFaults, KernelNeed::PagemapScan],
    waits: TargetWait::Never,
    absent: AbsentPages::Ignored,
    reads_content: false,
    observed: false,
    auto: true,
    caveat: None,
    stands_for: Some(
        "an attribute of the VMA, which no kernel has. Where the kernel unmaps an armed page of \
         shmem it leaves a marker, which an attribute alone would not: each read after reclaim \
         would be reported, too. A kernel with one could map what is only read already protected, \
         so its first reads need not be",
    ),
    start: StrategyStart::Descriptor(|uffd, target| {
        Ok(Box::new(NoneIsCleanStrategy::new(uffd, target.pagemap()?)?))
    }),
};

#[derive(Debug)]
pub(super) struct NoneIsCleanStrategy {
    registered: Arc<RegisteredAreas>,
    collector: PageCollector,
    sparse: SparseRanges,
}

impl NoneIsCleanStrategy {
    pub(super) fn new(uffd: Userfaultfd, pagemap: Pagemap) -> Result<Self, UffdError> {
        Ok(Self {
            registered: Arc::new(RegisteredAreas::new(
                uffd,
                UffdFeatures::WP_ASYNC,
                RegisterMode::WP,
            )?),
            collector: PageCollector::new(pagemap),
            sparse: SparseRanges::default(),
        })
    }
}

impl TrackingStrategy for NoneIsCleanStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::NoneIsClean
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.registered.add(area)?;
        self.sparse.remove(&area.range);
        self.collector
            .arm_written(area, &THERE_AND_WRITTEN, |_| ())
            .map(drop)
    }

    fn arm_sparse(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.registered.add(area)?;
        self.sparse.insert(&area.range);
        self.collector.arm_sparse(area, false).map(drop)
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        round(&mut self.collector, &self.sparse, area, written)
    }

    fn redraw(&mut self, old: &[TrackedArea], new: &[TrackedArea]) {
        self.registered.redraw(old, new);
        self.sparse.redraw(old, new);
    }

    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.sparse.remove(&area.range);
        self.registered.remove(area)
    }

    fn emergency_release(&self) -> Option<EmergencyRelease> {
        Some(self.registered.emergency_release())
    }

    fn release(self: Box<Self>) -> Result<(), UffdError> {
        self.registered.release()
    }
}

/// One round that leaves alone what is not there.
pub(super) fn round(
    collector: &mut PageCollector,
    sparse: &SparseRanges,
    area: &TrackedArea,
    written: &mut Vec<WrittenRun>,
) -> Result<AreaStats, UffdError> {
    let mut stats = AreaStats::of(area);
    for part in sparse.parts(&area.range) {
        match part {
            AreaPart::Whole(range) => {
                whole_round(collector, &area.part(&range), written, &mut stats)?;
            }
            AreaPart::Sparse(range) => {
                collector.sparse_round(&area.part(&range), false, written, &mut stats)?;
            }
        }
    }
    Ok(stats)
}

fn whole_round(
    collector: &mut PageCollector,
    area: &TrackedArea,
    written: &mut Vec<WrittenRun>,
    stats: &mut AreaStats,
) -> Result<(), UffdError> {
    let vanished = collector.arm_written(area, &THERE_AND_WRITTEN, |region: PageRegion| {
        let range = region.range();
        stats.armed += pages_in(&range);
        if !region.categories.contains(PageCategories::PFNZERO) {
            stats.written += pages_in(&range);
            append(written, range, area.page_size);
        }
    })?;
    stats.lose(vanished);
    Ok(())
}
