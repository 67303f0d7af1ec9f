//! `missing-zeropage`: catches the first access of each page. A read leaves an armed zero page, a
//! write an unarmed page; so page tables grow only with what is touched.
//!
//! Mapping the page and arming it must not be two steps: what another thread writes in between
//! would be lost. So a scan arms an anonymous zero page only if it still is the zero page; shmem
//! and hugetlb get a page of zeroes that is mapped armed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use uffd::{
    Backing, PageCategories, Pagemap, RegisterMode, ScanQuery, UffdError, UffdFeatures, Userfaultfd,
};

use super::area::{AreaStats, TrackedArea, WrittenRun};
use super::collect::PageCollector;
use super::entry::{AbsentPages, KernelNeed, StrategyEntry, TargetWait};
use super::handler::{FaultAnswer, FaultHandler, WaitingFault, resolve};
use super::none_is_clean::{self, THERE_AND_WRITTEN};
use super::registered::{EmergencyRelease, RegisteredAreas, is_unmapped};
use super::sparse::SparseRanges;
use super::start::StrategyStart;
use super::{StrategyName, TrackingStrategy};

/// A zero page that nobody has written to.
const UNTOUCHED_ZERO_PAGE: ScanQuery = ScanQuery {
    all_of: PageCategories(PageCategories::WRITTEN.0 | PageCategories::PFNZERO.0),
    ..ScanQuery::WRITTEN_AND_ARM
};

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "missing-zeropage",
    merit: "no page table before its first touch, at the price of a message each",
    needs: &[KernelNeed::AsyncFaults, KernelNeed::PagemapScan],
    waits: TargetWait::Always,
    absent: AbsentPages::Caught,
    reads_content: false,
    observed: false,
    auto: true,
    caveat: None,
    stands_for: Some(
        "the same done by the kernel at fault time. That would cost no message to the tracker and \
         no wait",
    ),
    start: StrategyStart::Descriptor(|uffd, target| {
        let pagemaps = [target.pagemap()?, target.pagemap()?];
        Ok(Box::new(MissingZeropageStrategy::new(uffd, pagemaps)?))
    }),
};

/// Fields are dropped in this order: the handler serves until everything is let go.
#[derive(Debug)]
pub(super) struct MissingZeropageStrategy {
    handler: FaultHandler,
    registered: Arc<RegisteredAreas>,
    collector: PageCollector,
    sparse: SparseRanges,
    touched: TouchCounts,
}

impl MissingZeropageStrategy {
    /// `uffd` must handle faults of the kernel too, else a read(2) of the target into a new page
    /// fails. The second pagemap is for the handler.
    pub(super) fn new(uffd: Userfaultfd, pagemaps: [Pagemap; 2]) -> Result<Self, UffdError> {
        let registered = Arc::new(RegisteredAreas::new(
            uffd,
            UffdFeatures::WP_ASYNC,
            RegisterMode::MISSING_WP,
        )?);
        let [own, handlers] = pagemaps;
        let touched = TouchCounts::default();
        let mut filler = PageFiller {
            collector: PageCollector::new(handlers),
            zeroes: Vec::new(),
            touched: touched.clone(),
        };
        let answer: FaultAnswer =
            Box::new(move |registered, fault| filler.answer(registered, fault));
        Ok(Self {
            handler: FaultHandler::start(registered.clone(), answer)?,
            registered,
            collector: PageCollector::new(own),
            sparse: SparseRanges::default(),
            touched,
        })
    }
}

impl TrackingStrategy for MissingZeropageStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::MissingZeropage
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.registered.add(area)?;
        self.sparse.remove(&area.range);
        self.collector
            .arm_written(area, &THERE_AND_WRITTEN, |_| ())
            .map(drop)
    }

    fn arm_sparse(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        // Not for missing pages: a debugger's write, which cannot wait for an answer, would fail.
        self.registered.add_for(area, RegisterMode::WP)?;
        self.sparse.insert(&area.range);
        self.collector.arm_sparse(area, false).map(drop)
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        self.handler.check()?;
        let stats = none_is_clean::round(&mut self.collector, &self.sparse, area, written)?;
        Ok(AreaStats {
            touched: Some(self.touched.take(area)),
            ..stats
        })
    }

    fn redraw(&mut self, old: &[TrackedArea], new: &[TrackedArea]) {
        self.registered.redraw(old, new);
        self.sparse.redraw(old, new);
        self.touched.redraw(old, new);
    }

    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.touched.take(area);
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

/// First accesses since the last round, in pages of 4 KiB, by the start of the area.
#[derive(Clone, Debug, Default)]
struct TouchCounts(Arc<Mutex<HashMap<u64, u64>>>);

