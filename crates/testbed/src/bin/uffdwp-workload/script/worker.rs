//! A forked child that obeys the same orders, given to it by its parent.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, bail};

/// The parent's side of a child, which ends when this is dropped.
pub struct ScriptWorker {
    pid: libc::pid_t,
    orders: Option<File>,
    answers: BufReader<File>,
}

impl ScriptWorker {
    /// Forks; the child answers each line with what `obey` makes of it.
    pub fn fork(mut obey: impl FnMut(&str) -> Result<String>) -> Result<Self> {
        let pipe = || rustix::pipe::pipe().context("cannot make a pipe");
        let ((read_orders, orders), (answers, write_answers)) = (pipe()?, pipe()?);
        // SAFETY: there is no other thread; the child leaves by _exit.
        match unsafe { libc::fork() } {
            -1 => bail!("cannot fork: {}", std::io::Error::last_os_error()),
            0 => {
                drop((orders, answers));
                let served = serve(read_orders, write_answers, &mut obey);
                // SAFETY: ends the child.
                unsafe { libc::_exit(i32::from(served.is_err())) };
            }
            pid => Ok(Self {
                pid,
                orders: Some(orders.into()),
                answers: BufReader::new(answers.into()),
            }),
        }
    }

    /// The child's pid.
    pub const fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Has the child obey a line; returns its answer.
    pub fn say(&mut self, line: &str) -> Result<String> {
        let mut orders = self.orders.as_ref().context("the child has ended")?;
        writeln!(orders, "{line}").context("cannot tell a child")?;
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .context("cannot hear a child")?;
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for ScriptWorker {
    /// Waits for the end of the child, which comes with the end of its orders.
    fn drop(&mut self) {
        self.orders = None;
        // SAFETY: waits for our child, and writes nothing.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

fn serve(
    orders: OwnedFd,
    answers: OwnedFd,
    obey: &mut impl FnMut(&str) -> Result<String>,
) -> Result<()> {
    let mut answers: File = answers.into();
    for line in BufReader::new(File::from(orders)).lines() {
        writeln!(answers, "{}", obey(&line?)?)?;
    }
    Ok(())
}
