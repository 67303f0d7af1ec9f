//! Exit codes, and how a failure is told.

use crate::agent::AgentError;
use crate::logging::say;
use pages::inject::InjectError;
use pages::track::TrackError;
use std::io;
use std::process::ExitCode;

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// An argument cannot be what it is.
pub(crate) const USAGE: u8 = 2;
/// This kernel or this privilege cannot do it.
pub(crate) const UNABLE: u8 = 3;

/// Tells what clap made of the command line: help and version on stdout, mistakes on stderr.
pub(crate) fn answer(told: &clap::Error) -> ExitCode {
    let code = u8::try_from(told.exit_code()).unwrap_or(USAGE);
    match told.print() {
        Err(error) if !told.use_stderr() && error.kind() != io::ErrorKind::BrokenPipe => {
            failed(&anyhow::Error::new(error).context("cannot write to standard output"))
        }
        // Nobody reads what would be told.
        _ => ExitCode::from(code),
    }
}

/// Tells the failure with all its causes on stderr and gives the exit code for it.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    tell(error);
    ExitCode::from(code(error))
}

/// Tells the failure with all its causes on stderr.
pub(crate) fn tell(error: &anyhow::Error) {
    say(format_args!("tracker: {error:#}"));
}

fn code(error: &anyhow::Error) -> u8 {
    if error
        .downcast_ref::<InjectError>()
        .is_some_and(InjectError::is_inability)
    {
        return UNABLE;
    }
    if error
        .downcast_ref::<TrackError>()
        .is_some_and(TrackError::is_inability)
    {
        return UNABLE;
    }
    match error.downcast_ref::<AgentError>() {
        Some(AgentError::Usage(_)) => USAGE,
        // Threads may be free at the next try.
        Some(AgentError::NoRoom(why)) if why.lasts() => UNABLE,
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_tells_usage_from_inability_from_failure() {
        let code_of = |e: AgentError| code(&anyhow::Error::new(e).context("starting"));
        assert_eq!(code_of(AgentError::Usage("no such hook".into())), USAGE);
        assert_eq!(code(&anyhow::anyhow!("disk on fire")), FAILED);
        assert_eq!(code(&InjectError::Architecture.into()), UNABLE);
        assert_eq!(
            code(&InjectError::from(uffd::ProcessGone { pid: 1 }).into()),
            FAILED
        );
    }
}
