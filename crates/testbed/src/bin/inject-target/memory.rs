//! Cases that compute.

use std::arch::asm;
use std::hint::black_box;
use std::io::Result;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::report::{CaseReport, work};
use super::{sys, until_asked};

const WORDS: usize = 1 << 19;

/// Writes all of its memory again and again, each value computed from the last, and checks the
/// result by the same computation without memory. Any register or page that changes shows.
pub fn checksum(report: &mut CaseReport) -> Result<()> {
    compute(report, CaseReport::is_over)
}

/// The same until standard input ends, which another thread waits for.
pub fn checksum_until_asked(report: &mut CaseReport) -> Result<()> {
    until_asked::watch();
    compute(report, |_| until_asked::is_over())
}

/// The same without another thread.
pub fn checksum_alone(report: &mut CaseReport) -> Result<()> {
    compute(report, |_| until_asked::is_over_within(Duration::ZERO))
}

/// Says that it is ready, and computes until it is over.
fn compute(report: &mut CaseReport, is_over: impl Fn(&CaseReport) -> bool) -> Result<()> {
    report.ready();
    compute_on(report, is_over)
}

/// Computes until it is over.
pub fn compute_on(report: &mut CaseReport, is_over: impl Fn(&CaseReport) -> bool) -> Result<()> {
    let mut memory: Vec<u64> = (0..WORDS as u64).map(mix).collect();
    let mut rounds = 0usize;
    while !is_over(report) {
        for word in black_box(&mut memory).iter_mut() {
            *word = mix(*word);
        }
        rounds += 1;
    }
    let after = |rounds: usize, at: usize| (0..=rounds).fold(at as u64, |value, _| mix(value));
    let sample = memory.iter().enumerate().step_by(7);
    let wrong: Vec<_> = sample
        .filter(|(at, word)| **word != after(rounds, *at))
        .collect();
    for (at, word) in wrong.iter().take(8) {
        let (expected, address) = (after(rounds, *at), std::ptr::from_ref(*word));
        // One round behind: a store was lost. One ahead: it was done twice.
        let mut near = rounds.saturating_sub(3)..rounds + 4;
        let as_after = near.find(|round| after(*round, *at) == **word);
        eprintln!(
            "inject-target: word {at} at {address:p} is {word:#x} instead of {expected:#x}; it is \
             what it was after round {as_after:?} of {rounds}"
        );
    }
    report.put("wrong words", wrong.len());
    Ok(())
}

/// Bijective, so that an error never disappears.
fn mix(value: u64) -> u64 {
    (value ^ (value >> 29))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .wrapping_add(1)
}

/// Two threads on one processor count without atomics, each in a restartable sequence that is long
/// enough to be stopped in. Whoever is stopped there must start over: a sequence that continues
/// loses a count.
pub fn restartable_sequence(report: &mut CaseReport) -> Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    let Some(area) = rseq_offset() else {
        report.ready();
        std::thread::sleep(work());
        report.put("lost counts", 0);
        return Ok(());
    };
    let count = move || {
        sys::pin();
        let mut done = 0u64;
        while !OVER.load(Ordering::Relaxed) {
            add_one(&COUNT, area);
            done += 1;
        }
        done
    };
    report.ready();
    let threads = [std::thread::spawn(count), std::thread::spawn(count)];
    std::thread::sleep(work());
    OVER.store(true, Ordering::Relaxed);
    let done: u64 = threads.into_iter().map(|one| one.join().unwrap_or(0)).sum();
    report.put(
        "lost counts",
        done.wrapping_sub(COUNT.load(Ordering::SeqCst)),
    );
    Ok(())
}

/// Where the C library keeps a thread's `struct rseq`, relative to the thread pointer.
fn rseq_offset() -> Option<isize> {
    // SAFETY: a name with its NUL, and the default handle.
    let offset = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()) };
    // SAFETY: as above.
    let size = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()) };
    if offset.is_null() || size.is_null() {
        return None;
    }
    // SAFETY: glibc defines them as ptrdiff_t and unsigned int; a size of 0 means that nothing is
    // registered.
    unsafe { (*size.cast::<u32>() != 0).then(|| *offset.cast::<isize>()) }
}

/// Loads, dawdles, and stores one more, all in a restartable sequence.
fn add_one(count: &AtomicU64, area: isize) {
    // SAFETY: the descriptor is static data, and `rseq_cs` is 8 bytes into the registered area; the
    // sequence touches only `count`, and its signature precedes the abort handler.
    unsafe {
        asm!(
            ".pushsection .data.rel.local,\"aw\"",
            ".balign 32",
            "77:",
            ".long 0, 0",
            ".quad 72f, 73f - 72f, 74f",
            ".popsection",
            "71:",
            "lea {scratch}, [rip + 77b]",
            "mov fs:[{area} + 8], {scratch}",
            "72:",
            "mov {value}, [{count}]",
            "mov {scratch}, 2000",
            "75:",
            "dec {scratch}",
            "jnz 75b",
            "inc {value}",
            "mov [{count}], {value}",
            "73:",
            "jmp 76f",
            // ud1 with RSEQ_SIG as its operand, as in the kernel's own selftests.
            ".byte 0x0f, 0xb9, 0x3d",
            ".long 0x53053053",
            "74:",
            "jmp 71b",
            "76:",
            area = in(reg) area,
            count = in(reg) count.as_ptr(),
            scratch = out(reg) _,
            value = out(reg) _,
        );
    }
}
