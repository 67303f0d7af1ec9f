//! The example workload keeps its promises on this host: its own oracles agree with what it
//! foretells.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use serde_json::Value;
use testbed::workload::{DISTURBED_RUNS, disturbed};
use uffd::{ProcVma, UffdError, smaps};

fn workload() -> assert_cmd::Command {
    assert_cmd::Command::new(cargo_bin("uffdwp-workload"))
}

fn rows() -> Vec<String> {
    let output = workload().arg("list").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

/// Whether a row succeeded, and its last line of JSON. A row that was disturbed runs again.
fn outcome(row: &str, pages: &str) -> (bool, Value) {
    let mut last = one_outcome(row, pages);
    for _ in 1..DISTURBED_RUNS {
        if !disturbed(&last.1) {
            break;
        }
        last = one_outcome(row, pages);
    }
    last
}

fn one_outcome(row: &str, pages: &str) -> (bool, Value) {
    let output = workload()
        .args(["run", row, "--pages", pages, "--rounds", "2"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let last = text
        .lines()
        .last()
        .unwrap_or_else(|| panic!("{row} printed nothing: {output:?}"));
    (output.status.success(), serde_json::from_str(last).unwrap())
}

/// 600 pages fill one table and a part of another.
#[test]
fn every_row_agrees_with_the_kernel_or_says_why_not() {
    let rows = rows();
    assert!(rows.len() > 80);
    for row in rows {
        let (success, last) = outcome(&row, "600");
        assert!(success, "{row}: {last:#}");
        match last["phase"].as_str().unwrap() {
            "done" => assert_eq!(last["agrees"], true, "{row}: {last:#}"),
            "skipped" => assert!(!last["skipped"].as_str().unwrap().is_empty(), "{row}"),
            phase => panic!("{row} ended with {phase}"),
        }
    }
}

#[test]
fn a_few_faults_of_the_machine_disturb_a_row() {
    let done = |faults: u64, armed: u64| {
        let checks = [
            ("page faults of writing", 1024, faults),
            ("pages armed at the end", 0, armed),
        ];
        let agrees = checks.iter().all(|(_, expected, found)| expected == found);
        let check = |(what, expected, measured)| serde_json::json!({"what": what, "expected": expected, "measured": measured});
        serde_json::json!({"agrees": agrees, "checks": checks.map(check)})
    };
    assert!(disturbed(&done(1025, 0)));
    for other in [(1024, 0), (1023, 0), (2048, 0), (1024, 1), (1025, 1)] {
        assert!(!disturbed(&done(other.0, other.1)), "{other:?}");
    }
}

#[test]
fn what_it_foretells_is_what_was_asked_for() {
    let (_, last) = outcome("anon-present-sync", "100");
    let samples = last["expected"].as_array().unwrap();
    let value = |family: &str, labels: &str| {
        let labels: Value = serde_json::from_str(labels).unwrap();
        samples
            .iter()
            .find(|s| s["family"] == family && s["labels"] == labels)
            .map(|s| &s["value"])
    };
    let faults = r#"[["backing","anon"],["mode","sync"],["entry","pte"]]"#;
    assert_eq!(value("uffdwp_faults_total", faults).unwrap(), 100);
    let tables = r#"[["backing","anon"],["level","pte"],["cause","fault"]]"#;
    assert_eq!(
        value("uffdwp_page_tables_allocated_total", tables).unwrap(),
        1
    );
    assert_eq!(
        value("uffdwp_pages", r#"[["backing","anon"],["state","armed"]]"#).unwrap(),
        0
    );
    assert_eq!(
        value(
            "uffdwp_pages",
            r#"[["backing","anon"],["state","written"]]"#
        )
        .unwrap(),
        100
    );
}

#[test]
fn an_unknown_row_is_wrong_usage() {
    workload()
        .args(["run", "no-such-row"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains(
            "`uffdwp-workload list` prints them",
        ));
}

/// A running workload, with its input and output.
struct RunningRow {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl RunningRow {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(cargo_bin("uffdwp-workload"));
        let pipes = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    fn phase(&mut self) -> Value {
        serde_json::from_str::<Value>(&self.line()).unwrap()["phase"].take()
    }

    fn newline(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Its VMAs that are registered for write-protection.
    fn tracked(&self) -> Vec<ProcVma> {
        let all: Result<Vec<_>, UffdError> = smaps(self.child.id()).unwrap().collect();
        all.unwrap()
            .into_iter()
            .filter(|vma| vma.flags.uffd_wp())
            .collect()
    }

    fn terminate(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

#[test]
fn steps_let_a_test_scrape_before_and_after() {
    let mut run = RunningRow::start(&["run", "anon-present-sync", "--step", "--wait-for-newline"]);
    run.newline();
    assert_eq!(run.phase(), "ready");
    assert!(
        run.tracked().is_empty(),
        "nothing is mapped before the work"
    );
    run.newline();
    assert_eq!(run.phase(), "done");
    let tracked = run.tracked();
    assert_eq!(tracked.len(), 1);
    assert_eq!(tracked[0].start, 0x1000_0000_0000);
    run.newline();
    assert!(run.child.wait().unwrap().success());
}

#[test]
fn held_until_terminated() {
    let mut run = RunningRow::start(&["run", "anon-present-sync", "--hold"]);
    assert_eq!((run.phase(), run.phase()), ("ready".into(), "done".into()));
    assert_eq!(run.tracked().len(), 1);
    assert!(run.terminate());
}

#[test]
fn facts_of_one_run_serve_the_next() {
    let facts = workload().arg("facts").output().unwrap().stdout;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), facts).unwrap();
    let path = file.path().to_str().unwrap();
    workload()
        .args(["run", "anon-present-sync", "--facts", path])
        .assert()
        .success();

    std::fs::write(file.path(), "no facts").unwrap();
    workload()
        .args(["run", "anon-present-sync", "--facts", path])
        .assert()
        .failure()
        .stderr(predicate::str::contains("is not the output of `facts`"));
}

#[test]
fn the_demo_tracks_several_areas_until_it_is_terminated() {
    let mut demo = RunningRow::start(&["demo"]);
    while !demo.line().starts_with("pid ") {}
    assert!(!demo.tracked().is_empty());
    assert!(demo.terminate());
}
