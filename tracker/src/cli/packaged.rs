//! What packages ship that is made of the command line itself: completions and man pages.

use super::output;
use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `tracker completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// The shell that is to run it: `source <(tracker completions bash)`
    shell: Shell,
}

/// The arguments of `tracker man-pages`.
#[derive(Args, Debug)]
pub(crate) struct ManPagesArgs {
    /// Where to write tracker.1 and a page for each command; made if missing
    directory: PathBuf,
}

/// Prints what completes this command line in a shell.
///
/// # Errors
/// If it cannot be printed.
pub(crate) fn completions(args: &CompletionsArgs, command: &Command) -> anyhow::Result<ExitCode> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(command), name, &mut script);
    output::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The command line without its hidden commands, which a script would offer, too.
fn shown(command: &Command) -> Command {
    let commands = command.get_subcommands();
    let commands = commands.filter(|one| !one.is_hide_set()).cloned();
    Command::new(command.get_name().to_owned())
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned())
        .subcommands(commands)
}

/// Writes the man pages.
///
/// # Errors
/// If they cannot be written.
pub(crate) fn man_pages(args: &ManPagesArgs, command: Command) -> anyhow::Result<ExitCode> {
    let directory = &args.directory;
    let written = fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command.disable_help_subcommand(true), directory));
    written.with_context(|| format!("cannot write man pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
