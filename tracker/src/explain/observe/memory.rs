//! The memory of a process that belongs to the userfaultfd of somebody else, and looks at it.
//!
//! A look reads pagemap and the content of armed pages. It arms nothing and disarms nothing, and it
//! reads only what is mapped, so that no page comes to be there.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pages::track::{PageOwner, PagePresence, PopulatedPages, TrackedMapping};
use rangemap::RangeMap;
use uffd::{
    Backing, HugetlbDevices, PAGE_SIZE, PMD_SIZE, PageCategories, PageRegion, Pagemap, ScanQuery,
    ShmemDevices, UffdError, pages_in, smaps, unless_unseen,
};

use super::epoch::{ArmingSeen, PageEpoch, PageNews, PageSight};
use super::store::{EpochStore, chunks};
use super::touched::PagesByAddress;
use crate::explain::audit::TheirMapping;
use crate::explain::content::{PageImage, PageLook, PageReader, UnarmedPages};
use crate::explain::history::{RunningScan, ScanSpan};
use crate::explain::model::PageSampling;

/// Reading smaps takes at most one part in so many of the time: it walks the page tables.
const SHARE: u32 = 50;
/// Reading that takes no longer is done at every look.
const CHEAP: Duration = Duration::from_millis(5);
/// The longest time between two readings.
const LONGEST: Duration = Duration::from_secs(60);

/// What is observed of a process.
pub(super) struct ObservedMemory {
    pid: u32,
    /// The kernel has PAGEMAP_SCAN.
    scans: bool,
    pagemap: Pagemap,
    reader: PageReader,
    populated: PopulatedPages,
    sampling: PageSampling,
    regions: Vec<PageRegion>,
    mappings: Vec<ObservedMapping>,
    epochs: EpochStore,
    /// When pages were looked at last.
    looked: RangeMap<u64, ScanSpan>,
    /// When smaps may be read again.
    next: Instant,
    /// When smaps was read last (CLOCK_MONOTONIC, in nanoseconds); 0: never.
    known: u64,
    hashed: u64,
}

/// A mapping that is observed.
struct ObservedMapping {
    mapping: Arc<TrackedMapping>,
    /// `VmFlags` of smaps.
    flags: String,
    arming: ArmingSeen,
    is_new: bool,
    answered: WriteAnswer,
}

/// Who answers the first write to an armed page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteAnswer {
    /// The kernel (`UFFD_FEATURE_WP_ASYNC`): a page that is not armed any more was written, or lost
    /// its protection in another way that counts as that.
    Kernel,
    /// The tracker, after a message; it may take the protection off by itself, too.
    Tracker,
}

/// What was observed of a mapping and is not any more.
pub(super) struct GoneMapping {
    pub mapping: Arc<TrackedMapping>,
    /// What is known of its pages.
    pub known: Vec<(u64, PageEpoch)>,
}

impl GoneMapping {
    /// Takes out what is known of a range.
    pub(super) fn take(&mut self, range: &Range<u64>) -> Vec<(u64, PageEpoch)> {
        let is_in = |known: &mut (u64, PageEpoch)| range.contains(&known.0);
        self.known.extract_if(.., is_in).collect()
    }
}

/// What a look found in a mapping.
pub(super) struct LookedMapping {
    pub mapping: Arc<TrackedMapping>,
    pub answered: WriteAnswer,
    /// Pages with news.
    pub news: Vec<LookedPage>,
    /// Pages that are armed now.
    pub armed: u64,
    /// Pages that are armed and have the content that they had at the look before.
    pub same: u64,
    /// Pages that are not armed any more, by address.
    pub written: Vec<u64>,
    /// If it was armed since the last look and is there as a whole: what maps the zero page.
    pub only_read: Vec<Range<u64>>,
}

/// A page with news, or of which the kernel tells something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LookedPage {
    pub page: u64,
    pub news: PageNews,
    pub look: PageLook,
    /// What was known of it before.
    pub before: PageEpoch,
    /// Whether it is armed now.
    pub armed: bool,
    /// When it was looked at before, if it was.
    pub last: ScanSpan,
    /// When it was looked at now.
    pub now: ScanSpan,
}

