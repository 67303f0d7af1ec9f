//! `mprotect`: makes memory read-only, and notes each page at its first SIGSEGV; only in the
//! process itself.
//!
//! What programs did before userfaultfd. System calls that write to such memory fail with EFAULT,
//! and every written page between unwritten ones is a VMA of its own (`vm.max_map_count`).

mod trap;

use uffd::UffdError;

use super::area::{AreaStats, TrackedArea, WrittenRun, append};
use super::entry::{AbsentPages, StrategyEntry, TargetWait};
use super::start::{StartResult, StrategyStart};
use super::{StrategyName, TrackingStrategy};
use trap::TrapSlot;

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "mprotect",
    merit: "needs no userfaultfd",
    needs: &[],
    waits: TargetWait::Never,
    absent: AbsentPages::Paid,
    reads_content: false,
    observed: false,
    auto: false,
    caveat: None,
    stands_for: None,
    start: StrategyStart::OwnProcess(start),
};

/// Tracks memory of this process with mprotect(2) and a SIGSEGV handler.
#[derive(Debug)]
pub struct MprotectStrategy {
    slots: Vec<(TrackedArea, &'static TrapSlot)>,
}

impl MprotectStrategy {
    /// Handles SIGSEGV from now on; what is not about its areas goes to the handler that was there
    /// before.
    ///
    /// # Errors
    /// If the kernel refuses the handler.
    ///
    /// # Safety
    /// Every area it is given is memory of this process, readable and writable, and stays mapped
    /// until it is forgotten; nobody else changes its protection, and no signal handler replaces
    /// this one.
    pub unsafe fn new() -> Result<Self, UffdError> {
        trap::install()?;
        Ok(Self { slots: Vec::new() })
    }

    fn slot(&self, area: &TrackedArea) -> Option<&'static TrapSlot> {
        let found = self.slots.iter().find(|(known, _)| known == area);
        found.map(|(_, slot)| *slot)
    }
}

/// # Safety
/// As for [`MprotectStrategy::new`].
unsafe fn start() -> StartResult {
    // SAFETY: the caller vouches for it.
    Ok(Box::new(unsafe { MprotectStrategy::new() }?))
}

impl TrackingStrategy for MprotectStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::Mprotect
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        let slot = TrapSlot::take(area)?;
        self.slots.push((area.clone(), slot));
        slot.protect(&area.range)?;
        Ok(())
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        let mut stats = AreaStats::of(area);
        let Some(slot) = self.slot(area) else {
            stats.lose(area.pages());
            return Ok(stats);
        };
        let before = written.len();
        // Taken first and protected then: a page that is written in between is in this report.
        slot.take_written(|page| append(written, page, area.page_size));
        for run in &written[before..] {
            slot.protect(&run.range)?;
            stats.written += uffd::pages_in(&run.range);
        }
        stats.armed = stats.written;
        Ok(stats)
    }

    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        let Some(index) = self.slots.iter().position(|(known, _)| known == area) else {
            return Ok(());
        };
        let (_, slot) = self.slots.swap_remove(index);
        slot.give_back()
    }

    fn release(mut self: Box<Self>) -> Result<(), UffdError> {
        let slots = std::mem::take(&mut self.slots);
        let results = slots.into_iter().map(|(_, slot)| slot.give_back());
        results.fold(Ok(()), Result::and)
    }
}

impl Drop for MprotectStrategy {
    fn drop(&mut self) {
        for (_, slot) in &self.slots {
            let _ = slot.give_back();
        }
    }
}
