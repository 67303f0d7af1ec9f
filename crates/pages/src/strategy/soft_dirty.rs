//! `soft-dirty`: bit 55 of pagemap, cleared for the whole process through `clear_refs`.
//!
//! Reading and clearing are two steps: what is written in between is lost, unless the target stands still meanwhile.
//! And the bits are everybody's: clearing them takes them from whoever else watches the process, such as CRIU. So it
//! is never chosen, only asked for.

use super::area::{Area, Stats, Written, append};
use super::collect::Collector;
use super::{Name, Strategy};
use uffd::{PAGE_SIZE, Pagemap, Result, clear_soft_dirty};

/// The strategy.
#[derive(Debug)]
pub(super) struct SoftDirty {
    pid: u32,
    collector: Collector,
}

impl SoftDirty {
    pub fn new(pid: u32, pagemap: Pagemap) -> Self {
        let collector = Collector::new(pagemap);
        Self { pid, collector }
    }
}

impl Strategy for SoftDirty {
    fn name(&self) -> Name {
        Name::SoftDirty
    }

    /// A VMA is soft-dirty as a whole from its creation to the end of the round.
    fn arm(&mut self, _: &Area) -> Result<Option<()>> {
        Ok(Some(()))
    }

    fn round(&mut self, area: &Area, written: &mut Vec<Written>) -> Result<Option<Stats>> {
        let mut stats = Stats::of(area);
        let walked = self.collector.walk(&area.range, |page, entry| {
            if entry.soft_dirty() {
                stats.written += 1;
                append(written, page..page + PAGE_SIZE, area.page_size);
            }
        })?;
        stats.armed = stats.written;
        Ok(walked.map(|()| stats))
    }

    fn end_round(&mut self) -> Result<Option<()>> {
        clear_soft_dirty(self.pid)
    }

    fn forget(&mut self, _: &Area) -> Result<()> {
        Ok(())
    }

    fn release(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
