//! The blocks of bits, and who is emptying memory at the moment.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::bpf_get_current_pid_tgid,
    macros::map,
    maps::{Array, HashMap, Queue},
};
use tracker_ebpf::{
    BLOCK_WORDS, FaultTimeWatch, PageBlock, WATCHES, block_key, kernel::PAGE_SHIFT, word_bits,
};

use crate::atomic;

/// Block key -> index of the block.
#[map]
static BLOCKS: HashMap<u64, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
#[map]
static BLOCK_BITS: Array<PageBlock> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Indices of free blocks, all of whose bits are clear.
#[map]
static FREE_BLOCKS: Queue<u32> = Queue::with_max_entries(1, 0);
/// By watch id.
#[map]
static FAULT_TIME: Array<FaultTimeWatch> = Array::with_max_entries(WATCHES, BPF_F_MMAPABLE);
/// Thread id -> watch of which the thread empties memory.
#[map]
static EMPTYING: HashMap<u32, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// No block could be had.
const NO_BLOCK: u32 = u32::MAX;

/// Notes an event of a watch that no bit tells of.
#[inline(always)]
pub fn unsure(watch: u32) {
    if let Some(state) = FAULT_TIME.get_ptr_mut(watch) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*state).unsure }, 1);
    }
}

/// The index of the block that holds an address, made if need be; [`NO_BLOCK`] is noted.
#[inline(never)]
fn block(watch: u32, address: u64) -> u32 {
    let key = block_key(watch, address);
    // SAFETY: the value is one aligned word.
    if let Some(index) = unsafe { BLOCKS.get(key) } {
        return *index;
    }
    let Ok(Some(index)) = FREE_BLOCKS.pop() else {
        unsure(watch);
        return NO_BLOCK;
    };
    if BLOCKS.insert(key, index, BPF_NOEXIST as u64).is_ok() {
        // Only now: whoever looks for blocks by their keys finds one of each.
        set_key(index, key);
        if let Some(state) = FAULT_TIME.get_ptr_mut(watch) {
            // SAFETY: a map value.
            atomic::add(unsafe { &raw mut (*state).made }, 1);
        }
        return index;
    }
    // Another CPU was first, or the map is full. If it does not go back there is one block less.
    let _ = FREE_BLOCKS.push(index, 0);
    // SAFETY: the value is one aligned word.
    match unsafe { BLOCKS.get(key) } {
        Some(first) => *first,
        None => {
            unsure(watch);
            NO_BLOCK
        }
    }
}

#[inline(always)]
fn set_key(index: u32, key: u64) {
    if let Some(block) = BLOCK_BITS.get_ptr_mut(index) {
        // SAFETY: a map value, and nobody else has this block.
        unsafe { (&raw mut (*block).key).write_volatile(key) }
    }
}

/// Number of a page in its block, as a word and a bit.
#[inline(always)]
const fn place(address: u64) -> (usize, u64) {
    let page = address >> PAGE_SHIFT;
    ((page >> 6 & 7) as usize, 1 << (page & 63))
}

/// A page of shared memory is or becomes writable.
#[inline(always)]
pub fn set_written(watch: u32, address: u64) {
    let (word, bit) = place(address);
    if let Some(block) = BLOCK_BITS.get_ptr_mut(block(watch, address)) {
        // SAFETY: a map value.
        unsafe {
            atomic::set(&raw mut (*block).written[word], bit);
            atomic::keep(&raw mut (*block).read_only[word], !bit);
        }
    }
}

/// A read maps a page of shared memory that was not mapped, and it cannot be written as it is.
#[inline(always)]
pub fn set_read_only(watch: u32, address: u64) {
    let (word, bit) = place(address);
    if let Some(block) = BLOCK_BITS.get_ptr_mut(block(watch, address)) {
        // SAFETY: a map value.
        unsafe { atomic::set(&raw mut (*block).read_only[word], bit) }
    }
}

/// All of 2 MiB of shared memory is or becomes writable.
#[inline(always)]
pub fn set_all_written(watch: u32, address: u64) {
    if let Some(block) = BLOCK_BITS.get_ptr_mut(block(watch, address)) {
        for word in 0..BLOCK_WORDS {
            // SAFETY: a map value.
            unsafe {
                atomic::set(&raw mut (*block).written[word], u64::MAX);
                atomic::keep(&raw mut (*block).read_only[word], 0);
            }
        }
    }
}

