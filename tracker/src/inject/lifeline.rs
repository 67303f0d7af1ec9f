//! A process and the address space it had when we began to look at it.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use crate::uffd::{Entry, Error, PAGE_SIZE, Pagemap, Result};

/// What became of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is the process's.
    Same,
    /// The process executes another program: nothing of the old memory is there any more.
    Replaced,
    /// The process has ended.
    Ended,
}

/// Tells whether a process lives, and in the address space it had then; a pid alone may mean another one by now.
#[derive(Debug)]
pub struct Lifeline {
    pid: u32,
    process: OwnedFd,
    memory: Pagemap,
}

impl Lifeline {
    /// Of a process. `None`: there is none of that pid, or it has no memory.
    ///
    /// # Errors
    /// If we may not look at it.
    pub fn open(pid: u32) -> Result<Option<Self>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let process = match rustix::process::pidfd_open(raw, PidfdFlags::empty()) {
            Ok(process) => process,
            // EINVAL: a thread's id.
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(e) => {
                return Err(Error::system(
                    "cannot open the pidfd of",
                    pid.to_string(),
                    e,
                ));
            }
        };
        let memory = Pagemap::open(pid)?;
        Ok(memory.map(|memory| Self {
            pid,
            process,
            memory,
        }))
    }

    /// The process.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Becomes readable when the process ends.
    #[must_use]
    pub const fn pidfd(&self) -> &OwnedFd {
        &self.process
    }

    /// What became of it. Cheap: at most two system calls.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub fn life(&self) -> Result<Life> {
        if self.has_memory()? {
            return Ok(Life::Same);
        }
        let mut ended = [PollFd::new(&self.process, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let ready = rustix::event::poll(&mut ended, Some(&now))
            .map_err(|e| Error::system("cannot poll", "a pidfd", e))?;
        Ok(if ready == 0 {
            Life::Replaced
        } else {
            Life::Ended
        })
    }

    /// The first page's entry can be read of any address space, whatever is there, as long as it has a user.
    pub(super) fn has_memory(&self) -> Result<bool> {
        let mut entry = [Entry::default()];
        let read = self.memory.read(&(0..PAGE_SIZE), &mut entry)?;
        Ok(read.is_some())
    }
}
