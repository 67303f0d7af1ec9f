//! Calls of trackers on watched address spaces: noted when they begin, told when they return.

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns,
        generated::{bpf_get_current_comm, bpf_probe_read_user},
    },
    macros::map,
    maps::{Array, HashMap, RingBuf},
};
use tracker_ebpf::{
    CALL_WORDS, COMM_LEN, CallKind, CallRecord, WATCHES, field,
    kernel::{
        UFFDIO_CONTINUE, UFFDIO_COPY, UFFDIO_MOVE, UFFDIO_POISON, UFFDIO_REGISTER,
        UFFDIO_UNREGISTER, UFFDIO_WRITEPROTECT, UFFDIO_ZEROPAGE,
    },
};

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_RB_NO_WAKEUP};

use crate::{
    atomic,
    context::{FunctionEntry, FunctionExit},
    events::{UserThread, user_frames},
    maps::AGENT,
    memory::{CopiedMemory, KernelMemory},
    patched::offset,
    watch::{self, NOBODY},
};

/// The ring. The agent chooses its size.
#[map]
static CALLS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Calls that did not fit, by watch id.
#[map]
static CALL_DROPS: Array<u64> = Array::with_max_entries(WATCHES, BPF_F_MMAPABLE);
/// Threads inside a call, by tid.
#[map]
static CALLS_BEGUN: HashMap<u32, CallBegun> = HashMap::with_max_entries(16384, 1);
/// Threads that wait for a handler, by tid: also one that is inside a call.
#[map]
static WAITS_BEGUN: HashMap<u32, CallBegun> = HashMap::with_max_entries(16384, 1);

/// What is known of a call when it begins.
#[derive(Clone, Copy)]
#[repr(C)]
struct CallBegun {
    began_ns: u64,
    /// Where its struct, or what is written, is in user memory; of a wait, the address of the fault;
    /// of a read, where it begins.
    argument: u64,
    /// Of a wait: the reason; of a read or write: the length.
    second: u64,
    /// Of a wait: the flags of the fault.
    flags: u32,
    kind: u32,
    watch: u32,
    features: u32,
}

impl CallBegun {
    /// A call that begins now.
    #[inline(always)]
    fn now(kind: CallKind, watch: u32, argument: u64, features: u32) -> Self {
        Self {
            // SAFETY: a helper without arguments.
            began_ns: unsafe { bpf_ktime_get_ns() },
            argument,
            second: 0,
            flags: 0,
            kind: kind as u32,
            watch,
            features,
        }
    }

    /// Notes it.
    #[inline(always)]
    fn note(&self, map: &HashMap<u32, Self>) {
        if map
            .insert(bpf_get_current_pid_tgid() as u32, self, 0)
            .is_err()
        {
            dropped(self.watch);
        }
    }
}

/// Whether the current thread is one of ours.
#[inline(always)]
fn is_own() -> bool {
    bpf_get_current_pid_tgid() >> 32 == AGENT.load()
}

#[inline(always)]
fn dropped(watch: u32) {
    if let Some(drops) = CALL_DROPS.get_ptr_mut(watch) {
        // SAFETY: a map value.
        atomic::add(drops, 1);
    }
}

/// `do_pagemap_scan(mm, arg)`
#[inline(always)]
pub fn scan_begins<C: FunctionEntry>(ctx: &C) {
    let watch = watch::of(ctx.pointer(0) as u64);
    if watch != NOBODY && !is_own() {
        CallBegun::now(CallKind::Scan, watch, ctx.number(1), 0).note(&CALLS_BEGUN);
    }
}

/// `pagemap_read(file, buf, count, ppos)`
#[inline(always)]
pub fn pagemap_begins<C: FunctionEntry>(ctx: &C) {
    let mm = C::Memory::pointer::<field::file_private_data>(ctx.pointer(0));
    let watch = watch::of(mm as u64);
    if watch != NOBODY && !is_own() {
        let position = CopiedMemory::at::<u64>(ctx.pointer(3));
        let begun = CallBegun {
            second: ctx.number(2),
            ..CallBegun::now(CallKind::Pagemap, watch, position, 0)
        };
        begun.note(&CALLS_BEGUN);
    }
}

