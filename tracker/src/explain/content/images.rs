//! The images of a process, and looking at its pages against them.

use std::collections::BTreeSet;
use std::ops::Range;

use pages::track::{
    PageExtent, PageOwner, PagePresence, PopulatedPages, TrackRound, TrackedMapping,
};
use uffd::{Backing, PAGE_SIZE, PMD_SIZE, Pagemap, UffdError, unless_unseen};

use super::reader::{PageReader, UnarmedPages};
use super::store::ImageStore;
use super::{PageContent, PageImage, PageLook, SeenPage};
use crate::explain::model::PageSampling;

/// The content of one process, and its images.
pub(in crate::explain) struct PageImages {
    pid: u32,
    /// The kernel has PAGEMAP_SCAN.
    scans: bool,
    sampling: PageSampling,
    reader: PageReader,
    populated: PopulatedPages,
    store: ImageStore,
    vanished: VanishedPages,
    hashed: u64,
}

/// Anonymous pages that had content and were not there any more, though not reported.
#[derive(Default)]
struct VanishedPages {
    last_round: BTreeSet<u64>,
    this_round: BTreeSet<u64>,
}

impl PageImages {
    /// Of a process, with no image yet. All pages are looked at.
    pub(in crate::explain) fn open(pid: u32, scans: bool) -> Result<Self, UffdError> {
        Ok(Self {
            pid,
            scans,
            sampling: PageSampling { one_of: 1 },
            reader: PageReader::open(pid)?,
            populated: PopulatedPages::new(Pagemap::open(pid)?, scans),
            store: ImageStore::default(),
            vanished: VanishedPages::default(),
            hashed: 0,
        })
    }

    /// After exec: in another address space there is no image.
    pub(in crate::explain) fn begin_again(&mut self) -> Result<(), UffdError> {
        let (sampling, hashed) = (self.sampling, self.hashed);
        *self = Self::open(self.pid, self.scans)?;
        (self.sampling, self.hashed) = (sampling, hashed);
        Ok(())
    }

    /// From now on looks at as many pages as the limit allows: so many bytes of what is there.
    pub(in crate::explain) fn sample(
        &mut self,
        round: &TrackRound,
        limit: u64,
    ) -> Result<PageSampling, UffdError> {
        let mut bytes = 0;
        for row in &round.mappings {
            let mut found = Vec::new();
            let whole = row.mapping.start..row.mapping.end;
            let populated = &mut self.populated;
            // Of a process that is gone nothing is there.
            let whose = match row.mapping.shared {
                Some(_) => PageOwner::Anybody,
                None => PageOwner::Process,
            };
            let there = PagePresence::InMemory;
            unless_unseen(populated.append(&whole, there, whose, &mut found))?;
            bytes += found.iter().map(|run| run.end - run.start).sum::<u64>();
        }
        self.sampling.one_of = bytes.div_ceil(limit.max(PAGE_SIZE)).max(1);
        Ok(self.sampling)
    }

    /// Where images are kept.
    pub(in crate::explain) fn store(&mut self) -> &mut ImageStore {
        &mut self.store
    }

    /// Ends a round: forgets what is not tracked.
    pub(in crate::explain) fn end_round(&mut self, round: &TrackRound) {
        let rows = round.mappings.iter().filter(|row| row.pages.tracked != 0);
        let mut tracked: Vec<Range<u64>> =
            rows.map(|row| row.mapping.start..row.mapping.end).collect();
        tracked.sort_by_key(|range| range.start);
        self.store.keep(&tracked);
        self.vanished.end_round();
    }

    /// Bytes that the images take.
    pub(in crate::explain) fn memory(&self) -> u64 {
        self.store.memory()
    }

    /// Bytes that were hashed.
    pub(in crate::explain) fn hashed(&self) -> u64 {
        self.hashed
    }

    /// Looks at all pages of a range.
    fn range(
        &mut self,
        range: &Range<u64>,
        unarmed: UnarmedPages,
        mut each: impl FnMut(&mut Self, u64, PageLook),
    ) -> Result<(), UffdError> {
        for piece in pieces(range) {
            let (looks, hashed) = self.reader.piece(&piece, unarmed, self.sampling)?;
            self.hashed += hashed;
            for (page, look) in piece.step_by(PAGE_SIZE as usize).zip(looks) {
                each(self, page, look);
            }
        }
        Ok(())
    }

    fn seen(&self, address: u64, look: PageLook) -> SeenPage {
        let before = self.store.get(address);
        SeenPage {
            address,
            before,
            look,
        }
    }
}

