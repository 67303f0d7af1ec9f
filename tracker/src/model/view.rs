//! What there is to show: rows, copied out of the model.

use tracker_ebpf::{TimeHistogram, WpMode};
use uffd::Backing;

use super::counts::{Counts, ProcessCounts};
use super::limits::Detail;
use super::sample::Usage;

/// Everything a view shows, at the time of the last collection.
///
/// For every counter: sum of the VMA rows + the processes' `other` + `other` + `retired` = `node`.
#[derive(Clone, Debug)]
pub struct View {
    /// Depth of the rows.
    pub detail: Detail,
    /// Processes with rows of their own, by pid.
    pub processes: Vec<ProcessRow>,
    /// What belongs to no row: `pid="other"`.
    pub other: Counts,
    /// Per process counters that belong to no row: `pid="other"`.
    pub other_process: ProcessCounts,
    /// Gauges of the processes without a row.
    pub other_gauges: Gauges,
    /// `VmPTE` of the processes without a row, as far as known.
    pub other_page_table_bytes: u64,
    /// What series that disappeared had counted.
    pub retired: Counts,
    /// What processes that disappeared had counted.
    pub retired_process: ProcessCounts,
    /// Everything counted since the agent started; never goes down.
    pub node: Counts,
    /// Per process counters of everything since the agent started.
    pub node_process: ProcessCounts,
    /// Where events were counted; their sum is the total of `node`.
    pub outcomes: Outcomes,
    /// Live VMAs without a row of their own.
    pub folded: u64,
    /// When the oldest scan still shown finished, in seconds since the Unix epoch.
    pub oldest_scan_unix_seconds: Option<f64>,
    /// Node histograms, by `tracker_ebpf::MeasuredTime`.
    pub durations: [Option<TimeHistogram>; 3],
    /// Events by `tracker_ebpf::RecordLoss`.
    pub losses: [u64; 4],
    /// VMA records in use and in all.
    pub vma_records: Usage,
    /// Process records in use and in all.
    pub mm_records: Usage,
}

/// Where events were counted. An event is one increment of a fault, marker or table counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// In the record of its VMA.
    pub counted: u64,
    /// In the record of its process: its VMA does not use uffd-wp, or could not be told.
    pub process_only: u64,
    /// In record 0: there was no record for its VMA or its process.
    pub unattributed: u64,
}

/// One process.
#[derive(Clone, Debug)]
pub struct ProcessRow {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Start since boot in nanoseconds.
    pub start_boottime_ns: u64,
    /// Name when it was admitted; any bytes.
    pub comm: Vec<u8>,
    /// It exited and lingers: counters only.
    pub exited: bool,
    /// Its cgroup; any bytes.
    pub cgroup: Option<Vec<u8>>,
    /// `VmPTE` in bytes.
    pub page_table_bytes: Option<u64>,
    /// What is counted per process.
    pub counts: ProcessCounts,
    /// What belongs to none of its rows: `vma="other"`.
    pub other: Counts,
    /// Gauges of its VMAs without a row.
    pub other_gauges: Gauges,
    /// Its VMAs with rows, by start.
    pub vmas: Vec<VmaRow>,
}

/// One VMA.
#[derive(Clone, Debug)]
pub struct VmaRow {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// What its pages come from.
    pub backing: Backing,
    /// Mode of its userfaultfd, if known.
    pub mode: Option<WpMode>,
    /// Features of its userfaultfd (`UFFD_FEATURE_*`), if known.
    pub features: Option<u64>,
    /// File or mapping name; any bytes.
    pub name: Option<Vec<u8>>,
    /// It is gone and lingers: counters only.
    pub exited: bool,
    /// What it counted.
    pub counts: Counts,
    /// What it has now.
    pub gauges: Gauges,
}

/// What one VMA, or a sum of them, has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Size in bytes.
    pub bytes: u64,
    /// Pages as the last scan saw them, in units of 4 KiB; `None` where no scan finished yet.
    pub pages: Option<Pages>,
}

/// Pages in units of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// Armed.
    pub armed: u64,
    /// Written, or never armed.
    pub written: u64,
}

impl Gauges {
    /// Adds another VMA's.
    pub fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        if let Some(pages) = other.pages {
            let sum = self.pages.get_or_insert_default();
            sum.armed = sum.armed.saturating_add(pages.armed);
            sum.written = sum.written.saturating_add(pages.written);
        }
    }
}
