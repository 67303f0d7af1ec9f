//! Page tables: who allocated one, for which VMA, and when it is freed.
//!
//! All of these hooks return at once for a process that does not use uffd-wp.

use core::ffi::c_void;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_probe_read_kernel as read_kernel},
    macros::map,
    maps::{HashMap, PerCpuArray},
    programs::ProbeContext,
};
use tracker_ebpf::{Cause, Level, Loss, NO_RECORD};

use crate::{
    atomic,
    context::{Entry, Exit, kept_registers, stack},
    faults,
    maps::{MM_RECORDS, VMA_RECORDS, config, direct_map, lose, offset},
    memory::{Copied, Memory},
    record::{self, known_mm, resolve, uses_uffd_wp},
    scope,
};

/// Words of kernel stack searched for the `vm_fault` of `__handle_mm_fault`, a few frames up.
const STACK_WORDS: usize = 144;
/// Registers that are searched with it, before it.
const REGISTERS: usize = 6;
/// x86-64 stacks are aligned to their size (`THREAD_SIZE`), and end at a guard page. Where they are
/// larger (KASAN), only less is searched.
const THREAD_SIZE: u64 = 16 * 1024;
const PAGE_MASK: u64 = !0xfff;
/// A hugetlb page may have 1 GiB.
const LARGEST_PAGE: u64 = 1 << 30;
/// `BPF_NOEXIST`
const NOEXIST: u64 = 1;

/// A table allocation under way, from the function's entry to its return.
#[derive(Clone, Copy)]
#[repr(C)]
struct Allocation {
    mm: u64,
    /// The VMA it is for; 0 if that could not be told.
    vma: u64,
    /// [`Cause`]
    cause: u64,
    /// Where the function leaves its result: `pgtable_t *`, `pud_t *` or `p4d_t *`.
    result: u64,
}

/// Allocations under way, by tid and level: a PMD allocation does not nest in a PTE one.
#[map]
static ALLOCATIONS: HashMap<u32, Allocation> = HashMap::with_max_entries(16384, 1);

/// Upper tables that were counted, by their address in the kernel's direct map: `__pmd_alloc` returns 0 also when another
/// thread's table won.
#[map]
static UPPER_TABLES: HashMap<u64, u8> = HashMap::with_max_entries(65536, 1);

/// What is searched for a pointer to a fault or a VMA.
#[repr(C)]
struct Words {
    registers: [u64; REGISTERS],
    stack: [u64; STACK_WORDS],
}

/// One copy per CPU (kprobes are not preempted), and zeroes.
#[map]
static WORDS: PerCpuArray<Words> = PerCpuArray::with_max_entries(2, 0);

/// What the kernel holds at the entry of a probed function: the registers that its callers keep,
/// then the stack, then zeroes beyond the stack's end. The searches go over a fixed number of
/// words, which the verifier walks quickly.
#[inline(always)]
fn copy_words(ctx: &ProbeContext) -> bool {
    let (Some(words), Some(zeroes)) = (WORDS.get_ptr_mut(0), WORDS.get_ptr_mut(1)) else {
        return false;
    };
    let sp = stack(ctx);
    let room = THREAD_SIZE - (sp as u64 & (THREAD_SIZE - 1));
    let bytes = room.min(STACK_WORDS as u64 * 8) as u32;
    // SAFETY: the destinations are map values of at least that size; the helper checks the source.
    unsafe {
        (*words).registers = kept_registers(ctx);
        let to: *mut c_void = (&raw mut (*words).stack).cast();
        let from: *const c_void = (&raw const (*zeroes).stack).cast();
        let cleared = read_kernel(to, STACK_WORDS as u32 * 8, from);
        let copied = read_kernel(to, bytes, sp.cast());
        cleared == 0 && copied == 0
    }
}

/// The VMA of the fault that the kernel is in: `struct vm_fault` is a local of
/// `__handle_mm_fault`, so its words are on the stack.
#[inline(never)]
fn fault_vma(sp: u64, mm: u64, word: u64, at: u32) -> u64 {
    let Some(words) = WORDS.get_ptr_mut(0) else {
        return 0;
    };
    for i in 0..STACK_WORDS {
        // SAFETY: in bounds.
        if unsafe { (*words).stack[i] } != word {
            continue;
        }
        let vmf = (sp + 8 * i as u64).wrapping_sub(u64::from(at)) as *const u8;
        let vma = Copied::read::<u64>(vmf, offset!(fault_vma));
        // `address` is `real_address`, the next field, rounded down to the page or huge page; no
        // other pair of words on the stack is like that and near a pointer to their VMA.
        let [address, real] = Copied::read::<[u64; 2]>(vmf, offset!(fault_address));
        let within = real.wrapping_sub(address);
        if vma != 0 && within < LARGEST_PAGE && scope::covers(vma, mm, address) {
            return vma;
        }
    }
    0
}

