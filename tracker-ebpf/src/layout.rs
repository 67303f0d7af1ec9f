//! Keys, records and counters in the shared maps.

/// Length of a task's `comm`, with its terminating zero (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// VMA records that one walk of `iter/task_vma` takes out of the index for the agent: it would have
/// to use bpf(2), and while a task does so on a CPU, the kernel runs no kprobe program there.
pub const RETIRED: u32 = 256;
/// The id that stands for "no record was free": its counters are events that could not be
/// attributed. Real ids start at 1.
pub const NO_RECORD: u32 = 0;

/// Who answers a write-protect fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum WpMode {
    /// A message to a handler (`handle_userfault`).
    Sync = 0,
    /// The kernel itself (`UFFD_FEATURE_WP_ASYNC`).
    Async = 1,
}

impl WpMode {
    /// All modes, in the order of their index.
    pub const ALL: [Self; 2] = [Self::Sync, Self::Async];

    /// `mode=` in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

/// What a write-protect fault found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum FaultEntry {
    /// A write found an armed page.
    Pte = 0,
    /// An access, read or write, found a marker.
    Marker = 1,
    /// A write found an armed PMD or hugetlb entry.
    Huge = 2,
}

impl FaultEntry {
    /// All entries, in the order of their index.
    pub const ALL: [Self; 3] = [Self::Pte, Self::Marker, Self::Huge];

    /// `entry=` in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pte => "pte",
            Self::Marker => "marker",
            Self::Huge => "huge",
        }
    }
}

/// What happened to a uffd-wp pte marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum MarkerEvent {
    /// An empty entry became a marker.
    Installed = 0,
    /// A fault replaced a marker by a page.
    Consumed = 1,
    /// A marker went away without a fault: resolved, zapped, unmapped.
    Dropped = 2,
}

impl MarkerEvent {
    /// All events, in the order of their index.
    pub const ALL: [Self; 3] = [Self::Installed, Self::Consumed, Self::Dropped];

    /// `event=` in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Consumed => "consumed",
            Self::Dropped => "dropped",
        }
    }
}

/// The level of a page table: what its entries point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum TableLevel {
    /// Entries are pages.
    Pte = 0,
    /// Entries are PTE tables or 2 MiB pages.
    Pmd = 1,
    /// Entries are PMD tables or 1 GiB pages.
    Pud = 2,
}

impl TableLevel {
    /// All levels, in the order of their index.
    pub const ALL: [Self; 3] = [Self::Pte, Self::Pmd, Self::Pud];

    /// `level=` in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pte => "pte",
            Self::Pmd => "pmd",
            Self::Pud => "pud",
        }
    }
}

/// Why a page table was allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum TableCause {
    /// A page fault.
    Fault = 0,
    /// `UFFDIO_WRITEPROTECT`.
    Arm = 1,
    /// `PAGEMAP_SCAN` with `PM_SCAN_WP_MATCHING`.
    Scan = 2,
    /// `UFFDIO_COPY`, `ZEROPAGE`, `CONTINUE`, `POISON`.
    Copy = 3,
    /// `fork(2)`: the tables of the child.
    Fork = 4,
    /// `mremap(2)`, `UFFDIO_MOVE`.
    Move = 5,
    /// `MADV_POPULATE_*`, `MAP_POPULATE`, `mlock(2)`.
    Populate = 6,
    /// None of these could be told.
    Other = 7,
}

impl TableCause {
    /// All causes, in the order of their index.
    pub const ALL: [Self; 8] = [
        Self::Fault,
        Self::Arm,
        Self::Scan,
        Self::Copy,
        Self::Fork,
        Self::Move,
        Self::Populate,
        Self::Other,
    ];

    /// `cause=` in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Arm => "arm",
            Self::Scan => "scan",
            Self::Copy => "copy",
            Self::Fork => "fork",
            Self::Move => "move",
            Self::Populate => "populate",
            Self::Other => "other",
        }
    }
}

