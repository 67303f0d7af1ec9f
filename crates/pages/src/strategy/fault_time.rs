//! `fault-time`: arms only what is there, as `none-is-clean`, and an observer of the kernel's page
//! faults tells what page tables forget: what of shared memory was only read, what of it was
//! written before it was unmapped, and what of private memory was emptied.
//!
//! A round asks the observer before and after it scans. docs/strategies.md has the argument why no
//! write falls between. Whatever the observer could not tell page by page makes the round report
//! everything: too much, never too little.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;
use uffd::{
    Backing, PageCategories, PageRegion, Pagemap, RegisterMode, ScanQuery, UffdError, UffdFeatures,
    Userfaultfd, pages_in,
};

use super::area::{AreaStats, TrackedArea, WrittenRun, append};
use super::collect::PageCollector;
use super::entry::{AbsentPages, KernelNeed, StrategyEntry, TargetWait};
use super::none_is_clean::THERE_AND_WRITTEN;
use super::observer::FaultTimeBits;
use super::page_ranges::{common, minus, union};
use super::registered::{EmergencyRelease, RegisteredAreas};
use super::sparse::OWN_AND_WRITTEN;
use super::start::{StartError, StrategyStart};
use super::zero_page::merges_to_zero;
use super::{StrategyName, TrackingStrategy};

/// Written and there, with what tells shared memory from a process's own, for which the kernel looks
/// at each page's `struct page`.
const THERE: ScanQuery = ScanQuery {
    returned: PageCategories(THERE_AND_WRITTEN.returned.0 | PageCategories::FILE.0),
    ..THERE_AND_WRITTEN
};

pub(super) const ENTRY: StrategyEntry = StrategyEntry {
    name: "fault-time",
    merit: "no page table for what is not there, and eBPF programs see what page tables forget",
    needs: &[KernelNeed::AsyncFaults, KernelNeed::PagemapScan],
    waits: TargetWait::Never,
    absent: AbsentPages::Caught,
    reads_content: false,
    observed: true,
    auto: false,
    caveat: Some(
        "every process passes its eBPF programs, at write faults and where pages are unmapped; leaves \
         hugetlb and shared files alone",
    ),
    stands_for: Some(
        "a kernel that handles it at fault time: maps what is only read already protected, and \
         leaves a trace where it empties private memory or unmaps what was written",
    ),
    start: StrategyStart::Descriptor(|uffd, target| {
        let observer = target.observer.as_ref().ok_or(StartError::NoObserver)?;
        let bits = observer.watch(target.pid)?;
        Ok(Box::new(FaultTimeStrategy::new(
            uffd,
            target.pagemap()?,
            bits,
        )?))
    }),
};

struct FaultTimeStrategy {
    registered: Arc<RegisteredAreas>,
    collector: PageCollector,
    bits: Box<dyn FaultTimeBits>,
    /// What the last round must report again, and what this one found for the next.
    again: Vec<Range<u64>>,
    next: Vec<Range<u64>>,
    lost: LostEvents,
}

/// How many events were lost at the beginnings of rounds.
struct LostEvents {
    /// Of the round before the last, and of the last.
    before: [u64; 2],
    /// Of this round, once an area of it was asked.
    now: Option<u64>,
}

impl LostEvents {
    /// Whether events were lost since the beginning of the round before the last: what one of them
    /// did may have taken effect after the last round. What is lost from now on is as if it came
    /// after this round.
    fn any(&mut self, lost: impl FnOnce() -> u64) -> bool {
        *self.now.get_or_insert_with(lost) != self.before[0]
    }

    fn end_round(&mut self) {
        let [_, last] = self.before;
        self.before = [last, self.now.take().unwrap_or(last)];
    }
}

impl FaultTimeStrategy {
    fn new(
        uffd: Userfaultfd,
        pagemap: Pagemap,
        bits: Box<dyn FaultTimeBits>,
    ) -> Result<Self, UffdError> {
        let lost = bits.lost();
        Ok(Self {
            registered: Arc::new(RegisteredAreas::new(
                uffd,
                UffdFeatures::WP_ASYNC,
                RegisterMode::WP,
            )?),
            collector: PageCollector::new(pagemap),
            bits,
            again: Vec::new(),
            next: Vec::new(),
            lost: LostEvents {
                before: [lost; 2],
                now: None,
            },
        })
    }

