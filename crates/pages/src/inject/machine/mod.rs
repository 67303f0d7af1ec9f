//! How it is done on x86-64, with its registers, its system call instruction, its restarts of
//! calls.

mod call;
mod helper;
mod ptrace;
mod restart;
mod rseq;
mod text;
mod threads;

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};

use rustix::io::Errno;
use uffd::UffdError;

use super::facts::{self, TargetFacts};
use super::permission::TracePermission;
use super::wire::{self, HelperAnswer, HelperOutcome, HelperRequest};
use super::{InjectError, InjectOptions, InjectedUffd, ProcessLifeline};

pub(super) fn helper_main() -> Option<ExitCode> {
    let argument = std::env::args_os().nth(1)?;
    (argument == helper::ARGUMENT).then(helper::serve)
}

pub(super) use threads::StoppedProcess;

pub(super) fn userfaultfd(pid: u32, options: &InjectOptions) -> Result<InjectedUffd, InjectError> {
    let facts = read(pid, TargetFacts::read(pid))?;
    if let Some(refusal) = facts.refusal(std::process::id(), facts::name) {
        return Err(refusal);
    }
    // Opened before the userfaultfd: if the program changes in between, this one tells.
    let target = read(pid, ProcessLifeline::open(pid))?;
    let occupied = read(pid, super::occupied(pid))?;
    let request = HelperRequest {
        pid,
        start_time: facts.start_time,
        patience_ms: options.patience.as_millis() as u64,
        longest_stop_ms: options.longest_stop.as_millis() as u64,
        kernel_faults: options.kernel_faults,
    };
    // A target that executes another program just then has lost the threads that were known, and
    // lives on.
    let is_there =
        || matches!(TargetFacts::read(pid), Ok(now) if now.start_time == facts.start_time);
    let mut asked = ask(&request, options);
    for _ in 0..2 {
        if !matches!(&asked, Err(error) if error.is_gone()) || !is_there() {
            break;
        }
        asked = ask(&request, options);
    }
    let (answer, uffd) = asked?;
    Ok(InjectedUffd {
        uffd: uffd.into(),
        stopped: std::time::Duration::from_nanos(answer.stopped_ns),
        threads: answer.threads,
        user_mode_only: answer.user_mode_only,
        notes: answer.notes,
        occupied,
        target,
    })
}

/// Has a helper do the work.
fn ask(
    request: &HelperRequest,
    options: &InjectOptions,
) -> Result<(HelperAnswer, OwnedFd), InjectError> {
    let pid = request.pid;
    let trouble = |why: String| InjectError::Helper { pid, why };
    let failed = |what: &str, error: &dyn std::fmt::Display| trouble(format!("{what}: {error}"));
    let (ours, theirs) = wire::pair().map_err(|e| failed("cannot be talked to", &e))?;
    let mut child = Command::new(&options.helper)
        .arg(helper::ARGUMENT)
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| {
            let program = options.helper.display();
            trouble(format!("cannot be started from {program}: {e}"))
        })?;
    let sent = wire::send(ours.as_fd(), request, None);
    let received = sent.and_then(|()| wire::receive::<HelperOutcome>(&ours));
    // The helper ends once it has answered.
    let status = child.wait();
    match received {
        Err(error) => Err(failed("cannot be talked to", &error)),
        Ok(None) => Err(trouble(match status {
            Ok(status) => format!("ended without an answer ({status})"),
            Err(error) => format!("is lost: {error}"),
        })),
        Ok(Some((Err(error), _))) => Err(explained(error)),
        Ok(Some((Ok(answer), Some(uffd)))) => Ok((answer, uffd)),
        Ok(Some((Ok(_), None))) => Err(trouble(
            "gave no descriptor; has this process as many open as it may (ulimit -n)?".to_owned(),
        )),
    }
}

/// Adds to a refusal of the kernel what decided it.
fn explained(error: InjectError) -> InjectError {
    const NOT_PERMITTED: [i32; 2] = [Errno::PERM.raw_os_error(), Errno::ACCESS.raw_os_error()];
    match error {
        InjectError::Step { pid, error, .. } if NOT_PERMITTED.contains(&error) => {
            // A tracer may have come since the first look: then that is the reason.
            if let Ok(facts) = TargetFacts::read(pid)
                && let Some(refusal) = facts.refusal(std::process::id(), facts::name)
            {
                return refusal;
            }
            let why = TracePermission::read(pid).why();
            InjectError::Privilege { pid, why }
        }
        error => error,
    }
}

/// Turns an unreadable file of `/proc` into an error that names the missing privilege.
fn read<T>(pid: u32, result: Result<T, UffdError>) -> Result<T, InjectError> {
    result.map_err(|error| match error {
        UffdError::Gone(gone) => gone.into(),
        error => explained(InjectError::Step {
            pid,
            what: format!("look at the memory ({error})"),
            error: error.errno().unwrap_or(Errno::IO).raw_os_error(),
        }),
    })
}
