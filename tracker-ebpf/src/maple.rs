//! Finds the VMA at an address by a walk down the maple tree of an mm, as `mtree_range_walk`
//! (lib/maple_tree.c) does.
//!
//! `bpf_find_vma` cannot: it wants the mmap lock, which the task that allocates a table holds
//! already.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel as read_kernel;

use tracker_ebpf::field;

use crate::{
    memory::{CopiedMemory, KernelMemory},
    patched::offset,
    verifier::{repeat, unknown},
};

/// `enum maple_type`, in the low bits of a pointer to a node.
const LEAF: u64 = 1;
const RANGE: u64 = 2;
const ALLOCATION_RANGE: u64 = 3;
const TYPE_SHIFT: u32 = 3;
const TYPE_MASK: u64 = 0xf;
/// Nodes have 256 bytes, and lie at multiples of that.
const NODE_MASK: u64 = !0xff;
/// The low bits of an entry, and their value if it is a node (`xa_is_internal`).
const ENTRY_MASK: u64 = 3;
const IS_NODE: u64 = 2;
/// `MAPLE_RANGE64_SLOTS - 1`, `MAPLE_ARANGE64_SLOTS - 1`
const RANGE_PIVOTS: usize = 15;
const ALLOCATION_PIVOTS: usize = 9;
/// Levels that are walked at most: every inner node but the root has several children.
const DEPTH: u32 = 10;

/// The VMA of `mm` that contains `address`, or 0.
///
/// The task that allocates a table holds the mmap lock or the lock of this VMA, so it stays.
#[inline(never)]
pub fn vma_at(mm: u64, address: u64) -> u64 {
    let root = CopiedMemory::read::<field::mm_tree_root>(mm as *const u8);
    if root & ENTRY_MASK != IS_NODE {
        return 0;
    }
    let mut walk = MapleWalk {
        address,
        node: unknown(root, address),
        vma: unknown(0, address),
    };
    repeat(DEPTH, step, &mut walk);
    walk.vma
}

/// A walk down a tree: the entry of the next node, and the VMA once it is found.
#[repr(C)]
struct MapleWalk {
    address: u64,
    node: u64,
    vma: u64,
}

/// One level down. Returns 1 at the end.
#[inline(never)]
extern "C" fn step(_: u64, walk: *mut MapleWalk) -> i64 {
    // SAFETY: `vma_at` passes its own walk, which nobody else has.
    let walk = unsafe { &mut *walk };
    let node = (walk.node & NODE_MASK) as *const u8;
    let kind = walk.node >> TYPE_SHIFT & TYPE_MASK;
    let slots = if kind == ALLOCATION_RANGE {
        offset::<field::maple_arange_slots>()
    } else {
        offset::<field::maple_range_slots>()
    };
    let slot = slot_for(node, kind, walk.address);
    let entry = CopiedMemory::at(node.wrapping_add(slots as usize + 8 * slot));
    if kind == LEAF {
        walk.vma = unknown(entry, walk.address);
    }
    walk.node = unknown(entry, walk.address);
    i64::from(kind != RANGE && kind != ALLOCATION_RANGE)
}

/// The slot of a node to which an address belongs: the first whose pivot is not below it.
#[inline(always)]
fn slot_for(node: *const u8, kind: u64, address: u64) -> usize {
    let mut pivots = MaybeUninit::<[u64; RANGE_PIVOTS]>::uninit();
    let at = if kind == ALLOCATION_RANGE {
        offset::<field::maple_arange_pivots>()
    } else {
        offset::<field::maple_range_pivots>()
    };
    let size = size_of_val(&pivots) as u32;
    // SAFETY: the destination has that size; the helper checks the source.
    let failed = unsafe {
        read_kernel(
            pivots.as_mut_ptr().cast(),
            size,
            node.wrapping_add(at as usize).cast(),
        )
    };
    if failed != 0 {
        return 0;
    }
    // SAFETY: the helper has filled it.
    let pivots = unsafe { pivots.assume_init_ref() };
    let end = end(node, kind, pivots);
    let mut slot = 0;
    for pivot in pivots {
        if slot >= end || *pivot >= address {
            break;
        }
        slot += 1;
    }
    slot
}

/// The last slot in use (`ma_data_end`), whose pivot may be left out.
#[inline(always)]
fn end(node: *const u8, kind: u64, pivots: &[u64; RANGE_PIVOTS]) -> usize {
    if kind == ALLOCATION_RANGE {
        let end = CopiedMemory::read::<field::maple_arange_end>(node) as usize;
        return end.min(ALLOCATION_PIVOTS);
    }
    if pivots[RANGE_PIVOTS - 1] == 0 {
        CopiedMemory::read::<field::maple_range_end>(node) as usize
    } else {
        RANGE_PIVOTS
    }
}
