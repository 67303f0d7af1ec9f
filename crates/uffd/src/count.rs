//! How many pages of a VMA are armed and how many written, without disturbing who tracks it.
//!
//! The two add up to all pages of the range: what was never armed counts as written, as in the
//! kernel. Counting arms, disarms and populates nothing.

use std::ops::Range;

use crate::{
    KernelBehaviour, PMD_SIZE, PageRegion, Pagemap, PagemapEntry, ScanQuery, UffdError,
    WrittenMeaning, pages_in,
};

/// How many pages of a range are armed and written, in pages of 4 KiB; a huge page counts as its
/// parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCount {
    /// Armed: the next write is noticed.
    pub armed: u64,
    /// All others.
    pub written: u64,
}

/// How to count: see [`CountMethod::choose`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountMethod {
    /// By `PAGEMAP_SCAN` for written pages, the kernel's fast path: 0.5 ms/GiB of clean memory.
    Written,
    /// By `PAGEMAP_SCAN` for armed pages, markers included: 10 ms/GiB.
    Armed,
    /// By bit 57 of every pagemap entry, before 6.7: 10 ms/GiB, for which 2 MiB are copied.
    Entries,
}

impl CountMethod {
    /// The cheapest method that is exact on this kernel. Written pages may be asked for only where
    /// a range without pages is reported as written, which hugetlb never is.
    #[must_use]
    pub fn choose(behaviour: &KernelBehaviour, hugetlb: bool) -> Self {
        match behaviour.written {
            None => Self::Entries,
            Some(WrittenMeaning::Fixed) if !hugetlb => Self::Written,
            Some(_) => Self::Armed,
        }
    }
}

/// What a step of a [`PageCounter`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountProgress {
    /// There is more to walk.
    More,
    /// The whole range is counted.
    Done(PageCount),
}

/// Where a count stands that goes on later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountPlace {
    range: Range<u64>,
    next: u64,
    method: CountMethod,
    armed: u64,
}

impl CountPlace {
    /// The begin of a page-aligned range inside one VMA that is registered for write protection.
    #[must_use]
    pub const fn begin(range: Range<u64>, method: CountMethod) -> Self {
        Self {
            next: range.start,
            range,
            method,
            armed: 0,
        }
    }

    /// The range that is counted.
    #[must_use]
    pub const fn range(&self) -> &Range<u64> {
        &self.range
    }
}

/// Counts in steps, so that a huge VMA never holds up its caller for long. Each step holds the mmap
/// lock of the process for reading.
#[derive(Debug)]
pub struct PageCounter {
    place: CountPlace,
    regions: Vec<PageRegion>,
    entries: Vec<PagemapEntry>,
}

/// The kernel's own buffer holds as many regions (`PAGEMAP_WALK_SIZE >> PAGE_SHIFT`).
const REGIONS: usize = 512;
/// 32 KiB at a time: the size the kernel reads pagemap in.
const ENTRIES: usize = 4096;

impl PageCounter {
    /// Of a page-aligned range inside one VMA that is registered for write protection.
    #[must_use]
    pub fn new(range: Range<u64>, method: CountMethod) -> Self {
        Self {
            place: CountPlace::begin(range, method),
            regions: vec![PageRegion::default(); REGIONS],
            entries: Vec::new(),
        }
    }

    /// Goes on at another place, with the buffers that are there.
    pub fn go_on(&mut self, place: CountPlace) {
        self.place = place;
    }

    /// Where it stands.
    #[must_use]
    pub const fn place(&self) -> &CountPlace {
        &self.place
    }

    /// Walks at most `budget` pages more, rounded up to 2 MiB: a huge page is not walked in parts.
    ///
    /// # Errors
    /// [`UffdError::Gone`]: the process is gone. Otherwise as [`Pagemap::scan`] and
    /// [`Pagemap::read`].
    pub fn step(&mut self, pagemap: &Pagemap, budget: u64) -> Result<CountProgress, UffdError> {
        let part = self.place.next..self.step_end(budget);
        self.place.armed += self.armed_in(pagemap, &part)?;
        self.place.next = part.end;
        let CountPlace {
            range, next, armed, ..
        } = &self.place;
        if *next < range.end {
            return Ok(CountProgress::More);
        }
        Ok(CountProgress::Done(PageCount {
            armed: *armed,
            written: pages_in(range).saturating_sub(*armed),
        }))
    }