/// `clear_refs_write(file, buf, count, ppos)`
#[inline(always)]
pub fn clear_refs_begins<C: FunctionEntry>(ctx: &C) {
    let inode = C::Memory::pointer::<field::file_inode>(ctx.pointer(0));
    let watch = watch::of(mm_of_proc(inode));
    if watch != NOBODY && !is_own() {
        let begun = CallBegun {
            second: ctx.number(2),
            ..CallBegun::now(CallKind::ClearRefs, watch, ctx.number(1), 0)
        };
        begun.note(&CALLS_BEGUN);
    }
}

/// The address space of the process or thread in whose directory of /proc a file is, as
/// `get_proc_task` finds it; 0 if it has none.
#[inline(always)]
fn mm_of_proc(inode: *const u8) -> u64 {
    let within = offset::<field::proc_inode_mode>() - offset::<field::inode_mode>();
    let around = inode.wrapping_sub(within as usize);
    let pid = CopiedMemory::pointer::<field::proc_pid>(around);
    let threads = pid.wrapping_add(offset::<field::pid_thread>() as usize);
    let link = CopiedMemory::at::<u64>(threads);
    if pid.is_null() || link == 0 {
        return 0;
    }
    let task = link - u64::from(offset::<field::task_pid_links>());
    CopiedMemory::read::<field::task_mm>(task as *const u8)
}

/// `userfaultfd_ioctl(file, cmd, arg)`
#[inline(always)]
pub fn uffd_begins<C: FunctionEntry>(ctx: &C) {
    let kind = match ctx.number(1) as u32 {
        UFFDIO_REGISTER => CallKind::Register,
        UFFDIO_UNREGISTER => CallKind::Unregister,
        UFFDIO_WRITEPROTECT => CallKind::WriteProtect,
        UFFDIO_COPY => CallKind::Copy,
        UFFDIO_ZEROPAGE => CallKind::ZeroPage,
        UFFDIO_CONTINUE => CallKind::Continue,
        UFFDIO_POISON => CallKind::Poison,
        UFFDIO_MOVE => CallKind::Move,
        _ => return,
    };
    let uffd = C::Memory::pointer::<field::file_private_data>(ctx.pointer(0));
    let watch = watch::of(CopiedMemory::read::<field::uffd_mm>(uffd));
    if watch != NOBODY && !is_own() {
        let features = CopiedMemory::read::<field::uffd_features>(uffd);
        CallBegun::now(kind, watch, ctx.number(2), features).note(&CALLS_BEGUN);
    }
}

/// `handle_userfault(vmf, reason)`
#[inline(always)]
pub fn wait_begins<C: FunctionEntry>(ctx: &C) {
    let vmf = ctx.pointer(0);
    let vma = C::Memory::pointer::<field::fault_vma>(vmf);
    let watch = watch::of_vma::<C::Memory>(vma);
    if watch == NOBODY {
        return;
    }
    let uffd = C::Memory::pointer::<field::vma_uffd_ctx>(vma);
    let features = C::Memory::read::<field::uffd_features>(uffd);
    let address = C::Memory::read::<field::fault_address>(vmf);
    let begun = CallBegun {
        second: ctx.number(1),
        flags: C::Memory::read::<field::fault_flags>(vmf),
        ..CallBegun::now(CallKind::Wait, watch, address, features)
    };
    begun.note(&WAITS_BEGUN);
}

/// Return of `do_pagemap_scan`, `pagemap_read`, `clear_refs_write` and `userfaultfd_ioctl`.
#[inline(always)]
pub fn call_ends<C: FunctionExit + EbpfContext>(ctx: &C) {
    ends(ctx, &CALLS_BEGUN);
}

