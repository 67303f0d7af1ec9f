//! Exit codes, and how a failure is told.

use crate::agent::AgentError;
use pages::inject::InjectError;
use pages::track::TrackError;
use std::process::ExitCode;

/// The command failed.
pub(crate) const FAILED: u8 = 1;
/// An argument cannot be what it is.
pub(crate) const USAGE: u8 = 2;
/// This kernel or this privilege cannot do it.
pub(crate) const UNABLE: u8 = 3;

/// Tells the failure with all its causes on stderr and gives the exit code for it.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    tell(error);
    ExitCode::from(code(error))
}

/// Tells the failure with all its causes on stderr.
pub(crate) fn tell(error: &anyhow::Error) {
    eprintln!("tracker: {error:#}");
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
