//! What happened to each span of mappings over the whole recording.

use std::collections::BTreeMap;

use pages::track::{MappingRound, TrackRound};
use uffd::{PAGE_SIZE, pages_in};

use super::counts::AddressCounts;
use crate::print::span::{MappingSpan, spans};

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
    /// Different pages written.
    pub set: u64,
    /// Different pages written in every one of `rounds`; 0 if that is one.
    pub hot: u64,
    /// Different pages written in one round only.
    pub once: u64,
    /// Different pages of which nobody knows, and which were never seen to be written.
    pub unknown: u64,
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
            set: 0,
            hot: 0,
            once: 0,
            unknown: 0,
            zapped: None,
        }
    }

    /// Whether a page of it was seen to be written. What is only unknown does not count: that is
    /// most of a process when tracking begins.
    pub(super) fn is_written(&self) -> bool {
        self.set > 0
    }
}

/// Areas by start.
pub(super) struct AreaBook(BTreeMap<u64, AreaCounts>);

impl AreaBook {
    /// The areas of all rounds, with nothing counted.
    pub(super) fn of(rounds: &[TrackRound]) -> Self {
        let mappings = rounds.iter().flat_map(|round| &round.mappings);
        let spans = spans(mappings.map(|told| &told.mapping)).into_iter();
        Self(
            spans
                .map(|span| (span.range.start, AreaCounts::new(span)))
                .collect(),
        )
    }

    /// The area that holds an address.
    fn at(&mut self, address: u64) -> Option<&mut AreaCounts> {
        let (_, area) = self.0.range_mut(..=address).next_back()?;
        (address < area.span.range.end).then_some(area)
    }

    /// Counts what the rounds tell of each, and what was counted of each page.
    pub(super) fn count(
        &mut self,
        rounds: &[TrackRound],
        written: &AddressCounts,
        unknown: &AddressCounts,
    ) {
        for round in rounds {
            self.round(&round.mappings);
        }
        for area in self.0.values_mut() {
            for (part, times) in written.within(&area.span.range) {
                let pages = pages_in(&part);
                area.set += pages;
                if times == 1 {
                    area.once += pages;
                }
                if area.rounds > 1 && u64::from(times) >= area.rounds {
                    area.hot += pages;
                }
            }
            for (part, _) in unknown.within(&area.span.range) {
                let seen = written.within(&part);
                let seen: u64 = seen.map(|(range, _)| range.end - range.start).sum();
                area.unknown += (part.end - part.start - seen) / PAGE_SIZE;
            }
        }
    }

    fn round(&mut self, mappings: &[MappingRound]) {
        // Mappings of one area, if there are several, follow each other.
        let mut start = None;
        let (mut tracked, mut counted) = (0_u64, false);
        for MappingRound { mapping, pages, .. } in mappings {
            let Some(area) = self.at(mapping.start) else {
                continue;
            };
            if start != Some(area.span.range.start) {
                start = Some(area.span.range.start);
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

    /// By address.
    pub(super) fn into_vec(self) -> Vec<AreaCounts> {
        self.0.into_values().collect()
    }
}
