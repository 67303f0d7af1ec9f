//! What `tracker track` prints and records.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::{code_and_error, track, track_pid};
use testbed::script::{ANON, ScriptProcess};
use tracker::track::recording::{MemoryBudget, RecordingReader};

/// The lines of JSON: header, rounds, summary.
pub fn lines(text: &[u8]) -> (Value, Vec<Value>, Value) {
    let text = std::str::from_utf8(text).unwrap();
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let summary = lines.pop().unwrap();
    let header = lines.remove(0);
    assert_eq!(
        (&header["type"], &summary["type"]),
        (&"header".into(), &"summary".into())
    );
    for (number, round) in lines.iter().enumerate() {
        assert_eq!(
            (&round["type"], &round["number"]),
            (&"round".into(), &number.into())
        );
    }
    (header, lines, summary)
}

/// The addresses of written and of unknown pages.
pub fn sets<'a>(rounds: impl IntoIterator<Item = &'a Value>) -> [BTreeSet<u64>; 2] {
    let mut sets = [BTreeSet::new(), BTreeSet::new()];
    for mapping in rounds
        .into_iter()
        .flat_map(|round| round["mappings"].as_array().unwrap())
    {
        for extent in mapping["written"].as_array().unwrap() {
            let start = address(&extent["start"]);
            let set = &mut sets[usize::from(extent["unknown"].as_bool().unwrap())];
            set.extend((0..extent["pages"].as_u64().unwrap()).map(|page| start + page * 4096));
        }
    }
    sets
}

fn address(text: &Value) -> u64 {
    u64::from_str_radix(text.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn sum(round: &Value, count: &str) -> u64 {
    let mappings = round["mappings"].as_array().unwrap();
    mappings
        .iter()
        .map(|mapping| mapping["pages"][count].as_u64().unwrap())
        .sum()
}

#[test]
fn lines_of_json_agree_with_their_summary() {
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(ANON, 256);
    script.tell(&format!("store {number} 1 1 0-99"));
    let pid = script.pid().to_string();
    let mut child = track(&["--pid", &pid, "--json", "-n", "40", "-i", "5ms"]);
    let child = child.stdout(std::process::Stdio::piped()).spawn().unwrap();
    // Store from before the first arming until it ends: what is written meanwhile is in some round.
    let output = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| child.wait_with_output().unwrap());
        for turn in 0.. {
            script.tell(&format!(
                "store {number} {turn} 2 {}-{}",
                turn % 200,
                turn % 200 + 20
            ));
            if waiting.is_finished() {
                break;
            }
        }
        waiting.join().unwrap()
    });
    assert!(output.status.success());
    let (header, rounds, summary) = lines(&output.stdout);
    assert_eq!(header["pid"], script.pid());
    assert_eq!((rounds.len(), &summary["rounds"]), (41, &40.into()));
    assert_eq!(
        (&summary["end"], &summary["status"]),
        (&"done".into(), &Value::Null)
    );
    let [written, unknown] = sets(&rounds);
    assert!(
        written.iter().any(|page| area.range.contains(page)),
        "nothing was written"
    );
    assert_eq!(summary["written_set"], written.len());
    assert_eq!(summary["unknown_set"], unknown.difference(&written).count());
    assert_eq!(
        summary["written"],
        rounds
            .iter()
            .map(|round| sum(round, "written"))
            .sum::<u64>()
    );
    assert_eq!(
        summary["tracked"],
        rounds
            .iter()
            .map(|round| sum(round, "tracked"))
            .max()
            .unwrap()
    );
    for round in &rounds {
        let sets = sets([round]);
        let counts = [sum(round, "written"), sum(round, "unknown")];
        assert_eq!(sets.map(|set| set.len() as u64), counts, "{round}");
    }
}

