//! The example workload: a process with a known number of events.

use super::KilledChild;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// A row that has run, and holds its memory until it is dropped.
pub struct HeldRow {
    process: KilledChild,
    /// What every series must say, as the row prints it.
    pub expected: Vec<ExpectedSeries>,
}

/// The machine disturbed a row.
struct RowDisturbed;

/// How often a row may be [`disturbed`] before that is a failure.
pub const DISTURBED_RUNS: usize = 3;

/// Whether all that a row's last line disagrees in is that its thread took a few page faults too
/// many. getrusage(2) tells those of the whole thread: when the machine reclaims or migrates a page
/// of its program or stack, it takes one more.
pub fn disturbed(done: &Value) -> bool {
    const OTHERS: i64 = 16;
    let number = |check: &Value, key: &str| check[key].as_i64();
    let agrees = |check: &&Value| number(check, "expected") == number(check, "measured");
    let of_others = |check: &Value| {
        let what = check["what"].as_str().unwrap_or_default();
        let more = number(check, "measured").zip(number(check, "expected"));
        let more = more.map_or(0, |(measured, expected)| measured - expected);
        what.starts_with("page faults of ") && (1..=OTHERS).contains(&more)
    };
    let checks = done["checks"].as_array().map(Vec::as_slice);
    let wrong = checks.unwrap_or_default().iter().filter(|c| !agrees(c));
    let wrong: Vec<_> = wrong.collect();
    done["agrees"] == false && !wrong.is_empty() && wrong.into_iter().all(of_others)
}

/// A series that the row expects.
#[derive(Clone, Debug)]
pub struct ExpectedSeries {
    /// Name of the family.
    pub family: String,
    /// Labels with their values.
    pub labels: Vec<(String, String)>,
    /// The value that it must have.
    pub value: f64,
    /// Of how many VMAs the same is true.
    pub repeat: f64,
}

impl HeldRow {
    /// Runs a row; `None` if it says that it cannot run here. A row that was [`disturbed`] runs
    /// again.
    pub fn run(row: &str) -> Option<Self> {
        for _ in 0..DISTURBED_RUNS {
            let outcome = Self::try_run(row)?;
            if let Ok(held) = outcome {
                return Some(held);
            }
        }
        panic!("{row} was disturbed {DISTURBED_RUNS} times");
    }

    /// Runs a row once; `Err` if it was [`disturbed`].
    fn try_run(row: &str) -> Option<Result<Self, RowDisturbed>> {
        let mut command = Command::new(path());
        command.args(["run", row, "--hold"]).stdout(Stdio::piped());
        let mut process = KilledChild(command.spawn().unwrap());
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        for line in lines.map(Result::unwrap) {
            let line: Value = serde_json::from_str(&line).unwrap();
            match line["phase"].as_str() {
                Some("skipped") => {
                    eprintln!("skipped: {line}");
                    return None;
                }
                Some("done") if disturbed(&line) => {
                    eprintln!("disturbed: {line}");
                    return Some(Err(RowDisturbed));
                }
                Some("done") => {
                    assert_eq!(line["agrees"], true, "{line:#}");
                    let samples = line["expected"].as_array().unwrap();
                    let expected = samples.iter().map(ExpectedSeries::parse).collect();
                    return Some(Ok(Self { process, expected }));
                }
                _ => {}
            }
        }
        panic!("{row} ended without a result: {:?}", process.0.wait());
    }

    /// Pid of the process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }
}

