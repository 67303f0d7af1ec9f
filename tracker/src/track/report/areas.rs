//! What happened to each span of mappings over the whole recording.

use pages::track::MappingRound;

use super::rounds::WrittenSets;
use super::tally::DifferentPages;
use crate::print::span::MappingSpan;

/// The counts of a span. Pages of 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AreaCounts {
    pub span: MappingSpan,
    /// Rounds in which it could be seen to be written: it was there, and armed by a round before.
    pub rounds: u64,
    /// A round before has armed it.
    armed: bool,
    /// Those of `rounds` in which a page of it was written.
    pub rounds_written: u64,
    /// The most pages tracked in one round.
    pub tracked: u64,
    /// Pages written, each as often as it was.
    pub written: u64,
    /// Its different pages, by address.
    pub pages: DifferentPages,
    /// Pages emptied, each as often as it was; `None`: the strategy cannot tell.
    pub zapped: Option<u64>,
}

impl AreaCounts {
    fn new(span: MappingSpan) -> Self {
        Self {
            span,
            rounds: 0,
            armed: false,
            rounds_written: 0,
            tracked: 0,
            written: 0,
            pages: DifferentPages::default(),
            zapped: None,
        }
    }

    /// Whether a page of it was seen to be written. What is only unknown does not count: that is
    /// most of a process when tracking begins.
    pub(super) fn is_written(&self) -> bool {
        self.pages.set > 0
    }
}

/// Areas by address.
pub(super) struct AreaBook {
    areas: Vec<AreaCounts>,
    /// Which area each mapping of the last round is in.
    places: Vec<Option<usize>>,
}

impl AreaBook {
    /// These areas, by address, with nothing counted.
    pub(super) fn new(spans: Vec<MappingSpan>) -> Self {
        Self {
            areas: spans.into_iter().map(AreaCounts::new).collect(),
            places: Vec::new(),
        }
    }

    /// The area that holds an address.
    fn at(&self, address: u64) -> Option<usize> {
        let after = self
            .areas
            .partition_point(|area| area.span.range.start <= address);
        let place = after.checked_sub(1)?;
        let area = self.areas.get(place)?;
        (address < area.span.range.end).then_some(place)
    }

    /// Counts what a round tells of each. `is_new`: its mappings are others than those of the round
    /// before.
    pub(super) fn round(&mut self, mappings: &[MappingRound], is_new: bool) {
        if is_new {
            let places = mappings.iter().map(|told| self.at(told.mapping.start));
            self.places = places.collect();
        }
        // Mappings of one area, if there are several, follow each other.
        let mut last = None;
        let (mut tracked, mut counted) = (0_u64, false);
        for (MappingRound { pages, .. }, place) in mappings.iter().zip(&self.places) {
            let Some(area) = place.and_then(|place| self.areas.get_mut(place)) else {
                continue;
            };
            if last != *place {
                last = *place;
                (tracked, counted) = (0, false);
                let armed = std::mem::replace(&mut area.armed, true);
                area.rounds += u64::from(armed || pages.written > 0);
            }
            tracked = tracked.saturating_add(pages.tracked);
            area.tracked = area.tracked.max(tracked);
            area.written = area.written.saturating_add(pages.written);
            if pages.written > 0 && !counted {
                area.rounds_written += 1;
                counted = true;
            }
            if let Some(zapped) = pages.zapped {
                area.zapped = Some(area.zapped.unwrap_or(0).saturating_add(zapped));
            }
        }
    }

    /// Counts what was counted of each page, after all rounds. Also returns what private memory
    /// comes to in all of them.
    pub(super) fn finish(mut self, sets: &WrittenSets) -> (Vec<AreaCounts>, DifferentPages) {
        let mut all = DifferentPages::default();
        for area in &mut self.areas {
            let private = sets.private(&area.span.range, area.rounds);
            area.pages = private.and(sets.mapped(&area.span.range, area.rounds));
            all = all.and(private);
        }
        (self.areas, all)
    }
}
