//! What takes the uffd-wp bit off pages of watched address spaces: each time an event.

use aya_ebpf::{
    helpers::bpf_probe_read_user,
    programs::{BtfTracePointContext, FExitContext, ProbeContext},
};
use tracker_ebpf::{
    EventKind, HUGE_SPLIT_BY_WRITE, field,
    kernel::{
        FAULT_FLAG_UNSHARE, FAULT_FLAG_USER, FAULT_FLAG_WRITE, PAGE_MAPPING_ANON, PAGE_PRESENT,
        PAGE_PSE, PAGE_SIZE, PMD_SIZE, UFFDIO_MOVE, UFFDIO_UNREGISTER, VM_HUGETLB, VM_UFFD_WP,
        ZAP_FLAG_DROP_MARKER,
    },
};

use crate::{
    context::{FunctionEntry, FunctionExit, stack, traced_argument},
    events::{PageEvent, StackContext, UserThread},
    memory::{CopiedMemory, KernelMemory},
    patched::value,
    record::uses_uffd_wp,
    watch::{self, NOBODY},
};

/// The entry of a huge page.
const HUGE_PAGE: u64 = PAGE_PRESENT | PAGE_PSE;

/// An event about a range.
#[inline(always)]
const fn range(kind: EventKind, watch: u32, start: u64, length: u64) -> PageEvent {
    PageEvent {
        kind,
        watch,
        start,
        length,
        address: 0,
        result: 0,
        flags: 0,
    }
}

/// The watch of a VMA if it is registered for write protection.
#[inline(always)]
fn watch_of<M: KernelMemory>(vma: *const u8) -> u32 {
    if uses_uffd_wp::<M>(vma) {
        watch::of_vma::<M>(vma)
    } else {
        NOBODY
    }
}

#[inline(always)]
fn is_hugetlb<M: KernelMemory>(vma: *const u8) -> bool {
    M::read::<field::vma_flags>(vma) & VM_HUGETLB != 0
}

/// A write found an armed page.
#[inline(always)]
fn fault<C: FunctionEntry + StackContext>(ctx: &C, vma: *const u8, address: u64, flags: u32) {
    let watch = watch_of::<C::Memory>(vma);
    if watch == NOBODY {
        return;
    }
    let event = PageEvent {
        flags,
        ..range(
            EventKind::Fault,
            watch,
            address & !(PAGE_SIZE - 1),
            PAGE_SIZE,
        )
    };
    if flags & FAULT_FLAG_USER == 0 {
        event.at_both(ctx);
    } else {
        event.at_user(ctx);
    }
}

/// `do_wp_page(vmf)` with an armed pte, no matter who answers.
#[inline(always)]
pub fn wp_fault<C: FunctionEntry + StackContext>(ctx: &C) {
    let vmf = ctx.pointer(0);
    let flags = C::Memory::read::<field::fault_flags>(vmf);
    if C::Memory::read::<field::fault_orig_pte>(vmf) & value!(uffd_bit) == 0
        || flags & FAULT_FLAG_UNSHARE != 0
    {
        return;
    }
    let vma = C::Memory::pointer::<field::fault_vma>(vmf);
    let address = C::Memory::read::<field::fault_address>(vmf);
    fault(ctx, vma, address, flags);
}

/// `handle_userfault(vmf, reason)` for an armed huge page of anonymous memory: without a pte there
/// is no `do_wp_page`.
#[inline(always)]
pub fn huge_fault<C: FunctionEntry + StackContext>(ctx: &C) {
    let vmf = ctx.pointer(0);
    if ctx.number(1) != VM_UFFD_WP || C::Memory::read::<field::fault_pte>(vmf) != 0 {
        return;
    }
    let vma = C::Memory::pointer::<field::fault_vma>(vmf);
    if is_hugetlb::<C::Memory>(vma) {
        return;
    }
    let address = C::Memory::read::<field::fault_address>(vmf);
    let flags = C::Memory::read::<field::fault_flags>(vmf);
    fault(ctx, vma, address, flags);
}

/// `hugetlb_fault(mm, vma, address, flags)` of a write, armed or not.
#[inline(always)]
pub fn hugetlb_write<C: FunctionEntry + StackContext>(ctx: &C) {
    let flags = ctx.number(3) as u32;
    if flags & FAULT_FLAG_WRITE != 0 && flags & FAULT_FLAG_UNSHARE == 0 {
        fault(ctx, ctx.pointer(1), ctx.number(2), flags);
    }
}

