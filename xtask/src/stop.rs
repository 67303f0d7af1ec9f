//! Notes Ctrl-C and SIGTERM, so that what was started can be ended in order.

use std::{
    process::{Child, ExitStatus},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether SIGINT or SIGTERM came.
#[derive(Clone)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Notes SIGINT and SIGTERM from now on. The second signal ends this process at once.
    pub fn install() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&asked))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&asked)))
                .context("cannot handle signals")?;
        }
        Ok(Self(asked))
    }

    /// Whether a signal came.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sleeps for `time`, or until a signal comes.
    pub fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.is_set() && Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Sends SIGTERM to `child`, and SIGKILL if it runs on for `patience`. Returns its status, and
/// whether SIGTERM was enough.
pub fn end(child: &mut Child, patience: Duration) -> Result<(ExitStatus, bool)> {
    if let Some(status) = child.try_wait().context("cannot wait for a process")? {
        return Ok((status, true));
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(
        pid.context("a process id is a positive number")?,
        Signal::TERM,
    )
    .context("cannot send SIGTERM to a process")?;
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().context("cannot wait for a process")? {
            return Ok((status, true));
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().context("cannot kill a process")?;
    Ok((child.wait().context("cannot wait for a process")?, false))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_ends_when_asked() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let (status, obeyed) = end(&mut child, Duration::from_secs(5)).unwrap();
        assert!(obeyed && !status.success());
    }

    #[test]
    fn a_stubborn_process_is_killed() {
        let script = "trap '' TERM; echo; while :; do sleep 0.1; done";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its first line says that the trap is set.
        std::io::Read::read(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let (status, obeyed) = end(&mut child, Duration::from_millis(200)).unwrap();
        assert!(!obeyed && !status.success());
    }
}
