//! Which pages were written at all, over all rounds.

use std::collections::HashMap;
use std::hash::Hash;

use roaring::RoaringTreemap;
use uffd::PAGE_SIZE;

use super::UntrackedPages;
use super::model::{MappingRound, PageExtent, SharedFile, TrackEnd, TrackRound, TrackSummary};

/// Stands for the process itself among its children.
const ITSELF: u32 = 0;

/// The union of the pages that rounds report.
#[derive(Clone, Debug, Default)]
pub struct WorkingSet {
    written: PageSet,
    unknown: PageSet,
    rounds: u64,
    reported: u64,
    tracked: u64,
    shared: u64,
    not_looked_at: UntrackedPages,
    lasted: std::time::Duration,
    took: std::time::Duration,
}

impl WorkingSet {
    /// Adds a round.
    pub fn add(&mut self, round: &TrackRound) {
        self.add_process(ITSELF, &round.mappings);
        for child in &round.children {
            self.add_process(child.pid, &child.mappings);
        }
        let written = round.all_mappings().map(|row| row.pages.written);
        self.rounds += u64::from(round.number != 0);
        self.reported += written.sum::<u64>();
        self.tracked = self.tracked.max(round.tracked());
        self.shared = self.shared.max(round.shared());
        self.not_looked_at = self.not_looked_at.most(&round.not_looked_at);
        self.lasted = self.lasted.max(round.at);
        self.took += round.took;
    }

    fn add_process(&mut self, process: u32, rows: &[MappingRound]) {
        for row in rows {
            for extent in &row.written {
                let set = if extent.unknown {
                    &mut self.unknown
                } else {
                    &mut self.written
                };
                set.insert(process, row, extent);
            }
        }
    }

    /// Different pages written so far, in 4 KiB.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.written.len()
    }

    /// What all rounds come to.
    #[must_use]
    pub fn summary(&self, end: TrackEnd, status: Option<i32>) -> TrackSummary {
        TrackSummary {
            rounds: self.rounds,
            lasted: self.lasted,
            written_set: self.written.len(),
            written: self.reported,
            unknown_set: self.unknown.len_without(&self.written),
            tracked: self.tracked,
            shared: self.shared,
            not_looked_at: self.not_looked_at.clone(),
            took: self.took,
            end,
            status,
            huge_pages: None,
        }
    }
}

/// Different pages. One of shared memory is the same wherever it is mapped.
#[derive(Clone, Debug, Default)]
struct PageSet {
    /// By number of the address, for each process.
    private: HashMap<u32, RoaringTreemap>,
    /// By number in the file, for each file.
    shared: HashMap<SharedFile, RoaringTreemap>,
}

impl PageSet {
    fn insert(&mut self, process: u32, row: &MappingRound, extent: &PageExtent) {
        let pages = |start: u64| {
            let first = start / PAGE_SIZE;
            first..first.saturating_add(extent.pages())
        };
        let start = extent.range.start;
        let Some(place) = row.mapping.shared_at(start) else {
            let own = self.private.entry(process).or_default();
            own.insert_range(pages(start));
            return;
        };
        let file = self.shared.entry(place.file()).or_default();
        file.insert_range(pages(place.offset));
    }

    fn len(&self) -> u64 {
        let private = self.private.values().map(RoaringTreemap::len);
        let shared = self.shared.values().map(RoaringTreemap::len);
        private.chain(shared).sum()
    }

    /// How many are not in another set.
    fn len_without(&self, other: &Self) -> u64 {
        less(&self.private, &other.private) + less(&self.shared, &other.shared)
    }
}

/// How many pages are in `these` and not in those of the same key.
fn less<K: Eq + Hash>(
    these: &HashMap<K, RoaringTreemap>,
    those: &HashMap<K, RoaringTreemap>,
) -> u64 {
    let both = |key, pages: &RoaringTreemap| {
        let others = those.get(key);
        others.map_or(0, |others| pages.intersection_len(others))
    };
    let these = these.iter();
    these
        .map(|(key, pages)| pages.len() - both(key, pages))
        .sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::track::{SharedPlace, TrackedMapping, TrackedPages};
    use uffd::Backing;

    fn row(start: u64, shared: Option<SharedPlace>, page: u64, unknown: bool) -> MappingRound {
        let start = start * PAGE_SIZE;
        let page = start + page * PAGE_SIZE;
        let mapping = Arc::new(TrackedMapping {
            start,
            end: start + 100 * PAGE_SIZE,
            name: String::new(),
            backing: Backing::Shmem,
            page_size: PAGE_SIZE,
            shared,
        });
        MappingRound {
            mapping,
            pages: TrackedPages::default(),
            written: vec![PageExtent {
                range: page..page + PAGE_SIZE,
                unit: PAGE_SIZE,
                unknown,
            }],
        }
    }

    /// One page of a file mapped twice, another one of it, and a private one at the same address.
    #[test]
    fn a_page_of_shared_memory_is_one_wherever_it_is_mapped() {
        let place = |pages: u64| {
            Some(SharedPlace {
                device: (0, 1),
                inode: 7,
                offset: pages * PAGE_SIZE,
            })
        };
        let mut set = WorkingSet::default();
        let round = |mappings| TrackRound {
            mappings,
            ..TrackRound::default()
        };
        set.add(&round(vec![
            row(100, place(0), 5, false),
            row(300, place(2), 3, false),
            row(500, place(0), 6, true),
            row(700, place(5), 0, true),
            row(100, None, 5, false),
        ]));
        let summary = set.summary(TrackEnd::Done, None);
        assert_eq!((summary.written_set, summary.unknown_set), (2, 1));
    }
}
