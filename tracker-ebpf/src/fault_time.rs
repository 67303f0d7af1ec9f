//! What page tables forget, seen at the moment at which it happens: for the strategy `fault-time`.
//!
//! Of shared memory it is noted what was written, and what a read mapped; of private memory, what
//! is emptied. docs/strategies.md says why no write is missed.

use aya_ebpf::programs::FExitContext;
use tracker_ebpf::{
    field,
    kernel::{
        FAULT_FLAG_UNSHARE, FAULT_FLAG_WRITE, PAGE_MAPPING_ANON, PAGE_MAPPING_KSM, PAGE_SHIFT,
        PAGE_SIZE, PMD_SIZE, UFFDIO_MOVE, VM_HUGETLB, VM_SHARED, VM_UFFD_WP, ZAP_FLAG_DROP_MARKER,
    },
};

use crate::{
    causes::words,
    context::{FunctionEntry, FunctionExit, traced_argument},
    memory::{CopiedMemory, KernelMemory},
    page_blocks::{
        begin_emptying, begin_hiding, count_splitting, end_emptying, end_hiding, is_emptying,
        set_all_written, set_emptied, set_read_only, set_run_emptied, set_written, unsure,
    },
    patched::{offset, value},
    sweep::{self, SweptPages},
    watch::{self, NOBODY},
};

/// Whether memory is private or shared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Private,
    Shared,
}

/// The watch of a VMA if it is registered for write protection, of this kind and not of hugetlb.
#[inline(always)]
fn watch_of<M: KernelMemory>(vma: *const u8, sharing: Sharing) -> u32 {
    let flags = M::read::<field::vma_flags>(vma);
    let shared = match sharing {
        Sharing::Private => 0,
        Sharing::Shared => VM_SHARED,
    };
    if flags & (VM_UFFD_WP | VM_HUGETLB | VM_SHARED) == VM_UFFD_WP | shared {
        watch::of_vma::<M>(vma)
    } else {
        NOBODY
    }
}

/// `do_wp_page(vmf)`, under the pte lock: the page is there, and is to be writable.
#[inline(always)]
pub fn file_write<C: FunctionEntry>(ctx: &C) {
    let vmf = ctx.pointer(0);
    let vma = C::Memory::pointer::<field::fault_vma>(vmf);
    let watch = watch_of::<C::Memory>(vma, Sharing::Shared);
    if watch == NOBODY || C::Memory::read::<field::fault_flags>(vmf) & FAULT_FLAG_UNSHARE != 0 {
        return;
    }
    set_written(watch, C::Memory::read::<field::fault_address>(vmf));
}

/// `set_pte_range(vmf, folio, page, nr, addr)`, under the pte lock: pages are mapped where nothing
/// was.
#[inline(always)]
pub fn file_mapped<C: FunctionEntry>(ctx: &C) {
    let vmf = ctx.pointer(0);
    let vma = C::Memory::pointer::<field::fault_vma>(vmf);
    let watch = watch_of::<C::Memory>(vma, Sharing::Shared);
    if watch == NOBODY {
        return;
    }
    let (pages, address) = (ctx.number(3) as u32, ctx.number(4));
    let write = C::Memory::read::<field::fault_flags>(vmf) & FAULT_FLAG_WRITE != 0;
    match (pages, write) {
        (1, true) => set_written(watch, address),
        (1, false) => set_read_only(watch, address),
        // In memory that is registered the kernel maps one page at a time. Whatever it does
        // otherwise: pages that were read count as written.
        (_, true) => unsure(watch),
        (_, false) => (),
    }
}

