//! Shared memory that a process has mapped several times: pure.
//!
//! A write through one mapping is reported of that one, and changes what all of them show. So a
//! page of another one that changed has not been missed if its memory is reported; and what was
//! written while this round was read, the next one reports.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use pages::track::{SharedFile, SharedPlace, TrackRound, TrackedMapping};
use uffd::PAGE_SIZE;

use super::model::{ByMapping, MissedPages};

/// What becomes of a page that changed and is not reported where it is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AliasFate {
    /// It is reported where else it is mapped.
    Reported,
    /// It is mapped elsewhere, too: the next round may report it there.
    Waits,
    /// It is mapped once.
    Alone,
}

/// The aliases of a round, and what waits for the next one.
#[derive(Debug, Default)]
pub(super) struct AliasBook {
    /// Where files are mapped that more than one mapping has.
    files: BTreeMap<SharedFile, Vec<Range<u64>>>,
    /// Pages of them that are reported.
    reported: HashSet<SharedPlace>,
    /// What changed in the round before and was not reported by then.
    earlier: WaitingPages,
    /// What changed in this round.
    waiting: WaitingPages,
}

/// Pages, by where they are, with the mapping in which each was seen to change.
type WaitingPages = BTreeMap<SharedPlace, (Arc<TrackedMapping>, MissedPages)>;

impl AliasBook {
    /// Begins a round.
    pub(super) fn begin(&mut self, round: &TrackRound) {
        self.earlier = mem::take(&mut self.waiting);
        self.files.clear();
        for row in &round.mappings {
            if let Some(place) = row.mapping.shared {
                let bytes = row.mapping.end.saturating_sub(row.mapping.start);
                let range = place.offset..place.offset.saturating_add(bytes);
                self.files.entry(place.file()).or_default().push(range);
            }
        }
        self.files.retain(|_, ranges| ranges.len() > 1);
        let reported = round.mappings.iter().flat_map(|row| {
            let extents = row.written.iter().map(|extent| extent.range.clone());
            let pages = extents.flat_map(|range| range.step_by(PAGE_SIZE as usize));
            pages.filter_map(|page| row.mapping.shared_at(page))
        });
        let known = |place: &SharedPlace| {
            self.files.contains_key(&place.file()) || self.earlier.contains_key(place)
        };
        self.reported = reported.filter(known).collect();
    }

    /// Whether a page that changed and is not reported in its mapping is missed. If it is not, it
    /// is left to the next round, or reported.
    pub(super) fn is_missed(&mut self, mapping: &TrackedMapping, missed: &MissedPages) -> bool {
        let Some(place) = mapping.shared_at(missed.range.start) else {
            return true;
        };
        match self.fate(&place) {
            AliasFate::Alone => true,
            AliasFate::Reported => false,
            AliasFate::Waits => {
                let page = (Arc::new(mapping.clone()), missed.clone());
                self.waiting.insert(place, page);
                false
            }
        }
    }

    fn fate(&self, place: &SharedPlace) -> AliasFate {
        let ranges = self.files.get(&place.file()).into_iter().flatten();
        let places = ranges.filter(|range| range.contains(&place.offset));
        if self.reported.contains(place) {
            AliasFate::Reported
        } else if places.count() > 1 {
            AliasFate::Waits
        } else {
            AliasFate::Alone
        }
    }

    /// What changed in the round before and is reported by neither: it was missed.
    pub(super) fn missed_earlier(&mut self) -> ByMapping<MissedPages> {
        let mut missed: ByMapping<MissedPages> = Vec::new();
        for (place, (mapping, page)) in mem::take(&mut self.earlier) {
            if self.reported.contains(&place) {
                continue;
            }
            match missed.iter_mut().find(|(known, _)| *known == mapping) {
                Some((_, pages)) => pages.push(page),
                None => missed.push((mapping, vec![page])),
            }
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use pages::track::{MappingRound, PageExtent, TrackedPages};
    use uffd::Backing;

    use super::*;
    use crate::explain::sample::mapping_of;

    /// A mapping of eight pages of one file.
    fn view(start: u64, offset: u64) -> TrackedMapping {
        let range = start * PAGE_SIZE..(start + 8) * PAGE_SIZE;
        TrackedMapping {
            shared: Some(SharedPlace {
                device: (0, 1),
                inode: 7,
                offset: offset * PAGE_SIZE,
            }),
            ..mapping_of(range, Backing::Shmem)
        }
    }

    /// A round of such mappings, each with the pages that it reports.
    fn round(views: &[(TrackedMapping, &[u64])]) -> TrackRound {
        let row = |(mapping, reported): &(TrackedMapping, &[u64])| {
            let extent = |page: &u64| PageExtent {
                range: page_range(mapping, *page),
                unit: PAGE_SIZE,
                unknown: false,
            };
            MappingRound {
                mapping: Arc::new(mapping.clone()),
                pages: TrackedPages::default(),
                written: reported.iter().map(extent).collect(),
            }
        };
        TrackRound {
            mappings: views.iter().map(row).collect(),
            ..TrackRound::default()
        }
    }

    fn page_range(mapping: &TrackedMapping, page: u64) -> Range<u64> {
        let start = mapping.start + page * PAGE_SIZE;
        start..start + PAGE_SIZE
    }

    fn changed(mapping: &TrackedMapping, page: u64) -> MissedPages {
        MissedPages {
            round: 1,
            range: page_range(mapping, page),
            zeroed: false,
            candidates: Vec::new(),
        }
    }

    #[test]
    fn what_is_reported_of_another_mapping_is_not_missed() {
        let (one, two) = (view(100, 0), view(200, 4));
        let mut book = AliasBook::default();
        book.begin(&round(&[(one.clone(), &[5]), (two.clone(), &[])]));
        // Page 5 of the first is page 1 of the second; page 0 of the first is mapped once.
        assert!(!book.is_missed(&two, &changed(&two, 1)));
        assert!(book.is_missed(&one, &changed(&one, 0)));
        book.begin(&round(&[(one, &[]), (two, &[])]));
        assert_eq!(book.missed_earlier(), []);
    }

    #[test]
    fn what_no_round_reports_is_missed_a_round_later() {
        let (one, two) = (view(100, 0), view(200, 4));
        let mut book = AliasBook::default();
        book.begin(&round(&[(one.clone(), &[]), (two.clone(), &[])]));
        for page in [1, 2] {
            assert!(!book.is_missed(&two, &changed(&two, page)));
        }
        // Written while the round was read, one of them is reported by the next one.
        book.begin(&round(&[(one, &[6]), (two.clone(), &[])]));
        let expected = vec![changed(&two, 1)];
        assert_eq!(book.missed_earlier(), [(Arc::new(two), expected)]);
        assert_eq!(book.missed_earlier(), [], "told once");
    }

    #[test]
    fn memory_of_one_mapping_does_not_wait() {
        let one = view(100, 0);
        let private = mapping_of(0..8 * PAGE_SIZE, Backing::Anon);
        let mut book = AliasBook::default();
        book.begin(&round(&[(one.clone(), &[]), (private.clone(), &[])]));
        assert!(book.is_missed(&one, &changed(&one, 1)));
        assert!(book.is_missed(&private, &changed(&private, 1)));
    }
}
