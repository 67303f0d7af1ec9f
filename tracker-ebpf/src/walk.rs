//! Counts the entries of a range of page tables before the kernel changes them: functions that
//! install and drop markers are inlined into loops over ranges.
//!
//! The tables are read where the kernel has them mapped, without their locks: what other threads
//! fault in at the same time may be counted as it was before.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel as read_kernel;

use tracker_ebpf::{
    field,
    kernel::{
        KERNEL_HALF_L4, PAGE_PRESENT, PAGE_PSE, PAGE_SHIFT, PAGE_SWP_UFFD_WP, PGDIR_SHIFT_L4,
        PGDIR_SHIFT_L5, PMD_SHIFT, PTE_NONE_IGNORES, PTRS_PER_TABLE,
    },
};

use crate::{
    maps::direct_map,
    memory::{CopiedMemory, KernelMemory},
    patched::value,
    verifier::{below, nonzero, repeat, unknown},
};

/// Entries read at once: the stack of a program has 512 bytes.
const CHUNK: u64 = 32;
/// Steps of one walk at most, enough for some 100 GiB full of PTE tables. What lies beyond is not
/// counted.
const MOST_STEPS: u32 = 1 << 20;

/// A walk, and what it has found so far, in pages or huge pages.
#[repr(C)]
pub struct TableWalk {
    root: u64,
    root_shift: u64,
    direct_map: u64,
    hugetlb: u64,
    splits: u64,
    /// The next address to look at, and the end of the range.
    next: u64,
    end: u64,
    /// The table to look into, what one of its entries spans as a shift, and the entries that are
    /// left of a PTE table: `place..last`.
    table: u64,
    shift: u64,
    place: u64,
    last: u64,
    /// Empty entries, including those of tables that are not there.
    pub none: u64,
    /// Armed pages, including those in swap.
    pub armed: u64,
    /// Entries that are markers.
    pub markers: u64,
}

/// Counts the entries of `mm` from `start` to `end`. If the kernel `splits` huge pages first, one
/// of a file counts as empty entries: nothing is left of it.
#[inline(always)]
pub fn count(mm: u64, start: u64, end: u64, hugetlb: bool, splits: bool) -> TableWalk {
    let direct_map = direct_map();
    let root = CopiedMemory::read::<field::mm_pgd>(mm as *const u8);
    let root_shift = if direct_map < KERNEL_HALF_L4 {
        PGDIR_SHIFT_L5
    } else {
        PGDIR_SHIFT_L4
    };
    // Up to 6.6 the verifier looks only at the first step, and takes for dead code what that step
    // leaves out; later ones follow each number that they know through all steps. So it must not
    // know any number with which a walk begins.
    let nothing = unknown(0, root);
    let mut walk = TableWalk {
        root,
        root_shift: unknown(root_shift, root),
        direct_map,
        hugetlb: unknown(u64::from(hugetlb), root),
        splits: unknown(u64::from(splits), root),
        next: start,
        end,
        table: root,
        shift: unknown(root_shift, root),
        place: nothing,
        last: nothing,
        none: nothing,
        armed: nothing,
        markers: nothing,
    };
    if root == 0 {
        return walk;
    }
    repeat(MOST_STEPS, step, &mut walk);
    walk
}

/// One step: some entries of a PTE table, or one of a table above. Steps are small, since the
/// verifier follows every way through one. Returns 1 at the end.
#[inline(never)]
extern "C" fn step(_: u64, walk: *mut TableWalk) -> i64 {
    // SAFETY: `count` passes its own walk, which nobody else has.
    let walk = unsafe { &mut *walk };
    if walk.shift == PAGE_SHIFT {
        read(walk);
    } else if walk.next < walk.end {
        descend(walk);
    } else {
        return 1;
    }
    // To the verifier all steps begin alike: it would follow what it knows of one through the next.
    for word in [
        &mut walk.next,
        &mut walk.end,
        &mut walk.table,
        &mut walk.shift,
    ] {
        *word = unknown(*word, walk.root);
    }
    0
}

