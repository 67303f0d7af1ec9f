//! What is known of the memory of a process's own tracker.

use std::collections::BTreeMap;
use std::ops::Range;

use rangemap::{RangeMap, RangeSet};
use uffd::{Backing, PAGE_SIZE, UffdFeatures, pages_in};

use crate::explain::PlaceId;
use crate::explain::model::{CallerThread, TrackerCall, WatchedEvent};

/// A mapping that somebody else's userfaultfd write-protects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::explain) struct TheirMapping {
    pub range: Range<u64>,
    pub backing: Backing,
}

/// What a look found out about such memory, beside who writes to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::explain) struct TheirLook {
    /// All of it.
    pub mappings: Vec<TheirMapping>,
    /// Pages of mappings that were armed since the last look and are there as a whole: those that
    /// map the zero page.
    pub only_read: Vec<Range<u64>>,
    /// Pages that came to be there without protection, although memory around them is armed.
    pub unprotected: Vec<Range<u64>>,
    /// The features of every userfaultfd that the process holds, if they are the same.
    pub features: Option<UffdFeatures>,
}

/// What has armed a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArmedBy {
    pub by_scan: bool,
    pub place: Option<PlaceId>,
    pub caller: CallerThread,
}

/// A registration that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registered {
    /// Rounds that were over by then.
    rounds: u64,
    began: u64,
    place: Option<PlaceId>,
    caller: CallerThread,
}

/// What a registered range has never had armed.
pub(super) struct UnarmedRange {
    pub ranges: Vec<Range<u64>>,
    /// Whether the rest of it was.
    pub in_part: bool,
    pub place: Option<PlaceId>,
    pub caller: Option<CallerThread>,
}

/// The last time that somebody asked which pages of a range are written, without arming them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastRead {
    pub began: u64,
    pub ended: u64,
    pub place: Option<PlaceId>,
}

/// The memory. What is known of it is known by range, since a tracker works on ranges; only pages
/// that were written stand alone.
#[derive(Default)]
pub(super) struct TheirMemory {
    /// What it is made of, as far as it was mapped when somebody looked.
    made_of: RangeMap<u64, Backing>,
    /// What is registered: `None` if that was not seen.
    registered: RangeMap<u64, Option<Registered>>,
    /// Features of the userfaultfd, known from its calls.
    features: RangeMap<u64, UffdFeatures>,
    /// What was armed, and not unregistered since: by what last.
    armed: RangeMap<u64, ArmedBy>,
    /// What a process has read and nobody has armed since: who reads for another reason, as an agent
    /// does, is not the tracker that arms.
    read: BTreeMap<u32, RangeMap<u64, LastRead>>,
    /// Pages that were written since they were armed, and when.
    written: BTreeMap<u64, u64>,
}

impl TheirMemory {
    /// Whether there is any, or was.
    pub(super) fn is_any(&self) -> bool {
        !self.made_of.is_empty()
    }

    /// Takes note of what mappings are made of.
    pub(super) fn made_of(&mut self, mappings: &[TheirMapping]) {
        for TheirMapping { range, backing } in mappings {
            put(&mut self.made_of, range, *backing);
        }
    }

    /// Takes note of mappings that are registered, although nobody was seen to do that.
    pub(super) fn registered(&mut self, mappings: &[TheirMapping]) {
        for TheirMapping { range, .. } in mappings.iter().filter(|it| !it.range.is_empty()) {
            let gaps: Vec<_> = self.registered.gaps(range).collect();
            for gap in gaps {
                put(&mut self.registered, &gap, None);
            }
        }
    }

    /// Memory whose registration nobody saw is taken to be that of a userfaultfd with these features.
    pub(super) fn has_features(&mut self, mappings: &[TheirMapping], features: UffdFeatures) {
        for TheirMapping { range, .. } in mappings.iter().filter(|it| !it.range.is_empty()) {
            let gaps: Vec<_> = self.features.gaps(range).collect();
            for gap in gaps {
                put(&mut self.features, &gap, features);
            }
        }
    }

