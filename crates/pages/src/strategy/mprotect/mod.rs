//! `mprotect`: make memory read-only and note each page at its first SIGSEGV; in the process itself only.
//!
//! What programs did before userfaultfd. System calls that write to such memory fail with EFAULT, and every written
//! page between unwritten ones is a VMA of its own (`vm.max_map_count`).

mod trap;

use super::area::{Area, Stats, Written, append};
use super::{Name, Strategy};
use trap::Slot;
use uffd::Result;

/// The strategy.
#[derive(Debug)]
pub struct Mprotect {
    slots: Vec<(Area, &'static Slot)>,
}

impl Mprotect {
    /// Handles SIGSEGV from now on; what is not about its areas goes to the handler there was before.
    ///
    /// # Errors
    /// If the kernel refuses the handler.
    ///
    /// # Safety
    /// Every area it is given is memory of this process, readable and writable, and stays mapped until it is
    /// forgotten; nobody else changes its protection, and no signal handler is installed over this one.
    pub unsafe fn new() -> Result<Self> {
        trap::install()?;
        Ok(Self { slots: Vec::new() })
    }

    fn slot(&self, area: &Area) -> Option<&'static Slot> {
        let found = self.slots.iter().find(|(known, _)| known == area);
        found.map(|(_, slot)| *slot)
    }
}

impl Strategy for Mprotect {
    fn name(&self) -> Name {
        Name::Mprotect
    }

    fn arm(&mut self, area: &Area) -> Result<Option<()>> {
        let slot = Slot::take(area)?;
        self.slots.push((area.clone(), slot));
        slot.protect(&area.range)?;
        Ok(Some(()))
    }

    fn round(&mut self, area: &Area, written: &mut Vec<Written>) -> Result<Option<Stats>> {
        let mut stats = Stats::of(area);
        let Some(slot) = self.slot(area) else {
            stats.lose(area.pages());
            return Ok(Some(stats));
        };
        let before = written.len();
        // Taken first and protected then: a page that is written in between is in this report.
        slot.take_written(|page| append(written, page, area.page_size));
        for run in &written[before..] {
            slot.protect(&run.range)?;
            stats.written += uffd::pages_in(&run.range);
        }
        stats.armed = stats.written;
        Ok(Some(stats))
    }

    fn forget(&mut self, area: &Area) -> Result<()> {
        let Some(index) = self.slots.iter().position(|(known, _)| known == area) else {
            return Ok(());
        };
        let (_, slot) = self.slots.swap_remove(index);
        slot.give_back()
    }

    fn release(mut self: Box<Self>) -> Result<()> {
        let slots = std::mem::take(&mut self.slots);
        let results = slots.into_iter().map(|(_, slot)| slot.give_back());
        results.fold(Ok(()), Result::and)
    }
}

impl Drop for Mprotect {
    fn drop(&mut self) {
        for (_, slot) in &self.slots {
            let _ = slot.give_back();
        }
    }
}
