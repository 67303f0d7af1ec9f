//! Bits for pages of watched address spaces: what the strategy `fault-time` keeps instead of page
//! tables.

use crate::kernel::PMD_SHIFT;

/// Words of one bit for each page of 2 MiB.
pub const BLOCK_WORDS: usize = 8;

/// The bits of 2 MiB of an address space, made when the first of them is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PageBlock {
    /// Which 2 MiB of which watch ([`block_key`]); 0 while the block is free.
    pub key: u64,
    /// Pages that have been written, or emptied, since the tracker took the bit: an event, set by
    /// programs and cleared by the tracker.
    pub written: [u64; BLOCK_WORDS],
    /// Pages of shared memory that a read mapped, and to which nobody has written since: a state.
    /// Programs set and clear it under the page table lock.
    pub read_only: [u64; BLOCK_WORDS],
}

/// What the programs tell of one watch beside its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FaultTimeWatch {
    /// Events of which no bit tells: no block was free, a table could not be read, a return came
    /// without its call. Only grows.
    pub unsure: u64,
    /// Calls under way that empty memory, whose bits are set already.
    pub emptying: u64,
    /// Calls under way that may put the zero page where another page was: the bits are set before
    /// they are over.
    pub splitting: u64,
    /// Calls under way that take entries out of page tables for a moment, and say nothing of it.
    pub hiding: u64,
    /// How many of those calls have begun. Only grows.
    pub hid: u64,
    /// Blocks that were made so far. Only grows.
    pub made: u64,
}

/// The key of the block that holds an address.
#[must_use]
pub const fn block_key(watch: u32, address: u64) -> u64 {
    (watch as u64) << 48 | address >> PMD_SHIFT
}

/// Watch and first address of a block by its key.
#[must_use]
pub const fn block_place(key: u64) -> (u32, u64) {
    ((key >> 48) as u32, (key & ((1 << 48) - 1)) << PMD_SHIFT)
}

/// The bits of a word of a block that stand for pages `first..end` of the block.
#[must_use]
pub const fn word_bits(word: usize, first: u64, end: u64) -> u64 {
    below(word, end) & !below(word, first)
}

/// The bits of a word that stand for pages before `page`.
const fn below(word: usize, page: u64) -> u64 {
    let start = word as u64 * 64;
    if page <= start {
        0
    } else if page >= start + 64 {
        u64::MAX
    } else {
        (1 << (page & 63)) - 1
    }
}

#[cfg(feature = "user")]
// SAFETY: repr(C), u64 only, no padding.
unsafe impl bytemuck::Zeroable for PageBlock {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for PageBlock {}

#[cfg(feature = "user")]
// SAFETY: repr(C), u64 only, no padding.
unsafe impl bytemuck::Zeroable for FaultTimeWatch {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for FaultTimeWatch {}
