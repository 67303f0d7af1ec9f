//! A container that has the host's `/proc` and a pid namespace of its own: one number means two
//! processes there, and none of them may be taken for the other.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::{Command, Output};

use testbed::{KilledChild, has, program};

/// Runs a script in a pid namespace of its own, as its first process; `$tracker` is the program.
fn in_namespace(further: &[&str], script: &str) -> Output {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child"])
        .args(further)
        .args(["sh", "-c", script, "sh"])
        .env("tracker", program("tracker"));
    command.output().unwrap()
}

fn can_unshare() -> bool {
    let can = has("unshare") && rustix::process::geteuid().is_root();
    let can = can && in_namespace(&["--mount-proc"], "true").status.success();
    if !can {
        eprintln!("skipped: no namespace can be made here");
    }
    can
}

fn refused(output: &Output, code: i32) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains("numbers of another pid namespace"), "{said}");
    assert!(said.contains("--pid=host"), "{said}");
}

/// By its number on the host, and by that in the namespace, which is another process's on the host.
#[test]
fn with_the_hosts_proc_no_process_is_taken_for_another() {
    if !can_unshare() {
        return;
    }
    let sleeper = KilledChild(Command::new("sleep").arg("600").spawn().unwrap());
    let host = sleeper.0.id();
    for what in [
        "track --rounds 1 --interval 50ms --pid",
        "track --rounds 1 --interval 50ms --strategy hash --pid",
        "explain --rounds 1 --interval 50ms --pid",
        "inject --pid",
    ] {
        refused(&in_namespace(&[], &format!("$tracker {what} {host}")), 3);
        let script = format!("sleep 600 & $tracker {what} $!");
        refused(&in_namespace(&[], &script), 3);
    }
    let by_name = "track --rounds 1 --interval 50ms --comm sleep";
    refused(&in_namespace(&[], &format!("$tracker {by_name}")), 3);
}

#[test]
fn with_the_hosts_proc_no_program_is_started() {
    if !can_unshare() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let made = directory.path().join("made");
    for command in ["track", "explain"] {
        let script = format!("$tracker {command} --rounds 1 -- touch {}", made.display());
        refused(&in_namespace(&[], &script), 125);
        assert!(!made.exists(), "{command}");
    }
}

#[test]
fn with_a_proc_of_its_own_it_tracks() {
    if !can_unshare() {
        return;
    }
    let script = "sleep 600 & $tracker track --rounds 1 --interval 50ms --pid $!";
    let output = in_namespace(&["--mount-proc"], script);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
}
