//! Mappings over the whole recording.
//!
//! A mapping may grow, shrink, be split and merged. So mappings that overlap, in one round or in different ones, are one
//! area: from the lowest start to the highest end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use uffd::Backing;

use super::counts::Counts;
use pages::track::{MappingRound, TrackRound, TrackedMapping};
use uffd::{PAGE_SIZE, pages_in};

/// A mapping, or several at the same addresses. Pages of 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// From its lowest start to its highest end.
    pub range: Range<u64>,
    /// The names it had.
    pub names: Vec<String>,
    /// What its pages come from.
    pub backing: Backing,
    /// Bytes of one page.
    pub page_size: u64,
    /// In how many rounds it could be seen to be written: it was there, and armed by a round before.
    pub rounds: u64,
    /// It was armed by a round before.
    armed: bool,
    /// In how many of them a page of it was written.
    pub rounds_written: u64,
    /// The most pages tracked in one round.
    pub tracked: u64,
    /// Pages written, each as often as it was.
    pub written: u64,
    /// Different pages written.
    pub set: u64,
    /// Different pages written in every round in which it could be; 0 if that is one.
    pub hot: u64,
    /// Different pages written in one round only.
    pub once: u64,
    /// Different pages of which nobody knows, that were never seen to be written.
    pub unknown: u64,
    /// Pages emptied, each as often as it was; `None`: the strategy cannot tell.
    pub zapped: Option<u64>,
}

impl Area {
    /// Its pages, if all were mapped at once.
    #[must_use]
    pub fn pages(&self) -> u64 {
        pages_in(&self.range)
    }

    /// Whether a page of it was seen to be written. What was only there before, unknown, is most of a process when
    /// tracking begins.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.set > 0
    }

    /// Its names as one.
    #[must_use]
    pub fn name(&self) -> String {
        match self.names.as_slice() {
            [] => "[anon]".to_owned(),
            names => names.join(", "),
        }
    }

    fn new(mapping: &TrackedMapping) -> Self {
        Self {
            range: mapping.start..mapping.end,
            names: Vec::new(),
            backing: mapping.backing,
            page_size: mapping.page_size,
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
}

/// Areas by start.
pub struct Areas(BTreeMap<u64, Area>);

/// Names told of one area: more are of no help.
const NAMES: usize = 3;

impl Areas {
    /// Those of all rounds, with nothing counted.
    pub fn of(rounds: &[TrackRound]) -> Self {
        let mut mappings: Vec<&Arc<TrackedMapping>> = Vec::new();
        for told in rounds.iter().flat_map(|round| &round.mappings) {
            if told.mapping.start < told.mapping.end {
                mappings.push(&told.mapping);
            }
        }
        mappings.sort_unstable_by_key(|m| (m.start, m.end, Arc::as_ptr(m)));
        mappings.dedup_by_key(|m| Arc::as_ptr(m));
        let mut areas: Vec<Area> = Vec::new();
        for mapping in mappings {
            let same = areas
                .last()
                .is_some_and(|last| mapping.start < last.range.end);
            if !same {
                areas.push(Area::new(mapping));
            }
            let Some(area) = areas.last_mut() else {
                continue;
            };
            area.range.end = area.range.end.max(mapping.end);
            let known = mapping.name.is_empty() || area.names.contains(&mapping.name);
            if !known && area.names.len() < NAMES {
                area.names.push(mapping.name.clone());
            }
        }
        Self(
            areas
                .into_iter()
                .map(|area| (area.range.start, area))
                .collect(),
        )
    }

    /// The area that holds an address.
    fn at(&mut self, address: u64) -> Option<&mut Area> {
        let (_, area) = self.0.range_mut(..=address).next_back()?;
        (address < area.range.end).then_some(area)
    }

    /// Counts what the rounds tell of each, and what was counted of each page.
    pub fn count(&mut self, rounds: &[TrackRound], written: &Counts, unknown: &Counts) {
        for round in rounds {
            self.round(&round.mappings);
        }
        for area in self.0.values_mut() {
            for (part, times) in written.within(&area.range) {
                let pages = pages_in(&part);
                area.set += pages;
                if times == 1 {
                    area.once += pages;
                }
                if area.rounds > 1 && u64::from(times) >= area.rounds {
                    area.hot += pages;
                }
            }
            for (part, _) in unknown.within(&area.range) {
                let seen: u64 = written
                    .within(&part)
                    .map(|(range, _)| range.end - range.start)
                    .sum();
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
            if start != Some(area.range.start) {
                start = Some(area.range.start);
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
    pub fn into_vec(self) -> Vec<Area> {
        self.0.into_values().collect()
    }
}