/// What to look at.
#[derive(Clone, Copy)]
pub(super) enum LookedPart<'a> {
    Everything,
    /// What is new, and the huge pages in which these are.
    Around(&'a PagesByAddress),
}

impl ObservedMemory {
    /// Of a process, of which nothing is known yet.
    pub(super) fn open(pid: u32, scans: bool) -> Result<Self, UffdError> {
        Ok(Self {
            pid,
            scans,
            pagemap: Pagemap::open(pid)?,
            reader: PageReader::open(pid)?,
            populated: PopulatedPages::new(Pagemap::open(pid)?, scans),
            sampling: PageSampling { one_of: 1 },
            regions: vec![PageRegion::default(); 512],
            mappings: Vec::new(),
            epochs: EpochStore::default(),
            looked: RangeMap::new(),
            next: Instant::now(),
            known: 0,
            hashed: 0,
        })
    }

    /// After exec: nothing of before is there.
    pub(super) fn begin_again(&mut self) -> Result<(), UffdError> {
        let (sampling, hashed) = (self.sampling, self.hashed);
        *self = Self::open(self.pid, self.scans)?;
        (self.sampling, self.hashed) = (sampling, hashed);
        Ok(())
    }

    /// From now on looks at as many pages as the limit allows: so many bytes of what is there.
    pub(super) fn sample(&mut self, limit: u64) -> Result<PageSampling, UffdError> {
        let mut found = Vec::new();
        for range in self.ranges() {
            let (there, whose) = (PagePresence::InMemory, PageOwner::Anybody);
            unless_unseen(self.populated.append(&range, there, whose, &mut found))?;
        }
        let bytes: u64 = found.iter().map(|run| run.end - run.start).sum();
        self.sampling.one_of = bytes.div_ceil(limit.max(PAGE_SIZE)).max(1);
        Ok(self.sampling)
    }

    pub(super) const fn sampling(&self) -> PageSampling {
        self.sampling
    }

    /// Bytes that were hashed.
    pub(super) const fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Bytes that the images take.
    pub(super) fn memory(&self) -> u64 {
        self.epochs.memory()
    }

    /// What is observed, and what it is made of.
    pub(super) fn made_of(&self) -> Vec<TheirMapping> {
        let mappings = self.mappings.iter().map(|it| TheirMapping {
            range: range_of(&it.mapping),
            backing: it.mapping.backing,
        });
        mappings.collect()
    }

    /// What is observed, by address.
    pub(super) fn ranges(&self) -> Vec<Range<u64>> {
        let ranges = self.mappings.iter().map(|it| range_of(&it.mapping));
        ranges.collect()
    }

    /// `VmFlags` of an observed mapping.
    pub(super) fn flags(&self, mapping: &TrackedMapping) -> String {
        let mut known = self.mappings.iter();
        let known = known.find(|it| it.mapping.start == mapping.start);
        known.map(|it| it.flags.clone()).unwrap_or_default()
    }

    /// Learns which memory belongs to a userfaultfd for write protection and is not `ours`, which
    /// is by address; returns what was observed and is not any more, with what is known of it.
    pub(super) fn discover(&mut self, ours: &[Range<u64>]) -> Result<Vec<GoneMapping>, UffdError> {
        let began = Instant::now();
        if began < self.next {
            return Ok(Vec::new());
        }
        let known = RunningScan::begin().began;
        let is_ours = |range: &Range<u64>| {
            let next = ours.partition_point(|own| own.end <= range.start);
            ours.get(next).is_some_and(|own| own.start < range.end)
        };
        let mut found = Vec::new();
        for vma in unless_unseen(smaps(self.pid))?.into_iter().flatten() {
            let Some(vma) = unless_unseen(vma)? else {
                break;
            };
            if vma.flags.uffd_wp() && !is_ours(&vma.range()) {
                found.push(vma);
            }
        }
        self.known = known;
        let took = began.elapsed();
        if took > CHEAP {
            self.next = began + (took * SHARE).min(LONGEST);
        }
        let (shmem, hugetlb) = match found.is_empty() {
            true => Default::default(),
            false => (
                unless_unseen(ShmemDevices::of(self.pid))?.unwrap_or_default(),
                unless_unseen(HugetlbDevices::of(self.pid))?.unwrap_or_default(),
            ),
        };
        let found = found.iter().map(|vma| {
            let mapping = TrackedMapping::of(vma, &shmem, &hugetlb);
            (mapping, vma.flags.text())
        });
        Ok(self.take(found.collect()))
    }

