//! One reading of everything the probes counted, and what discovery tells of one VMA.
//!
//! All counters are cumulative since their record was filled. A record that ended is reported until
//! [`CounterSource::release`] gives it back, so nothing it counted is lost.

use tracker_ebpf::{
    COMM_LEN, MeasuredTime, RecordLoss, RecordState, TableCounts, TimeHistogram, WpMode,
};
use uffd::Backing;

use super::counters::{ProcessCounters, VmaCounters};

/// Identity of a process: a pid alone is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Start of the process since boot, in nanoseconds.
    pub start_boottime_ns: u64,
}

/// One VMA record.
#[derive(Clone, Copy, Debug)]
pub struct VmaSample {
    /// Record id; 0 sums up what found no record (it has no process).
    pub id: u32,
    /// Its process record; 0 if none was free.
    pub mm_id: u32,
    /// First address at the first event.
    pub start: u64,
    /// Address after the last at the first event.
    pub end: u64,
    /// When the record was filled, `CLOCK_MONOTONIC` ns.
    pub born_ns: u64,
    /// What its pages come from.
    pub backing: Backing,
    /// Mode of its userfaultfd.
    pub mode: WpMode,
    /// Live, ended (freed), or moved (lives on with another start).
    pub state: RecordState,
    /// What it counted.
    pub counters: VmaCounters,
}

/// One process record.
#[derive(Clone, Copy, Debug)]
pub struct MmSample {
    /// Record id; 0 sums up what found no record.
    pub id: u32,
    /// Whose address space it is.
    pub process: ProcessKey,
    /// When the record was filled, `CLOCK_MONOTONIC` ns: after exec a process has another one.
    pub born_ns: u64,
    /// Name at the first event, zero padded; any bytes.
    pub comm: [u8; COMM_LEN],
    /// Live or ended.
    pub state: RecordState,
    /// Page tables outside its uffd-wp VMAs, by `TableLevel` and `TableCause`.
    pub tables: TableCounts,
    /// What is counted per process only.
    pub counters: ProcessCounters,
}

impl MmSample {
    /// Its page tables, as counted for a VMA.
    #[must_use]
    pub fn tables(&self) -> VmaCounters {
        VmaCounters {
            tables: self.tables,
            ..VmaCounters::default()
        }
    }
}

/// One reading of all counters.
#[derive(Clone, Debug, Default)]
pub struct CounterSnapshot {
    /// Every VMA record in use, and id 0.
    pub vmas: Vec<VmaSample>,
    /// Every process record in use, and id 0.
    pub mms: Vec<MmSample>,
    /// What is counted for the node only.
    pub node: NodeReading,
}

/// What is counted for the node only.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeReading {
    /// Histograms by [`MeasuredTime`]; `None` where no hook measures.
    pub durations: [Option<TimeHistogram>; MeasuredTime::ALL.len()],
    /// Failed look-ups by [`RecordLoss`].
    pub losses: [u64; RecordLoss::ALL.len()],
    /// How full the VMA records are.
    pub vma_records: RecordUsage,
    /// How full the process records are.
    pub mm_records: RecordUsage,
}

impl NodeReading {
    /// How full each table of records is, by its name.
    #[must_use]
    pub const fn record_tables(&self) -> [(&'static str, RecordUsage); 2] {
        [
            ("vma_records", self.vma_records),
            ("mm_records", self.mm_records),
        ]
    }
}

/// How full a table of records is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordUsage {
    /// Records in use.
    pub used: u64,
    /// Records in all.
    pub capacity: u64,
}

/// Where counters come from: the probes, or a test.
pub trait CounterSource: Send {
    /// Reads all counters. Never blocks, never makes a bpf(2) call.
    fn snapshot(&mut self) -> CounterSnapshot;
    /// Gives back records that were reported as ended or moved and have been read.
    fn release(&mut self, vmas: &[u32], mms: &[u32]);
    /// Ends VMA records that the kernel side does not end itself; called once after each discovery.
    /// They are reported as ended once nothing can count in them any more.
    fn end(&mut self, _vmas: &[u32]) {}
}

/// One uffd-wp VMA as discovery sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVma {
    /// Whose it is.
    pub process: ProcessKey,
    /// Name of its group leader; any bytes.
    pub comm: Vec<u8>,
    /// Its first address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// What its pages come from.
    pub backing: Backing,
    /// Features of its userfaultfd (`UFFD_FEATURE_*`), if known.
    pub features: Option<u64>,
    /// File or mapping name, if known; any bytes.
    pub name: Option<Vec<u8>>,
}