impl PageContent for PageImages {
    fn look(
        &mut self,
        reported: &[PageExtent],
        each: &mut dyn FnMut(&PageExtent, SeenPage),
    ) -> Result<(), UffdError> {
        for extent in reported {
            self.range(
                &extent.range,
                UnarmedPages::Written,
                |images, page, look| {
                    each(extent, images.seen(page, look));
                    let image = match look {
                        PageLook::Content(hash) => PageImage::Content(hash),
                        PageLook::Hole | PageLook::Unmapped => PageImage::Hole,
                        PageLook::Not(_) => PageImage::None,
                    };
                    images.store.set(page, image);
                },
            )?;
        }
        Ok(())
    }

    /// Anonymous memory that is emptied without a report reads as zeroes. It counts if the next
    /// round does not report it either: what is emptied after a scan is told by the next one.
    fn verify(
        &mut self,
        mapping: &TrackedMapping,
        reported: &[PageExtent],
        each: &mut dyn FnMut(SeenPage),
    ) -> Result<(), UffdError> {
        let mut runs = Vec::new();
        let whole = mapping.start..mapping.end;
        let (there, whose) = (PagePresence::InMemory, PageOwner::Anybody);
        self.populated.append(&whole, there, whose, &mut runs)?;
        let unarmed = if mapping.shared.is_none() {
            UnarmedPages::Unwritten
        } else {
            UnarmedPages::Written
        };
        let anonymous = mapping.backing == Backing::Anon;
        if anonymous {
            let more = self.store.absent(&whole, &runs);
            runs.extend(more);
        }
        for run in runs.iter().flat_map(|run| without(run, reported)) {
            self.range(&run, unarmed, |images, page, look| match look {
                PageLook::Hole if !anonymous || images.vanished.is_new(page) => (),
                look => {
                    each(images.seen(page, look));
                    match look {
                        PageLook::Content(hash) => {
                            images.store.set(page, PageImage::Content(hash));
                        }
                        PageLook::Hole | PageLook::Unmapped => {
                            images.store.set(page, PageImage::Hole);
                        }
                        // What cannot be read now is armed since its image was taken.
                        PageLook::Not(_) => (),
                    }
                }
            })?;
        }
        Ok(())
    }
}

impl VanishedPages {
    /// Whether a page that is not there was there in the last round: it waits for the next.
    fn is_new(&mut self, page: u64) -> bool {
        let is_new = !self.last_round.remove(&page);
        if is_new {
            self.this_round.insert(page);
        }
        is_new
    }

    fn end_round(&mut self) {
        self.last_round = std::mem::take(&mut self.this_round);
    }
}

/// A range by chunks.
fn pieces(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let (mut at, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        let start = at;
        at = end.min((start / PMD_SIZE + 1) * PMD_SIZE);
        (start < end).then_some(start..at)
    })
}

/// The parts of a range that no extent covers; extents are disjoint and by address.
fn without(range: &Range<u64>, extents: &[PageExtent]) -> Vec<Range<u64>> {
    let from = extents.partition_point(|extent| extent.range.end <= range.start);
    let mut parts = Vec::new();
    let mut at = range.start;
    for extent in extents[from..]
        .iter()
        .take_while(|extent| extent.range.start < range.end)
    {
        if at < extent.range.start {
            parts.push(at..extent.range.start);
        }
        at = at.max(extent.range.end);
    }
    if at < range.end {
        parts.push(at..range.end);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_vanishes_is_told_a_round_later_and_once() {
        let mut vanished = VanishedPages::default();
        assert!(vanished.is_new(0x1000));
        vanished.end_round();
        assert!(!vanished.is_new(0x1000));
        assert!(vanished.is_new(0x2000));
        vanished.end_round();
        // One that came back meanwhile, or was reported, begins anew.
        vanished.end_round();
        assert!(vanished.is_new(0x2000));
    }

    #[test]
    fn pieces_end_where_chunks_do() {
        let range = PMD_SIZE - PAGE_SIZE..2 * PMD_SIZE + PAGE_SIZE;
        let expected = [
            PMD_SIZE - PAGE_SIZE..PMD_SIZE,
            PMD_SIZE..2 * PMD_SIZE,
            2 * PMD_SIZE..2 * PMD_SIZE + PAGE_SIZE,
        ];
        assert!(pieces(&range).eq(expected));
        assert_eq!(pieces(&(5..5)).count(), 0);
    }

    #[test]
    fn what_is_reported_is_left_out() {
        let extent = |range| PageExtent {
            range,
            unit: PAGE_SIZE,
            unknown: false,
        };
        let extents = [extent(0..2), extent(4..6), extent(9..20)];
        assert_eq!(without(&(1..12), &extents), [2..4, 6..9]);
        assert_eq!(without(&(2..4), &extents), std::slice::from_ref(&(2..4)));
        assert!(without(&(10..12), &extents).is_empty());
    }
}
