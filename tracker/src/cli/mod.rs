//! Arguments and printing; one file per command.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage, 3 this kernel or this privilege cannot do it.

#![forbid(unsafe_code)]

mod agent;
mod causes;
mod check;
mod compare;
mod environment;
mod exit;
mod explain;
mod inject;
mod listen;
mod log;
mod observer;
mod output;
mod pace;
mod packaged;
mod probes;
mod report;
mod rounds;
mod strategies;
mod target;
mod terminal;
mod top;
mod track;
mod values;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use signal_hook::consts::{SIGHUP, SIGXFSZ};
use std::process::ExitCode;
use std::sync::Arc;

/// Shows what userfaultfd write-protection does to this machine, and how true its answers are.
#[derive(Debug, Parser)]
#[command(name = "tracker", version, arg_required_else_help = true)]
struct TrackerArgs {
    #[command(flatten)]
    log: log::LogArgs,
    #[command(subcommand)]
    command: TrackerCommand,
}

#[derive(Debug, Subcommand)]
enum TrackerCommand {
    /// Run until SIGTERM or SIGINT and export metrics to Prometheus
    Agent(Box<agent::AgentArgs>),
    /// Tell what this kernel and this privilege can do, hook by hook and strategy by strategy, and
    /// why not
    Check(check::CheckArgs),
    /// Tell which pages of a process are written, round by round
    #[command(visible_alias = "record")]
    Track(track::TrackArgs),
    /// Tell why each page was reported as written, and whether it was true
    Explain(explain::ExplainArgs),
    /// Show a recording as tables and as a heat map: which pages were written when
    Report(report::ReportArgs),
    /// Do the same work under each strategy, and tell what each costs and what it gets wrong
    Compare(compare::CompareArgs),
    /// Show who uses uffd-wp on a screen that is refreshed: faults, armed and written pages, page tables
    Top(top::TopArgs),
    /// Print a shell completion script
    Completions(packaged::CompletionsArgs),
    /// Write the man pages, for a package
    #[command(hide = true)]
    ManPages(packaged::ManPagesArgs),
    /// Make one run of `compare`
    #[command(hide = true)]
    CompareRun(compare::CompareRunArgs),
    /// Do the work of one run of `compare`
    #[command(hide = true)]
    CompareWork(compare::CompareWorkArgs),
    /// Take a userfaultfd of a process without its cooperation, and tell what it took
    #[command(hide = true)]
    Inject(inject::InjectArgs),
    /// Name code, as standard input says: a child of `explain`
    #[command(hide = true, name = crate::explain::NAMING_COMMAND)]
    NameCode,
}

/// Parses the arguments, runs the command and maps its result to an exit code.
pub fn main() -> ExitCode {
    let cli = match parse() {
        Ok(cli) => cli,
        Err(told) => return exit::answer(&told),
    };
    if let Err(e) = outlive_signals(&cli.command).and_then(|()| log::init(&cli.log)) {
        return exit::failed(&e);
    }
    let result = match &cli.command {
        TrackerCommand::Agent(args) => agent::run(args),
        TrackerCommand::Check(args) => check::run(args),
        TrackerCommand::Track(args) => track::run(args),
        TrackerCommand::Explain(args) => explain::run(args),
        TrackerCommand::Report(args) => report::run(args),
        TrackerCommand::Compare(args) => compare::run_all(args),
        TrackerCommand::Top(args) => top::run(args),
        TrackerCommand::Completions(args) => packaged::completions(args, &TrackerArgs::command()),
        TrackerCommand::ManPages(args) => packaged::man_pages(args, TrackerArgs::command()),
        TrackerCommand::CompareRun(args) => compare::run_one(args),
        TrackerCommand::CompareWork(args) => compare::run_work(args),
        TrackerCommand::Inject(args) => inject::run(args),
        TrackerCommand::NameCode => crate::explain::name_code().map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|e| exit::failed(&e))
}

/// Has the agent outlive a SIGHUP that comes before it can read anything again (what it read is new
/// then), and everybody a write to a file that may not grow (RLIMIT_FSIZE): it fails as on a full
/// disk, where SIGXFSZ would end us. Programs that we start are not spared: a handler ends with an
/// exec.
fn outlive_signals(command: &TrackerCommand) -> anyhow::Result<()> {
    if matches!(command, TrackerCommand::Agent(_)) {
        signal_hook::flag::register(SIGHUP, Arc::default()).context("cannot catch SIGHUP")?;
    }
    signal_hook::flag::register(SIGXFSZ, Arc::default()).context("cannot catch SIGXFSZ")?;
    Ok(())
}

fn parse() -> Result<TrackerArgs, clap::Error> {
    let mut command = environment::without_blank(TrackerArgs::command());
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    TrackerArgs::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

#[cfg(test)]
mod tests {
    use super::TrackerArgs;
    use clap::CommandFactory;

    #[test]
    fn definition_is_consistent() {
        TrackerArgs::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_environment_variable() {
        let mut cli = TrackerArgs::command();
        cli.build();
        for command in cli.get_subcommands() {
            for arg in command.get_arguments() {
                let id = arg.get_id().as_str();
                let no_flag = ["help", "version", "command"].contains(&id) || arg.is_positional();
                if no_flag || command.get_name() == "help" {
                    continue;
                }
                let env = arg.get_env().map(|e| e.to_string_lossy().into_owned());
                let flag = arg.get_long().unwrap_or_default();
                let wanted = format!("TRACKER_{}", flag.to_uppercase().replace(['.', '-'], "_"));
                assert_eq!(env.as_deref(), Some(wanted.as_str()), "--{flag}");
            }
        }
    }
}
