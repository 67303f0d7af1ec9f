//! stderr as a place for lines that may be lost, and never hurt who writes them.

use super::losses::LogLoss;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

/// How long to wait for a reader that is slow. One that did not read for so long is not waited for
/// again until it does.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A pipe that poll(2) calls writable takes so many bytes without blocking (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

static STDERR: Mutex<LineState> = Mutex::new(LineState {
    is_stuck: false,
    is_cut: false,
});

/// How the last line came out.
#[derive(Debug)]
struct LineState {
    /// Nobody read for [`PATIENCE`].
    is_stuck: bool,
    /// It has no end.
    is_cut: bool,
}

/// Tells people something beside any result, on a line of its own.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    put(format!("{text}\n").as_bytes());
}

/// Takes log lines, one with each call, and never fails.
pub(super) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(line: &[u8]) {
    let mut state = STDERR.lock().unwrap_or_else(PoisonError::into_inner);
    if state.put(io::stderr().as_fd(), line).is_err() {
        LogLoss::Unwritable.count();
    }
}

impl LineState {
    /// Writes a line, or the begin of it.
    fn put(&mut self, out: BorrowedFd<'_>, line: &[u8]) -> Result<(), Errno> {
        if self.is_cut {
            self.write(out, b"\n")?;
            self.is_cut = false;
        }
        self.write(out, line)
    }

    fn write(&mut self, out: BorrowedFd<'_>, mut rest: &[u8]) -> Result<(), Errno> {
        let whole = rest.len();
        while !rest.is_empty() {
            let piece = rest.get(..PIECE).unwrap_or(rest);
            let written = self.wait(out).and_then(|()| rustix::io::write(out, piece));
            match written {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.is_cut |= rest.len() < whole;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Waits until some bytes can be written without blocking.
    fn wait(&mut self, out: BorrowedFd<'_>) -> Result<(), Errno> {
        let patience = if self.is_stuck { &AT_ONCE } else { &PATIENCE };
        let ready = poll(
            &mut [PollFd::from_borrowed_fd(out, PollFlags::OUT)],
            Some(patience),
        )?;
        self.is_stuck = ready == 0;
        if self.is_stuck {
            return Err(Errno::TIMEDOUT);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::{File, OpenOptions};
    use std::io::Read as _;

    fn state() -> LineState {
        LineState {
            is_stuck: false,
            is_cut: false,
        }
    }

    #[test]
    fn a_full_disk_and_a_closed_pipe_are_told() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(state().put(full.as_fd(), b"line\n"), Err(Errno::NOSPC));
        let (_, closed) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        assert_eq!(state().put(closed.as_fd(), b"line\n"), Err(Errno::PIPE));
    }

    #[test]
    fn a_reader_that_stands_still_is_waited_for_once() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut state = state();
        let long = vec![b'x'; 1 << 20];
        assert_eq!(state.put(writer.as_fd(), &long), Err(Errno::TIMEDOUT));
        assert!(state.is_stuck && state.is_cut);
        assert_eq!(state.put(writer.as_fd(), b"lost\n"), Err(Errno::TIMEDOUT));
        // What is written once it reads again is a line of its own.
        let mut reader = File::from(reader);
        let mut held = vec![0; 1 << 16];
        reader.read_exact(&mut held).unwrap();
        assert_eq!(state.put(writer.as_fd(), b"seen\n"), Ok(()));
        drop(writer);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"\nseen\n");
    }
}
