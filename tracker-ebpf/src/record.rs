//! The slow path: finds or fills the record of a VMA and of its process.

use core::num::NonZero;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_task, bpf_get_smp_processor_id, bpf_ktime_get_ns},
    maps::{Array, HashMap},
};
use aya_log_ebpf::debug;
use tracker_ebpf::{
    BackingCode, COMM_LEN, FreeList, MmRecord, NO_RECORD, RecordLoss, RecordState, WpMode, field,
    kernel::{TMPFS_MAGIC, UFFD_FEATURE_WP_ASYNC, VM_HUGETLB, VM_UFFD_WP},
};

use crate::{
    atomic,
    maps::{
        CONTROL, FREE_MMS, FREE_VMAS, GENERATION, MM_RECORDS, MMS, PROCESSES, VMA_RECORDS, VMAS,
        lose,
    },
    memory::{CopiedMemory, KernelMemory},
    patched::{offset, value},
};

/// How often to try for a free record that others take first.
const TAKE_TRIES: u32 = 16;

/// Set in every [`FoundRecord`], so that `None` is zero.
const SET: NonZero<u64> = NonZero::new(2).unwrap();

/// A record, and what a fault needs to know about it, in one word. LLVM would copy a struct by
/// memcpy, on which its BPF backend stumbles.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct FoundRecord(NonZero<u64>);

impl FoundRecord {
    #[inline(always)]
    fn new(id: u32, place: u32, mode: WpMode) -> Self {
        let word = (place as u64) << 32 | (id as u64) << 2 | mode as u64;
        Self(SET | word)
    }

    /// The record's id.
    #[inline(always)]
    pub const fn id(self) -> u32 {
        (self.0.get() as u32) >> 2
    }

    /// Its hot counters, in the shard of the CPU that found it.
    #[inline(always)]
    pub const fn place(self) -> u32 {
        (self.0.get() >> 32) as u32
    }

    /// [`WpMode`] as a number, which the verifier can bound.
    #[inline(always)]
    pub const fn mode(self) -> usize {
        (self.0.get() & 1) as usize
    }

    #[inline(always)]
    pub const fn is_async(self) -> bool {
        self.mode() == WpMode::Async as usize
    }
}

/// Whether uffd write-protection is registered on the VMA.
#[inline(always)]
pub fn uses_uffd_wp<M: KernelMemory>(vma: *const u8) -> bool {
    M::read::<field::vma_flags>(vma) & VM_UFFD_WP != 0
}

/// The mode of the userfaultfd that owns the VMA.
#[inline(always)]
pub fn mode<M: KernelMemory>(vma: *const u8) -> WpMode {
    let ctx = M::pointer::<field::vma_uffd_ctx>(vma);
    if M::read::<field::uffd_features>(ctx) & UFFD_FEATURE_WP_ASYNC != 0 {
        WpMode::Async
    } else {
        WpMode::Sync
    }
}

/// What the pages of a VMA come from, as `vma_is_anonymous`, `is_vm_hugetlb_page` and the magic
/// number of the file system tell. Shared anonymous memory is a file on an internal tmpfs.
#[inline(always)]
pub fn backing<M: KernelMemory>(vma: *const u8) -> BackingCode {
    if M::read::<field::vma_flags>(vma) & VM_HUGETLB != 0 {
        return BackingCode::Hugetlb;
    }
    if M::read::<field::vma_ops>(vma) == 0 {
        return BackingCode::Anon;
    }
    let inode = M::pointer::<field::file_inode>(M::pointer::<field::vma_file>(vma));
    let sb = M::pointer::<field::inode_sb>(inode);
    if M::read::<field::sb_magic>(sb) == TMPFS_MAGIC {
        BackingCode::Shmem
    } else {
        BackingCode::File
    }
}

/// The record of a uffd-wp VMA, filled if it has none; `None` if the VMA does not use uffd-wp.
#[inline(never)]
pub fn resolve(vma: u64) -> Option<FoundRecord> {
    let object = vma as *const u8;
    if !uses_uffd_wp::<CopiedMemory>(object) {
        return None;
    }
    let mode = mode::<CopiedMemory>(object);
    let start = CopiedMemory::read::<field::vma_start>(object);
    let mm = CopiedMemory::read::<field::vma_mm>(object);
    let mm_id = resolve_mm(mm);
    let known = known(vma, start, mm_id, mode);
    let id = if known == NO_RECORD {
        fill(vma, start, mm_id, mode)
    } else {
        known
    };
    // SAFETY: a helper without arguments.
    let cpu = u64::from(unsafe { bpf_get_smp_processor_id() });
    let place = (cpu & value!(shard_mask)) * value!(vma_records) + u64::from(id);
    Some(FoundRecord::new(id, place as u32, mode))
}