/// Goes one level down, or past an entry that leads nowhere.
#[inline(always)]
fn descend(walk: &mut TableWalk) {
    let (address, shift) = (walk.next, walk.shift);
    let entry: u64 =
        CopiedMemory::at((walk.table + 8 * (address >> shift & (PTRS_PER_TABLE - 1))) as *const u8);
    let span = ((address >> shift) + 1) << shift;
    let stop = if span < walk.end { span } else { walk.end };
    if entry & PAGE_PRESENT == 0 || entry & PAGE_PSE != 0 {
        walk.next = stop;
        upper(walk, entry, shift, stop - address);
        return from_the_root(walk);
    }
    walk.table = (entry & value!(table_address_mask)) + walk.direct_map;
    walk.shift = shift - 9;
    if shift == PMD_SHIFT {
        walk.next = stop;
        walk.place = unknown(address >> PAGE_SHIFT & (PTRS_PER_TABLE - 1), walk.root);
        walk.last = unknown(walk.place + ((stop - address) >> PAGE_SHIFT), walk.root);
    }
}

#[inline(always)]
fn from_the_root(walk: &mut TableWalk) {
    (walk.table, walk.shift) = (walk.root, walk.root_shift);
}

/// Counts an entry that leads to no PTE table: it is empty, or a huge page.
#[inline(always)]
fn upper(walk: &mut TableWalk, entry: u64, shift: u64, bytes: u64) {
    let unit = if unknown(walk.hugetlb, walk.root) != 0 {
        PMD_SHIFT
    } else {
        PAGE_SHIFT
    };
    let units = bytes >> unit;
    if entry & !PTE_NONE_IGNORES == 0 || walk.splits & entry & PAGE_PRESENT != 0 {
        walk.none = unknown(walk.none, walk.root) + units;
    } else if shift == PMD_SHIFT && entry == value!(marker_pte) {
        walk.markers = unknown(walk.markers, walk.root) + units;
    } else if entry & PAGE_PRESENT != 0 && entry & value!(uffd_bit) != 0 {
        walk.armed = unknown(walk.armed, walk.root) + units;
    }
}

/// Counts the next entries of a PTE table. Without branches: the verifier would follow each
/// combination of them.
#[inline(always)]
fn read(walk: &mut TableWalk) {
    let mut entries = MaybeUninit::<[u64; CHUNK as usize]>::uninit();
    let place = walk.place & !(CHUNK - 1) & (PTRS_PER_TABLE - 1);
    let from = (walk.table + 8 * place) as *const c_void;
    // SAFETY: the destination has that size; the helper checks the source.
    if unsafe { read_kernel(entries.as_mut_ptr().cast(), 8 * CHUNK as u32, from) } != 0 {
        return from_the_root(walk);
    }
    // SAFETY: the helper has filled it.
    let entries = unsafe { entries.assume_init_ref() };
    let mut none = unknown(walk.none, walk.root);
    let mut armed = unknown(walk.armed, walk.root);
    let mut markers = unknown(walk.markers, walk.root);
    for (i, entry) in entries.iter().enumerate() {
        let here = place + i as u64;
        let wanted = below(here, walk.last) & (below(here, walk.place) ^ 1);
        let present = entry & PAGE_PRESENT;
        let bits = (present * value!(uffd_bit)) | ((present ^ 1) * PAGE_SWP_UFFD_WP);
        none += wanted & (nonzero(entry & !PTE_NONE_IGNORES) ^ 1);
        markers += wanted & (nonzero(entry ^ value!(marker_pte)) ^ 1);
        armed += wanted & nonzero(entry & bits);
    }
    walk.none = unknown(none, walk.root);
    walk.armed = unknown(armed, walk.root);
    walk.markers = unknown(markers, walk.root);
    walk.place = unknown(place + CHUNK, walk.root);
    if walk.place >= walk.last {
        from_the_root(walk);
    }
}