/// The VMA of that mm around `address` that the kernel works on: a pointer in a register or on the
/// stack. There is only one such VMA, so a stale pointer cannot mislead.
#[inline(never)]
fn covering_vma(mm: u64, address: u64) -> u64 {
    let Some(words) = WORDS.get_ptr_mut(0) else {
        return 0;
    };
    let words: *const u64 = words.cast();
    for i in 0..REGISTERS + STACK_WORDS {
        // SAFETY: in bounds.
        let word = unsafe { *words.add(i) };
        // Kernel objects lie in the upper half (with 4 or 5 levels of tables), at multiples of eight.
        if word >> 56 == 0xff && word & 7 == 0 && scope::covers(word, mm, address) {
            return word;
        }
    }
    0
}

/// Who allocates: the VMA, or 0, and the [`Cause`] as a number. No fault can happen while a fork or a move allocates; else the fault on the
/// stack says it, or else the scope of the task.
#[inline(always)]
fn attribute(ctx: &ProbeContext, mm: u64, word: u64, at: u32) -> (u64, u64) {
    let scope = scope::current();
    let moves = scope.cause == Cause::Fork as u64 || scope.cause == Cause::Move as u64;
    if moves && scope.vma != 0 {
        return (scope.vma, scope.cause);
    }
    // An address alone is found in too many places: where it is known, the scope has the first word.
    let addressed = at == offset!(fault_address);
    if addressed && scope.vma != 0 && scope::covers(scope.vma, mm, word) {
        return (scope.vma, scope.cause);
    }
    if !copy_words(ctx) {
        return (0, Cause::Other as u64);
    }
    let vma = fault_vma(stack(ctx) as u64, mm, word, at);
    if vma != 0 && scope.cause == Cause::Populate as u64 {
        (vma, Cause::Populate as u64)
    } else if vma != 0 {
        (vma, Cause::Fault as u64)
    } else if let hugetlb @ 1.. = faults::hugetlb_vma(mm) {
        // Before 6.10 the fault has no `vm_fault` there.
        (hugetlb, Cause::Fault as u64)
    } else if scope.vma == 0 && scope.address != 0 {
        (covering_vma(mm, scope.address), scope.cause)
    } else {
        (scope.vma, scope.cause)
    }
}

/// Counts one allocated table: for its VMA if that uses uffd-wp, else for the process.
#[inline(always)]
fn allocated(mm: u64, vma: u64, cause: u64, level: Level) {
    // A number, which the verifier can bound.
    let place = level as usize * Cause::ALL.len() + (cause & 7) as usize;
    if vma == 0 {
        lose(Loss::VmaUnknown);
    } else if uses_uffd_wp::<Copied>(vma as *const u8)
        && let Some(found) = resolve(vma)
        && let Some(record) = VMA_RECORDS.get_ptr_mut(found.id())
    {
        // SAFETY: a map value; the indices are in bounds.
        return atomic::add(
            unsafe { (&raw mut (*record).tables).cast::<u64>().add(place) },
            1,
        );
    }
    if let Some(record) = MM_RECORDS.get_ptr_mut(known_mm(mm)) {
        // SAFETY: as above.
        atomic::add(
            unsafe { (&raw mut (*record).tables).cast::<u64>().add(place) },
            1,
        );
    }
}

#[inline(always)]
fn begin(mm: u64, vma: u64, cause: u64, result: u64) {
    let allocation = Allocation {
        mm,
        vma,
        cause,
        result,
    };
    let _ = ALLOCATIONS.insert(bpf_get_current_pid_tgid() as u32, allocation, 0);
}

#[inline(always)]
fn end() -> Option<Allocation> {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: only this task writes its entry.
    let allocation = unsafe { ALLOCATIONS.get(tid) }.copied()?;
    let _ = ALLOCATIONS.remove(tid);
    Some(allocation)
}

/// `pmd_install(mm, pmd, pgtable_t *pte)`: puts a PTE table into a PMD entry.
#[inline(always)]
pub fn pmd_install(ctx: &ProbeContext) {
    let mm = ctx.number(0);
    if known_mm(mm) == NO_RECORD {
        return;
    }
    let (vma, cause) = attribute(ctx, mm, ctx.number(1), offset!(fault_pmd));
    begin(mm, vma, cause, ctx.number(2));
}

/// Return of `pmd_install`: it takes the table (and clears the pointer) unless another thread's
/// table was there first.
#[inline(always)]
pub fn pmd_install_exit<C: Exit>(_ctx: &C) {
    if let Some(a) = end()
        && Copied::read::<u64>(a.result as *const u8, 0) == 0
    {
        allocated(a.mm, a.vma, a.cause, Level::Pte);
    }
}

