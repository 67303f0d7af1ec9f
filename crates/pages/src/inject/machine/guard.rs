//! The process that lets go of the target when tracker stands still: stopped by a signal, by the
//! freezer, or while its memory is written to a core file. Where faults are answered by tracker, the
//! target would stand still, too.
//!
//! It has a descriptor of the same userfaultfd, and a word from tracker every now and then.
#![forbid(unsafe_code)]

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use uffd::{UffdError, Userfaultfd};

use super::super::wire::{self, GuardBeat};
use crate::cgroup;

/// How long to wait for one word.
const BEAT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};
/// So many words in a row must be missed: on a machine that stands still as a whole for a while,
/// the guard itself misses one only.
const MISSES: u32 = 8;

/// A guard at work. When it ends its descriptor closes.
pub(super) struct GuardProcess {
    pid: u32,
    uffd: Userfaultfd,
    is_apart: bool,
}

impl GuardProcess {
    pub(super) fn new(pid: u32, uffd: Userfaultfd) -> Self {
        // What the owner of the control group sees.
        let _ = rustix::thread::set_name(c"tracker-guard");
        let is_apart = cgroup::join(pid);
        Self {
            pid,
            uffd,
            is_apart,
        }
    }

    /// Whether what freezes tracker's control group leaves this process alone.
    pub(super) const fn is_apart(&self) -> bool {
        self.is_apart
    }

    /// Waits until tracker ends, or lets go once it stands still.
    pub(super) fn stand(&self, socket: impl AsFd) -> bool {
        let mut missed = 0;
        while missed < MISSES {
            let mut word = [PollFd::new(&socket, PollFlags::IN)];
            // Every signal is blocked.
            if rustix::event::poll(&mut word, Some(&BEAT)).is_ok_and(|ready| ready > 0) {
                match wire::receive::<GuardBeat>(&socket) {
                    Ok(Some(_)) => missed = 0,
                    // What is registered ends with the last descriptor.
                    Ok(None) | Err(_) => return true,
                }
            } else {
                missed += 1;
            }
        }
        self.let_go().is_ok()
    }

    /// Unregisters whatever is ours. Some of it may be unmapped meanwhile, or another's.
    fn let_go(&self) -> Result<(), UffdError> {
        for vma in uffd::smaps(self.pid)? {
            let vma = vma?;
            if vma.flags.uffd_wp() || vma.flags.uffd_missing() {
                let _ = self.uffd.unregister(&vma.range());
                let _ = self.uffd.wake(&vma.range());
            }
        }
        Ok(())
    }
}