/// What a VMA's pages come from, as records hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum BackingCode {
    /// Private anonymous memory.
    Anon = 0,
    /// tmpfs, memfd, shared anonymous memory.
    Shmem = 1,
    /// hugetlbfs.
    Hugetlb = 2,
    /// Any other file.
    File = 3,
}

impl BackingCode {
    /// All backings, in the order of their index.
    pub const ALL: [Self; 4] = [Self::Anon, Self::Shmem, Self::Hugetlb, Self::File];
}

/// The life of a record: free, filled by the kernel side, ended by it, freed by the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordState {
    /// Not in use.
    Free = 0,
    /// Counting.
    Live = 1,
    /// The VMA or process is gone; the agent reads it a last time and frees it.
    Ended = 2,
    /// The VMA lives on with another start (split, merge, move); it counts in a new record.
    Moved = 3,
}

/// Tables by [`TableLevel`] and [`TableCause`].
pub type TableCounts = [[u64; TableCause::ALL.len()]; TableLevel::ALL.len()];

/// One uffd-wp VMA and what is rare enough to be counted without a per-CPU shard.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VmaRecord {
    /// Address of the `struct vm_area_struct`: identity until `vm_area_free`.
    pub vma: u64,
    /// First address at the first event.
    pub start: u64,
    /// Address after the last at the first event.
    pub end: u64,
    /// When the record was filled: `CLOCK_MONOTONIC`, nanoseconds.
    pub born_ns: u64,
    /// The process: index into the mm records.
    pub mm_id: u32,
    /// [`RecordState`].
    pub state: u32,
    /// [`BackingCode`].
    pub backing: u32,
    /// [`WpMode`] of the owning userfaultfd.
    pub mode: u32,
    /// Page tables allocated for it.
    pub tables: TableCounts,
    /// Markers by [`MarkerEvent`], apart from those consumed, which are in [`VmaFaults`].
    pub markers: [u64; MarkerEvent::ALL.len()],
    /// Keeps the size a multiple of a cache line.
    pub reserved: u64,
}

/// The hot counters of one VMA in one shard: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VmaFaults {
    /// Faults by [`WpMode`] and [`FaultEntry`].
    pub faults: [[u64; FaultEntry::ALL.len()]; WpMode::ALL.len()],
    /// Markers that a fault replaced.
    pub consumed: u64,
    /// Keeps the size at a cache line.
    pub reserved: u64,
}

/// One process that uses uffd-wp: its address space.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct MmRecord {
    /// Address of the `struct mm_struct`: identity until `__mmdrop`.
    pub mm: u64,
    /// Start of the group leader since boot, in nanoseconds (`start_boottime`).
    pub start_boottime_ns: u64,
    /// When the record was filled: `CLOCK_MONOTONIC`, nanoseconds.
    pub born_ns: u64,
    /// Time its threads waited for a handler, in nanoseconds.
    pub fault_wait_ns: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// [`RecordState`].
    pub state: u32,
    /// Name of the group leader at the first event, zero padded.
    pub comm: [u8; COMM_LEN],
    /// Tables allocated outside its uffd-wp VMAs, or where no VMA could be told.
    pub tables: TableCounts,
    /// Tables freed, by [`TableLevel`].
    pub freed: [u64; TableLevel::ALL.len()],
    /// Keeps the size a multiple of a cache line.
    pub reserved: [u64; 6],
}

/// Number of finite buckets of a [`TimeHistogram`].
pub const BUCKETS: usize = 13;

/// Durations: bucket `n` counts those up to `1000 * 4^n` ns, the last one those above all.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TimeHistogram {
    /// Not cumulative; the last bucket is +Inf.
    pub buckets: [u64; BUCKETS + 1],
    /// Sum of all durations in nanoseconds.
    pub sum_ns: u64,
}

