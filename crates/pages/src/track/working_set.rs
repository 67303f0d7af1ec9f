//! Which pages were written at all, over all rounds.

use std::collections::HashMap;

use roaring::RoaringTreemap;
use uffd::PAGE_SIZE;

use super::UntrackedPages;
use super::model::{MappingRound, PageExtent, TrackEnd, TrackRound, TrackSummary};

/// The union of the pages that rounds report.
#[derive(Clone, Debug, Default)]
pub struct WorkingSet {
    written: PageSet,
    unknown: PageSet,
    rounds: u64,
    reported: u64,
    tracked: u64,
    not_looked_at: UntrackedPages,
    lasted: std::time::Duration,
    took: std::time::Duration,
}

impl WorkingSet {
    /// Adds a round.
    pub fn add(&mut self, round: &TrackRound) {
        for row in &round.mappings {
            for extent in &row.written {
                if extent.unknown {
                    self.unknown.insert(row, extent);
                } else {
                    self.written.insert(row, extent);
                }
            }
        }
        let pages = |count: fn(&super::model::TrackedPages) -> u64| {
            round
                .mappings
                .iter()
                .map(|mapping| count(&mapping.pages))
                .sum::<u64>()
        };
        self.rounds += u64::from(round.number != 0);
        self.reported += pages(|pages| pages.written);
        self.tracked = self.tracked.max(pages(|pages| pages.tracked));
        self.not_looked_at = self.not_looked_at.most(&round.not_looked_at);
        self.lasted = self.lasted.max(round.at);
        self.took += round.took;
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
            not_looked_at: self.not_looked_at.clone(),
            took: self.took,
            end,
            status,
        }
    }
}

/// Different pages. One of shared memory is the same wherever it is mapped.
#[derive(Clone, Debug, Default)]
struct PageSet {
    /// By number of the address.
    private: RoaringTreemap,
    /// By number in the file, for each device and inode.
    shared: HashMap<((u32, u32), u64), RoaringTreemap>,
}

impl PageSet {
    fn insert(&mut self, row: &MappingRound, extent: &PageExtent) {
        let pages = |start: u64| {
            let first = start / PAGE_SIZE;
            first..first.saturating_add(extent.pages())
        };
        let Some(place) = row.mapping.shared else {
            self.private.insert_range(pages(extent.range.start));
            return;
        };
        let distance = extent.range.start.saturating_sub(row.mapping.start);
        let file = self.shared.entry((place.device, place.inode)).or_default();
        file.insert_range(pages(place.offset.saturating_add(distance)));
    }

    fn len(&self) -> u64 {
        let shared = self.shared.values().map(RoaringTreemap::len);
        self.private.len() + shared.sum::<u64>()
    }

    /// How many are not in another set.
    fn len_without(&self, other: &Self) -> u64 {
        let nothing = RoaringTreemap::new();
        let shared = self.shared.iter().map(|(file, pages)| {
            let others = other.shared.get(file).unwrap_or(&nothing);
            pages.len() - pages.intersection_len(others)
        });
        self.private.len() - self.private.intersection_len(&other.private) + shared.sum::<u64>()
    }
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
