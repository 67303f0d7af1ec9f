//! Shared memory by what its pages are: device, inode and offset, wherever and however often they
//! are mapped.

use std::collections::BTreeMap;
use std::ops::Range;

use pages::track::{MappingRound, PageExtent, SharedFile, SharedPlace, TrackRound, TrackedMapping};
use uffd::pages_in;

use super::tally::{DifferentPages, PageTally};
use crate::track::recording::OverBudget;

/// Bytes of the counts of a file, with its place in the index and what a round adds.
const FILE: u64 = 1024;
/// Names kept of one file: more are of no help.
const NAMES: usize = 3;

/// The counts of a file. Pages of 4 KiB.
#[derive(Clone, Debug)]
pub(super) struct FileCounts {
    pub file: SharedFile,
    /// The names of its mappings.
    pub names: Vec<String>,
    /// From the lowest offset that was mapped to the highest end.
    pub offsets: Range<u64>,
    /// The most mappings of it at once.
    pub mapped: u64,
    /// The most different pages of it that were tracked in one round.
    pub tracked: u64,
    /// Rounds in which it could be seen to be written.
    pub rounds: u64,
    /// Those of `rounds` in which a page of it was written.
    pub rounds_written: u64,
    /// Pages reported, each as often as a mapping reported it.
    pub written: u64,
    /// A round before has armed it.
    armed: bool,
    /// By offset.
    tally: PageTally,
}

/// Files in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct FileBook {
    files: Vec<FileCounts>,
    index: BTreeMap<SharedFile, usize>,
    /// The file of each mapping of the last round, in its order.
    places: Vec<Option<usize>>,
    /// Bytes of the names.
    names: u64,
    /// Bytes of the tallies.
    tallies: u64,
}

/// What a round tells of one file.
#[derive(Default)]
struct FileRound {
    written: u64,
    /// Extents with their offsets; a page that several mappings report is there several times.
    extents: Vec<(PageExtent, Range<u64>)>,
}

impl FileCounts {
    fn new(file: SharedFile, offsets: Range<u64>) -> Self {
        Self {
            file,
            names: Vec::new(),
            offsets,
            mapped: 0,
            tracked: 0,
            rounds: 0,
            rounds_written: 0,
            written: 0,
            armed: false,
            tally: PageTally::default(),
        }
    }

    /// Its different pages.
    pub(super) fn pages(&self) -> DifferentPages {
        self.tally.within(&(0..u64::MAX), self.rounds)
    }

    fn round(&mut self, round: FileRound) {
        let armed = std::mem::replace(&mut self.armed, true);
        self.rounds += u64::from(armed || round.written > 0);
        self.rounds_written += u64::from(round.written > 0);
        self.written = self.written.saturating_add(round.written);
        for unknown in [false, true] {
            let of = round.extents.iter().filter(|(e, _)| e.unknown == unknown);
            let mut extents: Vec<_> = of.collect();
            extents.sort_by_key(|(_, offsets)| offsets.start);
            let mut end = 0;
            for (extent, offsets) in extents {
                // What another mapping has reported counts once in a round.
                self.tally
                    .add(extent, &(offsets.start.max(end)..offsets.end.max(end)));
                end = end.max(offsets.end);
            }
        }
    }
}

impl FileBook {
    /// Counts what a round tells of each file. `is_new`: its mappings are others than those of the
    /// round before; `check`: whether there is room for so many bytes more.
    ///
    /// # Errors
    /// If there is no room for it.
    pub(super) fn round(
        &mut self,
        round: &TrackRound,
        is_new: bool,
        check: impl Fn(u64) -> Result<(), OverBudget>,
    ) -> Result<(), OverBudget> {
        let before = self.held();
        if is_new {
            self.places.clear();
            for told in &round.mappings {
                let place = told
                    .mapping
                    .shared
                    .map(|place| self.place(place, &told.mapping));
                self.places.push(place);
                check(self.held().saturating_sub(before))?;
            }
            self.count_mappings(&round.mappings);
        }
        if self.files.is_empty() {
            return Ok(());
        }
        self.files
            .iter_mut()
            .for_each(|file| file.tally.begin_round());
        let mut rounds = BTreeMap::<usize, FileRound>::new();
        for (told, place) in round.mappings.iter().zip(&self.places) {
            let Some(place) = *place else { continue };
            let of_file = rounds.entry(place).or_default();
            of_file.written = of_file.written.saturating_add(told.pages.written);
            let offsets = told
                .written
                .iter()
                .map(|extent| (extent.clone(), offsets(told, extent)));
            of_file.extents.extend(offsets);
        }
        for (place, of_file) in rounds {
            if let Some(file) = self.files.get_mut(place) {
                self.tallies -= file.tally.held();
                file.round(of_file);
                self.tallies += file.tally.held();
            }
            check(self.held().saturating_sub(before))?;
        }
        Ok(())
    }