/// Return of `handle_userfault`. The lock is dropped by now, so its vmf must not be read.
#[inline(always)]
pub fn wait_ends<C: FunctionExit + EbpfContext>(ctx: &C) {
    ends(ctx, &WAITS_BEGUN);
}

#[inline(always)]
fn ends<C: FunctionExit + EbpfContext>(ctx: &C, map: &HashMap<u32, CallBegun>) {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: only this thread writes its entry.
    let Some(begun) = (unsafe { map.get(tid) }).copied() else {
        return;
    };
    let _ = map.remove(tid);
    let Some(mut entry) = CALLS.reserve::<CallRecord>(0) else {
        return dropped(begun.watch);
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the entry has room for it.
    unsafe {
        (&raw mut (*record).result).write(ctx.returned());
        fill(record, &begun);
        words(&raw mut (*record).words, &begun);
        let frames = user_frames(ctx, &raw mut (*record).user);
        (&raw mut (*record).user_frames).write(frames);
    }
    entry.submit(u64::from(BPF_RB_NO_WAKEUP));
}

/// Writes what is known of the call, and who made it. Field by field: a whole struct would be built
/// on the stack first.
///
/// # Safety
/// `record` must be writable as a whole.
#[inline(always)]
unsafe fn fill(record: *mut CallRecord, begun: &CallBegun) {
    let (id, thread) = (bpf_get_current_pid_tgid(), UserThread::current());
    // SAFETY: the caller's record; the helper writes the name into it.
    unsafe {
        (&raw mut (*record).began).write(begun.began_ns);
        (&raw mut (*record).ended).write(bpf_ktime_get_ns());
        (&raw mut (*record).instruction).write(thread.instruction);
        (&raw mut (*record).top).write(thread.top());
        (&raw mut (*record).kind).write(begun.kind);
        (&raw mut (*record).watch).write(begun.watch);
        (&raw mut (*record).tgid).write((id >> 32) as u32);
        (&raw mut (*record).tid).write(id as u32);
        (&raw mut (*record).cpu).write(bpf_get_smp_processor_id());
        (&raw mut (*record).features).write(begun.features);
        (&raw mut (*record).syscall).write(thread.syscall);
        bpf_get_current_comm((&raw mut (*record).comm).cast(), COMM_LEN as u32);
    }
}

/// Writes what the call was given.
///
/// # Safety
/// `into` must be writable as a whole.
#[inline(always)]
unsafe fn words(into: *mut [u64; CALL_WORDS], begun: &CallBegun) {
    let first = into.cast::<u64>();
    // SAFETY: the caller's words; the helper checks the address in user memory, brings no page in,
    // and writes zeroes if it cannot read.
    unsafe {
        for number in 0..CALL_WORDS {
            first.add(number).write(0);
        }
        if begun.kind == CallKind::Wait as u32 {
            first.write(begun.argument);
            first.add(1).write(u64::from(begun.flags));
            first.add(2).write(begun.second);
            return;
        }
        if begun.kind == CallKind::Pagemap as u32 {
            first.write(begun.argument);
            first.add(1).write(begun.second);
            return;
        }
        let from = begun.argument as *const _;
        if begun.kind == CallKind::ClearRefs as u32 {
            let length = begun.second.min(8);
            bpf_probe_read_user(first.cast(), length as u32, from);
            first.add(1).write(begun.second);
            return;
        }
        bpf_probe_read_user(first.cast(), given(begun.kind) * 8, from);
    }
}

/// How many words a call is given: no more are read, since the next page may not be there.
#[inline(always)]
const fn given(kind: u32) -> u32 {
    if kind == CallKind::Scan as u32 {
        12
    } else if kind == CallKind::Copy as u32 || kind == CallKind::Move as u32 {
        5
    } else if kind == CallKind::Unregister as u32 {
        2
    } else if kind == CallKind::WriteProtect as u32 {
        3
    } else {
        4
    }
}
