//! What one collection takes in and hands back.

use std::collections::HashMap;
use std::time::Duration;

use super::sample::{FoundVma, ProcessKey, Snapshot};

/// Everything one collection looks at.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What the probes counted. An empty one where no probe is attached.
    pub snapshot: &'a Snapshot,
    /// The last completed discovery; the same one may be passed again. `None` before the first.
    pub discovery: Option<&'a Discovery>,
    /// Scans that finished since the last collection; older ones may be passed again.
    pub scans: &'a [ScanResult],
    /// Time of this collection on any monotonic clock.
    pub now: Duration,
}

/// All uffd-wp VMAs of the machine at one moment.
#[derive(Clone, Debug, Default)]
pub struct Discovery {
    /// When it began, on the clock of [`Input::now`].
    pub at: Duration,
    /// What it found.
    pub vmas: Vec<FoundVma>,
    /// Processes whose VMAs were not looked at this time (a race, a permission, a search a moment
    /// ago that found nothing): what is known of them stays. A process missing here and in `vmas`
    /// has no uffd-wp VMA.
    pub unread: Vec<ProcessKey>,
    /// What else is known about the processes found.
    pub facts: HashMap<ProcessKey, ProcessFacts>,
}

/// What is known about a process besides its VMAs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Path of its cgroup (v2) below the mount, from `/proc/PID/cgroup`; any bytes.
    pub cgroup: Option<Vec<u8>>,
    /// Page tables in bytes: `VmPTE` of `/proc/PID/status`, times 1024 (`mm->pgtables_bytes`).
    pub page_table_bytes: Option<u64>,
}

/// What one non-disturbing `PAGEMAP_SCAN` over one VMA said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScanResult {
    /// The process.
    pub process: ProcessKey,
    /// First address of the VMA.
    pub start: u64,
    /// Pages armed, in units of 4 KiB.
    pub armed_pages: u64,
    /// Pages written, never armed ones among them, in units of 4 KiB.
    pub written_pages: u64,
    /// When it finished: seconds since the Unix epoch.
    pub unix_seconds: f64,
}

/// Records to give back with [`super::sample::CounterSource::release`]: they ended or moved, and
/// everything they counted has been read. Each is returned once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Releases {
    /// VMA records.
    pub vmas: Vec<u32>,
    /// Process records; none of them is referred to by a VMA record that is still in use.
    pub mms: Vec<u32>,
}
