//! A process of `uffdwp-workload calls`: a tracker that makes each call as it is told.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::ops::Range;
use std::process::{ChildStdout, Command, Stdio};

use uffd::{PAGE_SIZE, UffdFeatures};

use super::KilledChild;
use super::client::ClientTarget;
use super::script::ScriptMemory;

/// Such a process, and the one whose memory it tracks, which may be itself.
pub struct CallingTracker {
    process: KilledChild,
    lines: Lines<BufReader<ChildStdout>>,
    pid: u32,
}

impl CallingTracker {
    /// Starts one.
    pub fn start(target: ClientTarget) -> Self {
        let mut command = Command::new(super::program("uffdwp-workload"));
        command
            .args(["calls", "--target", target.as_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = KilledChild(command.spawn().unwrap());
        let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let pid = first.strip_prefix("tracks ").unwrap();
        Self {
            pid: pid.parse().unwrap(),
            process,
            lines,
        }
    }

    /// The process whose memory it tracks.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Has it do something; returns its answer.
    pub fn say(&mut self, line: &str) -> String {
        writeln!(self.process.0.stdin.as_mut().unwrap(), "{line}").unwrap();
        let said = self.lines.next();
        said.unwrap_or_else(|| panic!("it ended at `{line}`"))
            .unwrap()
    }

    /// Has it do something, which it must answer with `ok`.
    pub fn tell(&mut self, line: &str) {
        assert_eq!(self.say(line), "ok", "{line}");
    }

    /// Maps memory in the process that is tracked: areas count from 0.
    pub fn map(&mut self, kind: ScriptMemory, pages: u64) -> Range<u64> {
        range(&self.say(&format!("do map {} {pages}", kind.0)))
    }

    /// Moves an area to another place.
    pub fn move_area(&mut self, number: u64) -> Range<u64> {
        range(&self.say(&format!("do move {number}")))
    }

    /// Opens a userfaultfd and registers memory with it.
    pub fn register(&mut self, features: UffdFeatures, range: &Range<u64>, mode: u64) {
        self.tell(&format!("open {:x}", features.0));
        self.on("register", range, &format!("{mode:x}"));
    }

    /// Makes a call on a range.
    pub fn on(&mut self, call: &str, range: &Range<u64>, rest: &str) {
        let Range { start, end } = range;
        self.tell(format!("{call} {start:x} {end:x} {rest}").trim_end());
    }

    /// How many pages of a range a PAGEMAP_SCAN tells, which arms them.
    pub fn scan(&mut self, range: &Range<u64>) -> u64 {
        let Range { start, end } = range;
        self.say(&format!("scan {start:x} {end:x}"))
            .parse()
            .unwrap()
    }
}

fn range(answer: &str) -> Range<u64> {
    let (start, end) = answer.split_once(' ').unwrap();
    let address = |text| u64::from_str_radix(text, 16).unwrap();
    address(start)..address(end)
}

/// Pages of a range, by their numbers in it.
pub fn part(range: &Range<u64>, pages: Range<u64>) -> Range<u64> {
    range.start + pages.start * PAGE_SIZE..range.start + pages.end * PAGE_SIZE
}
