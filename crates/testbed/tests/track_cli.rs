//! `tracker track` as a program: statuses, output, signals, recordings, and what is left when it is killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "track_cli/endings.rs"]
mod endings;
#[path = "track_cli/launched.rs"]
mod launched;
#[path = "track_cli/output.rs"]
mod output;
#[path = "track_cli/statuses.rs"]
mod statuses;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use testbed::program;
use testbed::script::ScriptProcess;

/// `tracker track` with arguments.
fn track(args: &[&str]) -> Command {
    let mut command = Command::new(program("tracker"));
    command.arg("track").args(args).stdin(Stdio::null());
    // Who runs these tests in the background, or under nohup, has signals ignored, which programs inherit.
    // SAFETY: signal(2) is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    command
}

/// Runs it on a process to its end.
fn track_pid(script: &ScriptProcess, args: &[&str]) -> Output {
    let pid = script.pid().to_string();
    track(&["--pid", &pid]).args(args).output().unwrap()
}

/// Its code, and what it said on standard error.
fn code_and_error(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code(), said)
}
