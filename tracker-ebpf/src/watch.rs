//! Which address spaces are watched: those whose events go into the ring.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_seq_write},
    macros::map,
    maps::HashMap,
};
use tracker_ebpf::{WATCHES, field};

use crate::{
    context::FunctionEntry,
    maps::AGENT,
    memory::{DirectMemory, KernelMemory},
};

/// The id of an address space that nobody watches.
pub const NOBODY: u32 = 0;

/// Process id -> watch id, for the iterator to find the address space.
#[map]
static WATCH_PIDS: HashMap<u32, u32> = HashMap::with_max_entries(WATCHES, 1);
/// `mm_struct` address -> watch id.
#[map]
static WATCHED: HashMap<u64, u32> = HashMap::with_max_entries(WATCHES, 1);

/// The watch of an address space, or [`NOBODY`].
#[inline(always)]
pub fn of(mm: u64) -> u32 {
    // SAFETY: the value is one aligned word.
    match unsafe { WATCHED.get(mm) } {
        Some(watch) => *watch,
        None => NOBODY,
    }
}

/// The watch of a process, by its id.
#[inline(always)]
pub fn of_process(tgid: u32) -> u32 {
    // SAFETY: the value is one aligned word.
    match unsafe { WATCH_PIDS.get(tgid) } {
        Some(watch) => *watch,
        None => NOBODY,
    }
}

/// The watch of a VMA's address space.
#[inline(always)]
pub fn of_vma<M: KernelMemory>(vma: *const u8) -> u32 {
    of(M::pointer::<field::vma_mm>(vma) as u64)
}

/// The context: `struct bpf_iter__task`.
#[repr(C)]
struct IterTask {
    meta: *const *mut c_void,
    task: *const u8,
}

/// `iter/task`: finds the address spaces of the processes in `WATCH_PIDS`, and tells the reader the
/// watch id of each thread that has one. The reader's own calls are not told.
#[inline(always)]
pub fn watch(ctx: *const c_void) {
    let ctx: *const IterTask = ctx.cast();
    // SAFETY: the context of this iterator; the task may be NULL and is tested.
    let (meta, task) = unsafe { ((*ctx).meta, (*ctx).task) };
    if task.is_null() {
        AGENT.store(bpf_get_current_pid_tgid() >> 32);
        return;
    }
    let watch = of_process(DirectMemory::read::<field::task_tgid>(task));
    let mm = DirectMemory::pointer::<field::task_mm>(task) as u64;
    if watch == NOBODY || mm == 0 || WATCHED.insert(mm, watch, 0).is_err() {
        return;
    }
    // SAFETY: meta->seq is its first field; the number is initialised.
    unsafe {
        bpf_seq_write((*meta).cast(), (&raw const watch).cast_mut().cast(), 4);
    }
}

/// `__mmdrop(mm)`: the address space is gone, and another may be at its address next.
#[inline(always)]
pub fn ended<C: FunctionEntry>(ctx: &C) {
    // Almost none is watched, which is no error.
    let _ = WATCHED.remove(ctx.pointer(0) as u64);
}