/// What a [`TimeHistogram`] measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MeasuredTime {
    /// A thread waiting in `handle_userfault`.
    FaultWait = 0,
    /// One `UFFDIO_WRITEPROTECT` that arms.
    Arm = 1,
    /// One `PAGEMAP_SCAN`.
    Scan = 2,
}

impl MeasuredTime {
    /// All durations, in the order of their index.
    pub const ALL: [Self; 3] = [Self::FaultWait, Self::Arm, Self::Scan];
}

/// Free record ids: the agent pushes at `tail`, the kernel side takes at `head`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct FreeList {
    /// Next to take; only the kernel side advances it.
    pub head: u64,
    /// Next to fill; only the agent advances it.
    pub tail: u64,
}

/// Why an event could not be counted where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RecordLoss {
    /// All VMA records are in use.
    VmaRecordsFull = 0,
    /// All process records are in use.
    MmRecordsFull = 1,
    /// The kernel refused a map update.
    MapUpdateFailed = 2,
    /// A table was allocated for a VMA that could not be told; the process counts it.
    VmaUnknown = 3,
}

impl RecordLoss {
    /// All losses, in the order of their index.
    pub const ALL: [Self; 4] = [
        Self::VmaRecordsFull,
        Self::MmRecordsFull,
        Self::MapUpdateFailed,
        Self::VmaUnknown,
    ];

    /// `reason=` in metrics and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VmaRecordsFull => "vma_records_full",
            Self::MmRecordsFull => "mm_records_full",
            Self::MapUpdateFailed => "map_update_failed",
            Self::VmaUnknown => "vma_unknown",
        }
    }
}

/// The one entry of the control map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ControlBlock {
    /// Free ids of VMA records.
    pub free_vmas: FreeList,
    /// Free ids of process records.
    pub free_mms: FreeList,
    /// Node histograms by [`MeasuredTime`].
    pub durations: [TimeHistogram; MeasuredTime::ALL.len()],
    /// Events by [`RecordLoss`].
    pub losses: [u64; RecordLoss::ALL.len()],
}

/// One uffd-wp VMA as the `iter/task_vma` program writes it to its sequence file.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IterVma {
    /// Address of the `struct vm_area_struct`.
    pub vma: u64,
    /// Address of the `struct mm_struct`.
    pub mm: u64,
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// `vm_flags`.
    pub flags: u64,
    /// Start of the group leader since boot, in nanoseconds.
    pub start_boottime_ns: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Features of the owning userfaultfd (`UFFD_FEATURE_*`).
    pub features: u32,
    /// [`BackingCode`].
    pub backing: u32,
    /// Keeps the size free of padding.
    pub reserved: u32,
    /// Name of the group leader, zero padded.
    pub comm: [u8; COMM_LEN],
}

#[cfg(feature = "user")]
mod user {
    //! Plain old data for the agent's side.
    use super::{ControlBlock, FreeList, IterVma, MmRecord, TimeHistogram, VmaFaults, VmaRecord};

    macro_rules! pod {
        ($($t:ty),*) => {$(
            // SAFETY: repr(C), integers and arrays of integers only, without padding
            // (asserted by the sizes below).
            unsafe impl bytemuck::Zeroable for $t {}
            // SAFETY: as above.
            unsafe impl bytemuck::Pod for $t {}
        )*};
    }
    pod!(
        VmaRecord,
        VmaFaults,
        MmRecord,
        TimeHistogram,
        FreeList,
        ControlBlock,
        IterVma
    );
}

const _: () = {
    assert!(size_of::<VmaFaults>() == 64);
    assert!(size_of::<VmaRecord>() == 8 * (6 + 24 + 3 + 1));
    assert!(size_of::<MmRecord>() == 8 * (4 + 1 + 2 + 24 + 3 + 6));
    assert!(size_of::<TimeHistogram>() == 8 * 15);
    assert!(size_of::<ControlBlock>() == 8 * (4 + 45 + 4));
    assert!(size_of::<IterVma>() == 8 * (6 + 2 + 2));
};
