//! Calls of trackers on the process.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tracker_ebpf::CallKind;
use uffd::{PageCategories, UffdFeatures};

use super::PlaceId;

/// What a tracker did to the process, or had a thread of it do. Whoever made the call: the process
/// itself, or another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrackerCall {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub began: u64,
    pub ended: u64,
    pub what: CallArguments,
    /// What it returned.
    pub outcome: Result<u64, Errno>,
    /// Those of the userfaultfd that it is about, if it is about one.
    pub features: UffdFeatures,
    /// Who made it.
    pub caller: CallerThread,
    pub cpu: u32,
    pub place: Option<PlaceId>,
}

/// The thread that makes a call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallerThread {
    /// Its process.
    pub tgid: u32,
    /// Its id.
    pub tid: u32,
    /// Its name.
    pub comm: Arc<str>,
}

/// What a call was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallArguments {
    Scan(ScanArguments),
    /// Entries of these pages were read from `/proc/PID/pagemap`.
    Pagemap(Range<u64>),
    /// The soft-dirty bits of the whole process were cleared (`/proc/PID/clear_refs`).
    ClearSoftDirty,
    /// UFFDIO_REGISTER; whether for write protection.
    Register {
        range: Range<u64>,
        protects: bool,
    },
    Unregister(Range<u64>),
    /// UFFDIO_WRITEPROTECT that arms.
    Arm(Range<u64>),
    /// UFFDIO_WRITEPROTECT that disarms.
    Resolve(Range<u64>),
    /// UFFDIO_COPY, ZEROPAGE, CONTINUE, POISON, MOVE: pages come there; whether armed.
    Fill {
        kind: CallKind,
        range: Range<u64>,
        armed: bool,
    },
    /// A thread waited for a handler, because it accessed this page.
    Wait {
        page: u64,
        /// Whether the page was armed; else it was missing.
        protected: bool,
    },
}

/// What a PAGEMAP_SCAN was given (`struct pm_scan_arg`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScanArguments {
    pub range: Range<u64>,
    /// Where it ended.
    pub walk_end: u64,
    /// Regions that its vec has room for; 0: it has none.
    pub room: u64,
    /// Pages that it is to find at most; 0: all.
    pub most: u64,
    pub inverted: PageCategories,
    pub all_of: PageCategories,
    pub any_of: PageCategories,
    pub returned: PageCategories,
    /// Whether it arms what it finds (`PM_SCAN_WP_MATCHING`).
    pub arms: bool,
}

impl ScanArguments {
    /// What it has walked.
    pub(crate) const fn walked(&self) -> Range<u64> {
        self.range.start..self.walk_end
    }

    /// Whether it asks which pages are written.
    pub(crate) const fn asks_written(&self) -> bool {
        let any = self.inverted.0 | self.all_of.0 | self.any_of.0 | self.returned.0;
        any & PageCategories::WRITTEN.0 != 0
    }

    /// Whether it arms all that it walks and that is not armed: it looks for nothing else.
    pub(crate) fn arms_all(&self) -> bool {
        let masks = self.inverted.0 | self.all_of.0 | self.any_of.0;
        self.arms && self.inverted.0 == 0 && masks & !PageCategories::WRITTEN.0 == 0
    }

    /// Whether it asks for more than that, which is off the kernel's fast path
    /// (`pagemap_scan_pmd_entry`).
    pub(crate) fn asks_more(&self) -> bool {
        let written = PageCategories::WRITTEN;
        let plain = self.inverted.0 == 0
            && self.any_of.0 == 0
            && self.all_of == written
            && self.returned == written;
        let only_arms = self.arms && self.room == 0;
        !plain && !only_arms
    }
}

impl TrackerCall {
    /// What it has registered for write protection.
    pub(crate) fn registers(&self) -> Option<Range<u64>> {
        let CallArguments::Register {
            range,
            protects: true,
        } = &self.what
        else {
            return None;
        };
        self.outcome.is_ok().then(|| range.clone())
    }

    /// Where it has armed pages, all or some; of one that came to a gap, as far as it came.
    pub(crate) fn armed(&self) -> Option<Range<u64>> {
        let range = match &self.what {
            CallArguments::Scan(scan) if scan.arms => scan.walked(),
            CallArguments::Arm(range)
            | CallArguments::Fill {
                range, armed: true, ..
            } => range.clone(),
            _ => return None,
        };
        let came_to_gap = self.outcome == Err(Errno::NOENT);
        (self.outcome.is_ok() || came_to_gap).then_some(range)
    }

    pub(crate) const fn took(&self) -> Duration {
        Duration::from_nanos(self.ended.saturating_sub(self.began))
    }
}
