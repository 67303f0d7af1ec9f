//! One face for the contexts of all mechanisms, so that a hook's body is written once.

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::memory::{Copied, Direct, Memory};

/// The entry of a kernel function.
pub trait Entry {
    /// How its pointer arguments are read.
    type Memory: Memory;
    /// Whether another task can preempt the program, and run it on the same CPU meanwhile.
    const PREEMPTIBLE: bool;
    /// The `n`th argument as a pointer.
    fn pointer(&self, n: usize) -> *const u8;
    /// The `n`th argument as a number.
    fn number(&self, n: usize) -> u64;
}

impl Entry for FEntryContext {
    type Memory = Direct;
    const PREEMPTIBLE: bool = true;

    #[inline(always)]
    fn pointer(&self, n: usize) -> *const u8 {
        self.arg(n)
    }

    #[inline(always)]
    fn number(&self, n: usize) -> u64 {
        self.arg(n)
    }
}

impl Entry for ProbeContext {
    type Memory = Copied;
    const PREEMPTIBLE: bool = false;

    #[inline(always)]
    fn pointer(&self, n: usize) -> *const u8 {
        self.number(n) as *const u8
    }

    #[inline(always)]
    fn number(&self, n: usize) -> u64 {
        self.arg(n).unwrap_or(0)
    }
}

/// The return of a kernel function. What it needs of the arguments, its entry kept.
pub trait Exit {
    /// The returned value.
    fn returned(&self) -> u64;
}

impl Exit for FExitContext {
    #[inline(always)]
    fn returned(&self) -> u64 {
        self.ret().unwrap_or(0)
    }
}

impl Exit for RetProbeContext {
    #[inline(always)]
    fn returned(&self) -> u64 {
        self.ret()
    }
}

/// The stack pointer at the entry of a kprobed function: on x86-64 it points to the return address.
#[inline(always)]
pub fn stack(ctx: &ProbeContext) -> *const u8 {
    let regs: *const pt_regs = ctx.as_ptr().cast();
    // SAFETY: the context of a kprobe is its register set; the verifier checks the load.
    unsafe { (*regs).rsp as *const u8 }
}
