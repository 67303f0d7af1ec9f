//! `markers`: arms everything, by markers where nothing is; the kernel resolves the faults, and a
//! round reads what is disarmed (`WP_ASYNC`, `PAGEMAP_SCAN`).
#![forbid(unsafe_code)]

use std::sync::Arc;

use uffd::{
    PMD_SIZE, PageCategories, PageRegion, Pagemap, RegisterMode, ScanQuery, UffdError,
    UffdFeatures, Userfaultfd, pages_in,
};

use super::area::{AreaStats, TrackedArea, WrittenRun, append};
use super::collect::PageCollector;
use super::entry::{AbsentPages, KernelNeed, StrategyEntry, TargetWait};
use super::registered::{EmergencyRelease, RegisteredAreas};
use super::sparse::{AreaPart, SparseRanges};
use super::start::StrategyStart;
use super::{StrategyName, TrackingStrategy};

/// What is written, and in which kind of page. Off the kernel's fast path: 10 ms per GiB instead of
/// 0.5.
const DETAILED: ScanQuery = ScanQuery {
    returned: PageCategories(
        PageCategories::WRITTEN.0
            | PageCategories::PRESENT.0
            | PageCategories::SWAPPED.0
            | PageCategories::HUGE.0,
    ),
    ..ScanQuery::WRITTEN_AND_ARM
};

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "markers",
    merit: "exact, and the kernel resolves its faults itself",
    needs: &[KernelNeed::AsyncFaults, KernelNeed::PagemapScan],
    waits: TargetWait::Never,
    absent: AbsentPages::Paid,
    reads_content: false,
    observed: false,
    auto: true,
    caveat: None,
    stands_for: None,
    start: StrategyStart::Descriptor(|uffd, target| {
        let (pagemap, detailed) = (target.pagemap()?, target.tells_details());
        Ok(Box::new(MarkersStrategy::new(uffd, pagemap, detailed)?))
    }),
};

#[derive(Debug)]
pub(super) struct MarkersStrategy {
    registered: Arc<RegisteredAreas>,
    collector: PageCollector,
    sparse: SparseRanges,
    detailed: bool,
}

impl MarkersStrategy {
    /// `detailed`: tell zaps and huge pages, where the kernel calls an empty pte written.
    pub(super) fn new(
        uffd: Userfaultfd,
        pagemap: Pagemap,
        detailed: bool,
    ) -> Result<Self, UffdError> {
        Ok(Self {
            registered: Arc::new(RegisteredAreas::new(
                uffd,
                UffdFeatures::WP_ASYNC,
                RegisterMode::WP,
            )?),
            collector: PageCollector::new(pagemap),
            sparse: SparseRanges::default(),
            detailed,
        })
    }

    /// A round of an area that is armed as a whole.
    fn whole_round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
        stats: &mut AreaStats,
    ) -> Result<(), UffdError> {
        let query = if self.detailed {
            DETAILED
        } else {
            ScanQuery::WRITTEN_AND_ARM
        };
        let vanished = self.collector.arm_written(area, &query, |region| {
            let pages = pages_in(&region.range());
            stats.written += pages;
            stats.armed += pages;
            stats.zapped = stats.zapped.map(|zapped| zapped + zapped_in(&region));
            append(written, region.range(), unit(&region, area));
        })?;
        stats.lose(vanished);
        Ok(())
    }
}

impl TrackingStrategy for MarkersStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::Markers
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.registered.add(area)?;
        self.sparse.remove(&area.range);
        // With UFFDIO_WRITEPROTECT, not a scan: it splits huge pages of shmem, of which a scan
        // would report all 512 pages, and it reaches hugetlb without page tables, where scans of
        // some kernels hang.
        self.registered.arm_all(area).map(drop)
    }

    fn arm_sparse(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.registered.add(area)?;
        self.sparse.insert(&area.range);
        for whole in self.collector.arm_sparse(area, true)? {
            self.sparse.remove(&whole);
        }
        Ok(())
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        let mut stats = AreaStats::of(area);
        stats.zapped = self.detailed.then_some(0);
        for part in self.sparse.parts(&area.range) {
            match part {
                AreaPart::Whole(range) => {
                    self.whole_round(&area.part(&range), written, &mut stats)?;
                }
                AreaPart::Sparse(range) => {
                    let part = area.part(&range);
                    let found = self
                        .collector
                        .sparse_round(&part, true, written, &mut stats)?;
                    found.iter().for_each(|whole| self.sparse.remove(whole));
                }
            }
        }
        Ok(stats)
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

fn unit(region: &PageRegion, area: &TrackedArea) -> u64 {
    if region.categories.contains(PageCategories::HUGE) {
        area.page_size.max(PMD_SIZE)
    } else {
        area.page_size
    }
}

fn zapped_in(region: &PageRegion) -> u64 {
    let there = PageCategories::PRESENT.0 | PageCategories::SWAPPED.0;
    if region.categories.0 & there == 0 {
        pages_in(&region.range())
    } else {
        0
    }
}
