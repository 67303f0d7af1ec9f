//! Keeps the kernel's verifier busy for as short as possible: loops that it follows once, and
//! arithmetic that does not branch and that it does not see through.
//!
//! The verifier follows each combination of branches and, through a loop, each number that it
//! knows: at most a million instructions in all.

#[cfg(target_arch = "bpf")]
use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;

/// Calls `step` with the number of the turn and with what it works on until it returns 1, at most
/// `most` times: bpf_loop().
#[inline(always)]
pub fn repeat<T>(most: u32, step: extern "C" fn(u64, *mut T) -> i64, work: &mut T) {
    // SAFETY: `step` takes what is passed here, and nothing outlives the call.
    unsafe {
        bpf_loop(
            most,
            step as *mut c_void,
            (&raw mut *work).cast::<c_void>(),
            0,
        )
    };
}

/// 1 if `a < b`, for numbers below 2^63. In assembly, because the compiler would branch.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn below(a: u64, b: u64) -> u64 {
    let mut below = a;
    // SAFETY: it only calculates.
    unsafe {
        asm!("{below} -= {b}", "{below} >>= 63",
            below = inout(reg) below, b = in(reg) b, options(pure, nomem, nostack));
    }
    below
}

/// 1 if any bit is set.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn nonzero(word: u64) -> u64 {
    let mut bit = 0_u64;
    // SAFETY: as above.
    unsafe {
        asm!("{bit} -= {word}", "{bit} |= {word}", "{bit} >>= 63",
            bit = inout(reg) bit, word = in(reg) word, options(pure, nomem, nostack));
    }
    bit
}

/// `word`, but the verifier forgets its range: it would follow each number that it can be.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn unknown(word: u64, other: u64) -> u64 {
    let mut word = word;
    // SAFETY: as above.
    unsafe {
        asm!("{word} ^= {other}", "{word} ^= {other}",
            word = inout(reg) word, other = in(reg) other, options(pure, nomem, nostack));
    }
    word
}

/// On a host the hooks are only linted.
#[cfg(not(target_arch = "bpf"))]
pub fn unknown(word: u64, _: u64) -> u64 {
    word
}

#[cfg(not(target_arch = "bpf"))]
pub fn below(a: u64, b: u64) -> u64 {
    u64::from(a < b)
}

#[cfg(not(target_arch = "bpf"))]
pub fn nonzero(word: u64) -> u64 {
    u64::from(word != 0)
}
