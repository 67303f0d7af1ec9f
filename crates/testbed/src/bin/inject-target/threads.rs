//! Cases about many threads.

use std::io::Result;
use std::time::Duration;
use uffd::{PAGE_SIZE, RegisterMode, ScratchMapping, UffdError, UffdFeatures, Userfaultfd};

use rustix::event::Timespec;

use super::report::{CaseReport, work};
use super::sys;

/// Sixty-four threads sleep, and notice when they are woken early.
pub fn many(report: &mut CaseReport) -> Result<()> {
    const THREADS: usize = 64;
    let sleeper = || {
        let nap = Timespec {
            tv_sec: 0,
            tv_nsec: 3_000_000,
        };
        let naps = (0..300).map(|_| rustix::thread::nanosleep(&nap));
        let good = |nap: &_| matches!(nap, rustix::thread::NanosleepRelativeResult::Ok);
        naps.filter(|nap| !good(nap)).count()
    };
    let threads: Vec<_> = (0..THREADS).map(|_| std::thread::spawn(sleeper)).collect();
    report.ready();
    let ends = threads.into_iter().map(std::thread::JoinHandle::join);
    let wrong = ends.map(|end| end.unwrap_or(usize::MAX));
    report.put("interrupted naps", wrong.sum::<usize>());
    Ok(())
}

/// Threads begin and end all the time.
pub fn churn(report: &mut CaseReport) -> Result<()> {
    report.ready();
    let mut wrong = 0;
    while !report.is_over() {
        let threads: Vec<_> = (0..8u64)
            .map(|n| std::thread::spawn(move || n * n))
            .collect();
        let ends = threads.into_iter().map(std::thread::JoinHandle::join);
        let sum: u64 = ends.map(|end| end.unwrap_or(0)).sum();
        wrong += u64::from(sum != 140);
    }
    report.put("wrong sums", wrong);
    Ok(())
}

fn registered() -> std::result::Result<(ScratchMapping, Userfaultfd), UffdError> {
    let scratch = ScratchMapping::anonymous(4 * PAGE_SIZE)?;
    let fd = Userfaultfd::open_user_mode_only()?;
    fd.enable(UffdFeatures::default())?;
    fd.register(&scratch.range(), RegisterMode::WP)?;
    Ok((scratch, fd))
}

/// The first thread ends, and another one lives on, with memory that is registered.
pub fn leader_ends(report: &mut CaseReport) -> Result<()> {
    let held = registered().map_err(std::io::Error::other)?;
    std::thread::spawn(|| {
        let _held = held;
        std::thread::sleep(work());
        println!("{{}}");
        std::process::exit(0);
    });
    std::thread::sleep(Duration::from_millis(20));
    report.ready();
    sys::end_thread()
}