    /// Arms what is there and not armed; returns what of it was written, and how many pages have
    /// vanished. `only_read` are pages of shared memory that were not.
    fn scan(
        &mut self,
        area: &TrackedArea,
        only_read: &[Range<u64>],
        stats: &mut AreaStats,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        let query = match area.backing {
            Backing::Anon => &THERE_AND_WRITTEN,
            // Only the process's own copies of a file's pages can be written.
            _ if !area.shared => &OWN_AND_WRITTEN,
            _ => &THERE,
        };
        let (mut own, mut of_file, mut armed) = (Vec::new(), Vec::new(), 0);
        let mut zero = Vec::new();
        let vanished = self
            .collector
            .arm_written(area, query, |region: PageRegion| {
                armed += pages_in(&region.range());
                let is = |category| region.categories.contains(category);
                let list = if is(PageCategories::PFNZERO) {
                    &mut zero
                } else if is(PageCategories::FILE) {
                    &mut of_file
                } else {
                    &mut own
                };
                list.push(region.range());
            })?;
        stats.armed += armed;
        stats.lose(vanished);
        own.extend(minus(&union(of_file), only_read));
        // Else a read mapped it where nothing was.
        if merges_to_zero() || self.bits.is_splitting() {
            own.extend(zero);
        }
        Ok(own)
    }
}

fn pages_in_all(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(pages_in).sum()
}