    /// The file of a mapping, which it is now known by.
    fn place(&mut self, place: SharedPlace, mapping: &TrackedMapping) -> usize {
        let offsets = mapped(mapping, place);
        let number = *self.index.entry(place.file()).or_insert(self.files.len());
        if number == self.files.len() {
            let new = FileCounts::new(place.file(), offsets.clone());
            self.files.push(new);
        }
        if let Some(file) = self.files.get_mut(number) {
            file.offsets.start = file.offsets.start.min(offsets.start);
            file.offsets.end = file.offsets.end.max(offsets.end);
            let is_new = !mapping.name.is_empty() && !file.names.contains(&mapping.name);
            if is_new && file.names.len() < NAMES {
                self.names += 4 * mapping.name.len() as u64;
                file.names.push(mapping.name.clone());
            }
        }
        number
    }

    /// How often each file is mapped, and how much of it.
    fn count_mappings(&mut self, mappings: &[MappingRound]) {
        let mut ranges = BTreeMap::<usize, Vec<Range<u64>>>::new();
        for (told, number) in mappings.iter().zip(&self.places) {
            if let (Some(number), Some(place)) = (number, told.mapping.shared) {
                ranges
                    .entry(*number)
                    .or_default()
                    .push(mapped(&told.mapping, place));
            }
        }
        for (number, mut ranges) in ranges {
            let Some(file) = self.files.get_mut(number) else {
                continue;
            };
            file.mapped = file.mapped.max(ranges.len() as u64);
            ranges.sort_by_key(|range| range.start);
            let (mut pages, mut end) = (0_u64, 0);
            for range in ranges {
                let rest = range.start.max(end)..range.end.max(end);
                pages = pages.saturating_add(pages_in(&rest));
                end = rest.end;
            }
            file.tracked = file.tracked.max(pages);
        }
    }

    /// Different pages written so far.
    pub(super) fn set(&self) -> u64 {
        self.sum(PageTally::set)
    }

    /// Different pages written in the sliding window.
    pub(super) fn window(&self) -> u64 {
        self.sum(PageTally::window)
    }

    fn sum(&self, of: fn(&PageTally) -> u64) -> u64 {
        let files = self.files.iter().map(|file| of(&file.tally));
        files.fold(0, u64::saturating_add)
    }

    /// Bytes of memory that this takes.
    pub(super) fn held(&self) -> u64 {
        let places = self.places.capacity() * size_of::<Option<usize>>();
        self.tallies + self.files.len() as u64 * FILE + self.names + places as u64
    }

    /// All files.
    pub(super) fn into_files(self) -> Vec<FileCounts> {
        self.files
    }
}

/// The offsets that a mapping shows.
fn mapped(mapping: &TrackedMapping, place: SharedPlace) -> Range<u64> {
    let bytes = mapping.end.saturating_sub(mapping.start);
    place.offset..place.offset.saturating_add(bytes)
}

/// The offsets of an extent of shared memory.
fn offsets(told: &MappingRound, extent: &PageExtent) -> Range<u64> {
    let place = told.mapping.shared_at(extent.range.start);
    let start = place.map_or(0, |place| place.offset);
    let bytes = extent.range.end.saturating_sub(extent.range.start);
    start..start.saturating_add(bytes)
}