/// The id under which exactly this VMA is already counted.
#[inline(always)]
fn known(vma: u64, start: u64, mm_id: u32, mode: WpMode) -> u32 {
    // SAFETY: the value is one aligned word.
    let Some(id) = (unsafe { VMAS.get(vma) }).copied() else {
        return NO_RECORD;
    };
    let Some(record) = VMA_RECORDS.get_ptr_mut(id) else {
        return NO_RECORD;
    };
    // SAFETY: a map value; its fields are written before the id is published.
    unsafe {
        if (*record).vma == vma
            && (*record).start == start
            && (*record).mm_id == mm_id
            && (*record).state == RecordState::Live as u32
        {
            (*record).mode = mode as u32;
            return id;
        }
        // Only who removes the entry may end the record.
        if VMAS.remove(vma).is_ok() {
            if (*record).vma == vma && (*record).state == RecordState::Live as u32 {
                (*record).state = RecordState::Moved as u32;
            }
            GENERATION.add(1);
        }
    }
    NO_RECORD
}

/// Takes an ended record out of the index, unless another one is there in its place.
#[inline(always)]
pub fn forget(id: u32) {
    let Some(record) = VMA_RECORDS.get_ptr_mut(id) else {
        return;
    };
    // SAFETY: a map value.
    let (vma, state) = unsafe { ((*record).vma, (*record).state) };
    // SAFETY: the value is one aligned word.
    let indexed = unsafe { VMAS.get(vma) }.copied();
    if id != NO_RECORD && state != RecordState::Live as u32 && indexed == Some(id) {
        let _ = VMAS.remove(vma);
    }
}

/// Takes a free record and publishes it.
#[inline(always)]
fn fill(vma: u64, start: u64, mm_id: u32, mode: WpMode) -> u32 {
    let id = take(&FREE_VMAS, FreeRecords::Vmas, value!(vma_records));
    let Some(record) = VMA_RECORDS.get_ptr_mut(id) else {
        return NO_RECORD;
    };
    if id == NO_RECORD {
        debug!((), "no VMA record is free at {:x}", start);
        lose(RecordLoss::VmaRecordsFull);
        return NO_RECORD;
    }
    let object = vma as *const u8;
    // SAFETY: the id was free: nobody else writes this record.
    unsafe {
        (*record).vma = vma;
        (*record).start = start;
        (*record).end = CopiedMemory::read::<field::vma_end>(object);
        (*record).born_ns = bpf_ktime_get_ns();
        (*record).mm_id = mm_id;
        (*record).backing = backing::<CopiedMemory>(object) as u32;
        (*record).mode = mode as u32;
        (*record).state = RecordState::Live as u32;
    }
    // Never log a pointer: the verifier does not let one of a trampoline be split into bytes.
    debug!(
        (),
        "VMA record {} at {:x}, process record {}", id, start, mm_id
    );
    publish(&VMAS, vma, id, || {
        // SAFETY: as above; the agent takes the unused record back.
        unsafe { (*record).state = RecordState::Ended as u32 }
    })
}

/// The record id of a process, filled if it has none.
#[inline(never)]
pub fn resolve_mm(mm: u64) -> u32 {
    // SAFETY: the value is one aligned word.
    if let Some(id) = unsafe { MMS.get(mm) }.copied() {
        identify(id, mm);
        return id;
    }
    let id = take(&FREE_MMS, FreeRecords::Mms, value!(mm_records));
    let Some(record) = MM_RECORDS.get_ptr_mut(id) else {
        return NO_RECORD;
    };
    if id == NO_RECORD {
        debug!((), "no process record is free");
        lose(RecordLoss::MmRecordsFull);
        return NO_RECORD;
    }
    // SAFETY: the id was free: nobody else writes this record.
    unsafe {
        (*record).mm = mm;
        (*record).born_ns = bpf_ktime_get_ns();
        (*record).state = RecordState::Live as u32;
    }
    identify(id, mm);
    PROCESSES.add(1);
    publish(&MMS, mm, id, || {
        // SAFETY: as above.
        unsafe { (*record).state = RecordState::Ended as u32 }
        PROCESSES.add(u64::MAX);
    })
}