    /// Whether there is memory of whose userfaultfd nobody knows the features.
    pub(super) fn any_unknown_features(&self) -> bool {
        let mut registered = self.registered.iter();
        registered.any(|(range, _)| self.features.gaps(range).next().is_some())
    }

    /// A range is registered. What was registered with the same userfaultfd stays as it is, armed
    /// or not (`userfaultfd_register`); one with other features is another.
    pub(super) fn register(&mut self, range: &Range<u64>, call: &TrackerCall, rounds: u64) {
        let others = self.features.overlapping(range);
        let others = others.filter(|(_, features)| **features != call.features);
        let others: Vec<_> = others.map(|(part, _)| within(part, range)).collect();
        others.iter().for_each(|part| self.forget(part));
        let new: Vec<_> = match range.is_empty() {
            true => Vec::new(),
            false => self.registered.gaps(range).collect(),
        };
        let registered = Registered {
            rounds,
            began: call.began,
            place: call.place,
            caller: call.caller.clone(),
        };
        for part in new {
            self.forget(&part);
            put(&mut self.registered, &part, Some(registered.clone()));
        }
        put(&mut self.features, range, call.features);
    }

    /// It is registered no more, or mapped no more.
    pub(super) fn forget(&mut self, range: &Range<u64>) {
        take(&mut self.registered, range);
        take(&mut self.armed, range);
        self.forget_reads(range);
        self.forget_written(range, u64::MAX);
    }

    pub(super) fn read(&mut self, range: &Range<u64>, call: &TrackerCall) {
        let read = LastRead {
            began: call.began,
            ended: call.ended,
            place: call.place,
        };
        // Nothing is lost of what was never armed: it counts as written.
        let armed: Vec<_> = self.armed_parts(range).collect();
        let by_process = self.read.entry(call.caller.tgid).or_default();
        for part in armed {
            put(by_process, &part, read.clone());
        }
    }

    /// The readings of a range by a process that nothing was armed after, part by part.
    pub(super) fn reads(&self, range: &Range<u64>, process: u32) -> Vec<(Range<u64>, LastRead)> {
        let by_process = self.read.get(&process);
        let parts = by_process
            .into_iter()
            .flat_map(|read| read.overlapping(range));
        let parts = parts.map(|(part, read)| (within(part, range), read.clone()));
        parts.collect()
    }

    fn forget_reads(&mut self, range: &Range<u64>) {
        for by_process in self.read.values_mut() {
            take(by_process, range);
        }
        self.read.retain(|_, by_process| !by_process.is_empty());
    }

    /// A call has armed what is registered of a range. What was written before it began is armed;
    /// what was written meanwhile may be.
    pub(super) fn arm(&mut self, range: &Range<u64>, call: &TrackerCall, by_scan: bool) {
        let parts = self.registered.overlapping(range);
        let parts: Vec<_> = parts.map(|(part, _)| within(part, range)).collect();
        let by = ArmedBy {
            by_scan,
            place: call.place,
            caller: call.caller.clone(),
        };
        for part in parts {
            put(&mut self.armed, &part, by.clone());
            if !by_scan {
                put(&mut self.features, &part, call.features);
            }
        }
        self.forget_reads(range);
        self.forget_written(range, call.began);
    }

    /// A range has lost its protection, and is registered all the same: each page as if written.
    pub(super) fn disarm(&mut self, range: &Range<u64>) {
        let armed: Vec<_> = self.armed_parts(range).collect();
        for page in armed.into_iter().flat_map(pages_of) {
            self.written.entry(page).or_insert(0);
        }
    }

    /// A page was written, and lost its protection.
    pub(super) fn write(&mut self, page: u64, time: u64) {
        self.written.insert(page, time);
    }

    /// Pages of a range that were written since they were armed, and when.
    pub(super) fn written(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        let pages = self.written.range(range.clone());
        pages.map(|(page, time)| (*page, *time))
    }

    /// How many pages of a range are armed, or were since they are registered.
    pub(super) fn once_armed(&self, range: &Range<u64>) -> u64 {
        self.armed_parts(range).map(|part| pages_in(&part)).sum()
    }