    /// What was registered before this, and still was then, is known (CLOCK_MONOTONIC, in
    /// nanoseconds).
    pub(super) const fn known(&self) -> u64 {
        self.known
    }

    /// Memory was registered: smaps is to be read however dear that is.
    pub(super) fn hurry(&mut self) {
        self.next = Instant::now();
    }

    /// Replaces the mappings that are observed. One that got other borders keeps what is known of
    /// its pages.
    fn take(&mut self, found: Vec<(TrackedMapping, String)>) -> Vec<GoneMapping> {
        let old = std::mem::take(&mut self.mappings);
        for (mapping, flags) in found {
            let range = range_of(&mapping);
            let before = old
                .iter()
                .find(|it| overlap(&range_of(&it.mapping), &range));
            let same = before.filter(|it| *it.mapping == mapping);
            self.mappings.push(ObservedMapping {
                arming: before.map_or(ArmingSeen::NotYet, |it| it.arming),
                is_new: before.is_none_or(|it| it.is_new),
                answered: before.map_or(WriteAnswer::Tracker, |it| it.answered),
                mapping: same.map_or_else(|| Arc::new(mapping), |it| Arc::clone(&it.mapping)),
                flags,
            });
        }
        let now = self.ranges();
        let mut gone = Vec::new();
        for it in old {
            let mut at = it.mapping.start;
            let mut parts = Vec::new();
            for range in now
                .iter()
                .filter(|now| overlap(now, &range_of(&it.mapping)))
            {
                parts.push(at..range.start.max(at));
                at = at.max(range.end);
            }
            parts.push(at..it.mapping.end.max(at));
            let mut known = Vec::new();
            for part in parts.into_iter().filter(|part| !part.is_empty()) {
                known.extend(self.epochs.take(&part));
                self.looked.remove(part);
            }
            if !known.is_empty() {
                gone.push(GoneMapping {
                    mapping: it.mapping,
                    known,
                });
            }
        }
        gone
    }

    /// Looks once. Pages that are `touched` are told of in any case.
    pub(super) fn look(
        &mut self,
        part: LookedPart<'_>,
        touched: &PagesByAddress,
    ) -> Result<Vec<LookedMapping>, UffdError> {
        let mut mappings = std::mem::take(&mut self.mappings);
        let known = mappings.iter_mut();
        let looked = known.filter(|it| match part {
            LookedPart::Everything => true,
            LookedPart::Around(pages) => it.is_new || pages.overlaps(&range_of(&it.mapping)),
        });
        let looked = looked.map(|it| self.look_at(it, part, touched)).collect();
        self.mappings = mappings;
        looked
    }

    fn look_at(
        &mut self,
        observed: &mut ObservedMapping,
        part: LookedPart<'_>,
        touched: &PagesByAddress,
    ) -> Result<LookedMapping, UffdError> {
        let mapping = Arc::clone(&observed.mapping);
        let part = if observed.is_new {
            LookedPart::Everything
        } else {
            part
        };
        let mut looked = LookedMapping {
            mapping: Arc::clone(&mapping),
            answered: observed.answered,
            news: Vec::new(),
            armed: 0,
            same: 0,
            written: Vec::new(),
            only_read: Vec::new(),
        };
        let range = range_of(&mapping);
        if observed.is_new {
            observed.answered = self.who_answers(&range)?;
            looked.answered = observed.answered;
        }
        for piece in self.pieces(&mapping, part)? {
            self.look_at_piece(&piece, observed.arming, touched, &mut looked)?;
        }
        debug_assert!(looked.written.iter().all(|page| range.contains(page)));
        if observed.arming == ArmingSeen::NotYet && looked.armed > 0 {
            looked.only_read = self.only_read(&mapping)?;
            observed.arming = match observed.is_new {
                true => ArmingSeen::BeforeLooking,
                false => ArmingSeen::SinceLooking,
            };
        } else if observed.arming == ArmingSeen::BeforeLooking && !observed.is_new {
            observed.arming = ArmingSeen::SinceLooking;
        }
        observed.is_new = false;
        Ok(looked)
    }

