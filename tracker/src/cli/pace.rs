//! When the next round is, and what ends the wait for it.

use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It is time for a round.
    Tick,
    /// The time asked for is over.
    Over,
    /// The process has ended.
    Exit,
    /// SIGINT, SIGTERM or SIGHUP.
    Signal,
}

/// Rounds at equal distances: a round that takes long does not move the next, and rounds that were missed are left out.
pub struct Pace {
    interval: Duration,
    duration: Option<Duration>,
    began: Instant,
    next: Instant,
    signals: UnixStream,
}

impl Pace {
    /// Notes signals from now on instead of ending by them.
    pub fn new(interval: Duration, duration: Option<Duration>) -> io::Result<Self> {
        let (signals, sender) = UnixStream::pair()?;
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // As nohup(1) and shells set it for what must go on.
            if is_ignored(signal) {
                continue;
            }
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        let now = Instant::now();
        Ok(Self {
            interval,
            duration,
            began: now,
            next: now,
            signals,
        })
    }

    /// The first arming is done: rounds count from here.
    pub fn start(&mut self) {
        self.began = Instant::now();
        self.next = self.began;
    }

    /// Waits for the next round.
    pub fn wait(&mut self, process: impl AsFd) -> io::Result<Wake> {
        self.next = next(self.next, Instant::now(), self.interval);
        let end = self.duration.map(|duration| self.began + duration);
        let until = end.map_or(self.next, |end| end.min(self.next));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Also when it is late: rounds without a break must not hide a signal.
            match self.poll(&process, Some(left))? {
                Some(wake) => return Ok(wake),
                None if !left.is_zero() => (),
                None if end.is_some_and(|end| end <= until) => return Ok(Wake::Over),
                None => return Ok(Wake::Tick),
            }
        }
    }

    /// Waits for the end of the process; `Signal` if one comes before.
    pub fn wait_for_end(&self, process: impl AsFd) -> io::Result<Wake> {
        loop {
            if let Some(wake) = self.poll(&process, None)? {
                return Ok(wake);
            }
        }
    }

    fn poll(&self, process: impl AsFd, left: Option<Duration>) -> io::Result<Option<Wake>> {
        let mut fds = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&process, PollFlags::IN),
        ];
        let longest = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let timeout = left.map(|left| Timespec::try_from(left).unwrap_or(longest));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        let ready = fds.each_ref().map(|fd| !fd.revents().is_empty());
        Ok(match ready {
            [true, _] => {
                // Told once.
                let _ = (&self.signals).read(&mut [0; 64])?;
                Some(Wake::Signal)
            }
            [_, true] => Some(Wake::Exit),
            _ => None,
        })
    }
}

/// Whether whoever started us has us ignore a signal.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: a sigaction is plain data, for which zeroes are valid.
    let mut current: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is set; the kernel writes one sigaction of ours.
    let read = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut current) };
    read == 0 && current.sa_sigaction == libc::SIG_IGN
}

/// The first time of the grid after now.
fn next(last: Instant, now: Instant, interval: Duration) -> Instant {
    let since = now.saturating_duration_since(last).as_nanos();
    let length = interval.as_nanos().max(1);
    let left = u64::try_from(length - since % length).unwrap_or(u64::MAX);
    now.checked_add(Duration::from_nanos(left)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missed_rounds_are_left_out() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(next(start, start, second), start + second);
        assert_eq!(
            next(start, start + second * 5 / 2, second),
            start + second * 3
        );
        assert_eq!(next(start, start + second, second), start + second * 2);
    }
}
