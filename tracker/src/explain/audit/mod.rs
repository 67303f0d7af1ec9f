//! What a tracker of the process's own does that makes its answers wrong or dear: from its calls,
//! and from what happens to its pages. Pure.
//!
//! Calls and events are looked at in the order of their times; which of two comes first when they
//! overlap is never decided: a page counts only if it is certain.

mod cut;
mod decode;
mod found;
mod memory;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use tracker_ebpf::{CallKind, EventKind};
use uffd::{PAGE_SIZE, UffdFeatures, pages_in};

use super::model::{
    AuditFinding, AuditFindings, AuditKind, AuditSight, CallArguments, CallerThread, PlaceId,
    ScanArguments, TrackerCall, WatchedEvent,
};
use cut::CutScans;
pub(super) use decode::decode;
use found::{FoundFaults, FoundOnce};
use memory::{LastRead, TheirMemory};
pub(super) use memory::{TheirLook, TheirMapping};
use waits::WaitBook;

/// Threads that clear soft-dirty bits and are told apart.
const MOST_CLEARING: usize = 1024;

/// The audit of one process.
pub(super) struct TrackerAudit {
    sight: AuditSight,
    /// Whether this kernel has soft-dirty bits.
    has_soft_dirty: bool,
    /// How often each thread cleared them.
    cleared: BTreeMap<CallerThread, u64>,
    /// Whether there was memory of whose userfaultfd the features are not known.
    features_unknown: bool,
    memory: TheirMemory,
    cut: CutScans,
    found: FoundFaults,
    waits: WaitBook,
    calls: u64,
    dropped: u64,
    /// Rounds that are over.
    rounds: u64,
    /// Pages that WRITEPROTECT has armed again, to hold what was in vain against.
    again: u64,
}

/// What has happened by a time.
enum Happened<'a> {
    Call(TrackerCall),
    Event(&'a WatchedEvent),
}

impl Happened<'_> {
    const fn time(&self) -> u64 {
        match self {
            Self::Call(call) => call.ended,
            Self::Event(event) => event.time,
        }
    }
}

impl TrackerAudit {
    /// Of a process of which nothing is known yet.
    pub(super) fn new(sight: AuditSight, has_soft_dirty: bool) -> Self {
        Self {
            sight,
            has_soft_dirty,
            features_unknown: false,
            cleared: BTreeMap::new(),
            memory: TheirMemory::default(),
            cut: CutScans::default(),
            found: FoundFaults::default(),
            waits: WaitBook::default(),
            calls: 0,
            dropped: 0,
            rounds: 0,
            again: 0,
        }
    }

    /// A round is over: its calls, how many were lost until now, its events, and what a look at its
    /// end found of the memory that is registered by others.
    pub(super) fn round(
        &mut self,
        (calls, dropped): (Vec<TrackerCall>, u64),
        events: &[WatchedEvent],
        look: &TheirLook,
    ) {
        self.calls += calls.len() as u64;
        self.dropped = dropped;
        self.memory.made_of(&look.mappings);
        let calls = calls.into_iter().map(Happened::Call);
        let mut all: Vec<_> = calls.chain(events.iter().map(Happened::Event)).collect();
        all.sort_by_key(Happened::time);
        for happened in all {
            match happened {
                Happened::Call(call) => self.call(&call),
                Happened::Event(event) => self.event(event),
            }
        }
        self.rounds += 1;
        self.memory.registered(&look.mappings);
        if let Some(features) = look.features {
            self.memory.has_features(&look.mappings, features);
        }
        self.features_unknown |= self.memory.any_unknown_features();
        self.looked(look);
    }

    /// What only a look tells.
    fn looked(&mut self, look: &TheirLook) {
        for range in &look.only_read {
            for (part, by) in self.memory.armed_by(range) {
                let once = FoundOnce {
                    place: by.place,
                    caller: Some(by.caller),
                    pages: pages_in(&part),
                    tables: whole_tables(&part),
                    ranges: vec![part],
                    ..FoundOnce::default()
                };
                self.found.add(AuditKind::ReadFirst, once);
            }
        }
        for range in &look.unprotected {
            if !self.memory.ignores_absent(range.start) {
                continue;
            }
            for (part, by) in self.memory.armed_by(range) {
                let once = FoundOnce {
                    place: by.place,
                    caller: Some(by.caller),
                    pages: pages_in(&part),
                    ranges: vec![part],
                    ..FoundOnce::default()
                };
                self.found.add(AuditKind::ArmedAbsent, once);
            }
        }
    }