    fn step_end(&self, budget: u64) -> u64 {
        let bytes = budget.max(1).saturating_mul(super::PAGE_SIZE);
        let end = self
            .place
            .next
            .saturating_add(bytes)
            .checked_next_multiple_of(PMD_SIZE);
        end.unwrap_or(u64::MAX).min(self.place.range.end)
    }

    fn armed_in(&mut self, pagemap: &Pagemap, part: &Range<u64>) -> Result<u64, UffdError> {
        match self.place.method {
            CountMethod::Written => {
                let written = self.scan(pagemap, part, &ScanQuery::WRITTEN)?;
                Ok(pages_in(part).saturating_sub(written))
            }
            CountMethod::Armed => self.scan(pagemap, part, &ScanQuery::ARMED),
            CountMethod::Entries => self.read(pagemap, part),
        }
    }

    fn scan(
        &mut self,
        pagemap: &Pagemap,
        part: &Range<u64>,
        query: &ScanQuery,
    ) -> Result<u64, UffdError> {
        let mut pages = 0;
        pagemap.scan(part, query, &mut self.regions, |region| {
            pages += pages_in(&region.range());
        })?;
        Ok(pages)
    }

    fn read(&mut self, pagemap: &Pagemap, part: &Range<u64>) -> Result<u64, UffdError> {
        self.entries.resize(ENTRIES, PagemapEntry::default());
        let (mut at, mut armed) = (part.start, 0);
        while at < part.end {
            let read = pagemap.read(&(at..part.end), &mut self.entries)?;
            armed += self.entries[..read]
                .iter()
                .filter(|entry| entry.armed())
                .count() as u64;
            at += read as u64 * super::PAGE_SIZE;
        }
        Ok(armed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{PAGE_SIZE, RegisterMode, ScratchMapping, UffdFeatures, Userfaultfd, self_test};

    fn count(scratch: &ScratchMapping, method: CountMethod, budget: u64) -> (PageCount, u32) {
        let pagemap = Pagemap::own().unwrap();
        let mut counter = PageCounter::new(scratch.range(), method);
        let mut steps = 1;
        loop {
            match counter.step(&pagemap, budget).unwrap() {
                CountProgress::More => steps += 1,
                CountProgress::Done(count) => return (count, steps),
            }
        }
    }

    /// Four page tables: one never touched, one never armed, one armed as markers, and one armed
    /// and half written.
    #[test]
    fn every_exact_method_gives_the_same_numbers() {
        let behaviour = self_test().unwrap();
        let best = CountMethod::choose(&behaviour, false);
        let methods = [best, CountMethod::Armed, CountMethod::Entries];
        let usable = if behaviour.written.is_some() {
            &methods[..]
        } else {
            &methods[2..]
        };
        if !behaviour.features.is_async() {
            return;
        }
        let scratch = ScratchMapping::anonymous(4 * PMD_SIZE).unwrap();
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::WP_ASYNC).unwrap();
        fd.register(&scratch.range(), RegisterMode::WP).unwrap();
        (512..1024).for_each(|page| scratch.write(page));
        (1536..2048).for_each(|page| scratch.write(page));
        fd.arm(&(scratch.range().start + 1024 * PAGE_SIZE..scratch.range().end))
            .unwrap();
        (1536..1792).for_each(|page| scratch.write(page));

        let expected = PageCount {
            armed: 512 + 256,
            written: 1024 + 256,
        };
        for &method in usable {
            assert_eq!(
                count(&scratch, method, 1 << 20),
                (expected, 1),
                "{method:?}"
            );
            assert_eq!(
                count(&scratch, method, 1),
                (expected, 4),
                "{method:?} by steps"
            );
        }
    }

    #[test]
    fn the_method_follows_behaviour_not_version() {
        let with = |written| KernelBehaviour {
            written,
            ..KernelBehaviour::default()
        };
        let choose = CountMethod::choose;
        assert_eq!(choose(&with(None), false), CountMethod::Entries);
        assert_eq!(
            choose(&with(Some(WrittenMeaning::Fixed)), false),
            CountMethod::Written
        );
        assert_eq!(
            choose(&with(Some(WrittenMeaning::Fixed)), true),
            CountMethod::Armed
        );
        assert_eq!(
            choose(&with(Some(WrittenMeaning::Old)), false),
            CountMethod::Armed
        );
        assert_eq!(
            choose(&with(Some(WrittenMeaning::Mixed)), false),
            CountMethod::Armed
        );
    }
}
