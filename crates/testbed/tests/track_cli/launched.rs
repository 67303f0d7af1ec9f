//! `tracker track -- CMD`.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::Value;

use crate::output::{lines, sets};
use crate::{code_and_error, track};
use testbed::{eventually, program};

#[test]
fn its_status_passes_through() {
    for (script, expected) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let output = track(&["--", "sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{script}: {output:?}");
        assert!(
            output.stdout.is_empty(),
            "{script}: standard output is not ours"
        );
    }
}

#[test]
fn what_cannot_be_executed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    fs::write(&path, "no program").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for (program, expected) in [("/no/such/program", 127), (path.to_str().unwrap(), 126)] {
        let (code, error) = code_and_error(&track(&["--", program]).output().unwrap());
        assert_eq!(code, Some(expected), "{error}");
        assert!(
            error.contains("cannot execute") && error.contains(program),
            "{error}"
        );
    }
}

/// A failure of tracker is 125, and what could not be tracked never ran.
#[test]
fn what_cannot_be_tracked_does_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let (taken, mark) = (
        directory.path().join("taken"),
        directory.path().join("it ran"),
    );
    fs::write(&taken, "dear").unwrap();
    let args = [
        "-o",
        taken.to_str().unwrap(),
        "--",
        "touch",
        mark.to_str().unwrap(),
    ];
    let (code, error) = code_and_error(&track(&args).output().unwrap());
    assert_eq!(code, Some(125), "{error}");
    assert!(error.contains("--force"), "{error}");
    assert!(!mark.exists());
}

#[test]
fn it_has_its_own_input_and_output_and_is_tracked_from_its_first_page() {
    let workload = program("uffdwp-workload");
    let mut command = track(&[
        "--json",
        "--arguments",
        "-i",
        "10ms",
        "--",
        &workload,
        "script",
    ]);
    let command = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut say = |line: &str| {
        writeln!(stdin, "{line}").unwrap();
        answers.next().unwrap().unwrap()
    };
    assert_eq!(say("map anon 64"), "ready");
    let range = say("store 0 1 1 3,60");
    let start = u64::from_str_radix(range.split_once(' ').unwrap().0, 16).unwrap();
    assert_eq!(say("load 0 1"), "ok");
    // Read until rounds have both pages; one comes every 10 ms.
    let mut text = told.next().unwrap().unwrap() + "\n";
    let mut rounds: Vec<Value> = Vec::new();
    eventually("the pages are told", || {
        let line = told.next().unwrap().unwrap();
        rounds.push(serde_json::from_str(&line).unwrap());
        text += &(line + "\n");
        let [written, unknown] = sets(&rounds);
        let seen = |page: u64| {
            written.contains(&(start + page * 4096)) || unknown.contains(&(start + page * 4096))
        };
        (seen(3) && seen(60)).then_some(())
    });
    assert_eq!(say("exit 5"), "ok");
    told.for_each(|line| text += &(line.unwrap() + "\n"));
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let (header, rounds, summary) = lines(text.as_bytes());
    assert_eq!(header["command"][1], "script");
    assert_eq!(
        (&summary["status"], &summary["end"]),
        (&5.into(), &"exited".into())
    );
    // Its data, which the dynamic linker writes before the program does anything itself.
    let mut mappings = rounds
        .iter()
        .flat_map(|round| round["mappings"].as_array().unwrap());
    let touched = mappings.any(|mapping| {
        let name = mapping["name"].as_str().unwrap();
        name.ends_with("uffdwp-workload") && !mapping["written"].as_array().unwrap().is_empty()
    });
    assert!(touched, "its data were written");
}

/// At round 0 the first instruction has not run: hardly anything is there.
#[test]
fn round_0_is_before_its_first_instruction() {
    let output = track(&["--json", "--", "sh", "-c", "exit 0"])
        .output()
        .unwrap();
    let (_, rounds, _) = lines(&output.stderr);
    let names = rounds[0].to_string();
    assert!(!names.contains("libc"), "no library is mapped yet: {names}");
    let [written, unknown] = sets(&rounds[..1]);
    assert!(
        written.is_empty() && unknown.len() < 40,
        "{}",
        unknown.len()
    );
}