    /// The process executes another program: nothing of before is there any more.
    pub(super) fn begin_again(&mut self) {
        self.memory = TheirMemory::default();
        self.cut.clear();
    }

    /// Places whose code is to be named.
    pub(super) fn places(&self) -> impl Iterator<Item = PlaceId> {
        let found = self.found.places().chain(self.memory.places());
        found.chain(self.cut.places())
    }

    /// What it came to; `None` if the process has no tracker of its own.
    pub(super) fn end(mut self) -> Option<AuditFindings> {
        if self.calls == 0 && !self.memory.is_any() {
            return None;
        }
        self.unarmed();
        for once in self.cut.end(self.rounds) {
            self.found.add(AuditKind::ScanCutShort, once);
        }
        let again = self.again;
        let found = self.found.end(|found| is_worth_telling(found, again));
        let (waits, answers) = self.waits.end();
        Some(AuditFindings {
            sight: self.sight,
            calls: self.calls,
            dropped: self.dropped,
            found,
            waits,
            answers,
            cleared: self.cleared,
            features_unknown: self.features_unknown,
        })
    }

    fn call(&mut self, call: &TrackerCall) {
        let failed = call.outcome.is_err();
        match &call.what {
            CallArguments::Wait { page, .. } => self.waits.waited(call, *page),
            _ if failed => (),
            CallArguments::Scan(scan) => self.scan(call, scan),
            CallArguments::Pagemap(range) => self.memory.read(range, call),
            CallArguments::ClearSoftDirty => self.cleared(call),
            CallArguments::Register { range, protects } => {
                if *protects {
                    self.memory.register(range, call, self.rounds);
                }
            }
            CallArguments::Unregister(range) => self.memory.forget(range),
            CallArguments::Arm(range) => {
                self.window(call, range);
                self.in_vain(call, range);
                self.memory.arm(range, call, false);
            }
            CallArguments::Resolve(range) => {
                self.waits.answered(call);
                self.memory.disarm(range);
            }
            CallArguments::Fill {
                range, armed: true, ..
            } => self.memory.arm(range, call, false),
            CallArguments::Fill { kind, range, .. } => self.filled(call, *kind, range),
        }
    }

    /// Soft-dirty bits were cleared, if there are any.
    fn cleared(&mut self, call: &TrackerCall) {
        if self.cleared.len() < MOST_CLEARING || self.cleared.contains_key(&call.caller) {
            *self.cleared.entry(call.caller.clone()).or_default() += 1;
        }
        if !self.has_soft_dirty {
            self.found
                .add(AuditKind::SoftDirtyAbsent, FoundOnce::at(call));
        }
    }

    fn scan(&mut self, call: &TrackerCall, scan: &ScanArguments) {
        if !scan.asks_written() && !scan.arms {
            return;
        }
        for once in self.cut.scanned(call, scan, self.rounds) {
            self.found.add(AuditKind::ScanCutShort, once);
        }
        let walked = scan.walked();
        if scan.asks_more() {
            let once = FoundOnce {
                pages: pages_in(&walked),
                took: call.took(),
                ranges: vec![walked.clone()],
                ..FoundOnce::at(call)
            };
            self.found.add(AuditKind::ExtraCategories, once);
        }
        if !scan.arms {
            self.memory.read(&walked, call);
            return;
        }
        if scan.room == 0 {
            self.window(call, &walked);
        }
        self.memory.arm(&walked, call, true);
    }

    /// Pages are armed: were they read before, and written in between?
    fn window(&mut self, call: &TrackerCall, range: &Range<u64>) {
        let reads = self.memory.reads(range, call.caller.tgid);
        let Some((_, LastRead { place, .. })) = reads.first().cloned() else {
            return;
        };
        let mut once = FoundOnce {
            earlier: place,
            ..FoundOnce::at(call)
        };
        for (part, read) in &reads {
            let stood = call.began.saturating_sub(read.ended);
            once.took = once.took.max(Duration::from_nanos(stood));
            for (page, written) in self.memory.written(part) {
                if (read.ended + 1..call.began).contains(&written) {
                    once.pages += 1;
                    once.ranges.push(page..page + PAGE_SIZE);
                } else if written < read.began {
                    once.open += 1;
                }
            }
        }
        self.found.add(AuditKind::ReadThenArm, once);
    }

