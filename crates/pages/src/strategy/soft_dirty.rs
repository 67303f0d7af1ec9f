//! `soft-dirty`: reads bit 55 of pagemap, and clears it for the whole process through `clear_refs`.
//!
//! Reading and clearing are two steps: what is written in between is lost, unless the target stands
//! still. And everybody shares the bits: clearing them takes them from whoever else watches the
//! process, such as CRIU. So `auto` never takes it.
#![forbid(unsafe_code)]

use uffd::{PAGE_SIZE, Pagemap, UffdError, clear_soft_dirty};

use super::area::{AreaStats, TrackedArea, WrittenRun, append};
use super::collect::PageCollector;
use super::entry::{AbsentPages, KernelNeed, StrategyEntry, TargetWait};
use super::start::StrategyStart;
use super::{StrategyName, TrackingStrategy};

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "soft-dirty",
    merit: "sees processes that use userfaultfd themselves",
    needs: &[KernelNeed::SoftDirtyBits],
    waits: TargetWait::Never,
    absent: AbsentPages::Caught,
    reads_content: false,
    observed: false,
    auto: false,
    caveat: Some(
        "every round clears the soft-dirty bits of the process: whoever else uses them (CRIU) \
         loses writes",
    ),
    stands_for: None,
    start: StrategyStart::Outside(|target| {
        let strategy = SoftDirtyStrategy::new(target.pid, target.pagemap()?);
        Ok(Box::new(strategy))
    }),
};

#[derive(Debug)]
pub(super) struct SoftDirtyStrategy {
    pid: u32,
    collector: PageCollector,
}

impl SoftDirtyStrategy {
    pub(super) fn new(pid: u32, pagemap: Pagemap) -> Self {
        let collector = PageCollector::new(pagemap);
        Self { pid, collector }
    }
}

impl TrackingStrategy for SoftDirtyStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::SoftDirty
    }

    /// A VMA is soft-dirty as a whole from its creation to the end of the round.
    fn arm(&mut self, _: &TrackedArea) -> Result<(), UffdError> {
        Ok(())
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        let mut stats = AreaStats::of(area);
        self.collector.walk(&area.range, |page, entry| {
            if entry.soft_dirty() {
                stats.written += 1;
                append(written, page..page + PAGE_SIZE, area.page_size);
            }
        })?;
        stats.armed = stats.written;
        Ok(stats)
    }

    fn end_round(&mut self) -> Result<(), UffdError> {
        clear_soft_dirty(self.pid)
    }

    fn forget(&mut self, _: &TrackedArea) -> Result<(), UffdError> {
        Ok(())
    }

    fn release(self: Box<Self>) -> Result<(), UffdError> {
        Ok(())
    }
}
