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

    /// Another line that it prints when it is at work.
    pub fn line(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
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

/// How many threads of a process are traced.
pub fn tracers(pid: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let is_traced = |thread: &fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status"));
        status.is_ok_and(|status| !status.contains("\nTracerPid:\t0\n"))
    };
    threads
        .filter(|thread| is_traced(thread.as_ref().unwrap()))
        .count()
}

/// A process and its descendants.
pub fn family(pid: u32) -> Vec<u32> {
    let children = |pid: u32| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        let tasks = tasks.into_iter().flatten();
        let lists =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
        lists.collect::<String>()
    };
    let (mut open, mut all) = (vec![pid], Vec::new());
    while let Some(pid) = open.pop() {
        let children = children(pid);
        let numbers = children.split_whitespace().map(str::parse::<u32>);
        open.extend(numbers.filter_map(Result::ok));
        all.push(pid);
    }
    all
}

/// Whoever has a userfaultfd open: a process or a descendant of it.
pub fn holders(pid: u32) -> Vec<String> {
    let links = |pid: u32| {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"));
        let links = entries.into_iter().flatten();
        let links = links.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let held = links.filter(|link| link.to_string_lossy().contains("userfaultfd"));
        held.map(move |link| format!("{pid}: {}", link.display()))
    };
    family(pid).into_iter().flat_map(links).collect()
}

/// Fails unless nothing is counted in a report, but for what it says whether there is any of.
pub fn nothing_noticed(report: &Value) {
    for (name, value) in report.as_object().unwrap() {
        let good = match value {
            Value::Number(count) => count.as_u64() == Some(0),
            Value::Bool(is_true) => *is_true,
            other => other.as_array().is_some_and(Vec::is_empty),
        };
        assert!(good, "{name} in {report}");
    }
}

/// A process that sleeps as long as a test takes.
pub fn sleeper() -> KilledChild {
    KilledChild(Command::new("sleep").arg("1000").spawn().unwrap())
}
