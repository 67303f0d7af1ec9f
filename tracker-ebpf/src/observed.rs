//! What tells of writes where no function can be hooked: page faults as the hardware reports them,
//! and system calls.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::pt_regs, helpers::generated::bpf_get_current_task_btf, programs::BtfTracePointContext,
};
use tracker_ebpf::{
    EventKind, field,
    kernel::{PAGE_SIZE, UFFDIO_MOVE, UFFDIO_UNREGISTER, X86_PF_WRITE, syscall},
};

use crate::{
    events::PageEvent,
    memory::{CopiedMemory, DirectMemory, KernelMemory},
    watch::{self, NOBODY},
};

/// The watch of the address space that the current thread is in.
#[inline(always)]
fn current_watch() -> u32 {
    // SAFETY: a helper without arguments; its result is typed, so that loads need no copy.
    let task = unsafe { bpf_get_current_task_btf() } as *const u8;
    watch::of(DirectMemory::pointer::<field::task_mm>(task) as u64)
}

#[inline(always)]
fn write_fault(ctx: &BtfTracePointContext, user: bool) {
    let (address, error) = (ctx.arg::<u64>(0), ctx.arg::<u64>(2));
    if error & X86_PF_WRITE == 0 {
        return;
    }
    let watch = current_watch();
    if watch == NOBODY {
        return;
    }
    let event = PageEvent {
        kind: EventKind::HardwareFault,
        watch,
        start: address & !(PAGE_SIZE - 1),
        length: PAGE_SIZE,
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

/// Tracepoint `page_fault_kernel(address, regs, error_code)` of a write: the kernel copies to user
/// memory.
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
    if number == syscall::IOCTL && !takes_away(second) {
        return;
    }
    let watch = if number == syscall::PROCESS_VM_WRITEV {
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

#[inline(always)]
const fn takes_away(command: u64) -> bool {
    command == UFFDIO_UNREGISTER as u64 || command == UFFDIO_MOVE as u64
}

/// Whether a system call can take the bit off pages.
#[inline(always)]
const fn matters(number: u64) -> bool {
    use syscall::*;
    matches!(
        number,
        IOCTL
            | PROCESS_VM_WRITEV
            | MMAP
            | MUNMAP
            | BRK
            | MREMAP
            | MADVISE
            | CLONE
            | FORK
            | VFORK
            | CLONE3
            | MLOCK
            | MLOCKALL
            | MLOCK2
            | IO_URING_REGISTER
    )
}
