//! What is known of the pages of observed memory, by address: pure.

use std::collections::BTreeMap;
use std::ops::Range;

use uffd::{PAGE_SIZE, PMD_SIZE};

use super::epoch::PageEpoch;

/// Pages of a chunk, which are 2 MiB.
const CHUNK: usize = (PMD_SIZE / PAGE_SIZE) as usize;

/// The epochs of pages, by the number of the 2 MiB that they lie in.
#[derive(Default)]
pub(super) struct EpochStore(BTreeMap<u64, Box<[PageEpoch; CHUNK]>>);

impl EpochStore {
    /// Bytes that it takes.
    pub(super) fn memory(&self) -> u64 {
        (self.0.len() * size_of::<[PageEpoch; CHUNK]>()) as u64
    }

    pub(super) fn get(&self, page: u64) -> PageEpoch {
        let chunk = self.0.get(&(page / PMD_SIZE));
        chunk.map_or(PageEpoch::Unseen, |chunk| chunk[place(page)])
    }

    pub(super) fn set(&mut self, page: u64, epoch: PageEpoch) {
        let number = page / PMD_SIZE;
        if epoch != PageEpoch::Unseen || self.0.contains_key(&number) {
            let chunk = self.0.entry(number);
            chunk.or_insert_with(|| Box::new([PageEpoch::Unseen; CHUNK]))[place(page)] = epoch;
        }
    }

    /// Numbers of the chunks of a range in which something is known.
    pub(super) fn chunks(&self, range: &Range<u64>) -> impl Iterator<Item = u64> + use<'_> {
        self.0.range(chunks(range)).map(|(number, _)| *number)
    }

    /// Takes out what is known of a range: each page with its epoch.
    pub(super) fn take(&mut self, range: &Range<u64>) -> Vec<(u64, PageEpoch)> {
        let mut taken = Vec::new();
        let known: Vec<u64> = self.chunks(range).collect();
        for number in known {
            let Some(chunk) = self.0.get_mut(&number) else {
                continue;
            };
            for (index, epoch) in (0..).zip(chunk.iter_mut()) {
                let page = number * PMD_SIZE + index * PAGE_SIZE;
                if range.contains(&page) && *epoch != PageEpoch::Unseen {
                    taken.push((page, std::mem::take(epoch)));
                }
            }
            if chunk.iter().all(|epoch| *epoch == PageEpoch::Unseen) {
                self.0.remove(&number);
            }
        }
        taken
    }
}

/// Numbers of the chunks that a range touches.
pub(super) const fn chunks(range: &Range<u64>) -> Range<u64> {
    range.start / PMD_SIZE..range.end.div_ceil(PMD_SIZE)
}

/// Where a page is in its chunk.
const fn place(page: u64) -> usize {
    (page % PMD_SIZE / PAGE_SIZE) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_is_forgotten() {
        let (first, last) = (PMD_SIZE - PAGE_SIZE, PMD_SIZE);
        let mut store = EpochStore::default();
        store.set(first, PageEpoch::Unarmed);
        store.set(last, PageEpoch::Unarmed);
        store.set(7 * PMD_SIZE, PageEpoch::Unseen);
        assert_eq!(store.chunks(&(0..8 * PMD_SIZE)).collect::<Vec<_>>(), [0, 1]);
        let taken = store.take(&(0..PMD_SIZE));
        assert_eq!(taken, [(first, PageEpoch::Unarmed)]);
        assert_eq!(store.get(first), PageEpoch::Unseen);
        assert_eq!(store.get(last), PageEpoch::Unarmed);
        assert_eq!(store.memory(), (CHUNK * size_of::<PageEpoch>()) as u64);
    }
}
