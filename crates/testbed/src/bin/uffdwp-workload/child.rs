//! A forked process and the line to it: a 64-bit word at a time in both directions.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};

/// One end of the line.
#[derive(Debug)]
pub struct WordPipe {
    from: File,
    to: File,
}

impl WordPipe {
    /// Words come from one pipe and go to another.
    pub fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
        }
    }

    /// Sends a word.
    pub fn send(&mut self, word: u64) -> Result<()> {
        self.to
            .write_all(&word.to_ne_bytes())
            .context("the other process is gone")
    }

    /// Waits for a word.
    pub fn receive(&mut self) -> Result<u64> {
        let mut word = [0; 8];
        self.from
            .read_exact(&mut word)
            .context("the other process is gone")?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Both ends of a new line.
    fn pair() -> Result<(Self, Self)> {
        let pipe = || rustix::pipe::pipe().context("cannot make a pipe");
        let (there, back) = (pipe()?, pipe()?);
        Ok((Self::new(back.0, there.1), Self::new(there.0, back.1)))
    }
}

/// A child; it ends when its line is closed, at the latest when this process ends.
#[derive(Debug)]
pub struct ForkedChild {
    pid: u32,
    line: WordPipe,
}

impl ForkedChild {
    /// Forks; the child runs `body` until it fails, as it does when the line closes, and then exits.
    ///
    /// With other threads running, `body` may use nothing that they could hold a lock on: no
    /// allocation, only memory accesses and the line.
    pub fn fork(body: impl FnOnce(&mut WordPipe) -> Result<()>) -> Result<Self> {
        let (ours, mut theirs) = WordPipe::pair()?;
        // SAFETY: the child only runs `body`, which the caller keeps free of others' locks, and _exit.
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

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The line to it.
    pub fn line(&mut self) -> &mut WordPipe {
        &mut self.line
    }
}
