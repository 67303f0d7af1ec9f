//! Exit statuses, and what is printed with them: what failed, on what, why, and what to do.

use std::process::Command;

use crate::{code_and_error, track, track_pid};
use testbed::script::ScriptProcess;
use testbed::{KilledChild, privileges};

#[test]
fn nothing_to_complain_about() {
    let script = ScriptProcess::start();
    let (code, error) = code_and_error(&track_pid(&script, &["-n", "2", "-i", "5ms"]));
    assert_eq!((code, error.as_str()), (Some(0), ""));
}

#[test]
fn a_process_that_is_not_there() {
    let script = ScriptProcess::start();
    let pid = script.pid().to_string();
    drop(script);
    let (code, error) = code_and_error(&track(&["--pid", &pid]).output().unwrap());
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains(&pid) && error.contains("does not exist"),
        "{error}"
    );
}

/// A process with a name that no other has.
fn named(name: &str) -> KilledChild {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::copy("/bin/sleep", &path).unwrap();
    let child = KilledChild(Command::new(&path).arg("1000").spawn().unwrap());
    let comm = format!("/proc/{}/comm", child.0.id());
    testbed::eventually("it has its name", || {
        (std::fs::read_to_string(&comm).unwrap().trim() == name).then_some(())
    });
    child
}

#[test]
fn a_name_of_nobody_one_and_two() {
    let name = format!("tt-{}", std::process::id());
    let args = ["--comm", &name, "-n", "1", "-i", "5ms"];
    let (code, error) = code_and_error(&track(&args).output().unwrap());
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains(&name) && error.contains("no process"),
        "{error}"
    );
    let one = named(&name);
    let (code, error) = code_and_error(&track(&args).output().unwrap());
    assert_eq!((code, error.as_str()), (Some(0), ""));
    let two = named(&name);
    let (code, error) = code_and_error(&track(&args).output().unwrap());
    assert_eq!(code, Some(1), "{error}");
    for told in [&one.0.id().to_string(), &two.0.id().to_string(), "--pid"] {
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn wrong_usage() {
    let wrong: [&[&str]; 9] = [
        &[],
        &["--pid", "1", "--comm", "x"],
        &["--pid", "0"],
        &["--pid", "1", "--interval", "0s"],
        &["--pid", "1", "--interval", "5"],
        &["--pid", "1", "--rounds", "0"],
        &["--pid", "1", "--strategy", "marker"],
        &["--pid", "1", "--strategy", "mprotect"],
        &["--pid", "1", "--force"],
    ];
    for args in wrong {
        let (code, error) = code_and_error(&track(args).output().unwrap());
        assert_eq!(code, Some(2), "{args:?}: {error}");
        assert!(error.contains("error: "), "{args:?}: {error}");
    }
}

#[test]
fn a_process_of_another_user() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root, to become somebody else");
        return;
    }
    let script = ScriptProcess::start();
    let pid = script.pid().to_string();
    let command = track(&["--pid", &pid, "-n", "1"]);
    let output = privileges::as_nobody_with(command, privileges::capabilities(&[])).output();
    let (code, error) = code_and_error(&output.unwrap());
    assert_eq!(code, Some(3), "{error}");
    assert!(
        error.contains(&pid) && error.contains("CAP_SYS_PTRACE"),
        "{error}"
    );
}
