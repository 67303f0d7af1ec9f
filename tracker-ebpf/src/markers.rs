//! Pte markers: entries with nothing but the uffd-wp flag of a page that is not there.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{
            bpf_get_current_task_btf, bpf_jiffies64, bpf_probe_read_kernel as read_kernel,
        },
    },
    macros::map,
    maps::HashMap,
};
use tracker_ebpf::{
    FaultEntry, MarkerEvent, RecordLoss, field,
    kernel::{
        PAGE_SHIFT, PTE_NONE_IGNORES, UFFD_FEATURE_WP_ASYNC, UFFD_FEATURE_WP_UNPOPULATED,
        VM_HUGETLB, ZAP_FLAG_DROP_MARKER,
    },
};

use crate::{
    atomic,
    context::{FunctionEntry, FunctionExit},
    maps::{RacyCell, VMA_RECORDS, lose},
    memory::{CopiedMemory, DirectMemory, KernelMemory},
    patched::{offset, value},
    record::{FoundRecord, resolve, uses_uffd_wp},
    slot,
    walk::{self, TableWalk},
};

/// Empty entries of anonymous memory get markers; WP_ASYNC implies it.
const WP_UNPOPULATED: u32 = UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC;
/// How many recent marker faults are remembered, by page.
const RECENT: usize = 1024;
/// Where the name of a fault has its thread, above the count of completed faults.
const THREAD_SHIFT: u32 = 40;

/// The last marker fault at a page.
#[repr(C)]
struct SeenMarker {
    /// Page number and record: which marker.
    marker: u64,
    /// Thread and its count of completed faults: which fault.
    fault: u64,
    /// When it was, in jiffies.
    when: u64,
    reserved: u64,
}

/// Written without a lock: a torn entry looks like another marker, which then counts.
static SEEN: RacyCell<[SeenMarker; RECENT]> = RacyCell::new(
    [const {
        SeenMarker {
            marker: 0,
            fault: 0,
            when: 0,
            reserved: 0,
        }
    }; RECENT],
);

/// Markers that a task is about to drop, and the record of their VMA.
#[derive(Clone, Copy)]
#[repr(C)]
struct ClearedMarkers {
    record: u64,
    markers: u64,
}

/// What tasks in `userfaultfd_clear_vma` are about to drop, by pid and tgid.
#[map]
static CLEARED: HashMap<u64, ClearedMarkers> = HashMap::with_max_entries(256, 0);

/// How many words of `struct vm_fault` are read at once.
const FAULT_WORDS: usize = 12;

/// Counts a consumed marker.
#[inline(always)]
pub fn consumed(found: FoundRecord) {
    if let Some(counters) = slot::counters(found) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*counters).consumed }, 1);
    }
}

/// `do_swap_page(vmf)` with a marker in `orig_pte`: a fault that replaces the marker by a page
/// (`handle_pte_marker` -> `do_pte_missing`).
///
/// The kernel comes here again when it retries a fault (one under the VMA lock may need the mmap
/// lock); that counts once. Since the pte lock is taken only later, two threads can come here for
/// one marker at almost the same time: two faults, but one consumed marker.
#[inline(always)]
pub fn do_swap_page<C: FunctionEntry>(ctx: &C) {
    // One copy: a call of a helper costs as much as several words. The copy is not zeroed first,
    // since that is a loop over bytes.
    let mut fault = MaybeUninit::<[u64; FAULT_WORDS]>::uninit();
    let size = size_of_val(&fault) as u32;
    // SAFETY: the destination has that size; the helper checks the source.
    if unsafe { read_kernel(fault.as_mut_ptr().cast(), size, ctx.pointer(0).cast()) } != 0 {
        return;
    }
    // SAFETY: the helper has filled it.
    let fault = unsafe { fault.assume_init_ref() };
    if word(fault, offset::<field::fault_orig_pte>()) != value!(marker_pte) {
        return;
    }
    let vma = word(fault, offset::<field::fault_vma>()) as *const u8;
    let Some(found) = slot::find(vma, C::PREEMPTIBLE) else {
        return;
    };
    let page = word(fault, offset::<field::fault_address>()) >> PAGE_SHIFT;
    let marker = page << 24 | u64::from(found.id()) | 1 << 63;
    let fault = this_fault();
    // SAFETY: a helper without arguments.
    let when = unsafe { bpf_jiffies64() };
    let place = (page ^ page >> 10 ^ u64::from(found.id())) as usize & (RECENT - 1);
    // SAFETY: in bounds; see `SEEN`.
    let seen = unsafe { &mut (*SEEN.get())[place] };
    let same_marker = seen.marker == marker;
    if same_marker && seen.fault == fault {
        return;
    }
    // A thread that comes back with another fault has completed the one before: this marker is new.
    let other_thread = (seen.fault ^ fault) >> THREAD_SHIFT != 0;
    let raced = same_marker && other_thread && when - seen.when <= 1;
    (seen.marker, seen.fault, seen.when) = (marker, fault, when);
    if let Some(counters) = slot::counters(found) {
        let mode = found.mode();
        // SAFETY: a map value.
        unsafe {
            atomic::add(
                &raw mut (*counters).faults[mode][FaultEntry::Marker as usize],
                1,
            );
            atomic::add(&raw mut (*counters).consumed, u64::from(!raced));
        }
    }
}

