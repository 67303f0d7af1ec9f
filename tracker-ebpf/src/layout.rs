//! Keys, records and counters in the shared maps.

use crate::numbered::numbered;

/// Length of a task's `comm`, with its terminating zero (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// VMA records that one walk of `iter/task_vma` takes out of the index for the agent. The agent
/// itself would have to use bpf(2), and while it does, the kernel runs no kprobe program on that
/// CPU.
pub const RETIRED: u32 = 256;
/// The id for "no record was free": its counters hold events that could not be attributed. Real ids
/// start at 1.
pub const NO_RECORD: u32 = 0;

numbered! {
    /// Who answers a write-protect fault.
    pub enum WpMode {
        /// A message to a handler (`handle_userfault`).
        Sync = "sync",
        /// The kernel itself (`UFFD_FEATURE_WP_ASYNC`).
        Async = "async",
    }
}

numbered! {
    /// What a write-protect fault found.
    pub enum FaultEntry {
        /// A write found an armed page.
        Pte = "pte",
        /// An access, read or write, found a marker.
        Marker = "marker",
        /// A write found an armed PMD or hugetlb entry.
        Huge = "huge",
    }
}

numbered! {
    /// What happened to a uffd-wp pte marker.
    pub enum MarkerEvent {
        /// An empty entry became a marker.
        Installed = "installed",
        /// A fault replaced a marker by a page.
        Consumed = "consumed",
        /// A marker went away without a fault: resolved, zapped, unmapped.
        Dropped = "dropped",
    }
}

numbered! {
    /// The level of a page table: what its entries point to.
    pub enum TableLevel {
        /// Entries are pages.
        Pte = "pte",
        /// Entries are PTE tables or 2 MiB pages.
        Pmd = "pmd",
        /// Entries are PMD tables or 1 GiB pages.
        Pud = "pud",
    }
}

numbered! {
    /// Why a page table was allocated.
    pub enum TableCause {
        /// A page fault.
        Fault = "fault",
        /// `UFFDIO_WRITEPROTECT`.
        Arm = "arm",
        /// `PAGEMAP_SCAN` with `PM_SCAN_WP_MATCHING`.
        Scan = "scan",
        /// `UFFDIO_COPY`, `ZEROPAGE`, `CONTINUE`, `POISON`.
        Copy = "copy",
        /// `fork(2)`: the tables of the child.
        Fork = "fork",
        /// `mremap(2)`, `UFFDIO_MOVE`.
        Move = "move",
        /// `MADV_POPULATE_*`, `MAP_POPULATE`, `mlock(2)`.
        Populate = "populate",
        /// None of these, or none that could be told.
        Other = "other",
    }
}

numbered! {
    /// What a VMA's pages come from, as records hold it.
    pub enum BackingCode {
        /// Private anonymous memory.
        Anon,
        /// tmpfs, memfd, shared anonymous memory.
        Shmem,
        /// A file on hugetlbfs.
        Hugetlb,
        /// Any other file.
        File,
    }
}

numbered! {
    /// The life of a record: free, filled by the kernel side, ended by it, freed by the agent.
    pub enum RecordState {
        /// Not in use.
        Free,
        /// In use: events count in it.
        Live,
        /// The VMA or process is gone; the agent reads the record once more and frees it.
        Ended,
        /// The kernel object and the start have parted (split, merge): either the object lives on
        /// with another start, or another object has this start now. Both count in new records.
        Moved,
    }
}

/// Tables by [`TableLevel`] and [`TableCause`].
pub type TableCounts = [[u64; TableCause::ALL.len()]; TableLevel::ALL.len()];