/// The watch of a VMA if it maps a file and the entry is an armed huge page.
#[inline(always)]
fn watch_of_huge<M: KernelMemory>(vma: *const u8, pmd: *const u8) -> u32 {
    let watch = watch_of::<M>(vma);
    if watch == NOBODY || M::read::<field::vma_ops>(vma) == 0 {
        return NOBODY;
    }
    let pmd = CopiedMemory::at::<u64>(pmd);
    if pmd & value!(uffd_bit) == 0 || pmd & HUGE_PAGE != HUGE_PAGE {
        return NOBODY;
    }
    watch
}

/// A file's armed huge page is given up, and all bits in it are lost.
#[inline(always)]
const fn huge(watch: u32, address: u64) -> PageEvent {
    PageEvent {
        address,
        ..range(
            EventKind::HugeSplit,
            watch,
            address & !(PMD_SIZE - 1),
            PMD_SIZE,
        )
    }
}

/// `__split_huge_pmd(vma, pmd, address, ..)`
#[inline(always)]
pub fn huge_split(ctx: &ProbeContext) {
    let watch = watch_of_huge::<CopiedMemory>(ctx.pointer(0), ctx.pointer(1));
    if watch == NOBODY {
        return;
    }
    let caller = CopiedMemory::at::<u64>(stack(ctx));
    let write = caller >= value!(fault_text_start) && caller < value!(fault_text_end);
    let event = PageEvent {
        flags: u32::from(write) * HUGE_SPLIT_BY_WRITE,
        ..huge(watch, ctx.number(2))
    };
    if write && !UserThread::current().in_syscall() {
        event.at_user(ctx);
    } else {
        event.at_both(ctx);
    }
}

/// `split_huge_pmd_locked(vma, address, pmd, ..)` with another caller than `__split_huge_pmd`:
/// reclaim.
#[inline(always)]
pub fn huge_unmapped(ctx: &ProbeContext) {
    let watch = watch_of_huge::<CopiedMemory>(ctx.pointer(0), ctx.pointer(2));
    if watch == NOBODY {
        return;
    }
    let caller = CopiedMemory::at::<u64>(stack(ctx));
    if caller < value!(split_text_start) || caller >= value!(split_text_end) {
        huge(watch, ctx.number(1)).at_both(ctx);
    }
}

/// `zap_huge_pmd(tlb, vma, pmd, addr)`
#[inline(always)]
pub fn huge_emptied<C: FunctionEntry + StackContext>(ctx: &C) {
    let watch = watch_of_huge::<C::Memory>(ctx.pointer(1), ctx.pointer(2));
    if watch != NOBODY {
        huge(watch, ctx.number(3)).at_both(ctx);
    }
}

/// `unmap_page_range(tlb, vma, addr, end, details)`, later `__zap_vma_range`, through which hugetlb
/// memory goes too.
#[inline(always)]
pub fn emptied<C: FunctionEntry + StackContext>(ctx: &C) {
    let vma = ctx.pointer(1);
    let watch = watch_of::<C::Memory>(vma);
    if watch == NOBODY || is_hugetlb::<C::Memory>(vma) {
        return;
    }
    let details = ctx.argument(4) as *const u8;
    let flags = if details.is_null() {
        0
    } else {
        CopiedMemory::read::<field::zap_flags>(details)
    };
    empties(ctx, watch, flags);
}

/// `__unmap_hugepage_range(tlb, vma, start, end, ref, zap_flags)`
#[inline(always)]
pub fn hugetlb_emptied<C: FunctionEntry + StackContext>(ctx: &C) {
    let watch = watch_of::<C::Memory>(ctx.pointer(1));
    if watch != NOBODY {
        empties(ctx, watch, ctx.argument(5) as u32);
    }
}

/// Both functions have the range in the same arguments.
#[inline(always)]
fn empties<C: FunctionEntry + StackContext>(ctx: &C, watch: u32, flags: u32) {
    let (start, end) = (ctx.argument(2), ctx.argument(3));
    let event = PageEvent {
        flags: flags & ZAP_FLAG_DROP_MARKER,
        ..range(EventKind::Zap, watch, start, end.wrapping_sub(start))
    };
    event.at_both(ctx);
}

/// Return of `unmap_page_range` or `__zap_vma_range`.
#[inline(always)]
pub fn emptied_exit(ctx: &FExitContext) {
    if !is_hugetlb::<CopiedMemory>(traced_argument(ctx, 1) as *const u8) {
        hugetlb_emptied_exit(ctx);
    }
}

