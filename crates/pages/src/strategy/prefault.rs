//! `prefault`: read every page first, so that there is an entry to arm, then protect.
//!
//! Armed and read as `markers` or, without the asynchronous mode, as `sync` does it.

use super::area::{AreaStats, TrackedArea, WrittenRun};
use super::{StrategyName, TrackingStrategy};
use uffd::{ProcessMemory, UffdError};

/// The strategy over the one that arms.
pub(super) struct PrefaultStrategy {
    memory: ProcessMemory,
    inner: Box<dyn TrackingStrategy>,
}

impl PrefaultStrategy {
    pub fn new(pid: u32, inner: Box<dyn TrackingStrategy>) -> Self {
        let memory = ProcessMemory::of(pid);
        Self { memory, inner }
    }
}

impl TrackingStrategy for PrefaultStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::Prefault
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        // What cannot be read (beyond the end of a file) nobody can write either.
        self.memory.populate(&area.range)?;
        self.inner.arm(area)
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

    fn release(self: Box<Self>) -> Result<(), UffdError> {
        self.inner.release()
    }
}
