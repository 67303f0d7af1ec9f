//! One process and its VMAs: who owns a start, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use tracker_ebpf::kernel::UFFD_FEATURE_WP_ASYNC;
use tracker_ebpf::{RecordState, WpMode};
use uffd::Backing;

use crate::model::{
    FoundVma, ProcessCounters, ProcessFacts, ScannedPages, VmaCounters, VmaGauges, VmaSample,
};

/// The account of a process that uses uffd-wp.
#[derive(Debug)]
pub(super) struct ProcessAccount {
    pub comm: Vec<u8>,
    /// A record of it still counts.
    pub record_live: bool,
    /// It has series of its own.
    pub series: bool,
    /// Nothing of it was counted yet, so its series may start with all it counts.
    pub fresh: bool,
    /// Events lately: each collection halves those before.
    pub busy: u64,
    pub exited: Option<Duration>,
    /// What `vma="other"` counted.
    pub other: VmaCounters,
    /// What all of it counted since it has series, whatever VMAs it had then.
    pub total: VmaCounters,
    pub counts: ProcessCounters,
    pub facts: ProcessFacts,
    /// Its VMAs by start.
    pub vmas: BTreeMap<u64, VmaAccount>,
}

/// The account of one owner of a start.
#[derive(Debug)]
pub(super) struct VmaAccount {
    pub serial: u64,
    pub start: u64,
    pub end: u64,
    pub backing: Backing,
    pub mode: Option<WpMode>,
    pub features: Option<u64>,
    pub name: Option<Vec<u8>>,
    /// Birth of its newest record, which tells whether the VMA is still there; 0 without one.
    pub newest_born_ns: u64,
    /// When it was first seen, or last shown by a record: an earlier discovery does not know better.
    pub since: Duration,
    pub exited: Option<VmaExit>,
    /// Its series, if it has one. Boxed: most VMAs of a process that has very many have none.
    pub series: Option<Box<VmaCounters>>,
    /// As in [`ProcessAccount`].
    pub fresh: bool,
    /// As in [`ProcessAccount`].
    pub busy: u64,
    pub scan: Option<LastScan>,
}

/// When and how a VMA went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VmaExit {
    pub at: Duration,
    pub how: VmaExitKind,
}

/// How a VMA went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VmaExitKind {
    /// Its record ended (`vm_area_free`, unregister): whoever comes next is another owner.
    Ended,
    /// The kernel object of its record has another start now, or is freed while another has this
    /// start (splits and merges): whoever has this start next continues it.
    Moved,
    /// Discovery does not see it any more: whoever comes next is another owner.
    Vanished,
}

/// The last scan of a VMA.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastScan {
    pub pages: ScannedPages,
    pub unix_seconds: f64,
}

impl ProcessAccount {
    pub(super) fn new(comm: Vec<u8>, fresh: bool) -> Self {
        Self {
            comm,
            record_live: false,
            series: false,
            fresh,
            busy: 0,
            exited: None,
            other: VmaCounters::default(),
            total: VmaCounters::default(),
            counts: ProcessCounters::default(),
            facts: ProcessFacts::default(),
            vmas: BTreeMap::new(),
        }
    }

    /// Whether anything of it still uses uffd-wp.
    pub(super) fn is_live(&self) -> bool {
        self.record_live || self.vmas.values().any(|vma| vma.exited.is_none())
    }
}

impl VmaAccount {
    /// An owner that a new record tells of.
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

    /// An owner that discovery tells of.
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

    /// Takes over what discovery sees now. Once it has a series, the backing stays as it was.
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
            RecordState::Ended | RecordState::Free => VmaExitKind::Ended,
            RecordState::Moved => VmaExitKind::Moved,
        };
        match &mut self.exited {
            // An end is final; a move, or not being seen, is not.
            Some(exit) if how == VmaExitKind::Ended => exit.how = how,
            Some(_) => {}
            none => *none = Some(VmaExit { at: now, how }),
        }
    }

    /// Notes that it is there now, whatever was said before.
    pub(super) const fn revive(&mut self, now: Duration) {
        self.exited = None;
        self.since = now;
    }

    pub(super) fn gauges(&self) -> VmaGauges {
        if self.exited.is_some() {
            return VmaGauges::default();
        }
        VmaGauges {
            bytes: self.end.saturating_sub(self.start),
            pages: self.scan.map(|scan| scan.pages),
        }
    }
}

/// Who answers the faults of a userfaultfd with these features.
fn mode_of(features: u64) -> WpMode {
    if features & u64::from(UFFD_FEATURE_WP_ASYNC) == 0 {
        WpMode::Sync
    } else {
        WpMode::Async
    }
}