/// Return of `do_set_pmd(vmf, ..)`: a huge page of shared memory is mapped. What a read maps counts
/// as written, because nothing is known of it.
#[inline(always)]
pub fn huge_mapped(ctx: &FExitContext) {
    let vmf = traced_argument(ctx, 0) as *const u8;
    let vma = CopiedMemory::pointer::<field::fault_vma>(vmf);
    let watch = watch_of::<CopiedMemory>(vma, Sharing::Shared);
    if watch != NOBODY
        && CopiedMemory::read::<field::fault_flags>(vmf) & FAULT_FLAG_WRITE != 0
        && ctx.returned() as u32 == 0
    {
        set_all_written(watch, CopiedMemory::read::<field::fault_address>(vmf));
    }
}

/// Return of `mfill_atomic_install_pte(dst_pmd, dst_vma, dst_addr, ..)`: somebody's userfaultfd has
/// filled a page.
#[inline(always)]
pub fn filled(ctx: &FExitContext) {
    let vma = traced_argument(ctx, 1) as *const u8;
    let watch = watch_of::<CopiedMemory>(vma, Sharing::Shared);
    if watch != NOBODY && ctx.returned() as i32 == 0 {
        set_written(watch, traced_argument(ctx, 2));
    }
}

/// The flags of `zap_details`, which may be NULL. With [`ZAP_FLAG_DROP_MARKER`] the mapping goes,
/// or a page of a file does, which is not private.
#[inline(always)]
fn keeps_mapping(details: u64) -> bool {
    details == 0
        || CopiedMemory::read::<field::zap_flags>(details as *const u8) & ZAP_FLAG_DROP_MARKER == 0
}

/// `unmap_page_range(tlb, vma, addr, end, details)`, later `__zap_vma_range`.
#[inline(always)]
pub fn emptied<C: FunctionEntry>(ctx: &C) {
    let vma = ctx.pointer(1);
    let watch = watch_of::<C::Memory>(vma, Sharing::Private);
    if watch == NOBODY || !keeps_mapping(ctx.argument(4)) {
        return;
    }
    let mm = C::Memory::pointer::<field::vma_mm>(vma) as u64;
    begin_emptying(watch);
    sweep::sweep(mm, watch, ctx.argument(2), ctx.argument(3), SweptPages::All);
}

/// Its return.
#[inline(always)]
pub fn emptied_exit(ctx: &FExitContext) {
    let watch = watch_of::<CopiedMemory>(traced_argument(ctx, 1) as *const u8, Sharing::Private);
    if watch != NOBODY && keeps_mapping(traced_argument(ctx, 4)) {
        end_emptying(watch);
    }
}

/// `madvise_free_pte_range(pmd, addr, end, walk)`: entries of pages in swap go, others stay.
#[inline(always)]
pub fn swap_freed<C: FunctionEntry>(ctx: &C) {
    let vma = C::Memory::pointer::<field::walk_vma>(ctx.pointer(3));
    let watch = watch_of::<C::Memory>(vma, Sharing::Private);
    if watch == NOBODY {
        return;
    }
    let mm = C::Memory::pointer::<field::vma_mm>(vma) as u64;
    begin_emptying(watch);
    sweep::sweep(mm, watch, ctx.number(1), ctx.number(2), SweptPages::InSwap);
}

/// Its return.
#[inline(always)]
pub fn swap_freed_exit(ctx: &FExitContext) {
    let walk = traced_argument(ctx, 3) as *const u8;
    let vma = CopiedMemory::pointer::<field::walk_vma>(walk);
    let watch = watch_of::<CopiedMemory>(vma, Sharing::Private);
    if watch != NOBODY {
        end_emptying(watch);
    }
}

