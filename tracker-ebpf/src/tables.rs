//! Page tables: who allocated one, for which VMA, and when it is freed.
//!
//! All of these hooks return at once for a process that does not use uffd-wp.

use aya_ebpf::{
    EbpfContext as _,
    bindings::BPF_NOEXIST,
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::HashMap,
    programs::{FExitContext, ProbeContext},
};
use aya_log_ebpf::debug;
use tracker_ebpf::{NO_RECORD, RecordLoss, TableCause, TableLevel, field};

use crate::{
    atomic,
    attribution::{self, StackFrom},
    context::{FunctionEntry, FunctionExit, stack, traced_argument},
    maps::{MM_RECORDS, VMA_RECORDS, direct_map, lose},
    memory::{CopiedMemory, KernelMemory},
    patched::value,
    record::{self, known_mm, resolve, uses_uffd_wp},
    scope,
};

/// A table allocation under way: what the entry tells the kretprobe, which sees no arguments.
#[derive(Clone, Copy)]
#[repr(C)]
struct TableAllocation {
    mm: u64,
    /// The VMA it is for; 0 if that could not be told.
    vma: u64,
    /// [`TableCause`]
    cause: u64,
    /// Where the function leaves its result: `pgtable_t *`, `pud_t *` or `p4d_t *`.
    result: u64,
}

/// Allocations under way, by tid and level: a PMD allocation does not nest in a PTE one.
#[map]
static ALLOCATIONS: HashMap<u32, TableAllocation> = HashMap::with_max_entries(16384, 1);

/// Upper tables that were counted, by their address in the kernel's direct map. `__pmd_alloc` also
/// returns 0 when the table of another thread won.
#[map]
static UPPER_TABLES: HashMap<u64, u8> = HashMap::with_max_entries(65536, 1);

/// Counts an allocated table: for its VMA if that uses uffd-wp, otherwise for the process.
#[inline(always)]
fn allocated(mm: u64, vma: u64, cause: u64, level: TableLevel) {
    // A number, which the verifier can bound.
    let place = level as usize * TableCause::ALL.len() + (cause & 7) as usize;
    if vma == 0 {
        debug!(
            (),
            "no VMA for a table of level {}, cause {}", level as u32, cause
        );
        lose(RecordLoss::VmaUnknown);
    } else if uses_uffd_wp::<CopiedMemory>(vma as *const u8)
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
    let allocation = TableAllocation {
        mm,
        vma,
        cause,
        result,
    };
    let _ = ALLOCATIONS.insert(bpf_get_current_pid_tgid() as u32, allocation, 0);
}

#[inline(always)]
fn end() -> Option<TableAllocation> {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: only this task writes its entry.
    let allocation = unsafe { ALLOCATIONS.get(tid) }.copied()?;
    let _ = ALLOCATIONS.remove(tid);
    Some(allocation)
}

/// `pmd_install(mm, pmd, pgtable_t *pte)` returns: it took the table and cleared the pointer to it,
/// unless the table of another thread was there first.
#[inline(always)]
pub fn pmd_installed(ctx: &FExitContext) {
    let mm = traced_argument(ctx, 0);
    if known_mm(mm) == NO_RECORD
        || CopiedMemory::at::<u64>(traced_argument(ctx, 2) as *const u8) != 0
    {
        return;
    }
    let stack = ctx.as_ptr().cast();
    let (vma, cause) =
        attribution::of_pte_table(stack, StackFrom::Trampoline, mm, traced_argument(ctx, 1));
    allocated(mm, vma, cause, TableLevel::Pte);
}

/// The same in two steps: first the entry of `pmd_install`.
#[inline(always)]
pub fn pmd_install_entry(ctx: &ProbeContext) {
    let mm = ctx.number(0);
    if known_mm(mm) == NO_RECORD {
        return;
    }
    let (vma, cause) =
        attribution::of_pte_table(stack(ctx), StackFrom::FunctionEntry, mm, ctx.number(1));
    begin(mm, vma, cause, ctx.number(2));
}

/// Then the return of `pmd_install`.
#[inline(always)]
pub fn pmd_install_return<C: FunctionExit>(_ctx: &C) {
    if let Some(a) = end()
        && CopiedMemory::at::<u64>(a.result as *const u8) == 0
    {
        allocated(a.mm, a.vma, a.cause, TableLevel::Pte);
    }
}

/// `__pmd_alloc(mm, pud, address)` returns.
#[inline(always)]
pub fn pmd_allocated(ctx: &FExitContext) {
    upper_allocated(ctx, TableLevel::Pmd);
}

/// `__pud_alloc(mm, p4d, address)` returns.
#[inline(always)]
pub fn pud_allocated(ctx: &FExitContext) {
    upper_allocated(ctx, TableLevel::Pud);
}

#[inline(always)]
fn upper_allocated(ctx: &FExitContext, level: TableLevel) {
    let mm = traced_argument(ctx, 0);
    if known_mm(mm) == NO_RECORD || ctx.returned() as u32 != 0 {
        return;
    }
    let (vma, cause) = attribution::of_upper_table(mm, traced_argument(ctx, 2));
    count_upper(mm, vma, cause, traced_argument(ctx, 1), level);
}