/// A word of a copied `struct vm_fault`.
#[inline(always)]
fn word(fault: &[u64; FAULT_WORDS], offset: u32) -> u64 {
    // SAFETY: the agent writes the offset into the instruction, and the verifier refuses one that
    // lies beyond the words.
    unsafe { fault.as_ptr().byte_add(offset as usize).read_volatile() }
}

/// A name for the fault that the current thread is in: until it is done, the count of completed
/// faults does not change (`mm_account_fault`).
#[inline(always)]
fn this_fault() -> u64 {
    // SAFETY: a helper without arguments; its result is typed, so that loads need no copy.
    let task = unsafe { bpf_get_current_task_btf() } as *const u8;
    let minor = DirectMemory::read::<field::task_min_flt>(task);
    let major = DirectMemory::read::<field::task_maj_flt>(task);
    let thread = DirectMemory::read::<field::task_pid>(task);
    u64::from(thread) << THREAD_SHIFT ^ (minor + major)
}

/// `uffd_wp_range(vma, start, len, enable)`, on older kernels with an mm in front. Arming turns
/// empty entries into markers where the VMA uses markers; disarming drops them (`change_pte_range`,
/// `hugetlb_change_protection`).
#[inline(always)]
pub fn marks<C: FunctionEntry>(ctx: &C) {
    let at = value!(wp_range_vma_arg) as usize;
    let vma = ctx.argument(at);
    let (start, length) = (ctx.argument(at + 1), ctx.argument(at + 2));
    let arms = ctx.argument(at + 3) as u8 != 0;
    let object = vma as *const u8;
    if arms && !uses_markers(object) {
        return;
    }
    // `pgtable_split_needed`
    let walk = walk_of(object, start, start.wrapping_add(length), arms);
    if arms {
        count(vma, MarkerEvent::Installed, walk.none);
    } else {
        if walk.markers != 0 {
            // What `clear` saw is counted here.
            let _ = CLEARED.remove(bpf_get_current_pid_tgid());
        }
        count(vma, MarkerEvent::Dropped, walk.markers);
    }
}

/// `userfaultfd_clear_vma(vmi, prev, vma, start, end)`: unregistering drops the markers of a range.
/// Kernels do that by `uffd_wp_range` (6.12, 6.18), where they are counted, or by a call of
/// `change_protection` of its own (7.3): then they are counted at the exit.
#[inline(always)]
pub fn clear<C: FunctionEntry>(ctx: &C) {
    let vma = ctx.argument(2);
    let object = vma as *const u8;
    if !uses_uffd_wp::<CopiedMemory>(object) {
        return;
    }
    let walk = walk_of(object, ctx.argument(3), ctx.argument(4), false);
    if walk.markers == 0 {
        return;
    }
    let Some(found) = resolve(vma) else {
        return;
    };
    let cleared = ClearedMarkers {
        record: u64::from(found.id()),
        markers: walk.markers,
    };
    if CLEARED
        .insert(bpf_get_current_pid_tgid(), cleared, 0)
        .is_err()
    {
        lose(RecordLoss::MapUpdateFailed);
    }
}