/// Return of `__unmap_hugepage_range`.
#[inline(always)]
pub fn hugetlb_emptied_exit(ctx: &FExitContext) {
    let watch = watch_of::<CopiedMemory>(traced_argument(ctx, 1) as *const u8);
    if watch != NOBODY {
        let (start, end) = (traced_argument(ctx, 2), traced_argument(ctx, 3));
        range(EventKind::Zapped, watch, start, end.wrapping_sub(start)).alone();
    }
}

/// `madvise_free_pte_range(pmd, addr, end, walk)`: entries of pages in swap are given up, others
/// stay.
#[inline(always)]
pub fn freed<C: FunctionEntry + StackContext>(ctx: &C) {
    let vma = C::Memory::pointer::<field::walk_vma>(ctx.pointer(3));
    let watch = watch_of::<C::Memory>(vma);
    if watch != NOBODY {
        let (start, end) = (ctx.number(1), ctx.number(2));
        range(EventKind::Free, watch, start, end.wrapping_sub(start)).at_both(ctx);
    }
}

/// `try_to_unmap_one(folio, vma, address, arg)` of a page that `MADV_FREE` gave up: it is
/// anonymous, and will not be written to swap.
#[inline(always)]
pub fn reclaimed<C: FunctionEntry + StackContext>(ctx: &C) {
    let vma = ctx.pointer(1);
    let watch = watch_of::<C::Memory>(vma);
    if watch == NOBODY {
        return;
    }
    let folio = ctx.pointer(0);
    let flags = C::Memory::read::<field::folio_flags>(folio);
    // By copy: to the verifier this is a pointer, and those have no low bits.
    if CopiedMemory::read::<field::folio_mapping>(folio) & PAGE_MAPPING_ANON == 0
        || flags & value!(folio_swapbacked) != 0
    {
        return;
    }
    let start = ctx.number(2);
    let end = C::Memory::read::<field::vma_end>(vma);
    // A large folio is told up to the end of its 2 MiB.
    let length = if flags & value!(folio_head) == 0 {
        PAGE_SIZE
    } else {
        ((start | (PMD_SIZE - 1)) + 1).min(end) - start
    };
    range(EventKind::Reclaim, watch, start, length).at_both(ctx);
}

/// Tracepoint `ksm_merge_one_page(pfn, rmap_item, mm, err)`: merged with the zero page.
#[inline(always)]
pub fn ksm_zero(ctx: &BtfTracePointContext) {
    merged(ctx, ctx.arg(1), ctx.arg(2), ctx.arg(3));
}

/// Tracepoint `ksm_merge_with_ksm_page(ksm_page, pfn, rmap_item, mm, err)`. Without a page to merge
/// with, the page becomes the KSM page itself, and keeps its bit.
#[inline(always)]
pub fn ksm(ctx: &BtfTracePointContext) {
    if ctx.arg::<u64>(0) != 0 {
        merged(ctx, ctx.arg(2), ctx.arg(3), ctx.arg(4));
    }
}

#[inline(always)]
fn merged(ctx: &BtfTracePointContext, item: u64, mm: u64, error: i32) {
    let watch = watch::of(mm);
    if watch == NOBODY || error != 0 {
        return;
    }
    // The low bits are flags.
    let address = CopiedMemory::read::<field::ksm_address>(item as *const u8);
    range(EventKind::Ksm, watch, address & !(PAGE_SIZE - 1), PAGE_SIZE).at_both(ctx);
}

/// Return of `try_to_merge_one_page(vma, page, kpage)`, for kernels without those tracepoints.
#[inline(always)]
pub fn ksm_merge(ctx: &FExitContext) {
    let vma = traced_argument(ctx, 0) as *const u8;
    let (page, with) = (traced_argument(ctx, 1), traced_argument(ctx, 2));
    let watch = watch_of::<CopiedMemory>(vma);
    if watch == NOBODY || with == 0 || with == page || ctx.returned() as i32 != 0 {
        return;
    }
    let index = CopiedMemory::read::<field::folio_index>(page as *const u8)
        .wrapping_sub(CopiedMemory::read::<field::vma_pgoff>(vma));
    let start = CopiedMemory::read::<field::vma_start>(vma);
    let address = start.wrapping_add(index.wrapping_mul(PAGE_SIZE));
    range(EventKind::Ksm, watch, address, PAGE_SIZE).alone();
}

/// `guard_install_set_pte(addr, next, ptep, walk)`
#[inline(always)]
pub fn guard_install<C: FunctionEntry + StackContext>(ctx: &C) {
    guard(ctx, ctx.number(0));
}

