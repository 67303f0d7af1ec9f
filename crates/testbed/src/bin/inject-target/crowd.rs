//! Cases of several threads, none of which may notice anything, until standard input ends.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll};
use rustix::io::Errno;

use super::report::CaseReport;
use super::sys::{self, SysvSemaphore};
use super::until_asked;

/// Results of a call that nothing but a signal's handler can end.
struct EndlessCall {
    name: &'static str,
    interrupted: AtomicU64,
    ended: AtomicU64,
}

impl EndlessCall {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            interrupted: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        }
    }

    fn add<T>(&self, result: rustix::io::Result<T>) {
        let count = match result {
            Err(Errno::INTR) => &self.interrupted,
            _ => &self.ended,
        };
        count.fetch_add(1, Ordering::SeqCst);
    }

    fn put(&self, report: &mut CaseReport) {
        let name = self.name;
        report.put(
            &format!("{name}: EINTR"),
            self.interrupted.load(Ordering::SeqCst),
        );
        report.put(&format!("{name}: ended"), self.ended.load(Ordering::SeqCst));
    }
}

static EPOLL: EndlessCall = EndlessCall::new("epoll_wait");
static SIGNAL: EndlessCall = EndlessCall::new("sigtimedwait");
static SEMAPHORE: EndlessCall = EndlessCall::new("semop");

/// An epoll, and what it waits for in vain.
fn silent_epoll() -> Result<(OwnedFd, OwnedFd)> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
    let (data, flags) = (epoll::EventData::new_u64(1), epoll::EventFlags::IN);
    epoll::add(&epoll, &event, data, flags)?;
    Ok((epoll, event))
}

fn wait_in_epoll(epoll: &OwnedFd) -> rustix::io::Result<usize> {
    let mut room = [epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }];
    epoll::wait(epoll, &mut room, None)
}

/// Has a thread do something again and again.
fn forever(mut what: impl FnMut() + Send + 'static) {
    std::thread::spawn(move || {
        loop {
            what();
        }
    });
}

extern "C" fn long_nap(_: *mut libc::c_void) -> i32 {
    let nap = Timespec {
        tv_sec: 0,
        tv_nsec: 400_000_000,
    };
    let _ = rustix::thread::nanosleep(&nap);
    0
}

/// Threads in calls that return EINTR without a signal whenever they are woken.
pub struct WaitingThreads(Vec<&'static SysvSemaphore>);

impl WaitingThreads {
    /// Ends the count.
    pub fn end(self, report: &mut CaseReport) {
        for call in [&EPOLL, &SIGNAL, &SEMAPHORE] {
            call.put(report);
        }
        self.0.into_iter().for_each(SysvSemaphore::remove);
    }
}

/// Begins so many of each kind.
pub fn begin_waiting(each: usize) -> Result<WaitingThreads> {
    sys::block(&[libc::SIGUSR2]);
    let mut semaphores = Vec::new();
    for _ in 0..each {
        let (epoll, event) = silent_epoll()?;
        forever(move || {
            let _open = &event;
            EPOLL.add(wait_in_epoll(&epoll));
        });
        forever(|| SIGNAL.add(sys::sigtimedwait(&[libc::SIGUSR2], None)));
        let semaphore: &'static SysvSemaphore = Box::leak(Box::new(SysvSemaphore::new()?));
        forever(|| SEMAPHORE.add(semaphore.change(-1)));
        semaphores.push(semaphore);
    }
    Ok(WaitingThreads(semaphores))
}

/// Such threads beside one that is in vfork(2) most of the time, where nothing stops it.
pub fn waiting(report: &mut CaseReport) -> Result<()> {
    let threads = begin_waiting(4)?;
    forever(|| {
        let _ = sys::vfork(long_nap);
        std::thread::sleep(Duration::from_millis(20));
    });
    report.ready();
    until_asked::wait();
    threads.end(report);
    Ok(())
}

/// One thread, in such a call.
pub fn waiting_alone(report: &mut CaseReport) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let (data, flags) = (epoll::EventData::new_u64(1), epoll::EventFlags::IN);
    epoll::add(&epoll, std::io::stdin(), data, flags)?;
    report.ready();
    while !until_asked::is_over_within(Duration::ZERO) {
        EPOLL.add(wait_in_epoll(&epoll));
    }
    report.put(
        "epoll_wait: EINTR",
        EPOLL.interrupted.load(Ordering::SeqCst),
    );
    Ok(())
}

/// A thousand that sleep.
pub fn sleeping(report: &mut CaseReport) -> Result<()> {
    const THREADS: usize = 1000;
    for _ in 0..THREADS {
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        thread.spawn(|| {
            loop {
                std::thread::park();
            }
        })?;
    }
    report.ready();
    until_asked::wait();
    Ok(())
}

/// Sixteen that compute all the time.
pub fn spinning(report: &mut CaseReport) -> Result<()> {
    const THREADS: usize = 16;
    for _ in 0..THREADS {
        forever(std::hint::spin_loop);
    }
    report.ready();
    until_asked::wait();
    Ok(())
}
