//! Images: a hash of each page's content, taken while the page was armed.
//!
//! An image counts only if the page was armed before and after it was read: nobody wrote to it meanwhile. Only pages that
//! are there are read: reading a hole or a swapped page would change page tables. Hashes are XXH3 (64 bits): of 2^32
//! pages that changed, one in 2^32 would look unchanged.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use uffd::Backing;
use xxhash_rust::xxh3::xxh3_64;

use super::model::{PageSampling, ReportVerdict, UnknownReason};
use pages::track::{PageExtent, PagePresence, PopulatedPages, TrackedMapping};
use uffd::{PAGE_SIZE, PMD_SIZE, Pagemap, PagemapEntry, ProcessMemory, UffdError, unless_gone};

/// What a page held when it was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Nobody knows.
    None,
    /// It was not there.
    Hole,
    /// Its content, hashed.
    Content(u64),
}

/// What a look at a page found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its content, hashed, and nobody has written meanwhile.
    Content(u64),
    /// It is not there.
    Hole,
    /// The content cannot be had.
    Not(UnknownReason),
}

/// Pages of a chunk.
const CHUNK: usize = (PMD_SIZE / PAGE_SIZE) as usize;
/// What no chunk tells, and most of a sparse one.
const HOLE: u64 = 0;
const NONE: u64 = 1;

/// The hash of a page of zeroes.
pub fn zero() -> u64 {
    static ZERO: std::sync::LazyLock<u64> =
        std::sync::LazyLock::new(|| hash(&[0; PAGE_SIZE as usize]));
    *ZERO
}

fn hash(page: &[u8]) -> u64 {
    xxh3_64(page).max(NONE + 1)
}

/// Whether a page's content is looked at.
#[must_use]
pub fn is_sampled(sampling: PageSampling, page: u64) -> bool {
    // The high bits of a multiplicative hash (Fibonacci hashing): neighbours, and pages at equal distances, are
    // chosen independently.
    let spread = (page / PAGE_SIZE).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    sampling.one_of <= 1 || spread.is_multiple_of(sampling.one_of)
}

/// The images of a process.
pub struct Images {
    pagemap: Pagemap,
    memory: ProcessMemory,
    populated: PopulatedPages,
    sampling: PageSampling,
    /// By number of the 2 MiB that they lie in. What was armed and has no image was not there.
    chunks: BTreeMap<u64, Box<[u64; CHUNK]>>,
    /// Anonymous pages that had content and were not there any more, though not reported, in the last round and in this.
    gone: [BTreeSet<u64>; 2],
    entries: Box<[PagemapEntry; CHUNK]>,
    after: Box<[PagemapEntry; CHUNK]>,
    buffer: Vec<u8>,
    /// Bytes hashed.
    pub hashed: u64,
}

impl Images {
    /// Of a process; `scans`: the kernel has PAGEMAP_SCAN.
    pub fn open(pid: u32, scans: bool, sampling: PageSampling) -> Result<Self, UffdError> {
        Ok(Self {
            pagemap: Pagemap::open(pid)?,
            memory: ProcessMemory::of(pid),
            populated: PopulatedPages::new(Pagemap::open(pid)?, scans),
            sampling,
            chunks: BTreeMap::new(),
            gone: Default::default(),
            entries: Box::new([PagemapEntry::default(); CHUNK]),
            after: Box::new([PagemapEntry::default(); CHUNK]),
            buffer: vec![0; PMD_SIZE as usize],
            hashed: 0,
        })
    }

    /// Bytes that the images take.
    pub fn memory(&self) -> u64 {
        (self.chunks.len() * size_of::<[u64; CHUNK]>()) as u64
    }

    /// Pages that are there in some mappings, in bytes; none of a process that is gone.
    pub fn there(&mut self, ranges: impl Iterator<Item = Range<u64>>) -> Result<u64, UffdError> {
        let mut bytes = 0;
        for range in ranges {
            let mut found = Vec::new();
            unless_gone(
                self.populated
                    .append(&range, PagePresence::InMemory, &mut found),
            )?;
            bytes += found.iter().map(|run| run.end - run.start).sum::<u64>();
        }
        Ok(bytes)
    }

    /// From now on with this sampling.
    pub const fn sample(&mut self, sampling: PageSampling) {
        self.sampling = sampling;
    }

    /// The image of a page that is armed.
    fn of(&self, page: u64) -> Image {
        let chunk = self.chunks.get(&(page / PMD_SIZE));
        match chunk.map_or(HOLE, |chunk| chunk[place(page)]) {
            NONE => Image::None,
            HOLE => Image::Hole,
            hash => Image::Content(hash),
        }
    }

