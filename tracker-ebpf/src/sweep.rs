//! Sets the bits of what is there in a range of page tables that is about to be emptied.
//!
//! As `walk.rs` the tables are read where the kernel has them mapped, without their locks. What a
//! thread faults in meanwhile is not there for us: docs/strategies.md says why no write is missed.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel as read_kernel;
use tracker_ebpf::{
    field,
    kernel::{
        KERNEL_HALF_L4, PAGE_PRESENT, PAGE_PSE, PAGE_SHIFT, PAGE_SPECIAL, PGDIR_SHIFT_L4,
        PGDIR_SHIFT_L5, PMD_SHIFT, PTE_NONE_IGNORES, PTRS_PER_TABLE,
    },
};

use crate::{
    maps::direct_map,
    memory::{CopiedMemory, KernelMemory},
    page_blocks::{hidden, set_emptied, unsure},
    patched::value,
    verifier::{below, nonzero, repeat, unknown},
};

/// Entries read at once: the stack of a program has 512 bytes.
const CHUNK: u64 = 32;
/// Steps at most: 2 GiB of memory that is all there. Of more, nothing is known, which is noted.
const MOST_STEPS: u32 = 1 << 15;

/// Which entries count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SweptPages {
    /// All that hold something.
    All,
    /// Those that hold something that is not in memory.
    InSwap,
    /// Those that hold the zero page.
    Zero,
}

/// A sweep under way.
#[repr(C)]
struct Sweep {
    root: u64,
    root_shift: u64,
    direct_map: u64,
    watch: u64,
    /// Only entries count of which these bits...
    mask: u64,
    /// ... are these.
    wanted: u64,
    next: u64,
    end: u64,
    /// The table to look into, what one of its entries spans as a shift, and the entries that are
    /// left of a PTE table: `place..last`.
    table: u64,
    shift: u64,
    place: u64,
    last: u64,
    /// The first address of the PTE table.
    base: u64,
    /// 1 if the PTE table is a huge page: every entry counts.
    huge: u64,
    /// 1 after something could not be read.
    failed: u64,
}

/// Sets the bits of what is there in `mm` from `start` to `end`.
#[inline(always)]
pub fn sweep(mm: u64, watch: u32, start: u64, end: u64, pages: SweptPages) {
    let direct_map = direct_map();
    let root = CopiedMemory::read::<field::mm_pgd>(mm as *const u8);
    let root_shift = if direct_map < KERNEL_HALF_L4 {
        PGDIR_SHIFT_L5
    } else {
        PGDIR_SHIFT_L4
    };
    let (mask, wanted) = match pages {
        SweptPages::All => (0, 0),
        SweptPages::InSwap => (PAGE_PRESENT, 0),
        SweptPages::Zero => (PAGE_PRESENT | PAGE_SPECIAL, PAGE_PRESENT | PAGE_SPECIAL),
    };
    // The verifier must not know any number with which it begins: see `walk.rs`.
    let nothing = unknown(0, root);
    let mut sweep = Sweep {
        root,
        root_shift: unknown(root_shift, root),
        direct_map,
        watch: unknown(u64::from(watch), root),
        mask: unknown(mask, root),
        wanted: unknown(wanted, root),
        next: start,
        end,
        table: root,
        shift: unknown(root_shift, root),
        place: nothing,
        last: nothing,
        base: nothing,
        huge: nothing,
        failed: nothing,
    };
    if root == 0 {
        return unsure(watch);
    }
    let (hiding, hid) = hidden(watch);
    repeat(MOST_STEPS, step, &mut sweep);
    let is_over = sweep.next >= sweep.end && sweep.shift != PAGE_SHIFT;
    let was_hidden = hiding != 0 || hidden(watch).1 != hid;
    if !is_over || sweep.failed != 0 || was_hidden {
        unsure(watch);
    }
}

