//! Who a page table is allocated for: the VMA, and the cause.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel as read_kernel;
use tracker_ebpf::{
    TableCause, field,
    kernel::{VM_MIXEDMAP, VM_PFNMAP},
};

use crate::{
    faults, maple,
    maps::SharedWord,
    memory::{CopiedMemory, KernelMemory},
    patched::offset,
    scope,
    verifier::{nonzero, repeat, unknown},
};

/// Words of kernel stack read at once.
const CHUNK: usize = 16;
/// Bytes of kernel stack that are searched.
const SEARCHED: u64 = 1280;
/// Steps of a search. Each ends at a pointer to the PMD entry, or covers a chunk without one.
const MOST_STEPS: u32 = 32;
/// A hugetlb page can have 1 GiB.
const LARGEST_PAGE: u64 = 1 << 30;
/// Memory that drivers map without a fault.
const DRIVERS: u64 = VM_PFNMAP | VM_MIXEDMAP;

/// Where a search of the stack begins: the frames in between differ.
#[derive(Clone, Copy)]
pub enum StackFrom {
    /// The context of a trampoline.
    Trampoline,
    /// The stack pointer at a probed function's entry.
    FunctionEntry,
}

/// How many bytes further the last `vm_fault` was found: the next one is usually there too.
static FOUND_AT: [SharedWord; 2] = [const { SharedWord::new(0) }; 2];

/// Who installs a PTE table in the PMD entry `pmd`: the VMA, or 0, and the [`TableCause`] as a
/// number.
///
/// While a fork, a move or an arm allocates, nothing faults, and its scope tells. Otherwise a fault
/// on the stack tells, if there is one, and the scope if not.
#[inline(always)]
pub fn of_pte_table(stack: *const u8, from: StackFrom, mm: u64, pmd: u64) -> (u64, u64) {
    let scope = scope::current();
    let never_faults = scope.cause == TableCause::Fork as u64
        || scope.cause == TableCause::Move as u64
        || scope.cause == TableCause::Arm as u64;
    if never_faults && scope.vma != 0 {
        return (scope.vma, scope.cause);
    }
    // Else the verifier follows the search once for each cause compared above.
    let cause = unknown(scope.cause, pmd);
    let vma = fault_vma(stack, from, mm, pmd);
    let (vma, cause) = if vma != 0 && cause == TableCause::Populate as u64 {
        (vma, TableCause::Populate as u64)
    } else if vma != 0 {
        (vma, TableCause::Fault as u64)
    } else if let hugetlb @ 1.. = faults::hugetlb_vma(mm) {
        // Before 6.10 hugetlb faults have no `vm_fault` on the stack.
        (hugetlb, TableCause::Fault as u64)
    } else if scope.vma == 0 && scope.start != 0 {
        (maple::vma_at(mm, scope.start), cause)
    } else {
        (scope.vma, cause)
    };
    (vma, unknown(cause, pmd))
}

/// Who allocates a PMD or PUD table for `address`, which these functions are given: the mm knows
/// the VMA there. The scope is the cause if it works on that address.
#[inline(always)]
pub fn of_upper_table(mm: u64, address: u64) -> (u64, u64) {
    let scope = scope::current();
    let moves = scope.cause == TableCause::Fork as u64 || scope.cause == TableCause::Move as u64;
    if scope.vma != 0 && (moves || scope::covers(scope.vma, mm, address)) {
        return (scope.vma, scope.cause);
    }
    let vma = maple::vma_at(mm, address);
    if scope.start <= address && address < scope.end || scope.cause == TableCause::Populate as u64 {
        return (vma, scope.cause);
    }
    let flags = CopiedMemory::read::<field::vma_flags>(vma as *const u8);
    if vma == 0 || flags & DRIVERS != 0 {
        (vma, TableCause::Other as u64)
    } else {
        (vma, TableCause::Fault as u64)
    }
}

/// The VMA of the fault in which the kernel works on this PMD entry, or 0. `struct vm_fault` is a
/// local of `__handle_mm_fault`, a few frames up the stack.
#[inline(never)]
pub fn fault_vma(stack: *const u8, from: StackFrom, mm: u64, pmd: u64) -> u64 {
    let found_at = &FOUND_AT[from as usize];
    let vma = vma_of_fault(at(stack, found_at.load() as usize), mm, pmd);
    if vma != 0 {
        return vma;
    }
    let nothing = unknown(0, pmd);
    let mut search = FaultSearch {
        stack,
        mm,
        pmd,
        next: nothing,
        vma: nothing,
    };
    repeat(MOST_STEPS, step, &mut search);
    if search.vma != 0 {
        found_at.store(search.next);
    }
    search.vma
}

/// The search for a `vm_fault`.
#[repr(C)]
struct FaultSearch {
    stack: *const u8,
    mm: u64,
    pmd: u64,
    /// Bytes up the stack: where to look next and, at the end, where the `vm_fault` is.
    next: u64,
    vma: u64,
}

/// One step: to the next word that is the wanted pointer, at most a chunk. Returns 1 at the end.
#[inline(never)]
extern "C" fn step(_: u64, search: *mut FaultSearch) -> i64 {
    // SAFETY: `fault_vma` passes its own search, which nobody else has.
    let search = unsafe { &mut *search };
    let mut words = MaybeUninit::<[u64; CHUNK]>::uninit();
    let here = at(search.stack, search.next as usize).cast::<c_void>();
    // SAFETY: the destination has that size. The helper checks the source: the stack ends at a
    // guard page; where it does not, nothing beyond it looks like a fault that we accept.
    if unsafe { read_kernel(words.as_mut_ptr().cast(), 8 * CHUNK as u32, here) } != 0 {
        return 1;
    }
    // SAFETY: the helper has filled it.
    let words = unsafe { words.assume_init_ref() };
    let (mut before, mut others) = (1, 0);
    for word in words {
        before &= nonzero(word ^ search.pmd);
        others += before;
    }
    let others = unknown(others, search.pmd);
    let next = search.next + 8 * others;
    search.next = unknown(next, search.pmd);
    if others < CHUNK as u64 {
        let place = next.wrapping_sub(u64::from(offset::<field::fault_pmd>()));
        let vma = vma_of_fault(at(search.stack, place as usize), search.mm, search.pmd);
        if vma != 0 {
            search.next = unknown(place, search.pmd);
            search.vma = unknown(vma, search.pmd);
            return 1;
        }
        search.next = unknown(next + 8, search.pmd);
    }
    i64::from(next >= SEARCHED)
}

/// An address that many bytes up the stack, within what is searched: the verifier wants a bound.
#[inline(always)]
fn at(stack: *const u8, bytes: usize) -> *const u8 {
    const { assert!(SEARCHED as usize + 8 * CHUNK < 0x800) };
    stack.wrapping_add(bytes & 0x7ff)
}

/// The VMA of the `vm_fault` there if it is one about this PMD entry, or 0.
///
/// `address` is `real_address`, the field after it, rounded down to the page or huge page. No other
/// words on the stack are like that next to a pointer to the VMA that contains them.
#[inline(always)]
fn vma_of_fault(fault: *const u8, mm: u64, pmd: u64) -> u64 {
    if CopiedMemory::read::<field::fault_pmd>(fault) != pmd {
        return 0;
    }
    let vma = CopiedMemory::read::<field::fault_vma>(fault);
    let [address, real]: [u64; 2] =
        CopiedMemory::at(fault.wrapping_add(offset::<field::fault_address>() as usize));
    if vma != 0 && real.wrapping_sub(address) < LARGEST_PAGE && scope::covers(vma, mm, address) {
        vma
    } else {
        0
    }
}
