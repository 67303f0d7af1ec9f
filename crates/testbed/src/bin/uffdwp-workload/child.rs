//! A forked process, and two pipes that carry 64-bit words to and from it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};

/// One end of a pair of pipes.
#[derive(Debug)]
pub struct WordPipe {
    from: File,
    to: File,
}

impl WordPipe {
    /// Receives words from one pipe and sends them to the other.
    pub fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
        }
    }

    /// Sends a word; fails if the other process is gone.
    pub fn send(&mut self, word: u64) -> Result<()> {
        self.to
            .write_all(&word.to_ne_bytes())
            .context("the other process is gone")
    }

    /// Waits for a word; fails if the other process is gone.
    pub fn receive(&mut self) -> Result<u64> {
        let mut word = [0; 8];
        self.from
            .read_exact(&mut word)
            .context("the other process is gone")?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Two ends that are connected.
    fn pair() -> Result<(Self, Self)> {
        let pipe = || rustix::pipe::pipe().context("cannot make a pipe");
        let (there, back) = (pipe()?, pipe()?);
        Ok((Self::new(back.0, there.1), Self::new(there.0, back.1)))
    }
}

/// A child, which ends when its pipe closes, at the latest when this process ends.
#[derive(Debug)]
pub struct ForkedChild {
    pid: u32,
    line: WordPipe,
}

impl ForkedChild {
    /// Forks; the child runs `body` until that fails, at the latest because the pipe closes, and
    /// exits.
    ///
    /// If other threads run, `body` may use nothing that they might have locked: no allocation,
    /// only memory accesses and the pipe.
    pub fn fork(body: impl FnOnce(&mut WordPipe) -> Result<()>) -> Result<Self> {
        let (ours, mut theirs) = WordPipe::pair()?;
        // SAFETY: the child only runs `body`, which the caller keeps free of others' locks, and
        // _exit.
        match unsafe { libc::fork() } {
            -1 => bail!("cannot fork: {}", std::io::Error::last_os_error()),
            0 => {
                drop(ours);
                let code = i32::from(body(&mut theirs).is_err());
                // SAFETY: ends the child without running what belongs to the parent.
                unsafe { libc::_exit(code) }
            }
            pid => Ok(Self {
                pid: pid as u32,
                line: ours,
            }),
        }
    }

    /// Pid of the child.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The pipe to the child.
    pub fn line(&mut self) -> &mut WordPipe {
        &mut self.line
    }
}
