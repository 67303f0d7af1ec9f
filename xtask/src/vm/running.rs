//! A running guest: its output, its time limits, and its end.

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
    MachineFiles,
    guest_log::{self, GuestTranscript},
    qemu,
    report::{BootReport, trouble},
};

/// How much processor time of the host a guest may use until its init. It takes seconds, but now
/// and then an emulated machine with several CPUs spins for ever while the kernel patches its own
/// code. Processor time, because on a busy host any boot takes long.
const BOOT_WORK: Duration = Duration::from_secs(60);

/// What is told of a boot whose kernel ran into code that was just patched.
const HALF_PATCHED: &str = "its kernel met a breakpoint that was no longer there (Oops: int3), probably the emulator's fault";

/// How long a boot may take on the busiest host.
const BOOT: Duration = Duration::from_secs(300);

/// A guest that is running. Dropping it ends the emulator.
pub struct RunningGuest {
    pub(super) machine: MachineFiles,
    pub(super) child: Child,
    pub(super) lines: Receiver<String>,
    pub(super) since: Instant,
    pub(super) timeout: Duration,
}

impl RunningGuest {
    /// Ends the guest at once, and writes its `output` to its log.
    pub fn kill(&mut self, output: &[String]) -> Result<()> {
        self.end()?;
        let log = &self.machine.log;
        fs::write(log, output.join("\n")).with_context(|| format!("cannot write {}", log.display()))
    }

    /// Waits for the guest's end. Also returns what the emulator has spoilt, so that the boot should
    /// be repeated: it ended before the guest's init, and not because the emulator refused its
    /// arguments, or its kernel met a breakpoint that was no longer there.
    pub(super) fn wait(
        mut self,
        sink: &mut impl FnMut(&str),
    ) -> Result<(BootReport, Option<&'static str>)> {
        let mut transcript = GuestTranscript::new(&self.machine.token);
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
        let report = BootReport {
            status: transcript.status,
            lines: transcript.lines,
            trouble,
            repeated: 0,
            log: self.machine.log.clone(),
        };
        let refused = status.code() == Some(1);
        let spoilt = if !transcript.began && !refused {
            Some("the boot ended before the guest's init")
        } else {
            guest_log::is_half_patched(&kernel).then_some(HALF_PATCHED)
        };
        Ok((report, spoilt))
    }

    /// Whether the guest used up its time, or the part that is for the boot.
    fn is_late(&self, began: bool) -> bool {
        let lasted = self.since.elapsed();
        let worked = || processor_time(self.child.id()).unwrap_or(Duration::ZERO);
        lasted > self.timeout || !began && (lasted > BOOT || worked() > BOOT_WORK)
    }

    /// The lines that the guest printed since the last call.
    pub fn new_lines(&mut self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Whether the emulator still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `why`, with the last lines of the guest's `output` and of its kernel.
    pub fn explain(&self, why: &str, output: &[String]) -> String {
        let kernel = fs::read(&self.machine.kernel_log).unwrap_or_default();
        self.machine
            .explain(why, output, &String::from_utf8_lossy(&kernel))
    }

    /// Gives a guest whose command has ended time to power off.
    fn power_off(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if self
                .child
                .try_wait()
                .context("cannot wait for the emulator")?
                .is_some()
            {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends the emulator; returns its status and its complaints.
    fn end(&mut self) -> Result<(ExitStatus, String)> {
        let status = match self
            .child
            .try_wait()
            .context("cannot wait for the emulator")?
        {
            Some(status) => status,
            None => {
                self.child.kill().context("cannot kill the emulator")?;
                self.child.wait().context("cannot wait for the emulator")?
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

impl Drop for RunningGuest {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processor time that process `pid` has used so far, with all its threads.
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