    /// Sets it.
    pub fn set(&mut self, page: u64, image: Image) {
        let value = match image {
            Image::None => NONE,
            Image::Hole => HOLE,
            Image::Content(hash) => hash,
        };
        let number = page / PMD_SIZE;
        if value != HOLE || self.chunks.contains_key(&number) {
            let chunk = self.chunks.entry(number);
            chunk.or_insert_with(|| Box::new([HOLE; CHUNK]))[place(page)] = value;
        }
    }

    /// The images of a range: each with its distance from the start.
    pub fn within(&self, range: &Range<u64>) -> Vec<(u64, Image)> {
        let chunks = range.start / PMD_SIZE..range.end.div_ceil(PMD_SIZE);
        let chunks = self
            .chunks
            .range(chunks)
            .map(|(number, _)| number * PMD_SIZE);
        let pages = chunks.flat_map(|start| (start..start + PMD_SIZE).step_by(PAGE_SIZE as usize));
        pages
            .filter(|page| range.contains(page))
            .map(|page| (page - range.start, self.of(page)))
            .collect()
    }

    /// Forgets the images of a range.
    pub fn forget(&mut self, range: &Range<u64>) {
        let chunks = range.start / PMD_SIZE..range.end.div_ceil(PMD_SIZE);
        let mut empty = Vec::new();
        for (number, chunk) in self.chunks.range_mut(chunks) {
            let start = number * PMD_SIZE;
            let from = range.start.saturating_sub(start).min(PMD_SIZE) / PAGE_SIZE;
            let to = (range.end - start).min(PMD_SIZE).div_ceil(PAGE_SIZE);
            chunk[from as usize..to as usize].fill(HOLE);
            if chunk.iter().all(|image| *image == HOLE) {
                empty.push(*number);
            }
        }
        for number in empty {
            self.chunks.remove(&number);
        }
    }

    /// Ends a round: forgets what lies in none of these ranges, which are disjoint and by address.
    pub fn keep(&mut self, ranges: &[Range<u64>]) {
        self.gone = [std::mem::take(&mut self.gone[1]), BTreeSet::new()];
        let mut at = 0;
        for range in ranges {
            self.forget(&(at..range.start));
            at = range.end;
        }
        self.forget(&(at..!(PMD_SIZE - 1)));
    }

    /// Looks at pages that are reported: hands each over with its image of before, and keeps what it finds as the image
    /// for the next round.
    pub fn look(
        &mut self,
        reported: &[PageExtent],
        mut each: impl FnMut(&PageExtent, u64, Image, Look),
    ) -> Result<(), UffdError> {
        for extent in reported {
            for piece in pieces(&extent.range) {
                self.piece(&piece, |images, page, look| {
                    each(extent, page, images.of(page), look);
                    let image = match look {
                        Look::Content(hash) => Image::Content(hash),
                        Look::Hole => Image::Hole,
                        Look::Not(_) => Image::None,
                    };
                    images.set(page, image);
                })?;
            }
        }
        Ok(())
    }

    /// Looks at the pages of a mapping that are there, or were, and are not reported, as [`Self::look`] does.
    ///
    /// Anonymous memory that is emptied without a report reads as zeroes. It counts if the next round does not report it
    /// either: what is emptied after a scan is told by the next one.
    pub fn verify(
        &mut self,
        mapping: &TrackedMapping,
        reported: &[PageExtent],
        mut each: impl FnMut(u64, Image, Look),
    ) -> Result<(), UffdError> {
        let mut runs = Vec::new();
        let whole = mapping.start..mapping.end;
        let populated = &mut self.populated;
        populated.append(&whole, PagePresence::InMemory, &mut runs)?;
        let anonymous = mapping.backing == Backing::Anon;
        if anonymous {
            let more = self.absent(&whole, &runs);
            runs.extend(more);
        }
        for run in runs.iter().flat_map(|run| without(run, reported)) {
            for piece in pieces(&run) {
                self.piece(&piece, |images, page, look| match look {
                    Look::Hole if !anonymous => (),
                    Look::Hole if !images.gone[0].remove(&page) => {
                        images.gone[1].insert(page);
                    }
                    look => {
                        each(page, images.of(page), look);
                        match look {
                            Look::Content(hash) => images.set(page, Image::Content(hash)),
                            Look::Hole => images.set(page, Image::Hole),
                            // What cannot be read now is armed since its image was taken.
                            Look::Not(_) => (),
                        }
                    }
                })?;
            }
        }
        Ok(())
    }