/// One uffd-wp VMA and what is rare enough to be counted without a per-CPU shard.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct VmaRecord {
    /// Address of the `struct vm_area_struct`: identity until `vm_area_free`.
    pub vma: u64,
    /// The first address, as of the first event.
    pub start: u64,
    /// The address after the last, as of the first event.
    pub end: u64,
    /// When the record was filled: `CLOCK_MONOTONIC`, nanoseconds.
    pub born_ns: u64,
    /// The process: index into the mm records.
    pub mm_id: u32,
    /// [`RecordState`] as a number.
    pub state: u32,
    /// [`BackingCode`] as a number.
    pub backing: u32,
    /// [`WpMode`] of the owning userfaultfd.
    pub mode: u32,
    /// Page tables allocated for it.
    pub tables: TableCounts,
    /// Markers by [`MarkerEvent`]. Consumed ones are counted in [`VmaFaults`].
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
    /// [`RecordState`] as a number.
    pub state: u32,
    /// Name of the group leader at the first event, zero padded.
    pub comm: [u8; COMM_LEN],
    /// Tables allocated outside its uffd-wp VMAs, or for a VMA that could not be told.
    pub tables: TableCounts,
    /// Tables freed, by [`TableLevel`].
    pub freed: [u64; TableLevel::ALL.len()],
    /// Keeps the size a multiple of a cache line.
    pub reserved: [u64; 6],
}

/// Number of finite buckets of a [`TimeHistogram`].
pub const BUCKETS: usize = 13;

/// How long something took: bucket `n` counts durations up to `1000 * 4^n` ns, the last one all
/// longer ones.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TimeHistogram {
    /// Not cumulative. The last bucket is +Inf.
    pub buckets: [u64; BUCKETS + 1],
    /// Sum of all durations in nanoseconds.
    pub sum_ns: u64,
}

numbered! {
    /// What a [`TimeHistogram`] measures.
    pub enum MeasuredTime {
        /// How long a thread waits in `handle_userfault`.
        FaultWait = "waiting time",
        /// One `UFFDIO_WRITEPROTECT` that arms.
        Arm = "arm time",
        /// One `PAGEMAP_SCAN`.
        Scan = "scan time",
    }
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

numbered! {
    /// Why an event could not be counted where it belongs.
    pub enum RecordLoss {
        /// All VMA records are in use.
        VmaRecordsFull = "vma_records_full",
        /// All process records are in use.
        MmRecordsFull = "mm_records_full",
        /// The kernel refused a map update.
        MapUpdateFailed = "map_update_failed",
        /// A table was allocated for a VMA that could not be told; the process counts it.
        VmaUnknown = "vma_unknown",
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

/// How often a hook fired while the agent exercised the kernel on memory of its own.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct HookFirings {
    /// Because of that.
    pub exercised: u64,
    /// Meanwhile, because of others.
    pub others: u64,
}

/// One uffd-wp VMA as the `iter/task_vma` program writes it to its sequence file.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct IterVma {
    /// Address of the `struct vm_area_struct`.
    pub vma: u64,
    /// Address of the `struct mm_struct`.
    pub mm: u64,
    /// The first address.
    pub start: u64,
    /// The address after the last.
    pub end: u64,
    /// `vm_flags`.
    pub flags: u64,
    /// Start of the group leader since boot, in nanoseconds.
    pub start_boottime_ns: u64,
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Features of the owning userfaultfd (`UFFD_FEATURE_*`).
    pub features: u32,
    /// [`BackingCode`] as a number.
    pub backing: u32,
    /// Keeps the size free of padding.
    pub reserved: u32,
    /// Name of the group leader, zero padded.
    pub comm: [u8; COMM_LEN],
}

#[cfg(feature = "user")]
mod user {
    //! Plain old data for the agent's side.
    use super::{
        ControlBlock, FreeList, HookFirings, IterVma, MmRecord, TimeHistogram, VmaFaults, VmaRecord,
    };

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
        HookFirings,
        IterVma
    );
}

const _: () = {
    assert!(size_of::<VmaFaults>() == 64);
    assert!(size_of::<VmaRecord>() == 8 * (6 + 24 + 3 + 1));
    assert!(size_of::<MmRecord>() == 8 * (4 + 1 + 2 + 24 + 3 + 6));
    assert!(size_of::<TimeHistogram>() == 8 * 15);
    assert!(size_of::<ControlBlock>() == 8 * (4 + 45 + 4));
    assert!(size_of::<HookFirings>() == 8 * 2);
    assert!(size_of::<IterVma>() == 8 * (6 + 2 + 2));
};
