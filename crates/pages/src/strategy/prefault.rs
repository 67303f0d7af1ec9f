//! `prefault`: reads every page first, so that there is an entry to arm, then protects it.
//!
//! Arms and reads as `markers` does or, without the asynchronous mode, as `sync` does.
#![forbid(unsafe_code)]

use uffd::{MemoryFile, UffdError};

use super::area::{AreaStats, TrackedArea, WrittenRun};
use super::entry::{AbsentPages, StrategyEntry, TargetWait};
use super::markers::MarkersStrategy;
use super::registered::EmergencyRelease;
use super::start::{StrategyStart, can_scan};
use super::sync::SyncStrategy;
use super::{StrategyName, TrackingStrategy};

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "prefault",
    merit: "nothing is left to be touched first, at the price of its page tables",
    needs: &[],
    waits: TargetWait::WithoutScan,
    absent: AbsentPages::Paid,
    reads_content: false,
    observed: false,
    auto: true,
    caveat: None,
    stands_for: None,
    start: StrategyStart::Descriptor(|uffd, target| {
        let (pagemap, detailed) = (target.pagemap()?, target.tells_details());
        let inner: Box<dyn TrackingStrategy> = if can_scan(&target.behaviour) {
            Box::new(MarkersStrategy::new(uffd, pagemap, detailed)?)
        } else {
            Box::new(SyncStrategy::new(uffd, pagemap, target.behaviour)?)
        };
        Ok(Box::new(PrefaultStrategy::new(target.pid, inner)?))
    }),
};

/// The strategy on top of the one that arms.
pub(super) struct PrefaultStrategy {
    memory: MemoryFile,
    inner: Box<dyn TrackingStrategy>,
}

impl PrefaultStrategy {
    pub(super) fn new(pid: u32, inner: Box<dyn TrackingStrategy>) -> Result<Self, UffdError> {
        let memory = MemoryFile::open(pid)?;
        Ok(Self { memory, inner })
    }
}

impl TrackingStrategy for PrefaultStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::Prefault
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        // What cannot be read (beyond the end of a file) cannot be written either.
        self.memory.populate(&area.range)?;
        self.inner.arm(area)
    }

    fn arm_sparse(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.inner.arm_sparse(area)
    }

    fn tracks_unwritable(&self) -> bool {
        self.inner.tracks_unwritable()
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        self.inner.round(area, written)
    }

    fn end_round(&mut self) -> Result<(), UffdError> {
        self.inner.end_round()
    }

    fn redraw(&mut self, old: &[TrackedArea], new: &[TrackedArea]) {
        self.inner.redraw(old, new);
    }

    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.inner.forget(area)
    }

    fn emergency_release(&self) -> Option<EmergencyRelease> {
        self.inner.emergency_release()
    }

    fn release(self: Box<Self>) -> Result<(), UffdError> {
        self.inner.release()
    }
}
