//! What tells of writes where no function can be hooked: page faults as the hardware reports them, and system
//! calls.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::pt_regs, helpers::generated::bpf_get_current_task_btf, programs::BtfTracePointContext,
};
use tracker_ebpf::EventKind;

use crate::{
    events::PageEvent,
    memory::{CopiedMemory, DirectMemory, KernelMemory},
    patched::field,
    watch::{self, NOBODY},
};

const PAGE: u64 = 4096;
/// x86 `X86_PF_WRITE` in the error code of a page fault.
const WRITE: u64 = 1 << 1;
/// Commands of `userfaultfd_ioctl` (include/uapi/linux/userfaultfd.h).
const UNREGISTER: u64 = 0x8010_aa01;
const MOVE: u64 = 0xc028_aa05;

/// The watch of the address space that the current thread is in.
#[inline(always)]
fn current_watch() -> u32 {
    // SAFETY: a helper without arguments; its result is typed, so that loads need no copy.
    let task = unsafe { bpf_get_current_task_btf() } as *const u8;
    watch::of(DirectMemory::pointer::<{ field!(task_mm) }>(task) as u64)
}

#[inline(always)]
fn write_fault(ctx: &BtfTracePointContext, user: bool) {
    let (address, error) = (ctx.arg::<u64>(0), ctx.arg::<u64>(2));
    if error & WRITE == 0 {
        return;
    }
    let watch = current_watch();
    if watch == NOBODY {
        return;
    }
    let event = PageEvent {
        kind: EventKind::HardwareFault,
        watch,
        start: address & !(PAGE - 1),
        length: PAGE,
        address,
        result: 0,
        flags: error as u32,
    };
    if user {
        event.at_user(ctx);
    } else {
        event.at_both(ctx);
    }
}

/// Tracepoint `page_fault_user(address, regs, error_code)` of a write.
#[inline(always)]
pub fn user_fault(ctx: &BtfTracePointContext) {
    write_fault(ctx, true);
}

/// Tracepoint `page_fault_kernel(address, regs, error_code)` of a write: the kernel copies to user memory.
#[inline(always)]
pub fn kernel_fault(ctx: &BtfTracePointContext) {
    write_fault(ctx, false);
}

/// Tracepoint `sys_exit(regs, ret)` of a call that can take the bit off pages without such a fault.
#[inline(always)]
pub fn syscall(ctx: &BtfTracePointContext) {
    let regs = ctx.arg::<*const u8>(0);
    let word = |at: usize| CopiedMemory::at::<u64>(regs.wrapping_add(at));
    let number = word(offset_of!(pt_regs, orig_rax));
    if !matters(number) {
        return;
    }
    let (first, second) = (
        word(offset_of!(pt_regs, rdi)),
        word(offset_of!(pt_regs, rsi)),
    );
    if number == IOCTL && second != UNREGISTER && second != MOVE {
        return;
    }
    let watch = if number == PROCESS_VM_WRITEV {
        watch::of_process(first as u32)
    } else {
        current_watch()
    };
    if watch == NOBODY {
        return;
    }
    let event = PageEvent {
        kind: EventKind::Syscall,
        watch,
        start: first,
        length: second,
        address: word(offset_of!(pt_regs, rdx)),
        result: ctx.arg::<u64>(1),
        flags: 0,
    };
    event.at_user(ctx);
}

/// Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl).
const IOCTL: u64 = 16;
const PROCESS_VM_WRITEV: u64 = 311;

#[inline(always)]
const fn matters(number: u64) -> bool {
    matches!(
        number,
        IOCTL
            | PROCESS_VM_WRITEV
            // mmap, munmap, brk, mremap, madvise
            | 9 | 11 | 12 | 25 | 28
            // clone, fork, vfork, clone3
            | 56 | 57 | 58 | 435
            // mlock, mlockall, mlock2
            | 149 | 151 | 325
            // io_uring_register
            | 427
    )
}
