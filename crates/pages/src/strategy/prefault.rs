//! `prefault`: read every page first, so that there is an entry to arm, then protect.
//!
//! Armed and read as `markers` or, without the asynchronous mode, as `sync` does it.

use super::area::{Area, Stats, Written};
use super::{Name, Strategy};
use uffd::{ProcessMemory, Result};

/// The strategy over the one that arms.
pub(super) struct Prefault {
    memory: ProcessMemory,
    inner: Box<dyn Strategy>,
}

impl Prefault {
    pub fn new(pid: u32, inner: Box<dyn Strategy>) -> Self {
        let memory = ProcessMemory::of(pid);
        Self { memory, inner }
    }
}

impl Strategy for Prefault {
    fn name(&self) -> Name {
        Name::Prefault
    }

    fn arm(&mut self, area: &Area) -> Result<Option<()>> {
        // What cannot be read (beyond the end of a file) nobody can write either.
        match self.memory.populate(&area.range)? {
            Some(_) => self.inner.arm(area),
            None => Ok(None),
        }
    }

    fn round(&mut self, area: &Area, written: &mut Vec<Written>) -> Result<Option<Stats>> {
        self.inner.round(area, written)
    }

    fn end_round(&mut self) -> Result<Option<()>> {
        self.inner.end_round()
    }

    fn redraw(&mut self, old: &[Area], new: &[Area]) {
        self.inner.redraw(old, new);
    }

    fn forget(&mut self, area: &Area) -> Result<()> {
        self.inner.forget(area)
    }

    fn release(self: Box<Self>) -> Result<()> {
        self.inner.release()
    }
}
