//! Pte markers: entries that hold only the uffd-wp flag of a page that is not there.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns};
use tracker_ebpf::{Entry as Hit, MarkerEvent};

use crate::{
    atomic,
    context::Entry,
    faults,
    maps::{Racy, VMA_RECORDS, config, offset},
    memory::{Copied, Memory},
    slot,
};

/// x86 `_PAGE_ACCESSED | _PAGE_DIRTY`: `pte_none` ignores them (a CPU erratum sets them).
const IGNORED_BITS: u64 = 0x60;
/// Recent marker faults remembered, by page.
const RECENT: usize = 1024;
/// Two threads that find one marker do so within this time (a power of two of nanoseconds).
const RACE_SHIFT: u32 = 20;

/// The marker fault seen last at a page.
#[repr(C)]
struct Seen {
    /// Page number and record: which marker.
    marker: u64,
    /// Thread and its count of completed faults: which fault.
    fault: u64,
    /// When, in units of `1 << RACE_SHIFT` ns.
    when: u64,
    reserved: u64,
}

/// Written without a lock: a torn entry looks like another marker, which then counts.
static SEEN: Racy<[Seen; RECENT]> = Racy::new(
    [const {
        Seen {
            marker: 0,
            fault: 0,
            when: 0,
            reserved: 0,
        }
    }; RECENT],
);

/// Counts a consumed marker.
#[inline(always)]
pub fn consumed(id: u32) {
    if let Some(counters) = slot::counters(id) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*counters).consumed }, 1);
    }
}

/// `do_swap_page(vmf)` with a marker in `orig_pte`: a fault, and the marker is replaced by a page
/// (`handle_pte_marker` -> `do_pte_missing`).
///
/// The same fault comes here again when the kernel retries it (a fault under the VMA lock may have
/// to take the mmap lock); it counts once. Two threads can come here for one marker, since the pte
/// lock is taken only later: two faults, but one consumed marker.
#[inline(always)]
pub fn do_swap_page<C: Entry>(ctx: &C) {
    let vmf = ctx.pointer(0);
    if C::Memory::read::<u64>(vmf, offset!(fault_orig_pte)) != config!(marker_pte) {
        return;
    }
    let vma = C::Memory::pointer(vmf, offset!(fault_vma));
    let Some(found) = slot::find(vma, C::PREEMPTIBLE) else {
        return;
    };
    let page = C::Memory::read::<u64>(vmf, offset!(fault_address)) >> 12;
    let marker = page << 24 | u64::from(found.id) | 1 << 63;
    let fault = this_fault();
    // SAFETY: a helper without arguments.
    let when = unsafe { bpf_ktime_get_ns() } >> RACE_SHIFT;
    let place = (page ^ page >> 10 ^ u64::from(found.id)) as usize & (RECENT - 1);
    // SAFETY: in bounds; see `SEEN`.
    let seen = unsafe { &mut (*SEEN.get())[place] };
    let before = core::mem::replace(
        seen,
        Seen {
            marker,
            fault,
            when,
            reserved: 0,
        },
    );
    let same_marker = before.marker == marker;
    if same_marker && before.fault == fault {
        return;
    }
    faults::count(found.id, found.mode, Hit::Marker);
    if !(same_marker && when - before.when <= 1) && !replaced::<C>(vmf) {
        consumed(found.id);
    }
}

/// Names the fault that the current thread is in: its completed faults do not change meanwhile
/// (`mm_account_fault`).
#[inline(always)]
fn this_fault() -> u64 {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() } as *const u8;
    let [minor, major] = Copied::read::<[u64; 2]>(task, offset!(task_min_flt));
    bpf_get_current_pid_tgid() << 32 ^ (minor + major)
}

/// Whether another thread has replaced the marker already.
#[inline(always)]
fn replaced<C: Entry>(vmf: *const u8) -> bool {
    let pte = C::Memory::pointer(vmf, offset!(fault_pte));
    let now = Copied::read::<u64>(pte, 0);
    now != 0 && now != config!(marker_pte)
}

/// `make_uffd_wp_pte(vma, addr, pte, ptent)`: PAGEMAP_SCAN arms one entry, under the pte lock. An
/// empty one becomes a marker.
#[inline(always)]
pub fn make_uffd_wp_pte<C: Entry>(ctx: &C) {
    if ctx.number(3) & !IGNORED_BITS != 0 {
        return;
    }
    let Some(found) = slot::find(ctx.pointer(0), false) else {
        return;
    };
    if let Some(record) = VMA_RECORDS.get_ptr_mut(found.id) {
        // SAFETY: a map value.
        atomic::add(
            unsafe { &raw mut (*record).markers[MarkerEvent::Installed as usize] },
            1,
        );
    }
}