/// One step: some entries of a PTE table, or one of a table above. Returns 1 at the end.
#[inline(never)]
extern "C" fn step(_: u64, sweep: *mut Sweep) -> i64 {
    // SAFETY: `sweep` passes its own, which nobody else has.
    let sweep = unsafe { &mut *sweep };
    if sweep.shift == PAGE_SHIFT {
        read(sweep);
    } else if sweep.next < sweep.end {
        descend(sweep);
    } else {
        return 1;
    }
    for word in [
        &mut sweep.next,
        &mut sweep.end,
        &mut sweep.table,
        &mut sweep.shift,
        &mut sweep.huge,
        &mut sweep.failed,
        &mut sweep.base,
    ] {
        *word = unknown(*word, sweep.root);
    }
    0
}

/// Goes one level down, or past an entry that leads nowhere.
#[inline(always)]
fn descend(sweep: &mut Sweep) {
    let (address, shift) = (sweep.next, sweep.shift);
    let entry: u64 = CopiedMemory::at(
        (sweep.table + 8 * (address >> shift & (PTRS_PER_TABLE - 1))) as *const u8,
    );
    let span = ((address >> shift) + 1) << shift;
    let stop = if span < sweep.end { span } else { sweep.end };
    let nothing = entry & !PTE_NONE_IGNORES == 0;
    let leaf = entry & PAGE_PRESENT == 0 || entry & PAGE_PSE != 0;
    if nothing || (leaf && shift != PMD_SHIFT) {
        sweep.next = stop;
        // Of larger pages nothing is known.
        sweep.failed = unknown(sweep.failed | u64::from(!nothing), sweep.root);
        return from_the_root(sweep);
    }
    sweep.table = (entry & value!(table_address_mask)) + sweep.direct_map;
    sweep.shift = shift - 9;
    if shift == PMD_SHIFT {
        sweep.huge = unknown(u64::from(leaf), sweep.root);
        sweep.next = stop;
        sweep.base = unknown(address >> PMD_SHIFT << PMD_SHIFT, sweep.root);
        sweep.place = unknown(address >> PAGE_SHIFT & (PTRS_PER_TABLE - 1), sweep.root);
        sweep.last = unknown(sweep.place + ((stop - address) >> PAGE_SHIFT), sweep.root);
    }
}

#[inline(always)]
fn from_the_root(sweep: &mut Sweep) {
    (sweep.table, sweep.shift) = (sweep.root, sweep.root_shift);
}

/// Looks at the next entries of a PTE table. Without branches: the verifier would follow each
/// combination of them.
#[inline(always)]
fn read(sweep: &mut Sweep) {
    let mut entries = [0_u64; CHUNK as usize];
    let place = sweep.place & !(CHUNK - 1) & (PTRS_PER_TABLE - 1);
    let from = (sweep.table + 8 * place) as *const c_void;
    // SAFETY: the destination has that size; the helper checks the source.
    let error = unsafe { read_kernel(entries.as_mut_ptr().cast(), 8 * CHUNK as u32, from) };
    // A huge page is no table, and what was read is its content.
    let huge = unknown(sweep.huge, sweep.root);
    let mut found = 0;
    for (i, entry) in entries.iter().enumerate() {
        let here = place + i as u64;
        let wanted = below(here, sweep.last) & (below(here, sweep.place) ^ 1);
        let there = nonzero(entry & !PTE_NONE_IGNORES) & nonzero(entry ^ value!(marker_pte));
        let counts = nonzero((entry & sweep.mask) ^ sweep.wanted) ^ 1;
        found |= (wanted & (huge | (there & counts))) << i;
    }
    sweep.failed = unknown(
        sweep.failed | (nonzero(error as u64) & (huge ^ 1)),
        sweep.root,
    );
    if found != 0 {
        let address = sweep.base + (place << PAGE_SHIFT);
        set_emptied(sweep.watch as u32, address, found << (place & 32));
    }
    sweep.place = unknown(place + CHUNK, sweep.root);
    if sweep.place >= sweep.last {
        from_the_root(sweep);
    }
}
