//! Booting a kernel in an emulator, running one command in it, and judging what came out.

mod cpio;
pub mod guest_log;
mod initramfs;
mod modules;
pub mod qemu;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};

pub use initramfs::GuestFile;
pub use qemu::Accel;

use crate::{paths, setup::kernels::Kernel};
use guest_log::Transcript;

/// How much of the host's processors a guest may use until its own init. An emulated machine with
/// several CPUs hangs now and then, spinning, while the kernel patches its own code at boot; it
/// takes seconds otherwise. Processor time, because a busy host makes any boot last long.
const BOOT_WORK: Duration = Duration::from_secs(60);

/// How long a boot may last on the busiest host.
const BOOT: Duration = Duration::from_secs(300);

/// Lines of a log shown with a failure.
const TAIL: usize = 30;

/// One boot: a kernel, what is in its root file system, and what it runs.
#[derive(Clone, Debug)]
pub struct VmRun {
    /// Names the logs: `target/vm/NAME.log` and `NAME.kernel.log`.
    pub name: String,
    /// What boots.
    pub kernel: Kernel,
    /// Further kernel arguments.
    pub append: Vec<String>,
    /// Virtual CPUs.
    pub cpus: u32,
    /// As QEMU's `-m`: `2G`.
    pub memory: String,
    /// Programs and files for the guest.
    pub files: Vec<GuestFile>,
    /// A shell script to run; none means a shell on the terminal.
    pub command: Option<String>,
    /// Until the command must be done; the boot included.
    pub timeout: Duration,
    /// How the processor is made.
    pub accel: Accel,
    /// A TCP port of the host's loopback that leads to the same port of the guest.
    pub forward: Option<u16>,
    /// Whether /sys/fs/bpf is mounted.
    pub bpffs: bool,
    /// 2 MiB pages the guest reserves.
    pub hugepages: u32,
}

/// What came of a boot.
#[derive(Debug)]
pub struct Report {
    /// The command's exit status.
    pub status: Option<i32>,
    /// The command's output, standard error included.
    pub lines: Vec<String>,
    /// Why this boot proves nothing: no verdict, or a kernel in trouble.
    pub trouble: Option<String>,
    /// Boots that crashed before the guest's own init, and were tried again.
    pub early_crashes: u32,
    /// All boots together.
    pub elapsed: Duration,
    /// The command's output.
    pub log: PathBuf,
}

impl Report {
    /// The command's status, or the trouble as an error.
    pub fn verdict(&self) -> Result<i32> {
        match (&self.trouble, self.status) {
            (None, Some(status)) => Ok(status),
            (Some(trouble), _) => bail!("{trouble}"),
            (None, None) => bail!("the guest told no exit status; see {}", self.log.display()),
        }
    }
}

impl VmRun {
    /// Two CPUs, 2 GiB, 64 huge pages, ten minutes.
    pub fn new(name: &str, kernel: &Kernel) -> Self {
        Self {
            name: name.to_owned(),
            kernel: kernel.clone(),
            append: Vec::new(),
            cpus: 2,
            memory: "2G".to_owned(),
            files: Vec::new(),
            command: None,
            timeout: Duration::from_secs(600),
            accel: Accel::Fastest,
            forward: None,
            bpffs: true,
            hugepages: 64,
        }
    }

    /// Boots, runs the command and gives each of its lines to `sink` as it comes.
    ///
    /// A boot that ends before the guest's own init is tried once more: the emulator's doing.
    pub fn run(&self, mut sink: impl FnMut(&str)) -> Result<Report> {
        let since = Instant::now();
        let mut early_crashes = 0;
        loop {
            let (mut report, again) = self.spawn()?.wait(&mut sink)?;
            if !again || early_crashes == 1 {
                report.early_crashes = early_crashes;
                report.elapsed = since.elapsed();
                return Ok(report);
            }
            early_crashes += 1;
            eprintln!(
                "{:>8} {}: ended before its init, booting again",
                "note", self.name
            );
        }
    }

