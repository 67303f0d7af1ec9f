//! Scopes: the operation a task is in while it allocates a page table.
//!
//! One entry per task is enough: the operations do not nest, and a fault inside one (while results
//! are copied to user space) is told by its `vm_fault`, not by the scope.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user},
    macros::map,
    maps::HashMap,
};
use tracker_ebpf::{
    MeasuredTime, NO_RECORD, TableCause, field,
    kernel::{
        UFFDIO_CONTINUE, UFFDIO_COPY, UFFDIO_MOVE, UFFDIO_POISON, UFFDIO_REGISTER,
        UFFDIO_REGISTER_MODE_WP, UFFDIO_UNREGISTER, UFFDIO_WRITEPROTECT,
        UFFDIO_WRITEPROTECT_MODE_WP, UFFDIO_ZEROPAGE,
    },
};

use crate::{
    context::{FunctionEntry, FunctionExit},
    maps::{AGENT, GENERATION},
    memory::{CopiedMemory, KernelMemory},
    patched::value,
    record::{known_mm, resolve_mm, uses_uffd_wp},
    timing,
};

/// Where `uffdio_register` and `uffdio_writeprotect` have their mode, after the range.
const MODE_AT: u64 = 16;
/// Where a range has its length, after the start; and where `uffdio_copy` and `uffdio_move` have
/// it, after destination and source.
const RANGE_LENGTH_AT: u64 = 8;
const COPY_LENGTH_AT: u64 = 16;

const ARM: u64 = TableCause::Arm as u64;
const SCAN: u64 = TableCause::Scan as u64;
/// Not a cause: registering allocates no table.
const REGISTERING: u64 = u64::MAX;

/// What a task is doing.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TaskScope {
    /// The VMA it works on, if known.
    pub vma: u64,
    /// The first address that it works on, if known.
    pub start: u64,
    /// The address after the last that it works on.
    pub end: u64,
    /// When it began, `CLOCK_MONOTONIC` ns.
    pub began_ns: u64,
    /// [`TableCause`] of tables allocated meanwhile.
    pub cause: u64,
}

/// Tasks inside a scope, by tid.
#[map]
static SCOPES: HashMap<u32, TaskScope> = HashMap::with_max_entries(16384, 1);

#[inline(always)]
fn enter(cause: u64, vma: u64, start: u64, length: u64) {
    // SAFETY: a helper without arguments.
    let began_ns = unsafe { bpf_ktime_get_ns() };
    let scope = TaskScope {
        vma,
        start,
        end: start.wrapping_add(length),
        began_ns,
        cause,
    };
    let _ = SCOPES.insert(bpf_get_current_pid_tgid() as u32, scope, 0);
}

/// The scope of a task that is in none.
const NONE: TaskScope = TaskScope {
    vma: 0,
    start: 0,
    end: 0,
    began_ns: 0,
    cause: TableCause::Other as u64,
};

/// The scope of the current task. Not an `Option`: the compiler may read what one without a value
/// holds, which the verifier does not allow.
#[inline(always)]
pub fn current() -> TaskScope {
    // SAFETY: only this task writes its entry.
    match unsafe { SCOPES.get(bpf_get_current_pid_tgid() as u32) } {
        Some(scope) => *scope,
        None => NONE,
    }
}

/// Ends the scope of the current task.
#[inline(always)]
pub fn leave() -> TaskScope {
    let scope = current();
    let _ = SCOPES.remove(bpf_get_current_pid_tgid() as u32);
    scope
}

/// `userfaultfd_ioctl(file, cmd, arg)`: arming, copying and moving are scopes. A process counts
/// from the moment it registers for write protection, so that none of its tables is missed.
///
/// All these commands pass a struct that begins with the address of the range they work on.
#[inline(always)]
pub fn userfaultfd_ioctl<C: FunctionEntry>(ctx: &C) {
    let arg = ctx.number(2);
    let (cause, length_at) = match ctx.number(1) as u32 {
        UFFDIO_WRITEPROTECT if user_word(arg + MODE_AT) & UFFDIO_WRITEPROTECT_MODE_WP != 0 => {
            (ARM, RANGE_LENGTH_AT)
        }
        UFFDIO_ZEROPAGE | UFFDIO_CONTINUE | UFFDIO_POISON => {
            (TableCause::Copy as u64, RANGE_LENGTH_AT)
        }
        UFFDIO_COPY => (TableCause::Copy as u64, COPY_LENGTH_AT),
        UFFDIO_MOVE => (TableCause::Move as u64, COPY_LENGTH_AT),
        UFFDIO_REGISTER => {
            if user_word(arg + MODE_AT) & UFFDIO_REGISTER_MODE_WP != 0 {
                let uffd = C::Memory::pointer::<field::file_private_data>(ctx.pointer(0));
                resolve_mm(CopiedMemory::read::<field::uffd_mm>(uffd));
            }
            (REGISTERING, RANGE_LENGTH_AT)
        }
        UFFDIO_UNREGISTER => (REGISTERING, RANGE_LENGTH_AT),
        _ => return,
    };
    enter(cause, 0, user_word(arg), user_word(arg + length_at));
}

