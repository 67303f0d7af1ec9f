//! Images by address: pure.

use std::collections::BTreeMap;
use std::ops::Range;

use uffd::{PAGE_SIZE, PMD_SIZE};

use super::PageImage;
use super::verdict::LOWEST_HASH;

/// Pages of a chunk, which are 2 MiB.
pub(super) const CHUNK: usize = (PMD_SIZE / PAGE_SIZE) as usize;
/// What no chunk tells, and most of a sparse one.
const HOLE: u64 = 0;
const NONE: u64 = 1;
const _: () = assert!(NONE < LOWEST_HASH, "a hash is neither");

/// The images of a process. What was armed and has no image was not there.
#[derive(Default)]
pub(in crate::explain) struct ImageStore {
    /// By number of the 2 MiB that they lie in.
    chunks: BTreeMap<u64, Box<[u64; CHUNK]>>,
}

impl ImageStore {
    /// Bytes that the images take.
    pub(super) fn memory(&self) -> u64 {
        (self.chunks.len() * size_of::<[u64; CHUNK]>()) as u64
    }

    /// The image of a page that is armed.
    pub(super) fn get(&self, page: u64) -> PageImage {
        let chunk = self.chunks.get(&(page / PMD_SIZE));
        match chunk.map_or(HOLE, |chunk| chunk[place(page)]) {
            NONE => PageImage::None,
            HOLE => PageImage::Hole,
            hash => PageImage::Content(hash),
        }
    }

    /// Replaces the image of a page.
    pub(in crate::explain) fn set(&mut self, page: u64, image: PageImage) {
        let value = match image {
            PageImage::None => NONE,
            PageImage::Hole => HOLE,
            PageImage::Content(hash) => hash,
        };
        let number = page / PMD_SIZE;
        if value != HOLE || self.chunks.contains_key(&number) {
            let chunk = self.chunks.entry(number);
            chunk.or_insert_with(|| Box::new([HOLE; CHUNK]))[place(page)] = value;
        }
    }

    /// The images of a range, each with its distance from the start.
    fn within(&self, range: &Range<u64>) -> Vec<(u64, PageImage)> {
        let chunks = self.chunks.range(chunks(range));
        let pages = chunks.flat_map(|(number, _)| {
            let start = number * PMD_SIZE;
            (start..start + PMD_SIZE).step_by(PAGE_SIZE as usize)
        });
        pages
            .filter(|page| range.contains(page))
            .map(|page| (page - range.start, self.get(page)))
            .collect()
    }

    /// Takes images along where pages were moved (to where, and from where), and forgets those of
    /// what was mapped anew or is gone.
    pub(in crate::explain) fn relocate(
        &mut self,
        moves: &[(Range<u64>, u64)],
        anew: &[Range<u64>],
    ) {
        let from = |(to, from): &(Range<u64>, u64)| *from..from.saturating_add(to.end - to.start);
        let taken: Vec<_> = moves.iter().map(|it| self.within(&from(it))).collect();
        for range in anew {
            self.forget(range);
        }
        for (pages, (to, _)) in taken.into_iter().zip(moves) {
            for (distance, image) in pages {
                self.set(to.start + distance, image);
            }
        }
    }

    /// Forgets the images of a range.
    fn forget(&mut self, range: &Range<u64>) {
        let mut empty = Vec::new();
        for (number, chunk) in self.chunks.range_mut(chunks(range)) {
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

    /// Forgets what lies in none of these ranges, which are disjoint and by address.
    pub(super) fn keep(&mut self, ranges: &[Range<u64>]) {
        let mut at = 0;
        for range in ranges {
            self.forget(&(at..range.start));
            at = range.end;
        }
        self.forget(&(at..!(PMD_SIZE - 1)));
    }

    /// The pages of a range that have content in their image, and are not among those that are
    /// there.
    pub(super) fn absent(&self, range: &Range<u64>, there: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut absent: Vec<Range<u64>> = Vec::new();
        for (number, chunk) in self.chunks.range(chunks(range)) {
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
}

/// Numbers of the chunks that a range touches.
fn chunks(range: &Range<u64>) -> Range<u64> {
    range.start / PMD_SIZE..range.end.div_ceil(PMD_SIZE)
}

/// Where a page is in its chunk.
fn place(page: u64) -> usize {
    (page % PMD_SIZE / PAGE_SIZE) as usize
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    const PAGE: u64 = PAGE_SIZE;

    fn with(pages: &[(u64, u64)]) -> ImageStore {
        let mut store = ImageStore::default();
        for (page, hash) in pages {
            store.set(*page, PageImage::Content(*hash));
        }
        store
    }

    #[test]
    fn images_go_along_with_moved_pages() {
        let (from, to) = (3 * PMD_SIZE - PAGE, 9 * PMD_SIZE);
        let mut store = with(&[
            (from, 10),
            (from + PAGE, 11),
            (from + 2 * PAGE, 12),
            (to, 99),
        ]);
        let there = to..to + 2 * PAGE;
        let fresh = to..to + 8 * PAGE;
        store.relocate(&[(there.clone(), from)], from_ref(&fresh));
        assert_eq!(store.get(to), PageImage::Content(10));
        assert_eq!(store.get(to + PAGE), PageImage::Content(11));
        assert_eq!(store.get(to + 2 * PAGE), PageImage::Hole);
        // Pages may be swapped with each other.
        store.relocate(
            &[(to..to + PAGE, to + PAGE), (to + PAGE..to + 2 * PAGE, to)],
            &[there],
        );
        assert_eq!(store.get(to), PageImage::Content(11));
        assert_eq!(store.get(to + PAGE), PageImage::Content(10));
    }

    #[test]
    fn what_is_kept_is_what_is_tracked() {
        let far = 1 << 40;
        let mut store = with(&[(0x1000, 5), (0x2000, 6), (0x3000, 7), (far, 8)]);
        store.keep(from_ref(&(0x2000..0x3000)));
        let images = [0x1000, 0x2000, 0x3000, far].map(|page| store.get(page));
        let hole = PageImage::Hole;
        assert_eq!(images, [hole, PageImage::Content(6), hole, hole]);
        assert_eq!(store.memory(), PMD_SIZE / PAGE_SIZE * 8);
        store.keep(&[]);
        assert_eq!(store.memory(), 0);
    }

    #[test]
    fn what_had_content_and_is_not_there_is_absent() {
        let mut store = with(&[(0x1000, 5), (0x2000, 6), (0x3000, 7), (0x5000, 8)]);
        store.set(0x4000, PageImage::None);
        let there = 0x2000..0x3000;
        let there = from_ref(&there);
        assert_eq!(
            store.absent(&(0..0x6000), there),
            [0x1000..0x2000, 0x3000..0x4000, 0x5000..0x6000]
        );
        let part = store.absent(&(0x3000..0x5000), there);
        assert_eq!(part, from_ref(&(0x3000..0x4000)));
    }
}
