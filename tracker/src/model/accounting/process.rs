//! One process and its VMAs: who owns a start, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use tracker_ebpf::{RecordState, WpMode};
use uffd::Backing;

use super::super::counts::{Counts, ProcessCounts};
use super::super::input::ProcessFacts;
use super::super::sample::{FoundVma, VmaSample};
use super::super::view::{Gauges, Pages};

/// A process that uses uffd-wp.
#[derive(Debug)]
pub(super) struct Process {
    pub comm: Vec<u8>,
    /// A record of it still counts.
    pub record_live: bool,
    /// It has series of its own.
    pub series: bool,
    /// Nothing of it was counted yet, so its series may have all it counted.
    pub fresh: bool,
    /// Events lately: each collection halves what was before.
    pub busy: u64,
    pub exited: Option<Duration>,
    /// `vma="other"`.
    pub other: Counts,
    pub counts: ProcessCounts,
    pub facts: ProcessFacts,
    /// By start.
    pub vmas: BTreeMap<u64, Vma>,
}

/// One owner of a start.
#[derive(Debug)]
pub(super) struct Vma {
    pub serial: u64,
    pub start: u64,
    pub end: u64,
    pub backing: Backing,
    pub mode: Option<WpMode>,
    pub features: Option<u64>,
    pub name: Option<Vec<u8>>,
    /// Birth of its newest record, which tells whether it is still there; 0 without one.
    pub newest_born_ns: u64,
    /// When it was known first, or known again.
    pub since: Duration,
    pub exited: Option<Exit>,
    /// Its series, if it has one; apart, because most VMAs of a process with very many have none.
    pub series: Option<Box<Counts>>,
    /// As in [`Process`].
    pub fresh: bool,
    /// As in [`Process`].
    pub busy: u64,
    pub scan: Option<Scan>,
}

/// When and how a VMA went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub at: Duration,
    pub how: Gone,
}

/// How a VMA went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Its record ended (`vm_area_free`, unregister): whoever comes next is another owner.
    Ended,
    /// Its record's VMA has another start now: who has this start next continues it (a split
    /// that gave the lower part to a new kernel object).
    Moved,
    /// Discovery does not see it any more: whoever comes next is another owner.
    Vanished,
}

/// The last scan of a VMA.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan {
    pub pages: Pages,
    pub unix_seconds: f64,
}

impl Process {
    pub(super) fn new(comm: Vec<u8>, fresh: bool) -> Self {
        Self {
            comm,
            record_live: false,
            series: false,
            fresh,
            busy: 0,
            exited: None,
            other: Counts::default(),
            counts: ProcessCounts::default(),
            facts: ProcessFacts::default(),
            vmas: BTreeMap::new(),
        }
    }

    /// Whether anything of it still uses uffd-wp.
    pub(super) fn is_live(&self) -> bool {
        self.record_live || self.vmas.values().any(|vma| vma.exited.is_none())
    }
}

impl Vma {
    /// The owner that a new record tells of.
    pub(super) fn from_record(sample: &VmaSample, serial: u64, now: Duration) -> Self {
        Self {
            serial,
            start: sample.start,
            end: sample.end,
            backing: sample.backing,
            mode: Some(sample.mode),
            features: None,
            name: None,
            newest_born_ns: sample.born_ns,
            since: now,
            exited: None,
            series: None,
            fresh: true,
            busy: 0,
            scan: None,
        }
    }

    /// The owner that discovery tells of.
    pub(super) fn from_discovery(found: &FoundVma, serial: u64, now: Duration) -> Self {
        Self {
            serial,
            start: found.start,
            end: found.end,
            backing: found.backing,
            mode: found.features.map(mode_of),
            features: found.features,
            name: found.name.clone(),
            newest_born_ns: 0,
            since: now,
            exited: None,
            series: None,
            fresh: true,
            busy: 0,
            scan: None,
        }
    }

    /// Takes over what discovery sees now. The backing stays as it was when admitted.
    pub(super) fn update(&mut self, found: &FoundVma) {
        self.end = found.end;
        self.features = found.features.or(self.features);
        self.mode = self.mode.or(found.features.map(mode_of));
        if self.series.is_none() {
            self.backing = found.backing;
        }
        if found.name.is_some() {
            self.name.clone_from(&found.name);
        }
    }

    /// Follows the state of its newest record.
    pub(super) fn follow(&mut self, state: RecordState, now: Duration) {
        let how = match state {
            RecordState::Live => return,
            RecordState::Ended | RecordState::Free => Gone::Ended,
            RecordState::Moved => Gone::Moved,
        };
        match &mut self.exited {
            // The end of a VMA is final; that it moved, or was not seen, is not.
            Some(exit) if how == Gone::Ended => exit.how = how,
            Some(_) => {}
            none => *none = Some(Exit { at: now, how }),
        }
    }

    /// It is there after all.
    pub(super) fn revive(&mut self, now: Duration) {
        if self.exited.take().is_some() {
            self.since = now;
        }
    }

    pub(super) fn gauges(&self) -> Gauges {
        if self.exited.is_some() {
            return Gauges::default();
        }
        Gauges {
            bytes: self.end.saturating_sub(self.start),
            pages: self.scan.map(|scan| scan.pages),
        }
    }
}

/// `UFFD_FEATURE_WP_ASYNC` of `<linux/userfaultfd.h>`, 6.7 and later.
const UFFD_FEATURE_WP_ASYNC: u64 = 1 << 15;

/// Who answers the faults of a userfaultfd with these features.
fn mode_of(features: u64) -> WpMode {
    if features & UFFD_FEATURE_WP_ASYNC == 0 {
        WpMode::Sync
    } else {
        WpMode::Async
    }
}