/// `guard_remove_pte_entry(pte, addr, next, walk)`, for each entry of the range: one that is
/// neither empty nor a page is a guard.
#[inline(always)]
pub fn guard_remove<C: FunctionEntry + StackContext>(ctx: &C) {
    let pte = CopiedMemory::at::<u64>(ctx.pointer(0));
    if pte != 0 && pte & PAGE_PRESENT == 0 {
        guard(ctx, ctx.number(1));
    }
}

#[inline(always)]
fn guard<C: FunctionEntry + StackContext>(ctx: &C, address: u64) {
    let vma = C::Memory::pointer::<field::walk_vma>(ctx.pointer(3));
    let watch = watch_of::<C::Memory>(vma);
    if watch != NOBODY {
        range(EventKind::Guard, watch, address, PAGE_SIZE).at_both(ctx);
    }
}

/// `move_page_tables(vma, old_addr, new_vma, new_addr, len, ..)`, later
/// `move_page_tables(control)`.
#[inline(always)]
pub fn moved<C: FunctionEntry + StackContext>(ctx: &C) {
    let (vma, old, new, length);
    if value!(move_takes_control) == 1 {
        let control = ctx.pointer(0);
        vma = C::Memory::pointer::<field::move_old>(control);
        old = C::Memory::read::<field::move_old_addr>(control);
        new = C::Memory::read::<field::move_new_addr>(control);
        length = C::Memory::read::<field::move_length>(control);
    } else {
        vma = ctx.pointer(0);
        (old, new, length) = (ctx.number(1), ctx.number(3), ctx.number(4));
    }
    let watch = watch_of::<C::Memory>(vma);
    if watch == NOBODY {
        return;
    }
    let event = PageEvent {
        address: old,
        ..range(EventKind::Move, watch, new, length)
    };
    event.at_both(ctx);
}

/// `copy_page_range(dst_vma, src_vma)`
#[inline(always)]
pub fn forked<C: FunctionEntry + StackContext>(ctx: &C) {
    let vma = ctx.pointer(1);
    let watch = watch_of::<C::Memory>(vma);
    if watch == NOBODY {
        return;
    }
    let start = C::Memory::read::<field::vma_start>(vma);
    let end = C::Memory::read::<field::vma_end>(vma);
    range(EventKind::Fork, watch, start, end.wrapping_sub(start)).at_both(ctx);
}

/// `userfaultfd_clear_vma(vmi, prev, vma, start, end)`: unregistered, or closed.
#[inline(always)]
pub fn unregistered<C: FunctionEntry + StackContext>(ctx: &C) {
    let watch = watch_of::<C::Memory>(ctx.pointer(2));
    if watch != NOBODY {
        let (start, end) = (ctx.number(3), ctx.number(4));
        range(EventKind::Unregister, watch, start, end.wrapping_sub(start)).at_both(ctx);
    }
}

/// `userfaultfd_ioctl(file, cmd, arg)`: UFFDIO_MOVE, and UFFDIO_UNREGISTER on kernels without
/// `userfaultfd_clear_vma`.
#[inline(always)]
pub fn uffd_command<C: FunctionEntry + StackContext>(ctx: &C) {
    let command = ctx.number(1) as u32;
    let unregisters = command == UFFDIO_UNREGISTER && value!(ioctl_unregisters) == 1;
    if command != UFFDIO_MOVE && !unregisters {
        return;
    }
    let uffd = C::Memory::pointer::<field::file_private_data>(ctx.pointer(0));
    let watch = watch::of(CopiedMemory::read::<field::uffd_mm>(uffd));
    if watch == NOBODY {
        return;
    }
    let (first, second, third) = words(ctx.number(2));
    let event = if command == UFFDIO_MOVE {
        // dst, src, len
        PageEvent {
            address: second,
            ..range(EventKind::UffdMove, watch, first, third)
        }
    } else {
        // start, len
        range(EventKind::Unregister, watch, first, second)
    };
    event.at_both(ctx);
}

/// Three words of user memory; zeroes if they cannot be read.
#[inline(always)]
pub fn words(address: u64) -> (u64, u64, u64) {
    // SAFETY: the helper checks the address.
    let word = |n: u64| unsafe { bpf_probe_read_user((address + n * 8) as *const u64) };
    (
        word(0).unwrap_or(0),
        word(1).unwrap_or(0),
        word(2).unwrap_or(0),
    )
}