    fn look_at_piece(
        &mut self,
        piece: &Range<u64>,
        arming: ArmingSeen,
        touched: &PagesByAddress,
        looked: &mut LookedMapping,
    ) -> Result<(), UffdError> {
        let scan = RunningScan::begin();
        let read = self
            .reader
            .piece(piece, UnarmedPages::Written, self.sampling)?;
        let now = scan.finish();
        let (looks, hashed) = read;
        self.hashed += hashed;
        // Pages that were one piece before may be parts of several now, and the other way round.
        let lasts = self.looked.overlapping(piece);
        let lasts: Vec<_> = lasts.map(|(range, last)| (range.clone(), *last)).collect();
        let last_of = |page: u64| {
            let mut lasts = lasts.iter();
            let found = lasts.find(|(range, _)| range.contains(&page));
            found.map_or(ScanSpan { began: 0, ended: 0 }, |(_, last)| *last)
        };
        self.looked.insert(piece.clone(), now);
        let unit = looked.mapping.page_size.max(PAGE_SIZE);
        let any_touched = touched.overlaps(&(piece.start / unit * unit..piece.end));
        let pages = piece.clone().step_by(PAGE_SIZE as usize);
        for ((page, look), (before, after)) in pages.zip(looks).zip(self.reader.entries()) {
            let sight = PageSight {
                armed: before.armed() && after.armed(),
                there: after.present() || after.swapped() && !after.is_marker(),
                look,
            };
            let before = self.epochs.get(page);
            let (epoch, news) = before.after(sight, arming);
            self.epochs.set(page, epoch);
            looked.armed += u64::from(matches!(epoch, PageEpoch::Armed(_)));
            looked.same += u64::from(news == PageNews::Same);
            let whole = page / unit * unit..page / unit * unit + unit;
            let is_told = !matches!(news, PageNews::None | PageNews::Same)
                || any_touched && touched.overlaps(&whole);
            if is_told {
                looked.news.push(LookedPage {
                    page,
                    news,
                    look,
                    before,
                    armed: sight.armed,
                    last: last_of(page),
                    now,
                });
            }
            if matches!(epoch, PageEpoch::Written(_)) {
                looked.written.push(page);
            }
        }
        Ok(())
    }

    /// The epoch that a page is in began unseen: it has no image. Of a page that no look has seen
    /// armed, events tell that it was, and was written.
    pub(super) fn forget_image(&mut self, page: u64) {
        self.epochs.set(page, self.epochs.get(page).without_image());
    }

    /// What is known of a page that has moved here.
    pub(super) fn arrived(&mut self, page: u64, epoch: PageEpoch) {
        self.epochs.set(page, epoch);
    }

    /// Pages that map the zero page, of private memory all of which is there: somebody has read it
    /// all. Kernels without a scan tell of none.
    fn only_read(&mut self, mapping: &TrackedMapping) -> Result<Vec<Range<u64>>, UffdError> {
        let range = range_of(mapping);
        if !self.scans || mapping.backing != Backing::Anon {
            return Ok(Vec::new());
        }
        let (mut there, mut zero) = (0, Vec::new());
        let any_of = PageCategories(PageCategories::PRESENT.0 | PageCategories::SWAPPED.0);
        let query = ScanQuery {
            any_of,
            returned: PageCategories(any_of.0 | PageCategories::PFNZERO.0),
            ..ScanQuery::default()
        };
        self.pagemap
            .scan(&range, &query, &mut self.regions, |region| {
                there += pages_in(&region.range());
                if region.categories.0 & PageCategories::PFNZERO.0 != 0 {
                    zero.push(region.range());
                }
            })?;
        if there < pages_in(&range) {
            zero.clear();
        }
        Ok(zero)
    }

