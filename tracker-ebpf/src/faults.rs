//! Write-protect faults: what the write found and who answers.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::map,
    maps::HashMap,
    programs::ProbeContext,
};
use tracker_ebpf::{
    FaultEntry, field,
    kernel::{
        FAULT_FLAG_ALLOW_RETRY, FAULT_FLAG_RETRY_NOWAIT, FAULT_FLAG_UNSHARE, FAULT_FLAG_USER,
        FAULT_FLAG_WRITE, PAGE_PRESENT, PAGE_RW, PF_DUMPCORE, PF_EXITING, UFFD_FEATURE_SIGBUS,
        UFFD_USER_MODE_ONLY, VM_UFFD_WP,
    },
};

use crate::{
    atomic,
    context::{FunctionEntry, FunctionExit, stack},
    memory::{CopiedMemory, KernelMemory},
    patched::value,
    record::{self, FoundRecord, uses_uffd_wp},
    slot, timing,
};

/// Counts one fault in a record.
#[inline(always)]
pub fn count(found: FoundRecord, hit: FaultEntry) {
    if let Some(counters) = slot::counters(found) {
        // SAFETY: a map value.
        atomic::add(
            unsafe { &raw mut (*counters).faults[found.mode()][hit as usize] },
            1,
        );
    }
}

/// `do_wp_page(vmf)`: a write found a write-protected pte. It runs under the pte lock, after the
/// pte was compared again, so an armed `orig_pte` is exactly one event. A sync fault goes on to
/// `handle_userfault`, and is counted there.
#[inline(always)]
pub fn do_wp_page<C: FunctionEntry>(ctx: &C) {
    let vmf = ctx.pointer(0);
    if C::Memory::read::<field::fault_orig_pte>(vmf) & value!(uffd_bit) == 0
        || C::Memory::read::<field::fault_flags>(vmf) & FAULT_FLAG_UNSHARE != 0
    {
        return;
    }
    let vma = C::Memory::pointer::<field::fault_vma>(vmf);
    // Under the pte lock nothing preempts this program.
    let Some(found) = slot::find(vma, false) else {
        return;
    };
    if found.is_async() {
        count(found, FaultEntry::Pte);
    }
}

/// `handle_userfault(vmf, reason)`: a handler is asked. Calls that queue a message count, so the
/// early returns of the function are repeated here.
#[inline(always)]
pub fn handle_userfault<C: FunctionEntry>(ctx: &C) {
    if ctx.number(1) != VM_UFFD_WP {
        return;
    }
    let vmf = ctx.pointer(0);
    let vma = C::Memory::pointer::<field::fault_vma>(vmf);
    let uffd = C::Memory::pointer::<field::vma_uffd_ctx>(vma);
    let flags = C::Memory::read::<field::fault_flags>(vmf);
    // SAFETY: a helper without arguments.
    let task = unsafe { aya_ebpf::helpers::bpf_get_current_task() } as *const u8;
    let user_only = C::Memory::read::<field::uffd_flags>(uffd) & UFFD_USER_MODE_ONLY != 0;
    if uffd.is_null()
        || CopiedMemory::read::<field::task_flags>(task) & (PF_EXITING | PF_DUMPCORE) != 0
        || C::Memory::read::<field::uffd_features>(uffd) & UFFD_FEATURE_SIGBUS != 0
        || (user_only && flags & FAULT_FLAG_USER == 0)
        || flags & FAULT_FLAG_ALLOW_RETRY == 0
        || flags & FAULT_FLAG_RETRY_NOWAIT != 0
        || C::Memory::read::<field::uffd_released>(uffd) != 0
    {
        return;
    }
    let Some(found) = slot::find(vma, C::PREEMPTIBLE) else {
        return;
    };
    let huge = C::Memory::read::<field::fault_pte>(vmf) == 0
        || record::backing::<C::Memory>(vma) as u32 == tracker_ebpf::BackingCode::Hugetlb as u32;
    count(
        found,
        if huge {
            FaultEntry::Huge
        } else {
            FaultEntry::Pte
        },
    );
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    timing::wait_begins(C::Memory::pointer::<field::vma_mm>(vma) as u64, now);
}