impl TrackingStrategy for FaultTimeStrategy {
    fn name(&self) -> StrategyName {
        StrategyName::FaultTime
    }

    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        if area.backing == Backing::Hugetlb || (area.backing == Backing::File && area.shared) {
            let range = format!("{:x?}", area.range);
            return Err(UffdError::system(
                "fault-time does not track hugetlb or shared files, at",
                range,
                Errno::INVAL,
            ));
        }
        // Before: registering waits for calls that empty this memory, and events come only after.
        self.bits.forget(&area.range);
        self.registered.add(area)?;
        let mut ignored = AreaStats::default();
        self.scan(area, &[], &mut ignored).map(drop)
    }

    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError> {
        let mut stats = AreaStats::of(area);
        let whole = std::slice::from_ref(&area.range);
        let has_lost = self.lost.any(|| self.bits.lost());
        let only_read = self.bits.only_read(&area.range);
        let mut found = self.bits.take(&area.range);
        found.extend(common(&self.again, whole));
        found.extend(self.scan(area, &only_read, &mut stats)?);
        let late = self.bits.take(&area.range);
        let is_emptying = self.bits.is_emptying();
        found.extend_from_slice(&late);
        self.next.extend(late);
        found = union(found);
        let mut sure = pages_in_all(&found);
        if has_lost {
            found = whole.to_vec();
            self.bits.forget_only_read(&area.range);
        }
        if stats.vanished != 0 {
            let registered = union(self.collector.registered(&area.range)?);
            found = common(&found, &registered);
            sure = sure.min(pages_in_all(&found));
        }
        stats.in_doubt = pages_in_all(&found) - sure;
        if is_emptying && !area.shared {
            self.next.extend_from_slice(&found);
        }
        for range in found {
            stats.written += pages_in(&range);
            append(written, range, area.page_size);
        }
        Ok(stats)
    }

    fn end_round(&mut self) -> Result<(), UffdError> {
        self.again = union(std::mem::take(&mut self.next));
        self.lost.end_round();
        Ok(())
    }

    fn redraw(&mut self, old: &[TrackedArea], new: &[TrackedArea]) {
        self.registered.redraw(old, new);
        for gone in super::without(old, new) {
            self.bits.forget(&gone);
        }
    }

    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        let removed = self.registered.remove(area);
        self.bits.forget(&area.range);
        removed
    }

    fn emergency_release(&self) -> Option<EmergencyRelease> {
        Some(self.registered.emergency_release())
    }

    fn release(self: Box<Self>) -> Result<(), UffdError> {
        self.registered.release()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::VecDeque;
    use std::sync::{Mutex, MutexGuard};

    use uffd::{PAGE_SIZE, ScratchMapping};

    use super::*;

    const PAGES: u64 = 8;

    /// What an observer tells, by page numbers.
    #[derive(Default)]
    struct ToldEvents {
        only_read: Vec<u64>,
        /// What the next calls of `take` return.
        taken: VecDeque<Vec<u64>>,
        lost: u64,
        is_emptying: bool,
        is_splitting: bool,
    }

    struct ToldBits {
        start: u64,
        told: Arc<Mutex<ToldEvents>>,
    }

    impl ToldBits {
        fn ranges(&self, pages: &[u64]) -> Vec<Range<u64>> {
            let page = |number: u64| self.start + number * PAGE_SIZE;
            let ranges = pages.iter().map(|number| page(*number)..page(number + 1));
            union(ranges.collect())
        }
    }

    impl FaultTimeBits for ToldBits {
        fn only_read(&self, _: &Range<u64>) -> Vec<Range<u64>> {
            self.ranges(&self.told.lock().unwrap().only_read)
        }

        fn take(&mut self, _: &Range<u64>) -> Vec<Range<u64>> {
            let taken = self.told.lock().unwrap().taken.pop_front();
            self.ranges(&taken.unwrap_or_default())
        }

        fn forget_only_read(&mut self, _: &Range<u64>) {
            self.told.lock().unwrap().only_read.clear();
        }

        fn forget(&mut self, _: &Range<u64>) {}

        fn lost(&self) -> u64 {
            self.told.lock().unwrap().lost
        }

        fn is_emptying(&self) -> bool {
            self.told.lock().unwrap().is_emptying
        }

        fn is_splitting(&self) -> bool {
            self.told.lock().unwrap().is_splitting
        }
    }

    /// Memory that is tracked with an observer that tells what it is told to.
    struct ToldGround {
        memory: ScratchMapping,
        area: TrackedArea,
        strategy: FaultTimeStrategy,
        told: Arc<Mutex<ToldEvents>>,
        /// Pages that the last round had in doubt.
        in_doubt: u64,
    }

    impl ToldGround {
        /// `None` on a kernel without the asynchronous mode. `there`: all pages are, and armed.
        fn new(memory: ScratchMapping, backing: Backing, there: bool) -> Option<Self> {
            let kernel = uffd::self_test().unwrap();
            if ENTRY.needs.iter().any(|need| !need.is_met(&kernel)) {
                eprintln!("skipped: this kernel has no asynchronous mode or no PAGEMAP_SCAN");
                return None;
            }
            let area = TrackedArea {
                range: memory.range(),
                backing,
                page_size: PAGE_SIZE,
                shared: backing == Backing::Shmem,
            };
            if there {
                (0..PAGES).for_each(|page| memory.write(page));
            }
            let told = Arc::<Mutex<ToldEvents>>::default();
            let bits = ToldBits {
                start: area.range.start,
                told: Arc::clone(&told),
            };
            let uffd = Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only());
            let pagemap = Pagemap::open(std::process::id()).unwrap();
            let mut strategy =
                FaultTimeStrategy::new(uffd.unwrap(), pagemap, Box::new(bits)).unwrap();
            strategy.arm(&area).unwrap();
            strategy.end_round().unwrap();
            Some(Self {
                memory,
                area,
                strategy,
                told,
                in_doubt: 0,
            })
        }

        fn anonymous(there: bool) -> Option<Self> {
            let memory = ScratchMapping::anonymous(PAGES * PAGE_SIZE).unwrap();
            Self::new(memory, Backing::Anon, there)
        }

        fn told(&self) -> MutexGuard<'_, ToldEvents> {
            self.told.lock().unwrap()
        }

        /// The pages that a round reports.
        fn round(&mut self) -> Vec<u64> {
            let mut written = Vec::new();
            let stats = self.strategy.round(&self.area, &mut written).unwrap();
            self.in_doubt = stats.in_doubt;
            self.strategy.end_round().unwrap();
            let number = |at: u64| (at - self.area.range.start) / PAGE_SIZE;
            let numbers = |w: WrittenRun| number(w.range.start)..number(w.range.end);
            written.into_iter().flat_map(numbers).collect()
        }
    }

    fn all() -> Vec<u64> {
        (0..PAGES).collect()
    }

    #[test]
    fn lost_events_make_two_rounds_report_everything() {
        let Some(mut ground) = ToldGround::anonymous(true) else {
            return;
        };
        assert!(ground.round().is_empty());
        ground.told().lost += 1;
        ground.told().only_read = vec![2];
        ground.told().taken = [vec![1, 4], vec![4]].into();
        assert_eq!(ground.round(), all());
        assert_eq!(ground.in_doubt, PAGES - 2, "of two a bit tells");
        assert!(ground.told().only_read.is_empty(), "it may be writable");
        assert_eq!(ground.round(), all(), "an event may come before its effect");
        assert!(ground.round().is_empty());
        assert_eq!(ground.in_doubt, 0);
    }

    #[test]
    fn what_is_lost_during_a_round_counts_in_the_two_that_follow() {
        let Some(mut ground) = ToldGround::anonymous(true) else {
            return;
        };
        let mut written = Vec::new();
        let area = ground.area.clone();
        ground.strategy.round(&area, &mut written).unwrap();
        ground.told().lost += 1;
        // Another area of the same round.
        ground.strategy.round(&area, &mut written).unwrap();
        ground.strategy.end_round().unwrap();
        assert!(written.is_empty(), "it is as if it came after this round");
        assert_eq!(ground.round(), all());
        assert_eq!(ground.round(), all());
        assert!(ground.round().is_empty());
    }

    #[test]
    fn what_may_not_have_taken_effect_is_reported_again() {
        let Some(mut ground) = ToldGround::anonymous(true) else {
            return;
        };
        ground.told().taken = [vec![1], vec![3]].into();
        assert_eq!(ground.round(), [1, 3]);
        assert_eq!(ground.round(), [3], "it was taken after the scan");
        ground.told().taken = [vec![5]].into();
        ground.told().is_emptying = true;
        ground.memory.write(6);
        assert_eq!(ground.round(), [5, 6]);
        ground.told().is_emptying = false;
        assert_eq!(
            ground.round(),
            [5, 6],
            "both may be emptied after the report"
        );
        assert!(ground.round().is_empty());
    }

    #[test]
    fn the_zero_page_counts_while_it_may_stand_for_another_page() {
        let Some(mut ground) = ToldGround::anonymous(false) else {
            return;
        };
        ground.memory.read(1);
        assert!(ground.round().is_empty() || merges_to_zero());
        ground.memory.read(2);
        ground.told().is_splitting = true;
        assert_eq!(ground.round(), [2]);
    }

    #[test]
    fn of_shared_memory_what_was_only_read_is_not_reported() {
        let memory = ScratchMapping::shared(PAGES * PAGE_SIZE).unwrap();
        let Some(mut ground) = ToldGround::new(memory, Backing::Shmem, false) else {
            return;
        };
        ground.memory.read(1);
        ground.memory.read(2);
        ground.memory.write(4);
        ground.told().only_read = vec![1, 7];
        assert_eq!(
            ground.round(),
            [2, 4],
            "of page 2 nobody says that it was only read"
        );
    }

    #[test]
    fn hugetlb_and_shared_files_are_refused() {
        let Some(mut ground) = ToldGround::anonymous(false) else {
            return;
        };
        for (backing, shared) in [(Backing::Hugetlb, false), (Backing::File, true)] {
            let area = TrackedArea {
                backing,
                shared,
                ..ground.area.clone()
            };
            let error = ground.strategy.arm(&area).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::INVAL), "{error}");
        }
    }
}
