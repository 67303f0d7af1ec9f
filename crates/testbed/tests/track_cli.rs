//! `tracker track` as a program: statuses, output, signals, recordings, and what remains when it is
//! killed.
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

/// `tracker track` with these arguments.
fn track(args: &[&str]) -> Command {
    let mut command = Command::new(program("tracker"));
    command.arg("track").args(args).stdin(Stdio::null());
    // If these tests run in the background or under nohup, signals are ignored, which programs
    // inherit. SAFETY: signal(2) is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            Ok(())
        });
    }
    command
}

/// Runs `tracker track` on a process until it ends.
fn track_pid(script: &ScriptProcess, args: &[&str]) -> Output {
    let pid = script.pid().to_string();
    track(&["--pid", &pid]).args(args).output().unwrap()
}

/// The exit code, and the standard error.
fn code_and_error(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output.status.code(), said)
}
