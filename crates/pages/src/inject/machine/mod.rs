//! How it is done on x86-64, with its registers, its system call instruction, its restarts of
//! calls.

mod call;
mod calls;
mod child;
mod chosen;
mod everyone;
mod frozen;
mod guard;
mod guarded;
mod helper;
mod moment;
mod open;
mod proc;
mod ptrace;
mod restart;
mod rseq;
mod start;
mod stop;
mod text;

use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use uffd::UffdError;

use super::facts::{self, TargetFacts};
use super::permission::TracePermission;
use super::wire::{
    FreezeAnswer, FreezeRequest, GuardAnswer, GuardRequest, HelperRequest, InjectAnswer,
    InjectRequest, TargetProcess,
};
use super::{InjectError, InjectOptions, InjectedUffd, ProcessLifeline};

pub(super) use frozen::HeldProcess;
pub(crate) use guarded::GuardedUffd;
use start::{HelperHandle, HelperMessage};

pub(super) fn helper_main() -> Option<ExitCode> {
    let argument = std::env::args_os().nth(1)?;
    (argument == helper::ARGUMENT).then(helper::serve)
}

pub(super) fn slow_helper_main(pause: Duration) -> Option<ExitCode> {
    ptrace::pause_before_steps(pause);
    helper_main()
}

pub(super) fn userfaultfd(pid: u32, options: &InjectOptions) -> Result<InjectedUffd, InjectError> {
    let facts = ready(pid, options)?;
    // Opened before the userfaultfd: if the program changes in between, this one tells.
    let target = read(pid, ProcessLifeline::open(pid))?;
    let occupied = read(pid, super::occupied(pid))?;
    let request = HelperRequest::Inject(InjectRequest {
        target: facts.target(),
        patience_ms: options.patience.as_millis() as u64,
        longest_stop_ms: options.longest_stop.as_millis() as u64,
        kernel_faults: options.kernel_faults,
    });
    // A target that executes another program just then has lost the threads that were known, and
    // lives on.
    let is_there =
        || matches!(TargetFacts::read(pid), Ok(now) if now.start_time == facts.start_time);
    let ask = || HelperHandle::ask::<InjectAnswer>(&request, None, options).map_err(explained);
    let mut asked = ask();
    for _ in 0..2 {
        if !matches!(&asked, Err(error) if error.is_gone()) || !is_there() {
            break;
        }
        asked = ask();
    }
    let (_helper, (answer, uffd)): (_, HelperMessage<_>) = asked?;
    let uffd = uffd.ok_or_else(|| InjectError::Helper {
        pid,
        why: "gave no descriptor; has this process as many open as it may (ulimit -n)?".to_owned(),
    })?;
    Ok(InjectedUffd {
        uffd: uffd.into(),
        stopped: Duration::from_nanos(answer.stopped_ns),
        threads: answer.threads,
        stopped_threads: answer.stopped_threads,
        user_mode_only: answer.user_mode_only,
        notes: answer.notes,
        occupied,
        target,
    })
}

pub(super) fn freeze(pid: u32, options: &InjectOptions) -> Result<HeldProcess, InjectError> {
    /// Whatever becomes of tracker: it may be stopped itself.
    const LONGEST: Duration = Duration::from_secs(30);
    let facts = ready(pid, options)?;
    let request = HelperRequest::Freeze(FreezeRequest {
        target: facts.target(),
        longest_stop_ms: options.longest_stop.as_millis() as u64,
        longest_ms: LONGEST.as_millis() as u64,
    });
    let (helper, (answer, _)): (_, HelperMessage<FreezeAnswer>) =
        HelperHandle::ask(&request, None, options).map_err(explained)?;
    Ok(HeldProcess::new(helper, answer))
}

pub(super) fn guard(
    pid: u32,
    uffd: BorrowedFd<'_>,
    options: &InjectOptions,
) -> Result<GuardedUffd, InjectError> {
    let facts = read(pid, TargetFacts::read(pid))?;
    let target = facts.target();
    let request = HelperRequest::Guard(GuardRequest { target });
    let (helper, (answer, _)): (_, HelperMessage<GuardAnswer>) =
        HelperHandle::ask(&request, Some(uffd), options)?;
    GuardedUffd::new(pid, helper, answer.is_apart)
}

/// Who the target is, if nothing stands against touching it. A tracer that is there for a moment,
/// as another helper is, is waited for.
fn ready(pid: u32, options: &InjectOptions) -> Result<TargetFacts, InjectError> {
    uffd::check_pid_namespace(pid)?;
    let began = Instant::now();
    loop {
        let facts = read(pid, TargetFacts::read(pid))?;
        match facts.refusal(std::process::id(), facts::name) {
            None => return Ok(facts),
            Some(InjectError::Traced { .. }) if began.elapsed() < options.patience => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Some(refusal) => return Err(refusal),
        }
    }
}

impl TargetFacts {
    fn target(&self) -> TargetProcess {
        TargetProcess {
            pid: self.pid,
            start_time: self.start_time,
        }
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
        UffdError::OtherNamespace(namespace) => namespace.into(),
        UffdError::Leaderless { pid } => {
            let comm = facts::name(pid);
            InjectError::NoLeader { pid, comm }
        }
        error => explained(InjectError::Step {
            pid,
            what: format!("look at the memory ({error})"),
            error: error.errno().unwrap_or(Errno::IO).raw_os_error(),
        }),
    })
}
