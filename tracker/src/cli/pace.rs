//! When the next round is, and what ends the wait for it.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::explain::RoundDelay;

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PaceWake {
    /// It is time for a round.
    Tick,
    /// A round is wanted before it is due.
    Early,
    /// The time asked for is over.
    Over,
    /// The process has ended.
    Exit,
    /// SIGINT, SIGTERM or SIGHUP.
    Signal,
}

/// Rounds at equal distances: a round that takes long does not move the next one, and rounds that
/// were missed are left out.
pub(crate) struct RoundPace {
    interval: Duration,
    duration: Option<Duration>,
    began: Instant,
    next: Instant,
    delay: RoundDelay,
    signals: UnixStream,
}

impl RoundPace {
    /// From now on notes signals instead of ending by them.
    pub(crate) fn new(interval: Duration, duration: Option<Duration>) -> io::Result<Self> {
        let (signals, sender) = UnixStream::pair()?;
        let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // nohup(1) and shells have ignored what must go on.
            if ignored & (1 << (signal - 1)) == 0 {
                pipe::register(signal, sender.try_clone()?)?;
            }
        }
        let now = Instant::now();
        Ok(Self {
            interval,
            duration,
            began: now,
            next: now,
            delay: RoundDelay::default(),
            signals,
        })
    }

    /// The first arming is done: rounds count from here.
    pub(crate) fn start(&mut self) {
        self.began = Instant::now();
        self.next = self.began;
    }

    /// Waits for the next round, or until one of `early` is readable: then a round is made between
    /// two that are due.
    pub(crate) fn wait(
        &mut self,
        process: impl AsFd,
        early: &[BorrowedFd<'_>],
    ) -> io::Result<PaceWake> {
        let last = self.next;
        let (next, left_out) = next(last, Instant::now(), self.interval);
        self.next = next;
        self.delay = RoundDelay {
            left_out,
            late: Duration::ZERO,
        };
        let end = self.duration.map(|duration| self.began + duration);
        let until = end.map_or(self.next, |end| end.min(self.next));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Even if it is late: rounds without a break must not hide a signal.
            match self.poll(&process, early, Some(left))? {
                Some(PaceWake::Early) => {
                    self.next = last;
                    return Ok(PaceWake::Early);
                }
                Some(wake) => return Ok(wake),
                None if !left.is_zero() => (),
                None if end.is_some_and(|end| end <= until) => return Ok(PaceWake::Over),
                None => {
                    self.delay.late = self.next.elapsed();
                    return Ok(PaceWake::Tick);
                }
            }
        }
    }

    /// Whether something is readable now.
    pub(crate) fn is_ready(fd: BorrowedFd<'_>) -> io::Result<bool> {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// How the round that the last wait was for comes beside the time at which it was due.
    pub(crate) const fn delay(&self) -> RoundDelay {
        self.delay
    }

    /// Waits for the end of the process; [`PaceWake::Signal`] if a signal comes before.
    pub(crate) fn wait_for_end(&self, process: impl AsFd) -> io::Result<PaceWake> {
        loop {
            if let Some(wake) = self.poll(&process, &[], None)? {
                return Ok(wake);
            }
        }
    }

    fn poll(
        &self,
        process: impl AsFd,
        early: &[BorrowedFd<'_>],
        left: Option<Duration>,
    ) -> io::Result<Option<PaceWake>> {
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&process, PollFlags::IN),
        ];
        let early = early.iter();
        fds.extend(early.map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let longest = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let timeout = left.map(|left| Timespec::try_from(left).unwrap_or(longest));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        Ok(match ready.as_slice() {
            [true, ..] => {
                // Each signal counts once.
                let _ = (&self.signals).read(&mut [0; 64])?;
                Some(PaceWake::Signal)
            }
            [_, true, ..] => Some(PaceWake::Exit),
            [_, _, early @ ..] if early.contains(&true) => Some(PaceWake::Early),
            _ => None,
        })
    }
}

/// The signals that whoever started us has us ignore: the mask `SigIgn` of /proc/PID/status, where
/// signal 1 is the lowest bit. None if it does not say.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0)
}

/// The first time after now at a whole distance from the last, and how many such times are left out.
fn next(last: Instant, now: Instant, interval: Duration) -> (Instant, u64) {
    let since = now.saturating_duration_since(last).as_nanos();
    let length = interval.as_nanos().max(1);
    let left = u64::try_from(length - since % length).unwrap_or(u64::MAX);
    let next = now.checked_add(Duration::from_nanos(left)).unwrap_or(now);
    (next, u64::try_from(since / length).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_those_of_the_status() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert_eq!(ignored(status), 1 << 12 | 1 << (SIGHUP - 1));
        assert_eq!(ignored("Name:\ttracker\n"), 0);
    }

    #[test]
    fn missed_rounds_are_left_out_and_counted() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        assert_eq!(next(start, start, second), (start + second, 0));
        assert_eq!(
            next(start, start + second * 5 / 2, second),
            (start + second * 3, 2)
        );
        assert_eq!(next(start, start + second, second), (start + second * 2, 1));
    }
}