    /// Who answers writes to a mapping. Kernels without a scan have no other way than messages.
    fn who_answers(&mut self, range: &Range<u64>) -> Result<WriteAnswer, UffdError> {
        if !self.scans {
            return Ok(WriteAnswer::Tracker);
        }
        let first = range.start..range.end.min(range.start + PMD_SIZE);
        let query = ScanQuery::REGISTERED;
        let found = self.pagemap.scan_once(&first, &query, &mut self.regions)?;
        Ok(match found.regions {
            0 => WriteAnswer::Tracker,
            _ => WriteAnswer::Kernel,
        })
    }

    /// Whether the tracker answers writes to a page.
    pub(super) fn is_answered_by_tracker(&self, page: u64) -> bool {
        let at = self.mappings.partition_point(|it| it.mapping.end <= page);
        let found = self.mappings.get(at);
        found.is_some_and(|it| it.mapping.start <= page && it.answered == WriteAnswer::Tracker)
    }

    /// Whether a page is armed, as far as looks tell.
    pub(super) fn is_armed(&self, page: u64) -> bool {
        matches!(self.epochs.get(page), PageEpoch::Armed(_))
    }

    /// The content of pages as they are now, armed or not.
    pub(super) fn read_as_is(&mut self, page: u64) -> Result<PageLook, UffdError> {
        let piece = page..page + PAGE_SIZE;
        let (looks, hashed) = self
            .reader
            .piece(&piece, UnarmedPages::Read, self.sampling)?;
        self.hashed += hashed;
        Ok(looks.first().copied().unwrap_or(PageLook::Unmapped))
    }

    /// The observed mapping that an address is in.
    pub(super) fn mapping_at(&self, page: u64) -> Option<Arc<TrackedMapping>> {
        let at = self.mappings.partition_point(|it| it.mapping.end <= page);
        let found = self.mappings.get(at).filter(|it| it.mapping.start <= page);
        found.map(|it| Arc::clone(&it.mapping))
    }

    /// The image that a page had while it was armed, if it was and is not any more.
    pub(super) fn image_of_written(&self, page: u64) -> Option<PageImage> {
        match self.epochs.get(page) {
            PageEpoch::Written(image) => Some(image),
            _ => None,
        }
    }

    /// Where there is something to look at, by pieces of 2 MiB at most.
    fn pieces(
        &mut self,
        mapping: &TrackedMapping,
        part: LookedPart<'_>,
    ) -> Result<Vec<Range<u64>>, UffdError> {
        let range = range_of(mapping);
        // A scan finds no markers of hugetlb, which are neither there nor in swap.
        let numbers: BTreeSet<u64> = if let LookedPart::Around(pages) = part {
            let all = chunks(&range);
            all.filter(|number| pages.has_chunk(*number)).collect()
        } else if self.scans && mapping.backing != Backing::Hugetlb {
            let mut found: BTreeSet<u64> = self.epochs.chunks(&range).collect();
            let there = PageCategories(PageCategories::PRESENT.0 | PageCategories::SWAPPED.0);
            let query = ScanQuery {
                any_of: there,
                returned: PageCategories::PRESENT,
                ..ScanQuery::default()
            };
            self.pagemap
                .scan(&range, &query, &mut self.regions, |region| {
                    found.extend(chunks(&region.range()));
                })?;
            found
        } else {
            chunks(&range).collect()
        };
        let piece = |number: u64| {
            let start = (number * PMD_SIZE).max(range.start);
            start..((number + 1) * PMD_SIZE).min(range.end)
        };
        Ok(numbers.into_iter().map(piece).collect())
    }
}

fn range_of(mapping: &TrackedMapping) -> Range<u64> {
    mapping.start..mapping.end
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl LookedMapping {
    /// Pages of 4 KiB that it has.
    pub(super) fn pages(&self) -> u64 {
        pages_in(&range_of(&self.mapping))
    }
}