/// Return of `try_to_unmap_one(folio, vma, address, arg)`: reclaim has taken a page that `MADV_FREE`
/// gave up. It is anonymous, and was not written to swap.
#[inline(always)]
pub fn free_reclaimed(ctx: &FExitContext) {
    let watch = watch_of::<CopiedMemory>(traced_argument(ctx, 1) as *const u8, Sharing::Private);
    if watch == NOBODY || ctx.returned() & 0xff == 0 {
        return;
    }
    let folio = traced_argument(ctx, 0) as *const u8;
    let flags = CopiedMemory::read::<field::folio_flags>(folio);
    if CopiedMemory::read::<field::folio_mapping>(folio) & PAGE_MAPPING_ANON == 0
        || flags & value!(folio_swapbacked) != 0
    {
        return;
    }
    let address = traced_argument(ctx, 2);
    if flags & value!(folio_head) == 0 {
        set_emptied(watch, address, 1 << ((address / PAGE_SIZE) & 63));
    } else {
        // How large the folio is nobody asks: it ends within these 2 MiB.
        set_all_written(watch, address & !(PMD_SIZE - 1));
    }
}

/// `folio_remove_rmap_ptes(folio, page, nr_pages, vma)`, under the pte lock: pages are no longer
/// mapped where they were. While memory is emptied a look at the tables may fall into the moment in
/// which an entry is nothing, and will be another (`try_to_unmap_one`, `try_to_migrate_one`,
/// `wp_page_copy`, `replace_page`): so such a page counts as emptied.
#[inline(always)]
pub fn replaced<C: FunctionEntry>(ctx: &C) {
    let vma = ctx.pointer(3);
    let watch = watch_of::<C::Memory>(vma, Sharing::Private);
    if watch == NOBODY || !is_emptying(watch) {
        return;
    }
    let folio = ctx.pointer(0);
    // Copied: to the verifier it is a pointer, whose low bits may not be looked at.
    let mapping = CopiedMemory::read::<field::folio_mapping>(folio);
    if mapping & PAGE_MAPPING_ANON == 0 {
        // A page of the file: it comes again.
        return;
    }
    if mapping & PAGE_MAPPING_KSM == PAGE_MAPPING_KSM {
        // It does not say where it is mapped.
        return unsure(watch);
    }
    let page_struct = u64::from(offset::<field::folio_second_flags>());
    let bytes = ctx.argument(1).wrapping_sub(ctx.argument(0));
    let Some(within) = bytes.checked_div(page_struct) else {
        return unsure(watch);
    };
    let index = C::Memory::read::<field::folio_index>(folio) + within;
    let place = index.wrapping_sub(C::Memory::read::<field::vma_pgoff>(vma)) << PAGE_SHIFT;
    let address = C::Memory::read::<field::vma_start>(vma).wrapping_add(place);
    set_run_emptied(watch, address, ctx.number(2) & 0xffff_ffff);
}

/// `change_protection(tlb, vma, ..)`: it changes entries by taking them out and putting them back.
/// Whoever empties memory holds a lock against all callers but NUMA balancing (`change_prot_numa`).
#[inline(always)]
pub fn hides<C: FunctionEntry>(ctx: &C) {
    let watch = watch_of::<C::Memory>(ctx.pointer(1), Sharing::Private);
    if watch != NOBODY {
        begin_hiding(watch);
    }
}

/// Its return.
#[inline(always)]
pub fn hides_exit(ctx: &FExitContext) {
    let watch = watch_of::<CopiedMemory>(traced_argument(ctx, 1) as *const u8, Sharing::Private);
    if watch != NOBODY {
        end_hiding(watch);
    }
}

/// The watch of the VMA for which `remove_migration_pte(folio, vma, addr, arg)` puts a page of
/// private memory back, if it may put the zero page in its place: where a huge page was split, in
/// the place of pages full of zeroes.
#[inline(always)]
fn watch_of_split(vma: u64, arg: u64) -> u32 {
    let watch = watch_of::<CopiedMemory>(vma as *const u8, Sharing::Private);
    if watch == NOBODY || CopiedMemory::read::<field::rmap_maps_zero>(arg as *const u8) == 0 {
        return NOBODY;
    }
    watch
}

/// `remove_migration_pte(folio, vma, addr, arg)`.
#[inline(always)]
pub fn split_to_zero<C: FunctionEntry>(ctx: &C) {
    let watch = watch_of_split(ctx.argument(1), ctx.argument(3));
    if watch != NOBODY {
        count_splitting(watch, 1);
    }
}

