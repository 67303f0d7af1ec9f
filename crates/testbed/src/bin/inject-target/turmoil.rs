//! A process in which everything is done at the same time that could see, copy, close or lose a
//! descriptor that does not belong to it, until standard input ends.

use std::fs::File;
use std::io::{Result, Write as _};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;

use super::props::{self, NotifyingQueue};
use super::report::CaseReport;
use super::{memory, sys, until_asked};

static HANDLED: AtomicU64 = AtomicU64::new(0);
static WRONG_CHILDREN: AtomicU64 = AtomicU64::new(0);
static WRONG_WAITS: AtomicU64 = AtomicU64::new(0);
static WRONG_NUMBERS: AtomicU64 = AtomicU64::new(0);
static WRONG_SUMS: AtomicU64 = AtomicU64::new(0);
static CHILDREN: AtomicU64 = AtomicU64::new(0);
static LOST_SIGNALS: AtomicU64 = AtomicU64::new(0);

/// Numbers from here on are nobody's but the closer's.
const HIGH: i32 = 200;

extern "C" fn handle(_: i32) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

fn one_more(wrong: &AtomicU64) {
    wrong.fetch_add(1, Ordering::SeqCst);
}

/// What a child sees, without allocating: 1, a userfaultfd; 2, the file that its parent has locked
/// is not; 3, both.
fn look(locked: i32) -> i32 {
    let is_userfaultfd = |number: &i32| {
        let (mut name, mut link) = ([0u8; 32], [0u8; 64]);
        if write!(&mut name[..], "/proc/self/fd/{number}\0").is_err() {
            return true;
        }
        // SAFETY: the name ends with a NUL; room for as many bytes as there are.
        let length =
            unsafe { libc::readlink(name.as_ptr().cast(), link.as_mut_ptr().cast(), link.len()) };
        usize::try_from(length).is_ok_and(|length| link[..length] == *b"anon_inode:[userfaultfd]")
    };
    let sees_one = (0..HIGH).any(|number| is_userfaultfd(&number));
    i32::from(sees_one) | i32::from(!props::is_locked(locked)) << 1
}

/// Forks children, which look around, and waits for any child: there are no others.
fn fork(locked: i32) {
    let Ok(pid) = sys::begin_child(|| look(locked)) else {
        return;
    };
    one_more(&CHILDREN);
    match sys::wait_for_any() {
        Ok((other, 0)) if other == pid => {}
        Ok((other, _)) if other == pid => one_more(&WRONG_CHILDREN),
        _ => one_more(&WRONG_WAITS),
    }
    if sys::wait_for_any() != Err(rustix::io::Errno::CHILD) {
        one_more(&WRONG_WAITS);
    }
}

/// Opens and closes; all others use numbers from [`HIGH`] on.
fn open(first: i32) {
    let holder = || std::fs::read_link(format!("/proc/self/fd/{first}"));
    match File::open("/dev/null") {
        Ok(file) if file.as_raw_fd() == first => {}
        opened => {
            one_more(&WRONG_NUMBERS);
            eprintln!(
                "{opened:?} instead of number {first}, which is {:?}",
                holder()
            );
        }
    }
}

/// Takes numbers without asking, and closes all that there are.
fn close(other: i32) {
    for number in HIGH..HIGH + 8 {
        if sys::duplicate_onto(other, number).is_err() {
            one_more(&WRONG_NUMBERS);
        }
    }
    if sys::close_from(HIGH as u32).is_err() {
        one_more(&WRONG_NUMBERS);
    }
}

fn add_up() {
    let threads = [1u64, 2, 3].map(|n| std::thread::spawn(move || n * n));
    let sum: u64 = threads
        .map(|thread| thread.join().unwrap_or(0))
        .iter()
        .sum();
    if sum != 14 {
        one_more(&WRONG_SUMS);
    }
}

/// Sends a thread a signal, and waits until it has come.
fn signal(tid: i32) {
    const LONGEST: Duration = Duration::from_secs(30);
    let (before, began) = (HANDLED.load(Ordering::SeqCst), Instant::now());
    if sys::signal_thread(tid, libc::SIGUSR1).is_err() {
        return one_more(&LOST_SIGNALS);
    }
    while HANDLED.load(Ordering::SeqCst) == before {
        if began.elapsed() > LONGEST {
            return one_more(&LOST_SIGNALS);
        }
        std::thread::yield_now();
    }
}

fn forever(mut what: impl FnMut() + Send + 'static) {
    std::thread::spawn(move || {
        while !until_asked::is_over() {
            what();
        }
        // Whoever is waited for must not be gone.
        std::thread::sleep(Duration::from_secs(60));
    });
}

pub fn all(report: &mut CaseReport) -> Result<()> {
    static SIGNALLED: AtomicI32 = AtomicI32::new(0);
    // Nobody but the opener opens a file: every number that it gets is the lowest.
    sys::bound_arenas();
    let queue = NotifyingQueue::new();
    let locked = rustix::fs::memfd_create("locked", MemfdFlags::CLOEXEC)?;
    let lock = locked.as_raw_fd();
    props::lock(lock)?;
    // Not the locked file: closing that under any number unlocks it.
    let null = File::open("/dev/null")?;
    let other = null.as_raw_fd();
    sys::handle(libc::SIGUSR1, handle, libc::SA_RESTART);
    until_asked::watch();
    let first = File::open("/dev/null")?.as_raw_fd();
    // It lists the descriptors, and has one of its own for that.
    report.ready();
    forever(move || fork(lock));
    forever(move || open(first));
    forever(move || close(other));
    forever(add_up);
    forever(|| {
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        SIGNALLED.store(tid, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
    });
    forever(|| match SIGNALLED.load(Ordering::SeqCst) {
        0 => std::thread::yield_now(),
        tid => signal(tid),
    });
    memory::compute_on(report, |_| until_asked::is_over())?;
    let is_registered = queue.as_ref().is_none_or(NotifyingQueue::is_registered);
    report.put("still told of messages", is_registered);
    report.put("any children", CHILDREN.load(Ordering::SeqCst) > 0);
    for (name, wrong) in [
        ("children that saw something", &WRONG_CHILDREN),
        ("children of nobody", &WRONG_WAITS),
        ("wrong numbers", &WRONG_NUMBERS),
        ("wrong sums", &WRONG_SUMS),
        ("lost signals", &LOST_SIGNALS),
    ] {
        report.put(name, wrong.load(Ordering::SeqCst));
    }
    Ok(())
}
