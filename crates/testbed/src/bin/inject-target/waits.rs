//! Cases that wait in a system call, which must end as if nobody had stopped it.

use std::io::{Error, Result};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, FdSetElement, PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::thread::{self, ClockId};

use super::report::CaseReport;
use super::sys::{self, SysvSemaphore};

/// How long one call waits; a case makes [`CALLS`] calls.
const WAIT: Duration = Duration::from_millis(300);
const CALLS: u32 = 4;
/// The kernel counts some waits in ticks, and the first tick may come at once: HZ is at least 100.
const TICK: Duration = Duration::from_millis(10);

const TIMESPEC: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: WAIT.as_nanos() as i64,
};

/// Makes the calls, and reports what they return and whether any returned early.
fn calls<T>(report: &mut CaseReport, name: &str, mut call: impl FnMut() -> rustix::io::Result<T>) {
    report.ready();
    for _ in 0..CALLS {
        let began = Instant::now();
        let result = call();
        if began.elapsed() + TICK < WAIT {
            report.count("came early");
        }
        report.result(name, result);
    }
}

/// Does something in another thread every [`WAIT`], until it fails.
fn every(mut what: impl FnMut() -> bool + Send + 'static) {
    std::thread::spawn(move || {
        while {
            std::thread::sleep(WAIT + Duration::from_millis(5));
            what()
        } {}
    });
}

pub fn nanosleep(report: &mut CaseReport) -> Result<()> {
    let sleep = || match thread::nanosleep(&TIMESPEC) {
        thread::NanosleepRelativeResult::Ok => Ok(()),
        thread::NanosleepRelativeResult::Interrupted(_) => Err(Errno::INTR),
        thread::NanosleepRelativeResult::Err(error) => Err(error),
    };
    calls(report, "nanosleep", sleep);
    Ok(())
}

pub fn sleep_until(report: &mut CaseReport) -> Result<()> {
    let clock = ClockId::Monotonic;
    calls(report, "clock_nanosleep", || {
        let mut until = rustix::time::clock_gettime(clock);
        until.tv_nsec += TIMESPEC.tv_nsec;
        until.tv_sec += until.tv_nsec / 1_000_000_000;
        until.tv_nsec %= 1_000_000_000;
        thread::clock_nanosleep_absolute(clock, &until)
    });
    Ok(())
}

/// An epoll that watches an eventfd.
fn watched() -> Result<(OwnedFd, Arc<OwnedFd>)> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let event = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
    let (data, edge) = (epoll::EventData::new_u64(1), epoll::EventFlags::ET);
    epoll::add(&epoll, &event, data, epoll::EventFlags::IN | edge)?;
    Ok((epoll, event))
}

pub fn epoll(report: &mut CaseReport) -> Result<()> {
    let (epoll, event) = watched()?;
    every(move || rustix::io::write(&event, &1u64.to_ne_bytes()).is_ok());
    let mut room = [epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }];
    report.ready();
    for _ in 0..CALLS {
        let result = epoll::wait(&epoll, &mut room, None);
        report.result("epoll_wait", result);
    }
    Ok(())
}

pub fn epoll_timeout(report: &mut CaseReport) -> Result<()> {
    let (epoll, _event) = watched()?;
    let mut room = [epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }];
    calls(report, "epoll_wait", || {
        epoll::wait(&epoll, &mut room, Some(&TIMESPEC))
    });
    Ok(())
}

/// A signal that the call's own mask blocks must not get through because of us.
pub fn epoll_mask(report: &mut CaseReport) -> Result<()> {
    let (epoll, _event) = watched()?;
    let wait = WAIT.as_millis() as i32;
    calls(report, "epoll_pwait", || {
        sys::epoll_pwait(epoll.as_raw_fd(), wait, &[libc::SIGUSR1, libc::SIGALRM])
    });
    Ok(())
}