/// Its return: whatever the zero page stands for now was written, as far as anybody knows.
#[inline(always)]
pub fn split_to_zero_exit(ctx: &FExitContext) {
    let vma = traced_argument(ctx, 1);
    let watch = watch_of_split(vma, traced_argument(ctx, 3));
    if watch == NOBODY {
        return;
    }
    let mm = CopiedMemory::read::<field::vma_mm>(vma as *const u8);
    let address = traced_argument(ctx, 2) & !(PAGE_SIZE - 1);
    sweep::sweep(
        mm,
        watch,
        address,
        address.wrapping_add(PAGE_SIZE),
        SweptPages::Zero,
    );
    count_splitting(watch, u64::MAX);
}

/// The VMA from which `move_page_tables` moves, by its first argument.
#[inline(always)]
fn moved_from(first: u64) -> *const u8 {
    if value!(move_takes_control) == 1 {
        CopiedMemory::pointer::<field::move_old>(first as *const u8)
    } else {
        first as *const u8
    }
}

/// `move_page_tables(vma, old_addr, new_vma, new_addr, len, ..)`, later
/// `move_page_tables(control)`: the old place is left empty.
#[inline(always)]
pub fn moved_away<C: FunctionEntry>(ctx: &C) {
    let first = ctx.argument(0);
    let vma = moved_from(first);
    let watch = watch_of::<CopiedMemory>(vma, Sharing::Private);
    if watch == NOBODY {
        return;
    }
    begin_emptying(watch);
    let mm = CopiedMemory::read::<field::vma_mm>(vma);
    let (old, length) = if value!(move_takes_control) == 1 {
        (
            CopiedMemory::read::<field::move_old_addr>(first as *const u8),
            CopiedMemory::read::<field::move_length>(first as *const u8),
        )
    } else {
        (ctx.argument(1), ctx.argument(4))
    };
    sweep::sweep(mm, watch, old, old.wrapping_add(length), SweptPages::All);
}

/// Its return.
#[inline(always)]
pub fn moved_away_exit(ctx: &FExitContext) {
    let vma = moved_from(traced_argument(ctx, 0));
    let watch = watch_of::<CopiedMemory>(vma, Sharing::Private);
    if watch != NOBODY {
        end_emptying(watch);
    }
}

/// The watch of a userfaultfd's address space if the command is UFFDIO_MOVE.
#[inline(always)]
fn watch_of_move(file: *const u8, command: u32) -> (u32, u64) {
    if command != UFFDIO_MOVE {
        return (NOBODY, 0);
    }
    let uffd = CopiedMemory::pointer::<field::file_private_data>(file);
    let mm = CopiedMemory::read::<field::uffd_mm>(uffd);
    (watch::of(mm), mm)
}

/// `userfaultfd_ioctl(file, cmd, arg)` of UFFDIO_MOVE, in anybody's userfaultfd: its source is left
/// empty.
#[inline(always)]
pub fn uffd_moved_away<C: FunctionEntry>(ctx: &C) {
    let (watch, mm) = watch_of_move(ctx.argument(0) as *const u8, ctx.number(1) as u32);
    if watch == NOBODY {
        return;
    }
    // dst, src, len
    let (_, source, length) = words(ctx.number(2));
    begin_emptying(watch);
    if length == 0 {
        return unsure(watch);
    }
    sweep::sweep(
        mm,
        watch,
        source,
        source.wrapping_add(length),
        SweptPages::All,
    );
}

/// Its return.
#[inline(always)]
pub fn uffd_moved_away_exit(ctx: &FExitContext) {
    let file = traced_argument(ctx, 0) as *const u8;
    let (watch, _) = watch_of_move(file, traced_argument(ctx, 1) as u32);
    if watch != NOBODY {
        end_emptying(watch);
    }
}