    /// How many pages of a range are armed.
    pub(super) fn still_armed(&self, range: &Range<u64>) -> u64 {
        let parts = self.armed_parts(range);
        let pages = parts.map(|part| {
            let written = self.written.range(part.clone()).count() as u64;
            pages_in(&part).saturating_sub(written)
        });
        pages.sum()
    }

    pub(super) fn is_armed_by_scan(&self, address: u64) -> bool {
        self.armed.get(&address).is_some_and(|by| by.by_scan)
    }

    /// Parts of a range that were armed, and by what.
    pub(super) fn armed_by(&self, range: &Range<u64>) -> Vec<(Range<u64>, ArmedBy)> {
        let parts = self.armed.overlapping(range);
        let parts = parts.map(|(part, by)| (within(part, range), by.clone()));
        parts.collect()
    }

    /// Whether memory that is not there is armed in vain.
    pub(super) fn ignores_absent(&self, address: u64) -> bool {
        let features = self.features.get(&address);
        let known = features.is_some_and(|it| !it.contains(UffdFeatures::WP_UNPOPULATED));
        known && self.is_private(address)
    }

    pub(super) fn is_hugetlb(&self, address: u64) -> bool {
        self.made_of.get(&address) == Some(&Backing::Hugetlb)
    }

    /// Whether its pages lose their protection when they are given back.
    pub(super) fn is_private(&self, address: u64) -> bool {
        self.made_of.get(&address) == Some(&Backing::Anon)
    }

    /// The features of the userfaultfd that an event is about; `None` if it is about memory of
    /// nobody else's. Unknown features are all there may be.
    pub(super) fn features(&self, start: u64, event: &WatchedEvent) -> Option<UffdFeatures> {
        let from = event.left().map_or(start, |left| left.start);
        self.registered.get(&from)?;
        Some(
            self.features
                .get(&from)
                .copied()
                .unwrap_or(UffdFeatures(u64::MAX)),
        )
    }

    /// What was registered before the last of `rounds` began, and has pages that were never armed.
    pub(super) fn unarmed(&self, rounds: u64) -> Vec<UnarmedRange> {
        let mut all = Vec::new();
        for (range, registered) in self.registered.iter() {
            let Some(registered) = registered.as_ref().filter(|it| it.rounds + 1 < rounds) else {
                continue;
            };
            let ranges: Vec<_> = self.armed.gaps(range).collect();
            let unarmed: u64 = ranges.iter().map(pages_in).sum();
            if unarmed > 0 {
                all.push(UnarmedRange {
                    in_part: unarmed < pages_in(range),
                    ranges,
                    place: registered.place,
                    caller: Some(registered.caller.clone()),
                });
            }
        }
        all
    }

    /// Places of calls that may be told of at the end.
    pub(super) fn places(&self) -> impl Iterator<Item = PlaceId> {
        let registered = self.registered.iter();
        registered.filter_map(|(_, registered)| registered.as_ref()?.place)
    }

    fn armed_parts(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let mut armed = RangeSet::new();
        for (part, _) in self.armed.overlapping(range) {
            let part = within(part, range);
            if !part.is_empty() {
                armed.insert(part);
            }
        }
        armed.into_iter()
    }

    fn forget_written(&mut self, range: &Range<u64>, before: u64) {
        if range.is_empty() {
            return;
        }
        let over = self
            .written
            .extract_if(range.clone(), |_, time| *time < before);
        over.for_each(drop);
    }
}

/// Enters a value for a range that may be empty, which [`RangeMap`] does not take.
fn put<V: Clone + Eq>(map: &mut RangeMap<u64, V>, range: &Range<u64>, value: V) {
    if !range.is_empty() {
        map.insert(range.clone(), value);
    }
}

fn take<V: Clone + Eq>(map: &mut RangeMap<u64, V>, range: &Range<u64>) {
    if !range.is_empty() {
        map.remove(range.clone());
    }
}

fn within(part: &Range<u64>, range: &Range<u64>) -> Range<u64> {
    part.start.max(range.start)..part.end.min(range.end)
}

fn pages_of(range: Range<u64>) -> impl Iterator<Item = u64> {
    range.step_by(PAGE_SIZE as usize)
}