/// Return of `userfaultfd_ioctl`.
#[inline(always)]
pub fn userfaultfd_ioctl_exit<C: FunctionExit>(_ctx: &C) {
    let scope = leave();
    match scope.cause {
        ARM => timing::observe_since(MeasuredTime::Arm, scope.began_ns),
        // What a VMA pointer means may have changed: another userfaultfd, another mode.
        REGISTERING => GENERATION.add(1),
        _ => {}
    }
}

/// A word of user memory; 0 if it cannot be read.
#[inline(always)]
fn user_word(address: u64) -> u64 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const u64) }.unwrap_or(0)
}

/// `do_pagemap_scan(mm, arg)`. The agent's own scans are left out.
#[inline(always)]
pub fn scan<C: FunctionEntry>(ctx: &C) {
    if known_mm(ctx.pointer(0) as u64) == NO_RECORD
        || bpf_get_current_pid_tgid() >> 32 == AGENT.load()
    {
        return;
    }
    enter(SCAN, 0, 0, 0);
}

/// `uffd_wp_range(vma, start, len, enable)`: inside an arm or a scan, the VMA it is about.
#[inline(always)]
pub fn wp_range<C: FunctionEntry>(ctx: &C) {
    // Load both: the verifier refuses an offset into the context that depends on a condition.
    let (first, second) = (ctx.number(0), ctx.number(1));
    let vma = if value!(wp_range_vma_arg) == 1 {
        second
    } else {
        first
    };
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(scope) = SCOPES.get_ptr_mut(tid) {
        // SAFETY: a map value that only this task writes.
        unsafe { (*scope).vma = vma };
    }
}

/// `copy_page_range(dst_vma, src_vma)`: one VMA of a fork.
#[inline(always)]
pub fn fork<C: FunctionEntry>(ctx: &C) {
    let vma = ctx.pointer(0);
    let mm = C::Memory::pointer::<field::vma_mm>(vma) as u64;
    if uses_uffd_wp::<C::Memory>(vma) {
        resolve_mm(mm);
    } else if known_mm(mm) == NO_RECORD {
        return;
    }
    enter(TableCause::Fork as u64, vma as u64, 0, 0);
}

/// `move_page_tables(vma, old_addr, new_vma, ..)`, later `move_page_tables(control)`: mremap.
#[inline(always)]
pub fn mremap<C: FunctionEntry>(ctx: &C) {
    let vma = if value!(move_takes_control) == 1 {
        C::Memory::pointer::<field::move_new>(ctx.pointer(0))
    } else {
        ctx.pointer(2)
    };
    let mm = C::Memory::pointer::<field::vma_mm>(vma) as u64;
    if known_mm(mm) != NO_RECORD {
        enter(TableCause::Move as u64, vma as u64, 0, 0);
    }
}

/// `populate_vma_page_range(vma, ..)`: MAP_POPULATE, mlock.
#[inline(always)]
pub fn populate<C: FunctionEntry>(ctx: &C) {
    begin_populate(C::Memory::pointer::<field::vma_mm>(ctx.pointer(0)) as u64);
}

/// `faultin_page_range(mm, ..)`, before 6.10 `faultin_vma_page_range(vma, ..)`: MADV_POPULATE_READ
/// and _WRITE.
#[inline(always)]
pub fn madvise_populate<C: FunctionEntry>(ctx: &C) {
    let object = ctx.pointer(0);
    if value!(faultin_takes_mm) == 1 {
        begin_populate(object as u64);
    } else {
        begin_populate(C::Memory::pointer::<field::vma_mm>(object) as u64);
    }
}

#[inline(always)]
fn begin_populate(mm: u64) {
    if known_mm(mm) != NO_RECORD {
        enter(TableCause::Populate as u64, 0, 0, 0);
    }
}

/// Return of `do_pagemap_scan`.
#[inline(always)]
pub fn scan_exit<C: FunctionExit>(_ctx: &C) {
    let scope = leave();
    if scope.cause == SCAN {
        timing::observe_since(MeasuredTime::Scan, scope.began_ns);
    }
}

/// Return of any function that entered a scope and is not timed.
#[inline(always)]
pub fn exit<C: FunctionExit>(_ctx: &C) {
    leave();
}

/// Whether the VMA belongs to `mm` and contains `address`.
#[inline(always)]
pub fn covers(vma: u64, mm: u64, address: u64) -> bool {
    let vma = vma as *const u8;
    CopiedMemory::read::<field::vma_mm>(vma) == mm
        && CopiedMemory::read::<field::vma_start>(vma) <= address
        && address < CopiedMemory::read::<field::vma_end>(vma)
}
