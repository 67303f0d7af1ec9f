//! Targets of an injection, and the injection.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use pages::inject::{self, InjectError, InjectOptions, InjectedUffd};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::{KilledChild, program};

/// A process of `inject-target`, or another one that begins with a line `ready`.
pub struct InjectTarget {
    /// The process, which is killed at the end of the test.
    pub process: KilledChild,
    lines: Lines<BufReader<ChildStdout>>,
}

impl InjectTarget {
    /// Starts a case, and waits until it is at work.
    pub fn start(case: &str) -> Self {
        let path = program("inject-target");
        let mut command = Command::new(path);
        Self::spawn(command.arg(case).stdin(Stdio::null()))
    }

    /// Starts a case that works until its standard input ends, and waits until it does.
    pub fn until_asked(case: &str) -> Self {
        let path = program("inject-target");
        let mut command = Command::new(path);
        Self::spawn(command.arg(case).stdin(Stdio::piped()))
    }

    /// Starts a target that computes until [`Self::end`].
    pub fn computing() -> Self {
        Self::until_asked("checksum-until-asked")
    }

    /// Ends a case that works until then; what it reports.
    pub fn ask(&mut self) -> Value {
        drop(self.process.0.stdin.take());
        self.report().0
    }

    /// Ends a target that computes; its memory must be right, and its descriptors the same as
    /// before.
    pub fn end(mut self) {
        let report = self.ask();
        assert_eq!(report["wrong words"], 0, "{report}");
        assert_eq!(
            report["further descriptors"],
            serde_json::json!([]),
            "{report}"
        );
    }

    /// Starts another program.
    pub fn spawn(command: &mut Command) -> Self {
        let mut process = KilledChild(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        Self { process, lines }
    }

    /// Pid of the process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.process.0), signal).unwrap();
    }

    /// What it reports at its end, and how long it worked.
    pub fn report(&mut self) -> (Value, u64) {
        let line = self.lines.next();
        let line = line.unwrap_or_else(|| panic!("ended early: {:?}", self.process.0.wait()));
        let mut report: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let took = report.as_object_mut().unwrap().remove("took_ms");
        assert!(self.process.0.wait().unwrap().success());
        (report, took.and_then(|took| took.as_u64()).unwrap_or(0))
    }

    /// State of the process, as in `/proc/PID/stat`.
    pub fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit_once(')')
            .unwrap()
            .1
            .trim()
            .chars()
            .next()
            .unwrap()
    }
}

/// Options that suit an emulated machine.
pub fn options() -> InjectOptions {
    InjectOptions {
        helper: program("tracker").into(),
        // An emulated machine is slow.
        longest_stop: Duration::from_secs(20),
        ..InjectOptions::default()
    }
}

/// Takes a userfaultfd from a process with those options.
pub fn inject(pid: u32) -> Result<InjectedUffd, InjectError> {
    inject::userfaultfd(pid, &options())
}

/// A process that sleeps as long as a test takes.
pub fn sleeper() -> KilledChild {
    KilledChild(Command::new("sleep").arg("1000").spawn().unwrap())
}