/// Fills in whose mm it is unless that is known: a child that is being forked has no pid yet.
#[inline(always)]
fn identify(id: u32, mm: u64) {
    let Some(record) = MM_RECORDS.get_ptr_mut(id) else {
        return;
    };
    // SAFETY: a map value.
    if unsafe { (*record).tgid } != 0 {
        return;
    }
    let owner = match offset::<field::mm_owner>() {
        tracker_ebpf::ABSENT => 0,
        owner => CopiedMemory::at::<u64>((mm as *const u8).wrapping_add(owner as usize)),
    };
    // SAFETY: a helper without arguments.
    for task in [owner, unsafe { bpf_get_current_task() }] {
        if CopiedMemory::read::<field::task_mm>(task as *const u8) == mm {
            return name(record, task as *const u8);
        }
    }
}

/// The same for an mm that is torn down, to which no task points any more: the current task is its
/// last user.
#[inline(always)]
pub fn identify_exiting(id: u32) {
    if let Some(record) = MM_RECORDS.get_ptr_mut(id) {
        // SAFETY: a map value, and a helper without arguments.
        unsafe {
            if (*record).tgid == 0 {
                name(record, bpf_get_current_task() as *const u8);
            }
        }
    }
}

/// Names a process by its group leader.
#[inline(always)]
fn name(record: *mut MmRecord, task: *const u8) {
    let leader = CopiedMemory::pointer::<field::task_group_leader>(task);
    // SAFETY: a map value; the tgid, which makes the rest count, is written last.
    unsafe {
        (*record).start_boottime_ns = CopiedMemory::read::<field::task_start_boottime>(leader);
        (*record).comm = CopiedMemory::at::<[u8; COMM_LEN]>(
            leader.wrapping_add(offset::<field::task_comm>() as usize),
        );
        (&raw mut (*record).tgid).write_volatile(CopiedMemory::read::<field::task_tgid>(leader));
    }
}

/// The record id of a process that uses uffd-wp, or 0: never fills one.
#[inline(always)]
pub fn known_mm(mm: u64) -> u32 {
    if PROCESSES.load() == 0 {
        return NO_RECORD;
    }
    // SAFETY: the value is one aligned word.
    unsafe { MMS.get(mm) }.copied().unwrap_or(NO_RECORD)
}

/// Enters a filled record into its map. If another CPU was first, its record counts, and `retract`
/// ends ours.
#[inline(always)]
fn publish(map: &HashMap<u64, u32>, key: u64, id: u32, retract: impl FnOnce()) -> u32 {
    if map.insert(key, id, BPF_NOEXIST as u64).is_ok() {
        return id;
    }
    retract();
    // SAFETY: the value is one aligned word.
    match unsafe { map.get(key) } {
        Some(first) => *first,
        None => {
            lose(RecordLoss::MapUpdateFailed);
            NO_RECORD
        }
    }
}

enum FreeRecords {
    Vmas,
    Mms,
}

/// Takes an id from a ring of free ones; `NO_RECORD` if it is empty.
#[inline(always)]
fn take(ring: &Array<u64>, which: FreeRecords, capacity: u64) -> u32 {
    let Some(control) = CONTROL.get_ptr_mut(0) else {
        return NO_RECORD;
    };
    // SAFETY: a map value; both ends are only touched atomically.
    let list: *mut FreeList = unsafe {
        match which {
            FreeRecords::Vmas => &raw mut (*control).free_vmas,
            FreeRecords::Mms => &raw mut (*control).free_mms,
        }
    };
    // SAFETY: as above.
    let (head, tail) = unsafe { (&raw mut (*list).head, &raw mut (*list).tail) };
    for _ in 0..TAKE_TRIES {
        // SAFETY: aligned words; the other CPUs may change them meanwhile.
        let (seen, end) = unsafe { (head.read_volatile(), tail.read_volatile()) };
        if seen == end {
            return NO_RECORD;
        }
        let place = seen.checked_rem(capacity).unwrap_or(0);
        let Some(id) = ring.get(place as u32).copied() else {
            return NO_RECORD;
        };
        if atomic::replace(head, seen, seen + 1) {
            return id as u32;
        }
    }
    NO_RECORD
}
