//! Starts the process of one run, and waits for what it tells.

use std::io::{self, Read as _};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::measured::RunOutcome;
use super::run::RunOrder;

/// The command of tracker that makes one run.
pub(crate) const RUN: &str = "compare-run";
/// Makes a run in a process of its own. After so much time it is given up: a strategy whose process
/// waits for ever must not stop all others.
pub(crate) fn launch(order: &RunOrder, patience: Duration) -> RunOutcome {
    match launched(order, patience) {
        Ok(text) if text.is_empty() => not_measured("the run ended without an answer"),
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| {
            not_measured(format!(
                "the run gives an answer that cannot be read: {error}"
            ))
        }),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            not_measured(format!("no answer within {} s", patience.as_secs()))
        }
        Err(error) => not_measured(format!("the run cannot be started: {error}")),
    }
}

fn not_measured(why: impl Into<String>) -> RunOutcome {
    RunOutcome::NotMeasured(why.into())
}

/// What the process of a run prints.
fn launched(order: &RunOrder, patience: Duration) -> io::Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([RUN, order.workload.name, &order.bytes.to_string()])
        .args(order.strategy.map(|strategy| strategy.as_str()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let (done, read) = mpsc::channel();
    if let Some(mut stdout) = child.stdout.take() {
        thread::spawn(move || {
            let mut text = String::new();
            let result = stdout.read_to_string(&mut text).map(|_| text);
            // Nobody waits for it any more if that took too long.
            let _ = done.send(result);
        });
    }
    let text = read.recv_timeout(patience);
    // It has ended, or has to: with it end its userfaultfd and the process that works.
    let _ = child.kill();
    child.wait()?;
    text.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
