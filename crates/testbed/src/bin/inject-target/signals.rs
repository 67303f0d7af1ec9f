//! Cases about signals: none may be lost, and none added.

use std::io::Result;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use super::report::CaseReport;
use super::sys;

static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Timers run handlers two thousand times a second while a thread computes.
pub fn storm(report: &mut CaseReport) -> Result<()> {
    sys::handle(libc::SIGALRM, count, libc::SA_RESTART);
    sys::handle(libc::SIGRTMIN() + 3, count, libc::SA_RESTART);
    report.ready();
    sys::interval_timer(libc::SIGALRM, Duration::from_millis(1))?;
    sys::interval_timer(libc::SIGRTMIN() + 3, Duration::from_millis(1))?;
    let mut value = 1u64;
    // A busy machine seldom runs us, and many expirations become one signal.
    while !report.is_over() || HANDLED.load(Ordering::Relaxed) < 100 {
        value = (0..1000).fold(value, |value, n| {
            value.wrapping_mul(6_364_136_223_846_793_005) ^ n
        });
    }
    std::hint::black_box(value);
    Ok(())
}

/// A handler receives queued signals as often as they are sent.
pub fn queued(report: &mut CaseReport) -> Result<()> {
    let signal = libc::SIGRTMIN() + 5;
    sys::handle(signal, count, libc::SA_RESTART);
    report.ready();
    let sender = std::thread::spawn(move || {
        let mut sent = 0u64;
        while sent < 20_000 {
            match sys::queue(signal, sent as usize) {
                Ok(()) => sent += 1,
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(_) => break,
            }
            if sent.is_multiple_of(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        sent
    });
    let sent = sender.join().unwrap_or(0);
    // The last ones may still be on their way to the other thread.
    std::thread::sleep(Duration::from_millis(50));
    report.put("sent", sent);
    report.put("handled", HANDLED.load(Ordering::SeqCst));
    Ok(())
}

/// sigsuspend ends for a signal, and for nothing else.
pub fn suspend(report: &mut CaseReport) -> Result<()> {
    sys::block(&[libc::SIGUSR1]);
    sys::handle(libc::SIGUSR1, count, 0);
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(300));
            let _ = sys::queue(libc::SIGUSR1, 0);
        }
    });
    report.ready();
    let mut wrong = 0;
    for expected in 1..=4 {
        let result = sys::sigsuspend(&[]);
        report.result("sigsuspend", result);
        wrong += u32::from(HANDLED.load(Ordering::SeqCst) != expected);
    }
    report.put("ended without a signal", wrong);
    Ok(())
}
