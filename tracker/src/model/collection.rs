//! What one collection takes in and hands back.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::snapshot::{CounterSnapshot, FoundVma, ProcessKey};

/// Everything one collection looks at.
#[derive(Clone, Copy, Debug)]
pub struct CollectionInput<'a> {
    /// What the probes counted; empty where none is attached.
    pub snapshot: &'a CounterSnapshot,
    /// The last complete discovery, which may be passed again; `None` before the first.
    pub discovery: Option<&'a VmaDiscovery>,
    /// Scans that finished since the last collection; older ones may be passed again.
    pub scans: &'a [ScanResult],
    /// When this collection happens, on any monotonic clock.
    pub now: Duration,
}

/// All uffd-wp VMAs of the machine at one moment.
#[derive(Clone, Debug, Default)]
pub struct VmaDiscovery {
    /// When it began, on the clock of [`CollectionInput::now`].
    pub at: Duration,
    /// What it found.
    pub vmas: Vec<FoundVma>,
    /// Processes whose VMAs were not looked at this time (a race, a permission, a search that found
    /// nothing a moment ago): what is known of them stays. A process that is neither here nor in
    /// `vmas` has no uffd-wp VMA.
    pub unread: Vec<ProcessKey>,
    /// Processes whose VMAs the kernel told, and which `/proc` does not show: they are neither
    /// described nor scanned.
    pub unreachable: BTreeSet<ProcessKey>,
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

/// What one `PAGEMAP_SCAN` over one VMA said; it disturbs nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScanResult {
    /// Whose VMA it is.
    pub process: ProcessKey,
    /// First address of the VMA.
    pub start: u64,
    /// Pages armed, in units of 4 KiB.
    pub armed_pages: u64,
    /// Pages written or never armed, in units of 4 KiB.
    pub written_pages: u64,
    /// When it finished: seconds since the Unix epoch.
    pub unix_seconds: f64,
}

/// Records to give back with [`CounterSource::release`](super::CounterSource::release): they ended
/// or moved, and everything they counted has been read. Each is named once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordReleases {
    /// VMA records to give back.
    pub vmas: Vec<u32>,
    /// Process records to give back; no VMA record still in use refers to any of them.
    pub mms: Vec<u32>,
}
