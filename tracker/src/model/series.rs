//! The rows to show, copied out of the books.

use tracker_ebpf::WpMode;
use uffd::Backing;

use super::counters::{ProcessCounters, VmaCounters};
use super::limits::SeriesDetail;
use super::snapshot::NodeReading;

/// Everything there is to show, as of the last collection.
///
/// For every counter: sum of the VMA rows + `other` of each process + `other` + `retired` = `node`.
#[derive(Clone, Debug)]
pub struct SeriesView {
    /// How deep the rows go.
    pub detail: SeriesDetail,
    /// Processes with rows of their own, by pid.
    pub processes: Vec<ProcessRow>,
    /// What belongs to no row: `pid="other"`.
    pub other: VmaCounters,
    /// Per process counters that belong to no row: `pid="other"`.
    pub other_process: ProcessCounters,
    /// Gauges of the processes without a row.
    pub other_gauges: VmaGauges,
    /// `VmPTE` of the processes without a row, as far as known.
    pub other_page_table_bytes: u64,
    /// What series that disappeared had counted.
    pub retired: VmaCounters,
    /// What processes that disappeared had counted.
    pub retired_process: ProcessCounters,
    /// Everything counted since the agent started; never goes down.
    pub node: VmaCounters,
    /// Per process counters of everything since the agent started.
    pub node_process: ProcessCounters,
    /// Where events were counted; they sum up to the total of `node`.
    pub outcomes: EventOutcomes,
    /// Live VMAs without a row of their own.
    pub folded: u64,
    /// When the oldest scan still shown finished, in seconds since the Unix epoch.
    pub oldest_scan_unix_seconds: Option<f64>,
    /// What is counted for the node only.
    pub reading: NodeReading,
}

/// Where events were counted. An event is one increment of a fault, marker or table counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventOutcomes {
    /// In the record of its VMA.
    pub counted: u64,
    /// In the record of its process: its VMA does not use uffd-wp, or could not be told.
    pub process_only: u64,
    /// In record 0: there was no record for its VMA or its process.
    pub unattributed: u64,
}

/// A process with series of its own.
#[derive(Clone, Debug)]
pub struct ProcessRow {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Start since boot in nanoseconds.
    pub start_boottime_ns: u64,
    /// Its name when it was admitted; any bytes.
    pub comm: Vec<u8>,
    /// It exited and lingers: counters only.
    pub exited: bool,
    /// Its cgroup; any bytes.
    pub cgroup: Option<Vec<u8>>,
    /// `VmPTE` in bytes.
    pub page_table_bytes: Option<u64>,
    /// What is counted per process only.
    pub counts: ProcessCounters,
    /// What belongs to none of its VMA rows: `vma="other"`.
    pub other: VmaCounters,
    /// Everything it counted since it has a row, also in VMAs that are gone.
    pub total: VmaCounters,
    /// Gauges of its VMAs without a row.
    pub other_gauges: VmaGauges,
    /// Its VMAs with rows, by start.
    pub vmas: Vec<VmaRow>,
}

/// A VMA with series of its own.
#[derive(Clone, Debug)]
pub struct VmaRow {
    /// Its number: the agent gives each VMA the next one when it first sees it, and none twice.
    pub number: u64,
    /// Its first address.
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
    pub counts: VmaCounters,
    /// What it has now.
    pub gauges: VmaGauges,
}

/// What one VMA, or a sum of them, has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmaGauges {
    /// Size in bytes.
    pub bytes: u64,
    /// Its pages as the last scan saw them; `None` until one finished.
    pub pages: Option<ScannedPages>,
}

/// Pages in units of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScannedPages {
    /// Armed: the next write is noticed.
    pub armed: u64,
    /// Written, or never armed.
    pub written: u64,
}

impl VmaGauges {
    /// Adds another VMA's.
    pub(super) fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        if let Some(pages) = other.pages {
            let sum = self.pages.get_or_insert_default();
            sum.armed = sum.armed.saturating_add(pages.armed);
            sum.written = sum.written.saturating_add(pages.written);
        }
    }
}