    /// The pages of a range that have content in their image, and are not among those that are there.
    fn absent(&self, range: &Range<u64>, there: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut absent: Vec<Range<u64>> = Vec::new();
        let chunks = range.start / PMD_SIZE..range.end.div_ceil(PMD_SIZE);
        for (number, chunk) in self.chunks.range(chunks) {
            for (index, image) in (0..).zip(chunk.iter()) {
                let page = number * PMD_SIZE + index * PAGE_SIZE;
                let next = there.partition_point(|run| run.end <= page);
                let is_there = there.get(next).is_some_and(|run| run.start <= page);
                if *image <= NONE || !range.contains(&page) || is_there {
                    continue;
                }
                match absent.last_mut() {
                    Some(last) if last.end == page => last.end += PAGE_SIZE,
                    _ => absent.push(page..page + PAGE_SIZE),
                }
            }
        }
        absent
    }

    /// Looks at a piece of one chunk.
    fn piece(
        &mut self,
        piece: &Range<u64>,
        mut each: impl FnMut(&mut Self, u64, Look),
    ) -> Result<(), UffdError> {
        let pages = ((piece.end - piece.start) / PAGE_SIZE) as usize;
        let read = self.pagemap.read(piece, &mut self.entries[..pages])?;
        // Beyond what could be read nothing is mapped.
        self.entries[read..pages].fill(PagemapEntry::default());
        let address = |index: usize| piece.start + index as u64 * PAGE_SIZE;
        let (sampling, entries) = (self.sampling, &self.entries);
        let wanted = |index: usize| {
            let entry = entries[index];
            entry.present() && entry.armed() && is_sampled(sampling, address(index))
        };
        let mut looks = [Look::Hole; CHUNK];
        let mut index = 0;
        while index < pages {
            if !wanted(index) {
                let entry = entries[index];
                looks[index] = if !is_sampled(sampling, address(index)) {
                    Look::Not(UnknownReason::NotSampled)
                } else if entry.present() {
                    Look::Not(UnknownReason::WrittenAgain)
                } else if entry.swapped() && !entry.is_marker() {
                    Look::Not(UnknownReason::Swapped)
                } else {
                    Look::Hole
                };
                index += 1;
                continue;
            }
            let end = (index..pages)
                .find(|index| !wanted(*index))
                .unwrap_or(pages);
            let buffer = &mut self.buffer[..(end - index) * PAGE_SIZE as usize];
            let bytes = self.memory.read(address(index), buffer)?;
            for (page, look) in buffer
                .chunks(PAGE_SIZE as usize)
                .zip(&mut looks[index..end])
            {
                *look = Look::Content(hash(page));
            }
            looks[index + bytes / PAGE_SIZE as usize..end]
                .fill(Look::Not(UnknownReason::Unreadable));
            self.hashed += bytes as u64;
            index = end;
        }
        let read = self.pagemap.read(piece, &mut self.after[..pages])?;
        self.after[read..pages].fill(PagemapEntry::default());
        for (index, look) in looks[..pages].iter_mut().enumerate() {
            let after = self.after[index];
            if matches!(look, Look::Content(_)) && !(after.present() && after.armed()) {
                *look = Look::Not(UnknownReason::WrittenAgain);
            }
        }
        for (index, look) in looks[..pages].iter().enumerate() {
            each(self, address(index), *look);
        }
        Ok(())
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

fn place(page: u64) -> usize {
    (page % PMD_SIZE / PAGE_SIZE) as usize
}

/// Whether a report was true.
#[must_use]
pub fn verdict(
    before: Image,
    now: Look,
    backing: Backing,
) -> (ReportVerdict, Option<UnknownReason>) {
    // Anonymous memory that is not there reads as zeroes; of a file it is what the file has.
    let anonymous = backing == Backing::Anon;
    let before = match before {
        Image::Hole if anonymous => Image::Content(zero()),
        before => before,
    };
    let now = match now {
        Look::Hole if anonymous => Look::Content(zero()),
        now => now,
    };
    let unknown = |reason| (ReportVerdict::Unknown, Some(reason));
    match (before, now) {
        (_, Look::Not(reason)) => unknown(reason),
        (Image::Content(_), Look::Hole) => (ReportVerdict::Gone, None),
        (Image::None, _) => unknown(UnknownReason::NoImageBefore),
        (Image::Hole, _) => unknown(UnknownReason::NotMapped),
        (Image::Content(before), Look::Content(now)) if before == now => {
            (ReportVerdict::Unchanged, None)
        }
        (Image::Content(_), Look::Content(now)) if now == zero() => (ReportVerdict::Zeroed, None),
        (Image::Content(_), Look::Content(_)) => (ReportVerdict::Changed, None),
    }
}
