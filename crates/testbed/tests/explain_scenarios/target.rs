//! The process in which scenarios act.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::ops::Range;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use uffd::PAGE_SIZE;

use testbed::{KilledChild, program};

/// Where a scenario has acted.
#[derive(Clone, Debug)]
pub struct ActedGround {
    /// The addresses of the mapping.
    pub range: Range<u64>,
    /// Numbers, from its start on, of the pages to which something was done.
    pub hit: BTreeSet<u64>,
}

impl ActedGround {
    /// How many pages the mapping has.
    pub fn pages(&self) -> u64 {
        (self.range.end - self.range.start) / PAGE_SIZE
    }
}

/// How scenarios act.
#[derive(Clone, Copy, Debug)]
pub struct ScenarioSetup {
    /// Decides everything random.
    pub seed: u64,
    /// Pages of most scenarios.
    pub pages: u64,
    pub threads: u64,
}

/// Why a scenario cannot run here.
pub struct ScenarioExcuse {
    /// Whether it is the kernel that cannot do it, and not the machine.
    pub of_kernel: bool,
    /// What is missing.
    pub why: String,
}

/// The process of `uffdwp-workload scenarios`.
pub struct ScenarioTarget {
    process: KilledChild,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// The scenarios that cannot run here.
    pub excused: BTreeMap<String, ScenarioExcuse>,
}

impl ScenarioTarget {
    /// Prepares the scenarios called `names`; all if there are none.
    pub fn start(names: &[&str], how: ScenarioSetup) -> Self {
        let mut command = workload();
        let ScenarioSetup {
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
            let mut words = line.strip_prefix("excused ").unwrap().splitn(3, ' ');
            let [name, part, why] = [(); 3].map(|()| words.next().unwrap());
            let excuse = ScenarioExcuse {
                of_kernel: part == "kernel",
                why: why.to_owned(),
            };
            target.excused.insert(name.to_owned(), excuse);
        }
        target
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Lets the scenarios act; returns where each did, or why the kernel refused it.
    pub fn act(&mut self) -> BTreeMap<String, Result<ActedGround, String>> {
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

/// Whether scenarios may change settings of the machine: in guests, or where the user allows it.
fn may_change_machine() -> bool {
    ["TRACKER_VM", "EXPLAIN_MACHINE"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

fn parse(line: &str) -> (String, Result<ActedGround, String>) {
    let (what, rest) = line.split_once(' ').unwrap();
    let (name, rest) = rest.split_once(' ').unwrap();
    let came = match what {
        "acted" => Ok(ground(rest)),
        "refused" => Err(rest.to_owned()),
        _ => panic!("{line}"),
    };
    (name.to_owned(), came)
}

fn ground(text: &str) -> ActedGround {
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
    ActedGround {
        range: address(start)..address(end),
        hit,
    }
}
