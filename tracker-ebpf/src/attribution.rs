//! Whose page table it is: the VMA that it is allocated for, and the cause.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel as read_kernel;
use tracker_ebpf::Cause;

use crate::{
    faults, maple,
    maps::Word,
    memory::{Copied, Memory},
    patched::{field, offset},
    scope,
};

/// Words of kernel stack read at once, and how often.
const CHUNK: usize = 16;
const CHUNKS: usize = 10;
/// A hugetlb page may have 1 GiB.
const LARGEST_PAGE: u64 = 1 << 30;
/// `VM_PFNMAP | VM_MIXEDMAP`: drivers map such memory without a fault.
const VM_DRIVER: u64 = 0x400 | 0x1000_0000;

/// Where the stack is looked at from: the frames between differ.
#[derive(Clone, Copy)]
pub enum From {
    /// The context of a trampoline.
    Trampoline,
    /// The stack pointer at a probed function's entry.
    Entry,
}

/// Bytes from there to the `vm_fault` that was found last: mostly it is there again.
static FOUND_AT: [Word; 2] = [const { Word::new(0) }; 2];

/// Who installs a PTE table in the PMD entry `pmd`: the VMA, or 0, and the [`Cause`] as a number.
///
/// Nothing faults while a fork, a move or an arm allocates; else a fault on the stack says it, or
/// else the task's scope.
#[inline(always)]
pub fn of_pte_table(stack: *const u8, from: From, mm: u64, pmd: u64) -> (u64, u64) {
    let scope = scope::current();
    let never_faults = scope.cause == Cause::Fork as u64
        || scope.cause == Cause::Move as u64
        || scope.cause == Cause::Arm as u64;
    if never_faults && scope.vma != 0 {
        return (scope.vma, scope.cause);
    }
    let vma = fault_vma(stack, from, mm, pmd);
    if vma != 0 && scope.cause == Cause::Populate as u64 {
        (vma, Cause::Populate as u64)
    } else if vma != 0 {
        (vma, Cause::Fault as u64)
    } else if let hugetlb @ 1.. = faults::hugetlb_vma(mm) {
        // Before 6.10 the fault has no `vm_fault` there.
        (hugetlb, Cause::Fault as u64)
    } else if scope.vma == 0 && scope.start != 0 {
        (maple::vma_at(mm, scope.start), scope.cause)
    } else {
        (scope.vma, scope.cause)
    }
}

/// Who allocates a PMD or PUD table for `address`. These functions are told the address, and the
/// mm knows the VMA there; a scope is the cause if it works on that address.
#[inline(always)]
pub fn of_upper_table(mm: u64, address: u64) -> (u64, u64) {
    let scope = scope::current();
    let moves = scope.cause == Cause::Fork as u64 || scope.cause == Cause::Move as u64;
    if scope.vma != 0 && (moves || scope::covers(scope.vma, mm, address)) {
        return (scope.vma, scope.cause);
    }
    let vma = maple::vma_at(mm, address);
    if scope.start <= address && address < scope.end || scope.cause == Cause::Populate as u64 {
        return (vma, scope.cause);
    }
    let flags = Copied::read::<u64, { field!(vma_flags) }>(vma as *const u8);
    if vma == 0 || flags & VM_DRIVER != 0 {
        (vma, Cause::Other as u64)
    } else {
        (vma, Cause::Fault as u64)
    }
}

/// The VMA of the fault in which the kernel works on that PMD entry, or 0: `struct vm_fault` is a
/// local of `__handle_mm_fault`, a few frames up.
#[inline(never)]
pub fn fault_vma(stack: *const u8, from: From, mm: u64, pmd: u64) -> u64 {
    let found_at = &FOUND_AT[from as usize];
    let vma = vma_of_fault(at(stack, found_at.load() as usize), mm, pmd);
    if vma != 0 {
        return vma;
    }
    for chunk in 0..CHUNKS {
        let mut words = MaybeUninit::<[u64; CHUNK]>::uninit();
        let here = at(stack, 8 * CHUNK * chunk).cast::<c_void>();
        // SAFETY: the destination is that large. The helper checks the source: the stack ends at a
        // guard page, and where it does not, what lies behind is no fault that we accept.
        if unsafe { read_kernel(words.as_mut_ptr().cast(), 8 * CHUNK as u32, here) } != 0 {
            return 0;
        }
        // SAFETY: the helper has filled it.
        let words = unsafe { words.assume_init_ref() };
        for (i, word) in words.iter().enumerate() {
            if *word != pmd {
                continue;
            }
            let place = (8 * (CHUNK * chunk + i)).wrapping_sub(offset!(fault_pmd) as usize);
            let vma = vma_of_fault(at(stack, place), mm, pmd);
            if vma != 0 {
                found_at.store(place as u64);
                return vma;
            }
        }
    }
    0
}

/// An address so many bytes up the stack, within what is searched: the verifier wants a bound.
#[inline(always)]
fn at(stack: *const u8, bytes: usize) -> *const u8 {
    const { assert!(8 * CHUNK * CHUNKS < 0x800) };
    stack.wrapping_add(bytes & 0x7ff)
}

/// The VMA of the `vm_fault` there, if it is one about that PMD entry, or 0.
///
/// `address` is `real_address`, the next field, rounded down to the page or huge page: no other
/// words on the stack are like that and beside a pointer to the VMA that contains them.
#[inline(always)]
fn vma_of_fault(fault: *const u8, mm: u64, pmd: u64) -> u64 {
    if Copied::read::<u64, { field!(fault_pmd) }>(fault) != pmd {
        return 0;
    }
    let vma = Copied::read::<u64, { field!(fault_vma) }>(fault);
    let [address, real]: [u64; 2] = Copied::at(fault.wrapping_add(offset!(fault_address) as usize));
    if vma != 0 && real.wrapping_sub(address) < LARGEST_PAGE && scope::covers(vma, mm, address) {
        vma
    } else {
        0
    }
}
