//! A guest that runs: what it says, how long it may take, and its end.

use std::{
    fs::{self, File},
    io::Write as _,
    process::{Child, ExitStatus},
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    Machine,
    guest_log::Transcript,
    qemu,
    report::{Report, trouble},
};

/// How much of the host's processors a guest may use until its own init. An emulated machine with
/// several CPUs hangs now and then, spinning, while the kernel patches its own code at boot; it
/// takes seconds otherwise. Processor time, because a busy host makes any boot last long.
const BOOT_WORK: Duration = Duration::from_secs(60);

/// How long a boot may last on the busiest host.
const BOOT: Duration = Duration::from_secs(300);

/// A guest at work. Dropping it ends the emulator.
pub struct Running {
    pub(super) machine: Machine,
    pub(super) child: Child,
    pub(super) lines: Receiver<String>,
    pub(super) since: Instant,
    pub(super) timeout: Duration,
}

impl Running {
    /// Ends the guest at once and keeps what it `said`.
    pub fn kill(&mut self, said: &[String]) -> Result<()> {
        self.end()?;
        let log = &self.machine.log;
        fs::write(log, said.join("\n")).with_context(|| format!("cannot write {}", log.display()))
    }

    /// Waits for the verdict. Also tells whether the boot should be repeated: it ended before the
    /// guest's own init, and not because the emulator refused its arguments.
    /// Until it ends; true: it never came to its own init, and may be booted again.
    pub(super) fn wait(mut self, sink: &mut impl FnMut(&str)) -> Result<(Report, bool)> {
        let mut transcript = Transcript::new(&self.machine.token);
        let mut log = File::create(&self.machine.log)
            .with_context(|| format!("cannot create {}", self.machine.log.display()))?;
        let mut late = None;
        while transcript.status.is_none() {
            match self.lines.recv_timeout(Duration::from_millis(500)) {
                Ok(line) => {
                    if let Some(line) = transcript.push(&line) {
                        writeln!(log, "{line}").context("cannot write the guest's log")?;
                        sink(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.is_late(transcript.began) {
                late = Some(self.since.elapsed());
                break;
            }
        }
        if late.is_none() {
            self.power_off()?;
        }
        let (status, emulator) = self.end()?;
        let kernel = fs::read(&self.machine.kernel_log).unwrap_or_default();
        let kernel = String::from_utf8_lossy(&kernel).into_owned();
        let trouble = trouble(&transcript, &kernel, late, &emulator)
            .map(|why| self.machine.explain(&why, &transcript.lines, &kernel));
        let report = Report {
            status: transcript.status,
            lines: transcript.lines,
            trouble,
            early_crashes: 0,
            elapsed: Duration::ZERO,
            log: self.machine.log.clone(),
        };
        let refused = status.code() == Some(1);
        Ok((report, !transcript.began && !refused))
    }

    /// Whether the guest used up its time, or the part of it that is for the boot.
    fn is_late(&self, began: bool) -> bool {
        let lasted = self.since.elapsed();
        let worked = || processor_time(self.child.id()).unwrap_or(Duration::ZERO);
        lasted > self.timeout || !began && (lasted > BOOT || worked() > BOOT_WORK)
    }

    /// Takes what the guest said since the last call.
    pub fn said(&mut self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Whether the emulator still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `why`, with the last lines of the guest and its kernel.
    pub fn explain(&self, why: &str, said: &[String]) -> String {
        let kernel = fs::read(&self.machine.kernel_log).unwrap_or_default();
        self.machine
            .explain(why, said, &String::from_utf8_lossy(&kernel))
    }

    /// Gives a guest that told its verdict time to switch itself off.
    fn power_off(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if self
                .child
                .try_wait()
                .context("lost the emulator")?
                .is_some()
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends the emulator and returns its status and what it complained about.
    fn end(&mut self) -> Result<(ExitStatus, String)> {
        let status = match self.child.try_wait().context("lost the emulator")? {
            Some(status) => status,
            None => {
                self.child.kill().context("cannot end the emulator")?;
                self.child.wait().context("lost the emulator")?
            }
        };
        let said = self
            .child
            .stderr
            .take()
            .map(|mut err| qemu::complaints(&mut err));
        Ok((status, said.unwrap_or_default()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time that process `pid` and its threads used so far.
fn processor_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Duration::from_secs(
        ticks(&stat)? / rustix::param::clock_ticks_per_second(),
    ))
}

/// User and system time in a `/proc/PID/stat`, in clock ticks: fields 14 and 15, see proc(5).
fn ticks(stat: &str) -> Option<u64> {
    // The second field, the name, may hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_after_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 97 0 0 0 250 50 9 9 20 0 1 0 100 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a"), None);
        assert!(processor_time(std::process::id()).is_some());
    }
}