/// The return of `userfaultfd_clear_vma`.
#[inline(always)]
pub fn clear_exit<C: FunctionExit>(_: &C) {
    let task = bpf_get_current_pid_tgid();
    // SAFETY: only the task itself changes its entry.
    let Some(cleared) = (unsafe { CLEARED.get(task) }).copied() else {
        return;
    };
    let _ = CLEARED.remove(task);
    if let Some(record) = VMA_RECORDS.get_ptr_mut(cleared.record as u32) {
        // SAFETY: a map value.
        let dropped = unsafe { &raw mut (*record).markers[MarkerEvent::Dropped as usize] };
        atomic::add(dropped, cleared.markers);
    }
}

/// `userfaultfd_wp_use_markers(vma)`
#[inline(always)]
fn uses_markers(vma: *const u8) -> bool {
    let ctx = CopiedMemory::pointer::<field::vma_uffd_ctx>(vma);
    uses_uffd_wp::<CopiedMemory>(vma)
        && (CopiedMemory::read::<field::vma_ops>(vma) != 0
            || CopiedMemory::read::<field::uffd_features>(ctx) & WP_UNPOPULATED != 0)
}

/// `unmap_page_range(tlb, vma, addr, end, details)`, later `__zap_vma_range`. In anonymous memory
/// markers are dropped. Elsewhere they stay, and armed pages become markers, unless the flags say
/// otherwise (`zap_pte_range`).
#[inline(always)]
pub fn zap<C: FunctionEntry>(ctx: &C) {
    let vma = ctx.pointer(1);
    if !uses_uffd_wp::<C::Memory>(vma) {
        return;
    }
    let details = ctx.argument(4) as *const u8;
    let flags = CopiedMemory::read::<field::zap_flags>(details);
    let object = ctx.argument(1);
    let drops = CopiedMemory::read::<field::vma_ops>(object as *const u8) == 0
        || !details.is_null() && flags & ZAP_FLAG_DROP_MARKER != 0;
    zapped(object, ctx.argument(2), ctx.argument(3), drops);
}

/// `__unmap_hugepage_range(tlb, vma, start, end, ref, zap_flags)`
#[inline(always)]
pub fn hugetlb_zap<C: FunctionEntry>(ctx: &C) {
    if uses_uffd_wp::<C::Memory>(ctx.pointer(1)) {
        let drops = ctx.argument(5) as u32 & ZAP_FLAG_DROP_MARKER != 0;
        zapped(ctx.argument(1), ctx.argument(2), ctx.argument(3), drops);
    }
}

#[inline(always)]
fn zapped(vma: u64, start: u64, end: u64, drops: bool) {
    let walk = walk_of(vma as *const u8, start, end, false);
    if drops {
        count(vma, MarkerEvent::Dropped, walk.markers);
    } else {
        count(vma, MarkerEvent::Installed, walk.armed);
    }
}

#[inline(always)]
fn walk_of(vma: *const u8, start: u64, end: u64, arms: bool) -> TableWalk {
    let mm = CopiedMemory::read::<field::vma_mm>(vma);
    let flags = CopiedMemory::read::<field::vma_flags>(vma);
    let hugetlb = flags & VM_HUGETLB != 0;
    let file = CopiedMemory::read::<field::vma_ops>(vma) != 0;
    walk::count(mm, start, end, hugetlb, arms && file && !hugetlb)
}

/// Counts markers for a VMA, if there are any.
#[inline(always)]
fn count(vma: u64, event: MarkerEvent, number: u64) {
    if number != 0
        && let Some(found) = resolve(vma)
        && let Some(record) = VMA_RECORDS.get_ptr_mut(found.id())
    {
        // SAFETY: a map value.
        atomic::add(
            unsafe { &raw mut (*record).markers[event as usize] },
            number,
        );
    }
}

/// `make_uffd_wp_pte(vma, addr, pte, ptent)`: PAGEMAP_SCAN arms one entry, under the pte lock. An
/// empty one becomes a marker.
#[inline(always)]
pub fn make_uffd_wp_pte<C: FunctionEntry>(ctx: &C) {
    if ctx.number(3) & !PTE_NONE_IGNORES != 0 {
        return;
    }
    let Some(found) = slot::find(ctx.pointer(0), false) else {
        return;
    };
    if let Some(record) = VMA_RECORDS.get_ptr_mut(found.id()) {
        // SAFETY: a map value.
        atomic::add(
            unsafe { &raw mut (*record).markers[MarkerEvent::Installed as usize] },
            1,
        );
    }
}
