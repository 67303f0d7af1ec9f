//! Atomic operations. The BPF target of rustc offers only loads and stores; these are the
//! instructions themselves, all of them relaxed as far as we need to know.

use core::arch::asm;

/// Adds to a word.
#[inline(always)]
pub fn add(word: *mut u64, value: u64) {
    // SAFETY: callers pass an aligned word that lives.
    unsafe {
        asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value)
    }
}

/// Replaces a word if it holds `expected`; tells whether it did.
#[inline(always)]
pub fn replace(word: *mut u64, expected: u64, new: u64) -> bool {
    let found: u64;
    // SAFETY: as above.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word, new = in(reg) new, inout("r0") expected => found,
        );
    }
    found == expected
}
