//! Pte markers: entries that hold only the uffd-wp flag of a page that is not there.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_jiffies64, bpf_probe_read_kernel as read_kernel,
};
use tracker_ebpf::{Entry as Hit, MarkerEvent};

use crate::{
    atomic,
    context::Entry,
    maps::{Racy, VMA_RECORDS},
    memory::{Direct, Memory},
    patched::{config, field, offset},
    record::Found,
    slot,
};

/// x86 `_PAGE_ACCESSED | _PAGE_DIRTY`: `pte_none` ignores them (a CPU erratum sets them).
const IGNORED_BITS: u64 = 0x60;
/// Recent marker faults remembered, by page.
const RECENT: usize = 1024;
/// Where a fault's name has its thread, above the count of completed faults.
const THREAD_SHIFT: u32 = 40;

/// The marker fault seen last at a page.
#[repr(C)]
struct Seen {
    /// Page number and record: which marker.
    marker: u64,
    /// Thread and its count of completed faults: which fault.
    fault: u64,
    /// When, in jiffies.
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

/// Words of `struct vm_fault` that are read at once.
const FAULT_WORDS: usize = 12;

/// Counts a consumed marker.
#[inline(always)]
pub fn consumed(found: Found) {
    if let Some(counters) = slot::counters(found) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*counters).consumed }, 1);
    }
}

/// `do_swap_page(vmf)` with a marker in `orig_pte`: a fault, and the marker is replaced by a page
/// (`handle_pte_marker` -> `do_pte_missing`).
///
/// The same fault comes here again when the kernel retries it (a fault under the VMA lock may have
/// to take the mmap lock); it counts once. Two threads can come here for one marker within a moment,
/// since the pte lock is taken only later: two faults, but one consumed marker.
#[inline(always)]
pub fn do_swap_page<C: Entry>(ctx: &C) {
    // One copy: a helper call costs as much as several words. Not zeroed before: that is a loop
    // over bytes.
    let mut fault = MaybeUninit::<[u64; FAULT_WORDS]>::uninit();
    let size = size_of_val(&fault) as u32;
    // SAFETY: the destination is that large; the helper checks the source.
    if unsafe { read_kernel(fault.as_mut_ptr().cast(), size, ctx.pointer(0).cast()) } != 0 {
        return;
    }
    // SAFETY: the helper has filled it.
    let fault = unsafe { fault.assume_init_ref() };
    if word(fault, offset!(fault_orig_pte)) != config!(marker_pte) {
        return;
    }
    let vma = word(fault, offset!(fault_vma)) as *const u8;
    let Some(found) = slot::find(vma, C::PREEMPTIBLE) else {
        return;
    };
    let page = word(fault, offset!(fault_address)) >> 12;
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
    // A thread that comes again with another fault has completed the one before: a new marker.
    let other_thread = (seen.fault ^ fault) >> THREAD_SHIFT != 0;
    let raced = same_marker && other_thread && when - seen.when <= 1;
    (seen.marker, seen.fault, seen.when) = (marker, fault, when);
    if let Some(counters) = slot::counters(found) {
        let mode = found.mode();
        // SAFETY: a map value.
        unsafe {
            atomic::add(&raw mut (*counters).faults[mode][Hit::Marker as usize], 1);
            atomic::add(&raw mut (*counters).consumed, u64::from(!raced));
        }
    }
}

/// A word of a copied `struct vm_fault`.
#[inline(always)]
fn word(fault: &[u64; FAULT_WORDS], offset: u32) -> u64 {
    // SAFETY: the agent loads the program only if these fields lie within the words.
    unsafe { fault.as_ptr().byte_add(offset as usize).read_volatile() }
}

/// Names the fault that the current thread is in: its completed faults do not change meanwhile
/// (`mm_account_fault`).
#[inline(always)]
fn this_fault() -> u64 {
    // SAFETY: a helper without arguments; its result is typed, so that loads need no copy.
    let task = unsafe { bpf_get_current_task_btf() } as *const u8;
    let minor = Direct::read::<u64, { field!(task_min_flt) }>(task);
    let major = Direct::read::<u64, { field!(task_maj_flt) }>(task);
    let thread = Direct::read::<u32, { field!(task_pid) }>(task);
    u64::from(thread) << THREAD_SHIFT ^ (minor + major)
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
    if let Some(record) = VMA_RECORDS.get_ptr_mut(found.id()) {
        // SAFETY: a map value.
        atomic::add(
            unsafe { &raw mut (*record).markers[MarkerEvent::Installed as usize] },
            1,
        );
    }
}
