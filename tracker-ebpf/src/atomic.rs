//! Atomic operations. The BPF target of rustc offers only loads and stores; these are the
//! instructions themselves, all of them relaxed as far as we need to know.

#[cfg(target_arch = "bpf")]
use core::arch::asm;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Adds to a word.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn add(word: *mut u64, value: u64) {
    // SAFETY: callers pass an aligned word that lives.
    unsafe {
        asm!("lock *(u64 *)({word} + 0) += {value}", word = in(reg) word, value = in(reg) value)
    }
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

/// The same for a host, where the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn add(word: *mut u64, value: u64) {
    // SAFETY: callers pass an aligned word that lives.
    unsafe { AtomicU64::from_ptr(word) }.fetch_add(value, Relaxed);
}

/// The same for a host, where the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn replace(word: *mut u64, expected: u64, new: u64) -> bool {
    // SAFETY: as above.
    let word = unsafe { AtomicU64::from_ptr(word) };
    word.compare_exchange(expected, new, Relaxed, Relaxed)
        .is_ok()
}
