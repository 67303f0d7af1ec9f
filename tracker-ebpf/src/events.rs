//! Writes events into the ring.

use core::mem::offset_of;

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_MMAPABLE, BPF_F_USER_STACK, BPF_RB_NO_WAKEUP, pt_regs},
    helpers::{
        bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user,
        generated::{
            bpf_get_current_comm, bpf_get_current_task_btf, bpf_get_stack, bpf_task_pt_regs,
        },
    },
    macros::map,
    maps::{Array, RingBuf},
    programs::{BtfTracePointContext, FEntryContext, ProbeContext},
};
use tracker_ebpf::{
    COMM_LEN, EventDrops, EventHead, EventKind, FRAMES, NO_SYSCALL, WATCHES, field,
    kernel::{PF_IO_WORKER, PF_KTHREAD},
};

use crate::{
    atomic,
    memory::{CopiedMemory, DirectMemory, KernelMemory},
};

/// The ring. The agent chooses its size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);
/// Events that did not fit, by watch id.
#[map]
static DROPS: Array<EventDrops> = Array::with_max_entries(WATCHES, BPF_F_MMAPABLE);

const USER_STACK: u64 = BPF_F_USER_STACK as u64;
/// The reader polls the ring.
const NO_WAKEUP: u64 = BPF_RB_NO_WAKEUP as u64;
/// A task with one of these flags is nowhere in user space.
const KERNEL_ONLY: u32 = PF_KTHREAD | PF_IO_WORKER;

/// What happened to pages.
pub struct PageEvent {
    pub kind: EventKind,
    pub watch: u32,
    pub start: u64,
    pub length: u64,
    pub address: u64,
    pub result: u64,
    pub flags: u32,
}

/// An event in the ring without a kernel stack.
#[repr(C)]
struct ShortEvent {
    head: EventHead,
    user: [u64; FRAMES],
}

/// An event in the ring with a kernel stack.
#[repr(C)]
struct LongEvent {
    head: EventHead,
    user: [u64; FRAMES],
    kernel: [u64; FRAMES],
}

/// A context through which the stack can be read.
pub trait StackContext: EbpfContext {
    /// Frames of the tracing itself on top of the stack.
    const OWN_FRAMES: u64;
}

impl StackContext for ProbeContext {
    const OWN_FRAMES: u64 = 0;
}

impl StackContext for FEntryContext {
    /// The program and its trampoline.
    const OWN_FRAMES: u64 = 2;
}

impl StackContext for BtfTracePointContext {
    /// The program and the call of it by the tracepoint.
    const OWN_FRAMES: u64 = 2;
}

/// Where the current thread is in user space.
pub struct UserThread {
    pub instruction: u64,
    /// Its registers there, in the kernel.
    regs: *const u8,
    pub syscall: u32,
}

impl UserThread {
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: a helper without arguments; its result is typed, so that loads need no copy.
        let task = unsafe { bpf_get_current_task_btf() };
        if DirectMemory::read::<field::task_flags>(task as *const u8) & KERNEL_ONLY != 0 {
            return Self {
                instruction: 0,
                regs: core::ptr::null(),
                syscall: NO_SYSCALL,
            };
        }
        // SAFETY: the helper takes what the other returned.
        let regs = unsafe { bpf_task_pt_regs(task as *mut _) } as *const u8;
        let number = CopiedMemory::at::<u64>(regs.wrapping_add(offset_of!(pt_regs, orig_rax)));
        Self {
            instruction: CopiedMemory::at::<u64>(regs.wrapping_add(offset_of!(pt_regs, rip))),
            regs,
            // It is negative in a fault and in an interrupt.
            syscall: if number >> 63 == 0 {
                number as u32
            } else {
                NO_SYSCALL
            },
        }
    }

    /// The word on top of its stack; 0 if there is none.
    #[inline(always)]
    pub fn top(&self) -> u64 {
        if self.regs.is_null() {
            return 0;
        }
        let stack = self.regs.wrapping_add(offset_of!(pt_regs, rsp));
        let stack = CopiedMemory::at::<u64>(stack);
        // SAFETY: the helper checks the address, and brings no page in.
        unsafe { bpf_probe_read_user(stack as *const u64) }.unwrap_or_default()
    }

    /// Whether the thread is in a system call.
    #[inline(always)]
    pub const fn in_syscall(&self) -> bool {
        self.syscall != NO_SYSCALL
    }
}

