//! Atomic operations. rustc offers only loads and stores for the BPF target, so these are the
//! instructions themselves. Nothing here relies on an ordering.

#[cfg(target_arch = "bpf")]
use core::arch::asm;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Adds to a word.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn add(word: *mut u64, value: u64) {
    // SAFETY: callers pass a live, aligned word.
    unsafe {
        asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value)
    }
}

/// Sets bits of a word.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn set(word: *mut u64, bits: u64) {
    // SAFETY: as above.
    unsafe { asm!("lock *(u64 *)({word} + 0) |= {bits}", word = in(reg) word, bits = in(reg) bits) }
}

/// Clears all bits of a word but these.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn keep(word: *mut u64, bits: u64) {
    // SAFETY: as above.
    unsafe { asm!("lock *(u64 *)({word} + 0) &= {bits}", word = in(reg) word, bits = in(reg) bits) }
}

/// Replaces a word if it holds `expected`; tells whether it did.
#[cfg(target_arch = "bpf")]
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

/// On a host the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn add(word: *mut u64, value: u64) {
    // SAFETY: callers pass a live, aligned word.
    unsafe { AtomicU64::from_ptr(word) }.fetch_add(value, Relaxed);
}

/// On a host the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn set(word: *mut u64, bits: u64) {
    // SAFETY: as above.
    unsafe { AtomicU64::from_ptr(word) }.fetch_or(bits, Relaxed);
}

/// On a host the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn keep(word: *mut u64, bits: u64) {
    // SAFETY: as above.
    unsafe { AtomicU64::from_ptr(word) }.fetch_and(bits, Relaxed);
}

/// On a host the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn replace(word: *mut u64, expected: u64, new: u64) -> bool {
    // SAFETY: as above.
    let word = unsafe { AtomicU64::from_ptr(word) };
    word.compare_exchange(expected, new, Relaxed, Relaxed)
        .is_ok()
}
