//! The process that a command is about: one that runs, or a program started for it.

use std::io::ErrorKind;
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::{Args, value_parser};

use super::exit::{self, FAILED};
use super::pace::{PaceWake, RoundPace};
use pages::inject::{LaunchError, LaunchedProgram};
use pages::track::{TrackEnd, TrackError};

/// The exit status of a failure of tracker itself, when it runs a program.
const OURS: u8 = 125;

/// The exit statuses, for the help.
pub(crate) const STATUSES: &str = "\
Exit status: 0 done, 1 failed, 2 wrong usage, 3 this kernel or this privilege cannot do it; with \
CMD its own, 128 and the number of a signal that ended it, 127 and 126 if it cannot be found or \
executed, and 125 for a failure of tracker.";

/// The flags that choose a process.
#[derive(Args, Debug)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["pid", "comm", "command"]))]
pub(crate) struct TargetArgs {
    /// The process
    #[arg(long, short, env = "TRACKER_PID", value_name = "PID")]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// The one process of this name (/proc/PID/comm)
    #[arg(long, env = "TRACKER_COMM", value_name = "NAME")]
    comm: Option<String>,
    /// Start this program, tracked from its first instruction; what tracker prints then goes to
    /// standard error
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl TargetArgs {
    /// Finds the process, or starts it, and follows it. `prepare` is given the process that was found,
    /// or called before a program is started, which stands still until it is tracked; `follow` returns the status of a program
    /// that was started.
    ///
    /// # Errors
    /// What either returns, and if there is no such process. If a program was to be started, the
    /// error is printed here instead: the status must not look like one of the program's.
    pub(crate) fn run<P>(
        &self,
        prepare: impl FnOnce(Option<u32>) -> anyhow::Result<(P, RoundPace)>,
        follow: impl FnOnce(
            P,
            &mut RoundPace,
            u32,
            Option<&mut LaunchedProgram>,
        ) -> anyhow::Result<Option<ExitStatus>>,
    ) -> anyhow::Result<ExitCode> {
        // Before anything is prepared, started or looked up.
        let namespace = uffd::check_pid_namespace(self.pid.unwrap_or(std::process::id()));
        if self.command.is_empty() {
            namespace.map_err(TrackError::from)?;
            let pid = match (&self.comm, self.pid) {
                (Some(comm), _) => by_comm(comm)?,
                (None, pid) => pid.context("no process is given")?,
            };
            let (prepared, mut pace) = prepare(Some(pid))?;
            return follow(prepared, &mut pace, pid, None).map(|_| ExitCode::SUCCESS);
        }
        let ours = |error: &anyhow::Error| {
            exit::tell(error);
            ExitCode::from(OURS)
        };
        if let Err(error) = namespace {
            return Ok(ours(&error.into()));
        }
        let (prepared, mut pace) = match prepare(None) {
            Ok(prepared) => prepared,
            Err(error) => return Ok(ours(&error)),
        };
        let mut launched = match launch(&self.command) {
            Ok(launched) => launched,
            Err((code, error)) => {
                exit::tell(&error);
                return Ok(ExitCode::from(code));
            }
        };
        let pid = launched.pid();
        match follow(prepared, &mut pace, pid, Some(&mut launched)) {
            Ok(Some(status)) => Ok(ExitCode::from(code(status))),
            Ok(None) => Ok(ExitCode::from(OURS)),
            Err(error) => {
                let failed = ours(&error);
                // A program that runs goes on without us; one that never ran ends when dropped.
                if launched.runs() {
                    let _ = wait(&mut launched, TrackEnd::Done, &pace);
                }
                Ok(failed)
            }
        }
    }
}

fn launch(command: &[String]) -> Result<LaunchedProgram, (u8, anyhow::Error)> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| (OURS, anyhow::anyhow!("no program is given")))?;
    let mut command = Command::new(program);
    command.args(arguments);
    LaunchedProgram::start(command).map_err(|error| {
        let code = match &error {
            LaunchError::Untraceable(_) => OURS,
            LaunchError::Execute(error) => match error.kind() {
                ErrorKind::NotFound => 127,
                ErrorKind::PermissionDenied => 126,
                _ => OURS,
            },
        };
        let what = match &error {
            LaunchError::Untraceable(_) => format!(
                "cannot execute {program} stopped: tracing is forbidden (yama) or it is traced \
                 already (strace -f)"
            ),
            LaunchError::Execute(_) => format!("cannot execute {program}"),
        };
        (code, anyhow::Error::new(error).context(what))
    })
}

/// The status as shells tell it.
pub(crate) fn code(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(FAILED)
}

/// Waits for a program to end. Whoever asks us to end asks the program, too.
pub(crate) fn wait(
    launched: &mut LaunchedProgram,
    end: TrackEnd,
    pace: &RoundPace,
) -> std::io::Result<ExitStatus> {
    if end == TrackEnd::Interrupted {
        launched.terminate();
    }
    let process = launched.pidfd()?;
    while pace.wait_for_end(&process)? == PaceWake::Signal {
        launched.terminate();
    }
    launched.wait()
}

/// The one process of a name.
fn by_comm(comm: &str) -> anyhow::Result<u32> {
    let pids = uffd::pids_of(comm.as_bytes())?;
    match pids[..] {
        [pid] => Ok(pid),
        [] => anyhow::bail!(
            "there is no process named {comm:?} (a name has at most 15 bytes, as in /proc/PID/comm)"
        ),
        _ => {
            let pids = pids
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            anyhow::bail!(
                "{comm:?} is the name of several processes ({pids}): choose one with --pid"
            )
        }
    }
}