    /// Boots and returns at once.
    pub fn spawn(&self) -> Result<Running> {
        let machine = Machine::new(self, &random_token())?;
        let mut command = machine.command(self);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{}`", qemu::display(&command)))?;
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take();
        thread::spawn(move || {
            for line in stdout
                .into_iter()
                .flat_map(|out| BufReader::new(out).split(b'\n'))
            {
                let Ok(line) = line else { break };
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        let since = Instant::now();
        Ok(Running {
            machine,
            child,
            lines,
            since,
            timeout: self.timeout,
        })
    }

    /// Boots into a shell on this terminal.
    pub fn interact(&self) -> Result<ExitStatus> {
        let machine = Machine::new(self, &random_token())?;
        let mut command = machine.command(self);
        command
            .status()
            .with_context(|| format!("cannot start `{}`", qemu::display(&command)))
    }
}

/// The files of one boot; the image goes when it ends.
struct Machine {
    token: String,
    initrd: PathBuf,
    log: PathBuf,
    kernel_log: PathBuf,
}

impl Machine {
    fn new(run: &VmRun, token: &str) -> Result<Self> {
        let dir = paths::vm_dir()?;
        let machine = Self {
            token: token.to_owned(),
            initrd: dir.join(format!("{}.{}.cpio", run.name, std::process::id())),
            log: dir.join(format!("{}.log", run.name)),
            kernel_log: dir.join(format!("{}.kernel.log", run.name)),
        };
        let _ = fs::remove_file(&machine.kernel_log);
        let settings = initramfs::Settings {
            token,
            command: run.command.as_deref(),
            bpffs: run.bpffs,
            hugepages: run.hugepages,
            network: run.forward.is_some(),
        };
        initramfs::write(&machine.initrd, &run.kernel, &run.files, &settings)?;
        Ok(machine)
    }

    fn command(&self, run: &VmRun) -> Command {
        qemu::command(run, &self.initrd, &self.kernel_log)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nobody to tell; `target` is a place for leftovers.
        let _ = fs::remove_file(&self.initrd);
    }
}

/// A guest at work. Dropping it ends the emulator.
pub struct Running {
    machine: Machine,
    child: Child,
    lines: Receiver<String>,
    since: Instant,
    timeout: Duration,
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
    fn wait(mut self, sink: &mut impl FnMut(&str)) -> Result<(Report, bool)> {
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

impl Machine {
    /// `why` with the end of the log that shows it.
    fn explain(&self, why: &str, output: &[String], kernel: &str) -> String {
        let section = |whose: &str, log: &PathBuf, lines: Vec<&str>| {
            if lines.is_empty() {
                return String::new();
            }
            let start = lines.len().saturating_sub(TAIL);
            let tail: String = lines[start..]
                .iter()
                .map(|line| format!("    | {line}\n"))
                .collect();
            format!(
                "\n  the {whose}'s last lines ({}):\n{}",
                log.display(),
                tail.trim_end()
            )
        };
        let output = output.iter().map(String::as_str).collect();
        format!(
            "{why}{}{}",
            section("command", &self.log, output),
            section("kernel", &self.kernel_log, kernel.lines().collect()),
        )
    }
}

/// Why a boot proves nothing, if it does not.
fn trouble(
    transcript: &Transcript,
    kernel: &str,
    late: Option<Duration>,
    emulator: &str,
) -> Option<String> {
    if let Some(line) = guest_log::complaint(kernel) {
        return Some(format!("the guest's kernel complained: {line}"));
    }
    if transcript.status.is_some() {
        return None;
    }
    let place = if transcript.began {
        "before a verdict"
    } else {
        "before its init"
    };
    let emulator = if emulator.is_empty() {
        String::new()
    } else {
        format!(": {emulator}")
    };
    Some(match late {
        Some(limit) => format!(
            "the guest hung {place}, for {} s{emulator}",
            limit.as_secs()
        ),
        None => format!("the guest ended {place}{emulator}"),
    })
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

/// A word that no guest program prints by chance.
fn random_token() -> String {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    format!("@@tracker-vm-{:x}-{:x}", now.as_nanos(), std::process::id())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn transcript(text: &str) -> Transcript {
        let mut transcript = Transcript::new("@@t");
        for line in text.lines() {
            transcript.push(line);
        }
        transcript
    }

    #[test]
    fn a_verdict_and_a_quiet_kernel_are_no_trouble() {
        let done = transcript("@@t begin\nx\n@@t exit 1\n");
        assert_eq!(trouble(&done, "[ 0.1] Linux version\n", None, ""), None);
    }

    #[test]
    fn a_warning_is_trouble_even_with_a_verdict() {
        let done = transcript("@@t begin\n@@t exit 0\n");
        let why = trouble(
            &done,
            "[ 3.1] WARNING: CPU: 0 PID: 1 at mm/x.c:3\n",
            None,
            "",
        );
        assert!(why.unwrap().contains("mm/x.c:3"));
    }

    #[test]
    fn processor_time_is_read_after_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 97 0 0 0 250 50 9 9 20 0 1 0 100 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("7 (a"), None);
        assert!(processor_time(std::process::id()).is_some());
    }

    #[test]
    fn a_missing_verdict_says_how_it_went_missing() {
        let begun = transcript("@@t begin\nx\n");
        let why = trouble(&begun, "", None, "").unwrap();
        assert!(why.contains("before a verdict"), "{why}");
        let why = trouble(&begun, "", Some(Duration::from_secs(9)), "").unwrap();
        assert!(why.contains("for 9 s"), "{why}");
        let why = trouble(&transcript(""), "", None, "no such machine").unwrap();
        assert!(why.contains("before its init: no such machine"), "{why}");
    }
}
