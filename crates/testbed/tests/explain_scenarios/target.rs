//! The process in which scenarios are acted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::ops::Range;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use uffd::PAGE_SIZE;

use testbed::{KilledChild, program};

/// Where a scenario has acted.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Its addresses.
    pub range: Range<u64>,
    /// Numbers of the pages, from its start on, that something was done to.
    pub hit: BTreeSet<u64>,
}

impl Ground {
    /// How many pages it has.
    pub fn pages(&self) -> u64 {
        (self.range.end - self.range.start) / PAGE_SIZE
    }
}

/// How scenarios are acted.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Decides all that is random.
    pub seed: u64,
    /// Of most scenarios.
    pub pages: u64,
    pub threads: u64,
}

/// The process.
pub struct Target {
    process: KilledChild,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What cannot be made here, and why.
    pub excused: BTreeMap<String, String>,
}

impl Target {
    /// Prepares scenarios, all of them if none is named.
    pub fn start(names: &[&str], how: How) -> Self {
        let mut command = workload();
        let How {
            seed,
            pages,
            threads,
        } = how;
        command
            .args(names)
            .args(["--seed", &seed.to_string()])
            .args(["--pages", &pages.to_string()])
            .args(["--threads", &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if may_change_machine() {
            command.arg("--machine");
        }
        let mut process = KilledChild(command.spawn().unwrap());
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let mut target = Self {
            stdin: process.0.stdin.take().unwrap(),
            process,
            lines,
            excused: BTreeMap::new(),
        };
        for line in target.lines_until("ready") {
            let (name, why) = line
                .strip_prefix("excused ")
                .unwrap()
                .split_once(' ')
                .unwrap();
            target.excused.insert(name.to_owned(), why.to_owned());
        }
        target
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Has it act; where each scenario did, or why the kernel refused it.
    pub fn act(&mut self) -> BTreeMap<String, Result<Ground, String>> {
        writeln!(self.stdin, "act").unwrap();
        let lines = self.lines_until("done");
        lines.iter().map(|line| parse(line)).collect()
    }

    fn lines_until(&mut self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.lines.next();
            let line = line
                .unwrap_or_else(|| panic!("it ended before `{last}`"))
                .unwrap();
            if line == last {
                return lines;
            }
            lines.push(line);
        }
    }
}

/// The names of all scenarios.
pub fn names() -> Vec<String> {
    let output = workload().args(["--seed", "0", "--list"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn workload() -> Command {
    let path = program("uffdwp-workload");
    let mut command = Command::new(path);
    command.arg("scenarios");
    command
}

/// In a guest, or where somebody says so.
fn may_change_machine() -> bool {
    ["TRACKER_VM", "EXPLAIN_MACHINE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

fn parse(line: &str) -> (String, Result<Ground, String>) {
    let (what, rest) = line.split_once(' ').unwrap();
    let (name, rest) = rest.split_once(' ').unwrap();
    let came = match what {
        "acted" => Ok(ground(rest)),
        "refused" => Err(rest.to_owned()),
        _ => panic!("{line}"),
    };
    (name.to_owned(), came)
}

fn ground(text: &str) -> Ground {
    let words: Vec<_> = text.split(' ').collect();
    let [start, end, pages] = words[..] else {
        panic!("{text}")
    };
    let address = |text| u64::from_str_radix(text, 16).unwrap();
    let run = |text: &str| {
        let (first, last) = text.split_once('-').unwrap();
        first.parse::<u64>().unwrap()..=last.parse::<u64>().unwrap()
    };
    let hit = match pages {
        "-" => BTreeSet::new(),
        pages => pages.split(',').flat_map(run).collect(),
    };
    Ground {
        range: address(start)..address(end),
        hit,
    }
}