impl TouchCounts {
    fn add(&self, area: &TrackedArea) {
        *self.lock().entry(area.range.start).or_default() += area.page_size / uffd::PAGE_SIZE;
    }

    fn take(&self, area: &TrackedArea) -> u64 {
        self.lock().remove(&area.range.start).unwrap_or_default()
    }

    /// Gives what was touched in areas since the last round to those that take their place.
    fn redraw(&self, old: &[TrackedArea], new: &[TrackedArea]) {
        let mut touched = self.lock();
        let moved: u64 = old
            .iter()
            .filter_map(|area| touched.remove(&area.range.start))
            .sum();
        if let Some(first) = new.first() {
            *touched.entry(first.range.start).or_default() += moved;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handler's side.
struct PageFiller {
    collector: PageCollector,
    /// The source of copies, as large as the largest page so far.
    zeroes: Vec<u8>,
    touched: TouchCounts,
}

impl PageFiller {
    fn answer(
        &mut self,
        registered: &RegisteredAreas,
        fault: &WaitingFault,
    ) -> Result<(), UffdError> {
        if fault.write_protect {
            return resolve(registered, &fault.page);
        }
        let filled = match fault.area.backing {
            Backing::Anon => self.zero_page(registered, fault),
            _ => self.zeroed_page(registered, fault),
        };
        match filled {
            Ok(()) if fault.known => self.touched.add(&fault.area),
            Ok(()) => (),
            // Another fault, another mapping or munmap came first.
            Err(e) if is_there_already(&e) || is_unmapped(&e) => (),
            Err(e) => return Err(e),
        }
        match registered.uffd().wake(&fault.page) {
            Err(e) if is_unmapped(&e) => Ok(()),
            result => result,
        }
    }

    fn zero_page(
        &mut self,
        registered: &RegisteredAreas,
        fault: &WaitingFault,
    ) -> Result<(), UffdError> {
        registered.uffd().zeropage(&fault.page, false)?;
        if !fault.write {
            // A page that is written by now stays disarmed, and is in the next report.
            self.collector.arm_if(&fault.page, &UNTOUCHED_ZERO_PAGE)?;
        }
        Ok(())
    }

    fn zeroed_page(
        &mut self,
        registered: &RegisteredAreas,
        fault: &WaitingFault,
    ) -> Result<(), UffdError> {
        let length = fault.area.page_size as usize;
        if self.zeroes.len() < length {
            self.zeroes.resize(length, 0);
        }
        let source = self.zeroes.as_ptr();
        // SAFETY: `zeroes` is at least as long as the page, and what it fills in the target are
        // holes, which read as zeroes before and after.
        unsafe { registered.uffd().copy(&fault.page, source, !fault.write) }.map(drop)
    }
}

fn is_there_already(error: &UffdError) -> bool {
    error.errno() == Some(Errno::EXIST)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use uffd::{PAGE_SIZE, PageRegion, ScratchMapping};

    /// Maps a zero page, writes, as another thread might, then arms the page in either way: whether
    /// a scan reports the write.
    fn is_reported(
        arm: impl FnOnce(&Userfaultfd, &mut PageCollector, &std::ops::Range<u64>),
    ) -> bool {
        let scratch = ScratchMapping::anonymous(PAGE_SIZE).unwrap();
        let uffd = Userfaultfd::open_user_mode_only().unwrap();
        uffd.enable(UffdFeatures::WP_ASYNC).unwrap();
        let page = scratch.range();
        uffd.register(&page, RegisterMode::MISSING_WP).unwrap();
        uffd.zeropage(&page, true).unwrap();
        scratch.store(0, 7);
        let pagemap = || Pagemap::own().unwrap();
        arm(&uffd, &mut PageCollector::new(pagemap()), &page);
        let mut regions = [PageRegion::default()];
        let scanned = pagemap()
            .scan_once(&page, &ScanQuery::WRITTEN, &mut regions)
            .unwrap();
        scanned.regions == 1
    }

    #[test]
    fn a_write_before_the_bit_is_lost_unless_only_the_zero_page_is_armed() {
        let behaviour = uffd::self_test().unwrap();
        if !crate::strategy::start::can_scan(&behaviour) {
            return;
        }
        assert!(
            !is_reported(|uffd, _, page| uffd.arm(page).unwrap()),
            "the recipe"
        );
        assert!(is_reported(|_, collector, page| {
            assert!(!collector.arm_if(page, &UNTOUCHED_ZERO_PAGE).unwrap());
        }));
    }
}
