//! Cases about children and descriptors.

use std::fs::File;
use std::io::Result;
use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _};
use std::os::unix::process::CommandExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::report::CaseReport;
use super::{props, sys, until_asked};

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
    if let Some(mut again) = again(report, "execs") {
        return Err(again.exec());
    }
    Ok(())
}

/// Set when a program of the case was told that a child has ended.
const TOLD: &str = "INJECT_TARGET_TOLD";
/// The number of a locked file that each program gets from the one before.
const LOCKED: &str = "INJECT_TARGET_LOCKED";

/// The file that the first program of the case has locked, and whether it still is.
fn locked_file() -> Result<(i32, bool)> {
    let given = std::env::var(LOCKED)
        .ok()
        .and_then(|text| text.parse().ok());
    if let Some(file) = given {
        return Ok((file, props::is_locked_here(file)));
    }
    let file = rustix::fs::memfd_create("locked", rustix::fs::MemfdFlags::empty())?;
    let file = file.into_raw_fd();
    props::lock(file)?;
    Ok((file, true))
}

/// The same by a thread of several, which ends the others. No program must be told of, or keep, a
/// child that it does not know, or lose a lock.
pub fn execs_beside_threads(report: &mut CaseReport) -> Result<()> {
    let (locked, is_locked) = locked_file()?;
    report.put("keeps its lock", is_locked);
    let was_told = std::env::var(TOLD).ok().or_else(sys::told_of_child);
    if let Some(mut again) = again(report, "execs-beside") {
        again.env(LOCKED, locked.to_string());
        if let Some(told) = &was_told {
            again.env(TOLD, told);
        }
        // SAFETY: one system call, which allocates nothing. Blocked, it waits for the next program.
        unsafe {
            again.pre_exec(|| {
                sys::block(&[libc::SIGCHLD]);
                Ok(())
            })
        };
        for _ in 0..3 {
            std::thread::spawn(std::thread::park);
        }
        let executes = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            again.exec()
        });
        let failed = executes.join();
        return Err(failed.unwrap_or_else(|_| std::io::Error::other("it panicked")));
    }
    // It is collected soon after.
    let is_soon = |_: &u32| {
        std::thread::sleep(Duration::from_millis(20));
        sys::has_no_child()
    };
    report.put("has no child", (0..100).any(|time| is_soon(&time)));
    let told = was_told.or_else(sys::told_of_child);
    report.put("told of children", Vec::from_iter(told));
    Ok(())
}

/// How to execute a case again; none: the time is over.
fn again(report: &mut CaseReport, case: &str) -> Option<std::process::Command> {
    const UNTIL: &str = "INJECT_TARGET_UNTIL_MS";
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let until = std::env::var(UNTIL).ok().and_then(|text| text.parse().ok());
    let until = until.unwrap_or_else(|| {
        report.ready();
        (now + super::report::work()).as_millis()
    });
    if now.as_millis() < until {
        let mut again = std::process::Command::new("/proc/self/exe");
        again.arg(case).env(UNTIL, until.to_string());
        return Some(again);
    }
    report.expect_standard_descriptors();
    None
}

/// A thread whose first child will be the first process of a new pid namespace.
pub fn pid_namespace(report: &mut CaseReport) -> Result<()> {
    let (ready, unshared) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let done = sys::unshare_pid_namespace();
        let is_done = done.is_ok();
        let _ = ready.send(done);
        while is_done && !until_asked::is_over() {
            std::thread::park();
        }
        sys::fork(|| i32::from(std::process::id() != 1))
    });
    unshared.recv().map_err(std::io::Error::other)??;
    report.ready();
    until_asked::wait();
    thread.thread().unpark();
    report.put(
        "child is the first process",
        matches!(thread.join(), Ok(Ok(0))),
    );
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
