//! Programs that are started and stand still at their first instruction.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open,
    set_parent_process_death_signal, waitpid,
};

/// A program that was started and stands still, as by SIGSTOP, before its first instruction.
/// Dropping it before it runs ends it: it has done nothing yet.
#[derive(Debug)]
pub struct LaunchedProgram {
    child: Child,
    stopped: bool,
}

/// What the child says of itself if it may not be traced.
const UNTRACEABLE: Errno = Errno::BUSY;

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Tracing is forbidden (Yama), or its parent's tracer has it already (`strace -f`).
    #[error(transparent)]
    Untraceable(io::Error),
    /// It cannot be executed (`NotFound`, `PermissionDenied`, ...).
    #[error(transparent)]
    Execute(io::Error),
}

impl LaunchError {
    fn of(error: io::Error) -> Self {
        if Errno::from_io_error(&error) == Some(UNTRACEABLE) {
            Self::Untraceable(error)
        } else {
            Self::Execute(error)
        }
    }
}

impl LaunchedProgram {
    /// Starts a program. Until it stands still it is traced by this thread, so a set-user-ID
    /// program runs without its privilege unless this process is privileged.
    ///
    /// # Errors
    /// If it may not be traced, or cannot be executed.
    pub fn start(mut command: Command) -> Result<Self, LaunchError> {
        let trace_me = || {
            // Should this process be killed before it lets the program go, the kernel does. Later
            // it changes nothing. It cannot fail: it is a signal.
            let _ = set_parent_process_death_signal(Some(Signal::CONT));
            // SAFETY: no argument is used; it is async-signal-safe.
            let result = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            if result == -1 {
                // EPERM would read as if the program must not be executed; exec never says EBUSY.
                return Err(UNTRACEABLE.into());
            }
            Ok(())
        };
        // SAFETY: the closure makes two system calls, and allocates nothing.
        unsafe { command.pre_exec(trace_me) };
        let child = command.spawn().map_err(LaunchError::of)?;
        let launched = Self {
            child,
            stopped: true,
        };
        launched
            .stop_at_first_instruction()
            .map_err(LaunchError::Execute)?;
        Ok(launched)
    }

    /// exec stops it for its tracer, which leaves with a SIGSTOP: it goes from one stop to the
    /// next.
    fn stop_at_first_instruction(&self) -> io::Result<()> {
        self.wait_for_stop()?;
        let pid = self.child.id() as libc::pid_t;
        // SAFETY: the child is ours, traced and stopped; the data are a signal's number.
        let left = unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, libc::SIGSTOP) };
        if left == -1 {
            return Err(io::Error::last_os_error());
        }
        self.wait_for_stop()
    }

    fn wait_for_stop(&self) -> io::Result<()> {
        let pid = Some(Pid::from_child(&self.child));
        let status = loop {
            match waitpid(pid, WaitOptions::UNTRACED) {
                Err(Errno::INTR) => {}
                status => break status?,
            }
        };
        if status.is_some_and(|(_, status)| status.stopped()) {
            Ok(())
        } else {
            Err(io::Error::other("it ended before its first instruction"))
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it was let go.
    #[must_use]
    pub fn runs(&self) -> bool {
        !self.stopped
    }

    /// A descriptor that is readable once the program has ended.
    ///
    /// # Errors
    /// If there are too many descriptors.
    pub fn pidfd(&self) -> io::Result<OwnedFd> {
        let pid = Pid::from_child(&self.child);
        Ok(pidfd_open(pid, PidfdFlags::empty())?)
    }

    /// Lets it run.
    pub fn go(&mut self) {
        if std::mem::take(&mut self.stopped) {
            self.signal(Signal::CONT);
        }
    }

    /// Asks it to end (SIGTERM), as whoever ends tracker expects.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If somebody else has waited for it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }

    /// A child that was not waited for keeps its pid, and `wait` is the last thing asked of it.
    fn signal(&self, signal: Signal) {
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
}

impl Drop for LaunchedProgram {
    fn drop(&mut self) {
        if self.stopped {
            // It has done nothing: nothing is lost.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::process::Stdio;

    #[test]
    fn it_stands_still_and_then_runs() {
        let mut command = Command::new("sh");
        command.args(["-c", "exit 7"]).stdin(Stdio::null());
        let mut launched = LaunchedProgram::start(command).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", launched.pid())).unwrap();
        assert!(stat.contains(") T "), "{stat}");
        assert!(
            stat.starts_with(&format!("{} (sh)", launched.pid())),
            "{stat}"
        );
        launched.go();
        assert_eq!(launched.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn one_that_is_dropped_never_ran() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("it ran");
        let mut command = Command::new("touch");
        command.arg(&file);
        let launched = LaunchedProgram::start(command).unwrap();
        let pid = launched.pid();
        drop(launched);
        assert!(!file.exists());
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn what_cannot_be_executed_is_told() {
        let error = LaunchedProgram::start(Command::new("/no/such/program")).unwrap_err();
        let kind = io::ErrorKind::NotFound;
        assert!(matches!(error, LaunchError::Execute(error) if error.kind() == kind));
    }
}
