//! Cases about children and descriptors.

use std::fs::File;
use std::io::Result;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::report::CaseReport;
use super::sys;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Forks children all the time; none may have a descriptor that its parent does not know.
pub fn forks(report: &mut CaseReport) -> Result<()> {
    OPEN.store(open_descriptors(), Ordering::SeqCst);
    report.ready();
    let (mut wrong, mut failed) = (0, 0);
    while !report.is_over() {
        let further = || i32::from(open_descriptors() != OPEN.load(Ordering::SeqCst));
        match sys::fork(further) {
            Ok(0) => {}
            Ok(_) => wrong += 1,
            Err(_) => failed += 1,
        }
    }
    report.put("children with a further descriptor", wrong);
    report.put("forks that failed", failed);
    Ok(())
}

/// How many descriptors are open, found without allocating.
fn open_descriptors() -> usize {
    let is_open = |number: &i32| {
        // SAFETY: used for one call, which may find it closed.
        let fd = unsafe { BorrowedFd::borrow_raw(*number) };
        rustix::io::fcntl_getfd(fd).is_ok()
    };
    (0..512).filter(is_open).count()
}

extern "C" fn nap(_: *mut libc::c_void) -> i32 {
    let nap = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    let _ = rustix::thread::nanosleep(&nap);
    7
}

/// Waits for children of vfork(2), which only their end can interrupt.
pub fn vfork(report: &mut CaseReport) -> Result<()> {
    report.ready();
    for _ in 0..4 {
        let status = sys::vfork(nap)?;
        report.count(&format!("status {status:#x}"));
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Executes itself again and again; what counts is that the last one finishes.
pub fn execs(report: &mut CaseReport) -> Result<()> {
    const UNTIL: &str = "INJECT_TARGET_UNTIL_MS";
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let until = std::env::var(UNTIL).ok().and_then(|text| text.parse().ok());
    let until = until.unwrap_or_else(|| {
        report.ready();
        (now + super::report::work()).as_millis()
    });
    if now.as_millis() < until {
        let mut again = std::process::Command::new("/proc/self/exe");
        return Err(again.arg("execs").env(UNTIL, until.to_string()).exec());
    }
    report.expect_standard_descriptors();
    Ok(())
}

/// Opens files, which must always get the lowest number.
pub fn descriptors(report: &mut CaseReport) -> Result<()> {
    let first = File::open("/dev/null")?.as_raw_fd();
    report.ready();
    let mut wrong = 0;
    while !report.is_over() {
        wrong += u64::from(File::open("/dev/null")?.as_raw_fd() != first);
    }
    report.put("wrong numbers", wrong);
    Ok(())
}