/// `__split_huge_pmd(vma, pmd, ...)` called by the fault path (`wp_huge_pmd`, inlined into
/// `__handle_mm_fault`) for an armed anonymous PMD: the async answer to a write. After the split
/// the page faults again, as a pte. A shmem PMD is split without an answer, and all its bits are
/// lost.
#[inline(always)]
pub fn split_huge_pmd(ctx: &ProbeContext) {
    let vma = ctx.pointer(0);
    let anonymous = || CopiedMemory::read::<field::vma_ops>(vma) == 0;
    if !uses_uffd_wp::<CopiedMemory>(vma) || !anonymous() {
        return;
    }
    let caller = CopiedMemory::at::<u64>(stack(ctx));
    if caller < value!(fault_text_start) || caller >= value!(fault_text_end) {
        return;
    }
    if CopiedMemory::at::<u64>(ctx.pointer(1)) & value!(uffd_bit) == 0 {
        return;
    }
    if let Some(found) = slot::find(vma, false)
        && found.is_async()
    {
        count(found, FaultEntry::Huge);
    }
}

/// `hugetlb_fault(mm, vma, address, flags)`: keeps the flags for [`huge_pte_alloc_exit`].
#[inline(always)]
pub fn hugetlb_fault<C: FunctionEntry>(ctx: &C) {
    if !uses_uffd_wp::<C::Memory>(ctx.pointer(1)) {
        return;
    }
    let fault = HugetlbFault {
        vma: ctx.pointer(1) as u64,
        flags: ctx.number(3),
    };
    let _ = HUGETLB.insert(bpf_get_current_pid_tgid() as u32, fault, 0);
}

/// One thread's hugetlb fault.
#[derive(Clone, Copy)]
#[repr(C)]
struct HugetlbFault {
    vma: u64,
    flags: u64,
}

/// Threads inside `hugetlb_fault`, by tid.
#[map]
static HUGETLB: HashMap<u32, HugetlbFault> = HashMap::with_max_entries(4096, 1);

/// The VMA of the hugetlb fault that the current thread is in, or 0 if it is of another mm or in
/// none.
#[inline(always)]
pub fn hugetlb_vma(mm: u64) -> u64 {
    // SAFETY: only this thread writes its entry.
    let Some(fault) = (unsafe { HUGETLB.get(bpf_get_current_pid_tgid() as u32) }) else {
        return 0;
    };
    let vma = fault.vma;
    if CopiedMemory::read::<field::vma_mm>(vma as *const u8) == mm {
        vma
    } else {
        0
    }
}

/// Return of `huge_pte_alloc` inside `hugetlb_fault`: the fault is about the entry it returns,
/// which is read under the fault mutex.
#[inline(always)]
pub fn huge_pte_alloc_exit<C: FunctionExit>(ctx: &C) {
    let tid = bpf_get_current_pid_tgid() as u32;
    // SAFETY: only this thread writes its entry.
    let Some(fault) = (unsafe { HUGETLB.get(tid) }).copied() else {
        return;
    };
    let _ = HUGETLB.remove(tid);
    let pte = CopiedMemory::at::<u64>(ctx.returned() as *const u8);
    let vma = fault.vma as *const u8;
    if pte == value!(marker_pte) {
        if let Some(found) = slot::find(vma, true) {
            count(found, FaultEntry::Marker);
            crate::markers::consumed(found);
        }
    } else if pte & PAGE_PRESENT != 0
        && pte & value!(uffd_bit) != 0
        && pte & PAGE_RW == 0
        && fault.flags as u32 & FAULT_FLAG_WRITE != 0
        && let Some(found) = slot::find(vma, true)
        && found.is_async()
    {
        count(found, FaultEntry::Huge);
    }
}
