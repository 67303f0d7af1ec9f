//! How long things take, in histograms, and how long threads wait for a handler.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::map,
    maps::HashMap,
};
use tracker_ebpf::{BUCKETS, MeasuredTime};

use crate::{
    atomic,
    context::FunctionExit,
    maps::{CONTROL, MM_RECORDS},
    record::resolve_mm,
};

/// A thread inside `handle_userfault`.
#[derive(Clone, Copy)]
#[repr(C)]
struct HandlerWait {
    began_ns: u64,
    mm: u64,
}

/// Waiting threads, by tid.
#[map]
static WAITS: HashMap<u32, HandlerWait> = HashMap::with_max_entries(16384, 1);

/// Notes that the current thread begins to wait for a handler.
#[inline(always)]
pub fn wait_begins(mm: u64, now_ns: u64) {
    let wait = HandlerWait {
        began_ns: now_ns,
        mm,
    };
    let _ = WAITS.insert(bpf_get_current_pid_tgid() as u32, wait, 0);
}

/// Return of `handle_userfault`. The lock is dropped by now, so its vmf must not be read.
#[inline(always)]
pub fn handle_userfault_exit<C: FunctionExit>(_ctx: &C) {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: only this thread writes its entry.
    let Some(wait) = (unsafe { WAITS.get(tid) }).copied() else {
        return;
    };
    let _ = WAITS.remove(tid);
    let took = elapsed(wait.began_ns);
    observe(MeasuredTime::FaultWait, took);
    if let Some(record) = MM_RECORDS.get_ptr_mut(resolve_mm(wait.mm)) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*record).fault_wait_ns }, took);
    }
}

/// Adds the time since `began_ns` to a histogram.
#[inline(always)]
pub fn observe_since(duration: MeasuredTime, began_ns: u64) {
    observe(duration, elapsed(began_ns));
}

#[inline(always)]
fn elapsed(began_ns: u64) -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_ktime_get_ns() }.saturating_sub(began_ns)
}

#[inline(always)]
fn observe(duration: MeasuredTime, ns: u64) {
    let Some(control) = CONTROL.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: a map value.
    let histogram = unsafe { &raw mut (*control).durations[duration as usize] };
    let mut bucket = 0;
    let mut bound = 1000_u64;
    while bucket < BUCKETS && ns > bound {
        bound *= 4;
        bucket += 1;
    }
    // SAFETY: the loop ends at BUCKETS, the last bucket.
    unsafe {
        atomic::add(&raw mut (*histogram).buckets[bucket], 1);
        atomic::add(&raw mut (*histogram).sum_ns, ns);
    }
}