/// `__pmd_alloc(mm, pud, address)`, `__pud_alloc(mm, p4d, address)`.
#[inline(always)]
pub fn upper_alloc(ctx: &ProbeContext) {
    let mm = ctx.number(0);
    if known_mm(mm) == NO_RECORD {
        return;
    }
    let page = ctx.number(2) & PAGE_MASK;
    let (vma, cause) = attribute(ctx, mm, page, offset!(fault_address));
    begin(mm, vma, cause, ctx.number(1));
}

/// Return of `__pmd_alloc`.
#[inline(always)]
pub fn pmd_alloc_exit<C: Exit>(ctx: &C) {
    upper_alloc_exit(ctx, Level::Pmd);
}

/// Return of `__pud_alloc`.
#[inline(always)]
pub fn pud_alloc_exit<C: Exit>(ctx: &C) {
    upper_alloc_exit(ctx, Level::Pud);
}

#[inline(always)]
fn upper_alloc_exit<C: Exit>(ctx: &C, level: Level) {
    let Some(a) = end() else { return };
    if ctx.returned() as u32 != 0 {
        return;
    }
    let table = Copied::read::<u64>(a.result as *const u8, 0) & config!(table_address_mask);
    let table = table.wrapping_add(direct_map());
    if UPPER_TABLES.insert(table, 0, NOEXIST).is_ok() {
        allocated(a.mm, a.vma, a.cause, level);
    }
}

/// `pgtable_trans_huge_deposit(mm, pmd, pgtable)`: a PTE table is kept beside a huge page. New in
/// a fault and in a fork; collapse, mremap and UFFDIO_MOVE only pass one on.
///
/// It does not ask [`attribute`] and then look at the cause: the verifier of 6.1 loses track of
/// which of several equal numbers it has compared, and removes the branch that counts.
#[inline(always)]
pub fn deposit(ctx: &ProbeContext) {
    let mm = ctx.number(0);
    if known_mm(mm) == NO_RECORD {
        return;
    }
    let scope = scope::current();
    if scope.cause == Cause::Fork as u64 {
        return allocated(mm, scope.vma, Cause::Fork as u64, Level::Pte);
    }
    if !copy_words(ctx) {
        return;
    }
    let vma = fault_vma(stack(ctx) as u64, mm, ctx.number(1), offset!(fault_pmd));
    if vma == 0 {
        return;
    }
    if scope.cause == Cause::Populate as u64 {
        allocated(mm, vma, Cause::Populate as u64, Level::Pte);
    } else {
        allocated(mm, vma, Cause::Fault as u64, Level::Pte);
    }
}

/// `pgtable_trans_huge_withdraw(mm, pmd)` called by `zap_huge_pmd`: the deposited table is freed.
/// Its other callers (split, mremap) pass the table on.
#[inline(always)]
pub fn withdraw(ctx: &ProbeContext) {
    let id = known_mm(ctx.number(0));
    if id == NO_RECORD {
        return;
    }
    let caller = Copied::read::<u64>(stack(ctx), 0);
    if caller >= config!(zap_huge_text_start) && caller < config!(zap_huge_text_end) {
        freed(id, Level::Pte);
    }
}

#[inline(always)]
fn freed(mm_id: u32, level: Level) {
    if let Some(record) = MM_RECORDS.get_ptr_mut(mm_id) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*record).freed[level as usize] }, 1);
    }
}

#[inline(always)]
fn gather_mm<C: Entry>(ctx: &C) -> u32 {
    let id = known_mm(C::Memory::pointer(ctx.pointer(0), offset!(gather_mm)) as u64);
    if id != NO_RECORD {
        record::identify_exiting(id);
    }
    id
}

/// `___pte_free_tlb(tlb, pte)`
#[inline(always)]
pub fn pte_free_tlb<C: Entry>(ctx: &C) {
    let id = gather_mm(ctx);
    if id != NO_RECORD {
        freed(id, Level::Pte);
    }
}

/// `pte_free_defer(mm, pgtable)`: khugepaged frees a table under RCU.
#[inline(always)]
pub fn pte_free_defer<C: Entry>(ctx: &C) {
    let id = known_mm(ctx.pointer(0) as u64);
    if id != NO_RECORD {
        freed(id, Level::Pte);
    }
}

/// `___pmd_free_tlb(tlb, pmd)`
#[inline(always)]
pub fn pmd_free_tlb<C: Entry>(ctx: &C) {
    upper_freed(ctx, Level::Pmd);
}

/// `___pud_free_tlb(tlb, pud)`
#[inline(always)]
pub fn pud_free_tlb<C: Entry>(ctx: &C) {
    upper_freed(ctx, Level::Pud);
}

#[inline(always)]
fn upper_freed<C: Entry>(ctx: &C, level: Level) {
    let id = gather_mm(ctx);
    if id == NO_RECORD {
        return;
    }
    freed(id, level);
    let _ = UPPER_TABLES.remove(ctx.pointer(1) as u64);
}