    /// WRITEPROTECT arms pages: how many of them were armed already?
    fn in_vain(&mut self, call: &TrackerCall, range: &Range<u64>) {
        let (all, vain) = (pages_in(range), self.memory.still_armed(range));
        self.again += self.memory.once_armed(range);
        if vain > 0 {
            let part = vain as f64 / all.max(1) as f64;
            let once = FoundOnce {
                pages: vain,
                took: call.took().mul_f64(part.min(1.0)),
                ranges: vec![range.clone()],
                ..FoundOnce::at(call)
            };
            self.found.add(AuditKind::ArmedInVain, once);
        }
    }

    /// Pages were filled, and not armed. Nobody can write to what is poisoned.
    fn filled(&mut self, call: &TrackerCall, kind: CallKind, range: &Range<u64>) {
        let pages = self.memory.once_armed(range);
        if pages > 0 && kind != CallKind::Poison {
            let once = FoundOnce {
                pages,
                ranges: vec![range.clone()],
                ..FoundOnce::at(call)
            };
            self.found.add(AuditKind::FilledUnarmed, once);
        }
        self.memory.disarm(range);
    }

    fn event(&mut self, event: &WatchedEvent) {
        let range = event.range.clone();
        let Some(features) = self.memory.features(range.start, event) else {
            return;
        };
        let without = |event| !features.contains(event);
        match event.kind {
            EventKind::Fault => {
                if self.memory.is_hugetlb(range.start) {
                    let whole = huge_page(range.start);
                    self.of_event(AuditKind::HugetlbUnit, event, &whole);
                    self.memory.disarm(&whole);
                }
                self.memory.write(range.start, event.time);
            }
            EventKind::HugeSplit => {
                if self.memory.is_armed_by_scan(range.start) {
                    self.of_event(AuditKind::HugeSharedPage, event, &range);
                }
                self.memory.disarm(&range);
            }
            EventKind::Zap if event.drops_markers() => self.memory.forget(&range),
            EventKind::Zap | EventKind::Reclaim if self.memory.is_private(range.start) => {
                if without(UffdFeatures::EVENT_REMOVE) {
                    self.of_event(AuditKind::Emptied, event, &range);
                }
                self.memory.disarm(&range);
            }
            EventKind::Fork if without(UffdFeatures::EVENT_FORK) => {
                self.of_event(AuditKind::ForkedWithoutEvent, event, &range);
            }
            EventKind::Move => {
                let from = event.left().unwrap_or(range);
                if without(UffdFeatures::EVENT_REMAP) {
                    self.of_event(AuditKind::MovedWithoutEvent, event, &from);
                }
                self.memory.forget(&from);
            }
            EventKind::Ksm => {
                self.of_event(AuditKind::Merged, event, &range);
                self.memory.disarm(&range);
            }
            EventKind::Unregister => self.memory.forget(&range),
            _ => (),
        }
    }

    /// Something happens to those pages of a range that are armed.
    fn of_event(&mut self, kind: AuditKind, event: &WatchedEvent, range: &Range<u64>) {
        let pages = self.memory.still_armed(range);
        if pages > 0 {
            let once = FoundOnce {
                place: event.place,
                pages,
                ranges: vec![range.clone()],
                ..FoundOnce::default()
            };
            self.found.add(kind, once);
        }
    }

    /// At the end: what was registered for a whole round at least, and not armed.
    fn unarmed(&mut self) {
        for registered in self.memory.unarmed(self.rounds) {
            let kind = if registered.in_part {
                AuditKind::ArmedInPart
            } else {
                AuditKind::NeverArmed
            };
            let once = FoundOnce {
                place: registered.place,
                caller: registered.caller,
                pages: registered.ranges.iter().map(pages_in).sum(),
                ranges: registered.ranges,
                ..FoundOnce::default()
            };
            self.found.add(kind, once);
        }
    }
}

/// How many page tables map nothing but a range.
const fn whole_tables(range: &Range<u64>) -> u64 {
    let first = range.start.div_ceil(uffd::PMD_SIZE);
    (range.end / uffd::PMD_SIZE).saturating_sub(first)
}

/// The huge page that an address is in.
const fn huge_page(address: u64) -> Range<u64> {
    let start = address & !(uffd::PMD_SIZE - 1);
    start..start + uffd::PMD_SIZE
}

/// What is no fault as long as it is little: pages that lie between written ones are armed again
/// with them; where nothing was written, nothing was lost.
fn is_worth_telling(found: &AuditFinding, again: u64) -> bool {
    match found.kind {
        AuditKind::ArmedInVain => found.pages > again / 2,
        AuditKind::ReadThenArm => found.pages + found.open > 0,
        _ => true,
    }
}
