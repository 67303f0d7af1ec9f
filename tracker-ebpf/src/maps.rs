//! The shared maps, and the words that all programs share.

use core::cell::UnsafeCell;

use crate::{atomic, memory::CopiedMemory, patched::value};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap},
};
use tracker_ebpf::{
    ControlBlock, MmRecord, RecordLoss, VmaFaults, VmaRecord, kernel::PAGE_OFFSET_BASE_L4,
};

/// `vm_area_struct` address -> VMA record id.
#[map]
pub static VMAS: HashMap<u64, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
/// `mm_struct` address -> process record id.
#[map]
pub static MMS: HashMap<u64, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
pub static VMA_RECORDS: Array<VmaRecord> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static MM_RECORDS: Array<MmRecord> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Hot counters, by shard and then VMA record id.
#[map]
pub static FAULTS: Array<VmaFaults> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static CONTROL: Array<ControlBlock> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The ring of free VMA record ids, with its ends in [`ControlBlock::free_vmas`].
#[map]
pub static FREE_VMAS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// The ring of free process record ids, with its ends in [`ControlBlock::free_mms`].
#[map]
pub static FREE_MMS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Ids of VMA records that the agent has ended and the next walk is to forget; the rest is zero.
#[map]
pub static RETIRED: Array<u64> = Array::with_max_entries(tracker_ebpf::RETIRED, BPF_F_MMAPABLE);

/// A cell that programs write on several CPUs; each use says why that is sound.
pub struct RacyCell<T>(UnsafeCell<T>);
// SAFETY: left to each use.
unsafe impl<T> Sync for RacyCell<T> {}

impl<T> RacyCell<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub const fn get(&self) -> *mut T {
        self.0.get()
    }
}

/// A word that programs change atomically, on several CPUs.
pub type SharedWord = RacyCell<u64>;

impl SharedWord {
    #[inline(always)]
    pub fn load(&self) -> u64 {
        // SAFETY: one aligned word.
        unsafe { self.get().read_volatile() }
    }

    #[inline(always)]
    pub fn store(&self, value: u64) {
        // SAFETY: one aligned word.
        unsafe { self.get().write_volatile(value) }
    }

    #[inline(always)]
    pub fn add(&self, value: u64) {
        atomic::add(self.get(), value);
    }
}

/// Raised whenever a pointer to a VMA may mean another VMA, or another mode, than before.
pub static GENERATION: SharedWord = SharedWord::new(1);
/// Process records in use. While it is 0 nobody uses uffd-wp, and the table hooks return at once.
pub static PROCESSES: SharedWord = SharedWord::new(0);
/// The agent's own tgid, set when it reads the iterator: its own scans do not count.
pub static AGENT: SharedWord = SharedWord::new(0);

/// Counts an event that could not be counted where it belongs.
#[inline(always)]
pub fn lose(loss: RecordLoss) {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: a map value of that type.
        atomic::add(unsafe { &raw mut (*control).losses[loss as usize] }, 1);
    }
}

/// How far above its physical address the kernel has memory mapped.
#[inline(always)]
pub fn direct_map() -> u64 {
    match value!(page_offset_symbol) {
        0 => PAGE_OFFSET_BASE_L4,
        symbol => CopiedMemory::at(symbol as *const u8),
    }
}
