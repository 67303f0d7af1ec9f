//! One reading of everything the probes counted, and of what discovery found.
//!
//! All counters are cumulative since the record was filled. A record that ended is reported until
//! [`CounterSource::release`] is called for it, so nothing it counted is lost.

use tracker_ebpf::{COMM_LEN, RecordState, TableCounts, TimeHistogram, WpMode};
use uffd::Backing;

/// Identity of a process: a pid alone is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Start of the process since boot, in nanoseconds.
    pub start_boottime_ns: u64,
}

/// What is counted per VMA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmaCounters {
    /// By `WpMode` and `FaultEntry`.
    pub faults: [[u64; 3]; 2],
    /// By `MarkerEvent`.
    pub markers: [u64; 3],
    /// By `Level` and `Cause`.
    pub tables: TableCounts,
}

/// One VMA record.
#[derive(Clone, Copy, Debug)]
pub struct VmaSample {
    /// Record id; 0 is the sum of what found no record (it has no process).
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
    /// Record id; 0 is the sum of what found no record.
    pub id: u32,
    /// The process.
    pub process: ProcessKey,
    /// When the record was filled, `CLOCK_MONOTONIC` ns: a process has another one after exec.
    pub born_ns: u64,
    /// Name at the first event, zero padded; any bytes.
    pub comm: [u8; COMM_LEN],
    /// Live or ended.
    pub state: RecordState,
    /// Tables outside its uffd-wp VMAs, by `Level` and `Cause`.
    pub tables: TableCounts,
    /// Tables freed, by `Level`.
    pub freed: [u64; 3],
    /// Time waited for a handler, nanoseconds.
    pub fault_wait_ns: u64,
}

/// One reading of all counters.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every VMA record in use, and id 0.
    pub vmas: Vec<VmaSample>,
    /// Every process record in use, and id 0.
    pub mms: Vec<MmSample>,
    /// Node histograms, by `tracker_ebpf::MeasuredTime`.
    pub durations: [Option<TimeHistogram>; 3],
    /// By `tracker_ebpf::RecordLoss`.
    pub losses: [u64; 4],
    /// Records in use and in all: VMAs.
    pub vma_records: Usage,
    /// Records in use and in all: processes.
    pub mm_records: Usage,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries in use.
    pub used: u64,
    /// Entries in all.
    pub capacity: u64,
}

/// Where counters come from: the probes, or a test.
pub trait CounterSource: Send {
    /// Reads all counters. Never blocks, never makes a bpf(2) call.
    fn snapshot(&mut self) -> Snapshot;
    /// Gives back records that were reported as ended or moved and have been read.
    fn release(&mut self, vmas: &[u32], mms: &[u32]);
    /// Ends VMA records that the kernel side does not end itself; called once after each discovery.
    /// They are reported as ended once nothing can count in them any more.
    fn end(&mut self, _vmas: &[u32]) {}
}

/// One uffd-wp VMA as discovery sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundVma {
    /// The process.
    pub process: ProcessKey,
    /// Name of its group leader; any bytes.
    pub comm: Vec<u8>,
    /// First address.
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