/// Some of 64 pages are emptied: bits of the word that holds an address.
#[inline(always)]
pub fn set_emptied(watch: u32, address: u64, bits: u64) {
    let (word, _) = place(address);
    if let Some(block) = BLOCK_BITS.get_ptr_mut(block(watch, address)) {
        // SAFETY: a map value.
        unsafe { atomic::set(&raw mut (*block).written[word], bits) }
    }
}

/// A run of pages that lies in one block is emptied.
#[inline(always)]
pub fn set_run_emptied(watch: u32, address: u64, pages: u64) {
    let first = address >> PAGE_SHIFT & (BLOCK_WORDS as u64 * 64 - 1);
    if let Some(block) = BLOCK_BITS.get_ptr_mut(block(watch, address)) {
        for word in 0..BLOCK_WORDS {
            let bits = word_bits(word, first, first.wrapping_add(pages));
            if bits != 0 {
                // SAFETY: a map value.
                unsafe { atomic::set(&raw mut (*block).written[word], bits) }
            }
        }
    }
}

/// The current thread begins to empty memory of a watch. If that cannot be kept, it is
/// noted.
#[inline(always)]
pub fn begin_emptying(watch: u32) {
    let thread = bpf_get_current_pid_tgid() as u32;
    // SAFETY: the value is one aligned word.
    if unsafe { EMPTYING.get(thread) }.copied() == Some(watch) {
        // The end of the last time was missed; this one's ends both.
        return;
    }
    // A missed end of another watch leaves that one's count above zero: more is reported there.
    if EMPTYING.insert(thread, watch, 0).is_err() {
        return unsure(watch);
    }
    count_emptying(watch, 1);
}

/// The current thread has emptied memory of a watch.
#[inline(always)]
pub fn end_emptying(watch: u32) {
    let thread = bpf_get_current_pid_tgid() as u32;
    // SAFETY: the value is one aligned word.
    let Some(begun) = unsafe { EMPTYING.get(thread) }.copied() else {
        // Its begin was missed.
        return unsure(watch);
    };
    if EMPTYING.remove(thread).is_ok() {
        count_emptying(begun, u64::MAX);
    }
}

/// The current thread begins, or has ended, what may put the zero page where another page was. If a
/// begin or an end is missed the count never is zero again, and no zero page is trusted.
#[inline(always)]
pub fn count_splitting(watch: u32, by: u64) {
    if let Some(state) = FAULT_TIME.get_ptr_mut(watch) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*state).splitting }, by);
    }
}

/// Whether some thread is emptying memory of a watch. What this CPU did to page tables before can
/// be seen by then.
#[inline(always)]
pub fn is_emptying(watch: u32) -> bool {
    let Some(state) = FAULT_TIME.get_ptr_mut(watch) else {
        return true;
    };
    // SAFETY: a map value.
    unsafe {
        // A barrier: no load passes a locked instruction.
        atomic::add(&raw mut (*state).emptying, 0);
        (&raw const (*state).emptying).read_volatile() != 0
    }
}

/// The current thread begins to take entries out of page tables for a moment.
#[inline(always)]
pub fn begin_hiding(watch: u32) {
    if let Some(state) = FAULT_TIME.get_ptr_mut(watch) {
        // SAFETY: a map value.
        unsafe {
            atomic::add(&raw mut (*state).hiding, 1);
            atomic::add(&raw mut (*state).hid, 1);
        }
    }
}

/// The current thread has put them back.
#[inline(always)]
pub fn end_hiding(watch: u32) {
    if let Some(state) = FAULT_TIME.get_ptr_mut(watch) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*state).hiding }, u64::MAX);
    }
}

/// Calls of [`begin_hiding`] that have not ended, and all so far.
#[inline(always)]
pub fn hidden(watch: u32) -> (u64, u64) {
    match FAULT_TIME.get_ptr_mut(watch) {
        // SAFETY: a map value.
        Some(state) => unsafe {
            (
                (&raw const (*state).hiding).read_volatile(),
                (&raw const (*state).hid).read_volatile(),
            )
        },
        None => (1, 0),
    }
}

#[inline(always)]
fn count_emptying(watch: u32, by: u64) {
    if let Some(state) = FAULT_TIME.get_ptr_mut(watch) {
        // SAFETY: a map value.
        atomic::add(unsafe { &raw mut (*state).emptying }, by);
    }
}