/// The full names of all rows.
pub fn rows() -> Vec<String> {
    let output = Command::new(path()).arg("list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

fn path() -> String {
    super::program("uffdwp-workload")
}

impl ExpectedSeries {
    fn parse(sample: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut labels = vec![("pid".to_owned(), sample["pid"].to_string())];
        if let Some(vma) = sample["vma"].as_str() {
            labels.push(("vma".into(), format!("0x{}", vma.trim_start_matches("0x"))));
        }
        let further = sample["labels"].as_array().unwrap();
        labels.extend(further.iter().map(|pair| (text(&pair[0]), text(&pair[1]))));
        let value = sample["value"].as_f64().unwrap();
        Self {
            family: text(&sample["family"]),
            labels,
            value,
            repeat: sample["repeat"]["count"].as_f64().unwrap_or(1.0),
        }
    }

    /// The value in an exposition; `None` if the series is not there.
    pub fn in_exposition(&self, exposition: &str) -> Option<f64> {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(k, v)| format!("{k}=\"{v}\""))
            .collect();
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        super::sum(exposition, &self.family, &labels)
    }

    /// The value of a label; empty if there is none.
    pub fn label(&self, key: &str) -> &str {
        self.labels
            .iter()
            .find(|(k, _)| k == key)
            .map_or("", |(_, value)| value)
    }

    /// The series as a selector of PromQL.
    pub fn selector(&self) -> String {
        let labels: Vec<_> = self
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v:?}"))
            .collect();
        format!("{}{{{}}}", self.family, labels.join(","))
    }
}

/// A row that waits between its set-up, its work and its end.
pub struct SteppedRow {
    process: KilledChild,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    /// What every series must say after [`SteppedRow::work`].
    pub expected: Vec<ExpectedSeries>,
    /// How many tables `VmPTE` gained by the work.
    pub page_tables_gained: f64,
}

/// A row whose process is there but has not used userfaultfd yet.
pub struct WaitingRow(SteppedRow);

impl WaitingRow {
    /// Does the set-up; `None` if it says that it cannot run here.
    pub fn begin(mut self) -> Option<SteppedRow> {
        self.0.go();
        self.0.ready()
    }
}

/// Writes what the self-test finds to a file for `--facts`.
pub fn write_facts(file: &std::path::Path) {
    let output = Command::new(path()).arg("facts").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::write(file, output.stdout).unwrap();
}

impl SteppedRow {
    /// Does the set-up of a row; `None` if it says that it cannot run here.
    pub fn start(row: &str, args: &[&str]) -> Option<Self> {
        Self::spawn(row, args).ready()
    }

    /// Starts a row with `--wait-for-newline`.
    pub fn waiting(row: &str, args: &[&str]) -> WaitingRow {
        WaitingRow(Self::spawn(row, args))
    }

    fn spawn(row: &str, args: &[&str]) -> Self {
        let mut command = Command::new(path());
        command.args(["run", row, "--step"]).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = KilledChild(command.spawn().unwrap());
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        Self {
            process,
            lines,
            expected: Vec::new(),
            page_tables_gained: 0.0,
        }
    }

    fn ready(mut self) -> Option<Self> {
        let line = self.line("ready");
        (line["phase"] == "ready").then_some(self)
    }

    /// Lets the row take its next step.
    pub fn go(&mut self) {
        use std::io::Write as _;
        let stdin = self.process.0.stdin.as_mut().unwrap();
        stdin.write_all(b"\n").unwrap();
    }

    /// Does the work; the memory is still there afterwards.
    pub fn work(&mut self) {
        self.go();
        let done = self.line("done");
        assert_eq!(
            done["agrees"], true,
            "the row does not agree with itself: {done:#}"
        );
        self.expected = done["expected"]
            .as_array()
            .unwrap()
            .iter()
            .map(ExpectedSeries::parse)
            .collect();
        let bytes = |when: &str| done["page_table_bytes"][when].as_f64().unwrap();
        self.page_tables_gained = (bytes("after") - bytes("before")) / 4096.0;
    }

    fn line(&mut self, phase: &str) -> Value {
        loop {
            let Some(line) = self.lines.next() else {
                panic!("the row ended before {phase}: {:?}", self.process.0.wait());
            };
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if line["phase"] == phase || line["phase"] == "skipped" || !line["skipped"].is_null() {
                return line;
            }
        }
    }

    /// Pid of the process.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }
}