pub fn pipe(report: &mut CaseReport) -> Result<()> {
    let (reader, writer) = rustix::pipe::pipe()?;
    every(move || rustix::io::write(&writer, &[7]).is_ok());
    report.ready();
    for _ in 0..CALLS {
        let mut byte = [0];
        report.result("read", rustix::io::read(&reader, &mut byte));
        report.count(&format!("byte {}", byte[0]));
    }
    Ok(())
}

pub fn futex(report: &mut CaseReport) -> Result<()> {
    let word = Arc::new(AtomicU32::new(0));
    let other = word.clone();
    every(move || {
        other.fetch_add(1, Ordering::SeqCst);
        thread::futex::wake(&other, thread::futex::Flags::empty(), 1).is_ok()
    });
    report.ready();
    for seen in 0..CALLS {
        // EAGAIN: the word changed before the call looked at it, or before the call was restarted.
        // Either way it has changed.
        let waited = match thread::futex::wait(&word, thread::futex::Flags::empty(), seen, None) {
            Err(Errno::AGAIN) if word.load(Ordering::SeqCst) > seen => Ok(()),
            result => result,
        };
        report.result("futex", waited);
    }
    Ok(())
}

pub fn futex_timeout(report: &mut CaseReport) -> Result<()> {
    let word = AtomicU32::new(0);
    calls(report, "futex", || {
        thread::futex::wait(&word, thread::futex::Flags::empty(), 0, Some(&TIMESPEC))
    });
    Ok(())
}

pub fn semop(report: &mut CaseReport) -> Result<()> {
    let semaphore = Arc::new(SysvSemaphore::new()?);
    let other = semaphore.clone();
    every(move || other.change(1).is_ok());
    report.ready();
    for _ in 0..CALLS {
        report.result("semop", semaphore.change(-1));
    }
    // The other thread never lets go of the semaphore.
    drop(semaphore);
    Ok(())
}

pub fn sigtimedwait(report: &mut CaseReport) -> Result<()> {
    sys::block(&[libc::SIGUSR1]);
    every(|| sys::queue(libc::SIGUSR1, 0).is_ok());
    report.ready();
    for _ in 0..CALLS {
        let result = sys::sigtimedwait(&[libc::SIGUSR1], None);
        report.result("sigwaitinfo", result);
    }
    Ok(())
}

pub fn sigtimedwait_timeout(report: &mut CaseReport) -> Result<()> {
    sys::block(&[libc::SIGUSR1]);
    calls(report, "sigtimedwait", || {
        sys::sigtimedwait(&[libc::SIGUSR1], Some(WAIT))
    });
    Ok(())
}

pub fn ppoll(report: &mut CaseReport) -> Result<()> {
    let (reader, _writer) = rustix::pipe::pipe()?;
    calls(report, "ppoll", || {
        rustix::event::poll(&mut [PollFd::new(&reader, PollFlags::IN)], Some(&TIMESPEC))
    });
    Ok(())
}

pub fn select(report: &mut CaseReport) -> Result<()> {
    let (reader, _writer) = rustix::pipe::pipe()?;
    let nfds = reader.as_raw_fd() + 1;
    calls(report, "select", || {
        let mut set = vec![FdSetElement::default(); rustix::event::fd_set_num_elements(1, nfds)];
        rustix::event::fd_set_insert(&mut set, reader.as_raw_fd());
        // SAFETY: the set holds an open descriptor below nfds.
        unsafe { rustix::event::select(nfds, Some(&mut set), None, None, Some(&TIMESPEC)) }
    });
    Ok(())
}

pub fn receive_timeout(report: &mut CaseReport) -> Result<()> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let (here, _there) = rustix::net::socketpair(family, kind, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&here, Timeout::Recv, Some(WAIT)).map_err(Error::from)?;
    calls(report, "recv", || {
        let mut byte = [0];
        rustix::net::recv(&here, &mut byte, RecvFlags::empty()).map(drop)
    });
    Ok(())
}