/// The same in two steps: first the entry of either function.
#[inline(always)]
pub fn upper_alloc_entry(ctx: &ProbeContext) {
    let mm = ctx.number(0);
    if known_mm(mm) == NO_RECORD {
        return;
    }
    let (vma, cause) = attribution::of_upper_table(mm, ctx.number(2));
    begin(mm, vma, cause, ctx.number(1));
}

/// Then the return of `__pmd_alloc`.
#[inline(always)]
pub fn pmd_alloc_return<C: FunctionExit>(ctx: &C) {
    upper_alloc_return(ctx, TableLevel::Pmd);
}

/// Then the return of `__pud_alloc`.
#[inline(always)]
pub fn pud_alloc_return<C: FunctionExit>(ctx: &C) {
    upper_alloc_return(ctx, TableLevel::Pud);
}

#[inline(always)]
fn upper_alloc_return<C: FunctionExit>(ctx: &C, level: TableLevel) {
    if let Some(a) = end()
        && ctx.returned() as u32 == 0
    {
        count_upper(a.mm, a.vma, a.cause, a.result, level);
    }
}

/// Counts the table that `entry` points to, unless another thread's was first and is counted.
#[inline(always)]
fn count_upper(mm: u64, vma: u64, cause: u64, entry: u64, level: TableLevel) {
    let table = CopiedMemory::at::<u64>(entry as *const u8) & value!(table_address_mask);
    let table = table.wrapping_add(direct_map());
    if UPPER_TABLES.insert(table, 0, BPF_NOEXIST as u64).is_ok() {
        allocated(mm, vma, cause, level);
    }
}

/// `pgtable_trans_huge_deposit(mm, pmd, pgtable)`: a PTE table is kept beside a huge page. It is
/// new in a fault and in a fork; collapse, mremap and UFFDIO_MOVE only pass one on.
///
/// It does not call [`attribution::of_pte_table`] and then compare the cause: the verifier of 6.1
/// loses track of which of several equal numbers it has compared, and removes the branch that
/// counts.
#[inline(always)]
pub fn deposit(ctx: &ProbeContext) {
    let mm = ctx.number(0);
    if known_mm(mm) == NO_RECORD {
        return;
    }
    let scope = scope::current();
    if scope.cause == TableCause::Fork as u64 {
        return allocated(mm, scope.vma, TableCause::Fork as u64, TableLevel::Pte);
    }
    let vma = attribution::fault_vma(stack(ctx), StackFrom::FunctionEntry, mm, ctx.number(1));
    if vma == 0 {
        return;
    }
    if scope.cause == TableCause::Populate as u64 {
        allocated(mm, vma, TableCause::Populate as u64, TableLevel::Pte);
    } else {
        allocated(mm, vma, TableCause::Fault as u64, TableLevel::Pte);
    }
}

/// `pgtable_trans_huge_withdraw(mm, pmd)` called by `zap_huge_pmd`: the deposited table is freed.
/// Other callers (split, mremap) pass the table on.
#[inline(always)]
pub fn withdraw(ctx: &ProbeContext) {
    let id = known_mm(ctx.number(0));
    if id == NO_RECORD {
        return;
    }
    let caller = CopiedMemory::at::<u64>(stack(ctx));
    if caller >= value!(zap_huge_text_start) && caller < value!(zap_huge_text_end) {
        freed(id, TableLevel::Pte);
    }
}

#[inline(always)]
fn freed(mm_id: u32, level: TableLevel) {
    if let Some(record) = MM_RECORDS.get_ptr_mut(mm_id) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*record).freed[level as usize] }, 1);
    }
}

#[inline(always)]
fn gather_mm<C: FunctionEntry>(ctx: &C) -> u32 {
    let id = known_mm(C::Memory::pointer::<field::gather_mm>(ctx.pointer(0)) as u64);
    if id != NO_RECORD {
        record::identify_exiting(id);
    }
    id
}

/// `___pte_free_tlb(tlb, pte)`
#[inline(always)]
pub fn pte_free_tlb<C: FunctionEntry>(ctx: &C) {
    let id = gather_mm(ctx);
    if id != NO_RECORD {
        freed(id, TableLevel::Pte);
    }
}

/// `pte_free_defer(mm, pgtable)`: khugepaged frees a table under RCU.
#[inline(always)]
pub fn pte_free_defer<C: FunctionEntry>(ctx: &C) {
    let id = known_mm(ctx.pointer(0) as u64);
    if id != NO_RECORD {
        freed(id, TableLevel::Pte);
    }
}

/// `___pmd_free_tlb(tlb, pmd)`
#[inline(always)]
pub fn pmd_free_tlb<C: FunctionEntry>(ctx: &C) {
    upper_freed(ctx, TableLevel::Pmd);
}

/// `___pud_free_tlb(tlb, pud)`
#[inline(always)]
pub fn pud_free_tlb<C: FunctionEntry>(ctx: &C) {
    upper_freed(ctx, TableLevel::Pud);
}

#[inline(always)]
fn upper_freed<C: FunctionEntry>(ctx: &C, level: TableLevel) {
    let id = gather_mm(ctx);
    if id == NO_RECORD {
        return;
    }
    freed(id, level);
    let _ = UPPER_TABLES.remove(ctx.pointer(1) as u64);
}