#[test]
fn as_long_and_as_often_as_asked_for() {
    let script = ScriptProcess::start();
    let of = |args: &[&str]| {
        let output = track_pid(&script, &[&["--json", "-i", "20ms"], args].concat());
        let (_, _, summary) = lines(&output.stdout);
        assert_eq!(summary["end"], "done", "{args:?}");
        summary
    };
    assert_eq!(of(&["-n", "3"])["rounds"], 3);
    let summary = of(&["-d", "300ms"]);
    assert!(
        summary["lasted_seconds"].as_f64().unwrap() >= 0.3,
        "{summary}"
    );
    assert!(summary["rounds"].as_u64().unwrap() <= 16, "{summary}");
    assert_eq!(of(&["-d", "60s", "-n", "1"])["rounds"], 1);
}

#[test]
fn a_table_for_people() {
    let mut script = ScriptProcess::start();
    let (number, _) = script.map(ANON, 64);
    script.tell(&format!("store {number} 1 1 0-63"));
    let output = track_pid(&script, &["-n", "2", "-i", "5ms"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for told in [
        "strategy",
        "ROUND",
        "WRITTEN",
        "done: 2 rounds",
        "never reported as written",
    ] {
        assert!(text.contains(told), "{told:?}: {text}");
    }
    assert!(
        !text.contains('\x1b'),
        "no terminal is there to be drawn on"
    );
}

#[test]
fn a_file_that_exists_is_kept() {
    let script = ScriptProcess::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording");
    let file = path.to_str().unwrap();
    fs::write(&path, "dear").unwrap();
    let (code, error) = code_and_error(&track_pid(&script, &["-n", "1", "-o", file]));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains(file) && error.contains("--force"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"dear");
    // Not even --force replaces it before there is something new.
    let pid = script.pid().to_string();
    drop(script);
    let args = ["--pid", &pid, "-n", "1", "--force", "-o", file];
    assert_eq!(track(&args).output().unwrap().status.code(), Some(1));
    assert_eq!(fs::read(&path).unwrap(), b"dear");
    let script = ScriptProcess::start();
    let args = ["-n", "1", "-i", "5ms", "--force", "-o", file];
    assert_eq!(code_and_error(&track_pid(&script, &args)).0, Some(0));
    let recorded = fs::read(&path).unwrap();
    let reader = RecordingReader::new(&*recorded, MemoryBudget::DEFAULT).unwrap();
    assert_eq!(reader.header().pid, script.pid());
}

#[test]
fn no_empty_file_is_left_of_a_failure() {
    let script = ScriptProcess::start();
    let pid = script.pid().to_string();
    drop(script);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording");
    let args = ["--pid", &pid, "-o", path.to_str().unwrap()];
    assert_eq!(track(&args).output().unwrap().status.code(), Some(1));
    assert!(!path.exists());
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let script = ScriptProcess::start();
    let path = "/no/such/directory/recording";
    let (code, error) = code_and_error(&track_pid(&script, &["-o", path]));
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains(path) && error.contains("No such file"),
        "{error}"
    );
}

/// Who may read addresses and arguments of a process may attack it.
#[test]
fn what_is_recorded_is_for_its_owner_and_has_no_arguments() {
    let script = ScriptProcess::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("recording");
    let file = path.to_str().unwrap();
    for (flags, arguments) in [(&["-n", "1"][..], 1), (&["-n", "1", "--arguments"], 2)] {
        let args = [flags, &["-i", "5ms", "--force", "-o", file]].concat();
        let (code, error) = code_and_error(&track_pid(&script, &args));
        assert_eq!(code, Some(0), "{error}");
        let recorded = fs::read(&path).unwrap();
        let reader = RecordingReader::new(&*recorded, MemoryBudget::DEFAULT).unwrap();
        assert_eq!(reader.header().command.len().min(2), arguments);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_pipe_is_refused_at_once() {
    let script = ScriptProcess::start();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let args = ["--force", "-o", path.to_str().unwrap()];
    let (code, error) = code_and_error(&track_pid(&script, &args));
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("is a pipe"), "{error}");
}
