//! tracker's end of a guard: its words.
#![forbid(unsafe_code)]

use std::os::fd::AsFd as _;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::super::InjectError;
use super::super::wire::{self, GuardBeat};
use super::start::HelperHandle;

/// The time between two words: some for each that the guard waits for.
const BEAT: Duration = Duration::from_millis(50);

/// A guard that hears of us. Dropping it sends it away.
pub(crate) struct GuardedUffd {
    helper: HelperHandle,
    is_apart: bool,
    beats: Option<(Sender<()>, JoinHandle<()>)>,
}

impl GuardedUffd {
    pub(super) fn new(pid: u32, helper: HelperHandle, is_apart: bool) -> Result<Self, InjectError> {
        let lost = |error: std::io::Error| InjectError::Helper {
            pid,
            why: format!("cannot be told that tracker runs: {error}"),
        };
        let socket = helper.socket().try_clone_to_owned().map_err(lost)?;
        let (stop, stopped) = mpsc::channel();
        let beat = move || {
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                if wire::send(socket.as_fd(), &GuardBeat, None).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("uffd-guard".to_owned());
        let beats = Some((stop, thread.spawn(beat).map_err(lost)?));
        Ok(Self {
            helper,
            is_apart,
            beats,
        })
    }

    /// Whether it is not frozen together with tracker.
    pub(crate) const fn is_apart(&self) -> bool {
        self.is_apart
    }

    /// Whether it has let go of everything, or is gone itself. It says nothing before its end.
    pub(crate) fn has_ended(&self) -> bool {
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let socket = self.helper.socket();
        let mut end = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        rustix::event::poll(&mut end, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for GuardedUffd {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.beats.take() {
            drop(stop);
            // It panics nowhere. Its socket must be closed before the helper's end is waited for.
            let _ = thread.join();
        }
    }
}
