//! One interface to the contexts of all mechanisms, so that the body of a hook is written once.

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    helpers::bpf_get_func_arg,
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::memory::{CopiedMemory, DirectMemory, KernelMemory};

/// The entry of a kernel function.
pub trait FunctionEntry {
    /// How its pointer arguments are read.
    type Memory: KernelMemory;
    /// Whether another task can preempt the program and run it on the same CPU.
    const PREEMPTIBLE: bool;
    /// The `n`th argument as a pointer.
    fn pointer(&self, n: usize) -> *const u8;
    /// The `n`th argument as a number; to the verifier, too, it must be one.
    fn number(&self, n: usize) -> u64;
    /// The `n`th argument as a number to calculate with, whatever its type; 0 if there is none.
    fn argument(&self, n: usize) -> u64;
}

impl FunctionEntry for FEntryContext {
    type Memory = DirectMemory;
    const PREEMPTIBLE: bool = true;

    #[inline(always)]
    fn pointer(&self, n: usize) -> *const u8 {
        self.arg(n)
    }

    #[inline(always)]
    fn number(&self, n: usize) -> u64 {
        self.arg(n)
    }

    #[inline(always)]
    fn argument(&self, n: usize) -> u64 {
        traced_argument(self, n)
    }
}

impl FunctionEntry for ProbeContext {
    type Memory = CopiedMemory;
    const PREEMPTIBLE: bool = false;

    #[inline(always)]
    fn pointer(&self, n: usize) -> *const u8 {
        self.number(n) as *const u8
    }

    #[inline(always)]
    fn number(&self, n: usize) -> u64 {
        self.arg(n).unwrap_or(0)
    }

    #[inline(always)]
    fn argument(&self, n: usize) -> u64 {
        let regs: *const pt_regs = self.as_ptr().cast();
        // Load all of them: the verifier refuses an offset into the context that depends on `n`.
        // SAFETY: the context of a kprobe is its register set; the verifier checks the loads.
        let all = unsafe {
            [
                (&raw const (*regs).rdi).read_volatile(),
                (&raw const (*regs).rsi).read_volatile(),
                (&raw const (*regs).rdx).read_volatile(),
                (&raw const (*regs).rcx).read_volatile(),
                (&raw const (*regs).r8).read_volatile(),
                (&raw const (*regs).r9).read_volatile(),
            ]
        };
        all.get(n).copied().unwrap_or(0)
    }
}

/// An argument of a function that a trampoline traces, as a number.
#[inline(always)]
pub fn traced_argument(ctx: &impl EbpfContext, n: usize) -> u64 {
    let mut value = 0;
    // SAFETY: the context is the program's own; the helper writes one word.
    unsafe { bpf_get_func_arg(ctx.as_ptr(), n as u32, &raw mut value) };
    value
}

/// The return of a kernel function. What it needs of the arguments was kept at the entry.
pub trait FunctionExit {
    /// The returned value.
    fn returned(&self) -> u64;
}

impl FunctionExit for FExitContext {
    #[inline(always)]
    fn returned(&self) -> u64 {
        self.ret().unwrap_or(0)
    }
}

impl FunctionExit for RetProbeContext {
    #[inline(always)]
    fn returned(&self) -> u64 {
        self.ret()
    }
}

/// The stack pointer at the entry of a probed function. On x86-64 it points to the return address.
#[inline(always)]
pub fn stack(ctx: &ProbeContext) -> *const u8 {
    let regs: *const pt_regs = ctx.as_ptr().cast();
    // SAFETY: the context of a kprobe is its register set; the verifier checks the load.
    unsafe { (*regs).rsp as *const u8 }
}