impl PageEvent {
    /// Writes the event without stacks.
    #[inline(always)]
    pub fn alone(&self) {
        let Some(mut entry) = EVENTS.reserve::<ShortEvent>(0) else {
            return self.dropped();
        };
        let record = entry.as_mut_ptr();
        // SAFETY: the entry has room for it.
        unsafe {
            self.fill(&raw mut (*record).head, &UserThread::current());
            (&raw mut (*record).head.user_frames).write(0);
            (&raw mut (*record).head.kernel_frames).write(0);
        }
        entry.submit(NO_WAKEUP);
    }

    /// Writes the event with the user stack.
    #[inline(always)]
    pub fn at_user(&self, ctx: &impl StackContext) {
        let Some(mut entry) = EVENTS.reserve::<ShortEvent>(0) else {
            return self.dropped();
        };
        let record = entry.as_mut_ptr();
        // SAFETY: the entry has room for it.
        unsafe {
            self.fill(&raw mut (*record).head, &UserThread::current());
            let frames = user_frames(ctx, &raw mut (*record).user);
            (&raw mut (*record).head.user_frames).write(frames);
            (&raw mut (*record).head.kernel_frames).write(0);
        }
        entry.submit(NO_WAKEUP);
    }

    /// Writes the event with both stacks.
    #[inline(always)]
    pub fn at_both<C: StackContext>(&self, ctx: &C) {
        let Some(mut entry) = EVENTS.reserve::<LongEvent>(0) else {
            return self.dropped();
        };
        let record = entry.as_mut_ptr();
        // SAFETY: the entry has room for it.
        unsafe {
            self.fill(&raw mut (*record).head, &UserThread::current());
            let user = user_frames(ctx, &raw mut (*record).user);
            (&raw mut (*record).head.user_frames).write(user);
            let kernel = frames(ctx, &raw mut (*record).kernel, C::OWN_FRAMES);
            (&raw mut (*record).head.kernel_frames).write(kernel);
        }
        entry.submit(NO_WAKEUP);
    }

    /// Writes all but the numbers of frames. Field by field: a whole struct would be built on the
    /// stack first.
    ///
    /// # Safety
    /// `head` must be writable as a whole.
    #[inline(always)]
    unsafe fn fill(&self, head: *mut EventHead, thread: &UserThread) {
        let id = bpf_get_current_pid_tgid();
        // SAFETY: the caller's entry; the helper writes the name into it.
        unsafe {
            (&raw mut (*head).time).write(bpf_ktime_get_ns());
            (&raw mut (*head).start).write(self.start);
            (&raw mut (*head).length).write(self.length);
            (&raw mut (*head).address).write(self.address);
            (&raw mut (*head).result).write(self.result);
            (&raw mut (*head).instruction).write(thread.instruction);
            (&raw mut (*head).top).write(thread.top());
            (&raw mut (*head).kind).write(self.kind as u32);
            (&raw mut (*head).flags).write(self.flags);
            (&raw mut (*head).watch).write(self.watch);
            (&raw mut (*head).tgid).write((id >> 32) as u32);
            (&raw mut (*head).tid).write(id as u32);
            (&raw mut (*head).syscall).write(thread.syscall);
            bpf_get_current_comm((&raw mut (*head).comm).cast(), COMM_LEN as u32);
        }
    }

    /// Counts an event that did not fit, and when.
    #[inline(always)]
    fn dropped(&self) {
        let Some(drops) = DROPS.get_ptr_mut(self.watch) else {
            return;
        };
        // SAFETY: a map value. If two CPUs write a time at once, either is right to a moment.
        unsafe {
            let now = bpf_ktime_get_ns();
            if (*drops).count == 0 {
                (*drops).first = now;
            }
            (*drops).last = now;
            atomic::add(&raw mut (*drops).count, 1);
        }
    }
}

/// Reads the user stack into `into`; returns the number of frames.
#[inline(always)]
pub fn user_frames(ctx: &impl EbpfContext, into: *mut [u64; FRAMES]) -> u32 {
    frames(ctx, into, USER_STACK)
}

/// Reads a stack into `into`; returns the number of frames.
#[inline(always)]
fn frames(ctx: &impl EbpfContext, into: *mut [u64; FRAMES], flags: u64) -> u32 {
    let size = (FRAMES * 8) as u32;
    // SAFETY: the destination has that size.
    let read = unsafe { bpf_get_stack(ctx.as_ptr(), into.cast(), size, flags) };
    if read > 0 { read as u32 / 8 } else { 0 }
}
