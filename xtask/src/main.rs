//! Everything a contributor types: set-up, build, run, test, vm, bench.

mod paths;
mod setup;
mod sh;
mod tools_dir;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use setup::{Consent, Extent};

#[derive(Parser)]
#[command(about, bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Find or install what building, testing and booting kernels need
    Setup(SetupArgs),
}

/// Options of every command that sets up.
#[derive(Args)]
struct ConsentArgs {
    /// Install missing packages without asking (CI=true means the same)
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
struct SetupArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// Only what `cargo build` needs: no QEMU, no kernels
    #[arg(long)]
    build_only: bool,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Cmd) -> Result<ExitCode> {
    match command {
        Cmd::Setup(args) => {
            let consent = Consent::new(args.consent.yes);
            if args.build_only {
                setup::prepare(Extent::Build, &consent)?;
            } else {
                setup::prepare(Extent::Vm, &consent)?;
                setup::prepare_kernels(&setup::kernels::MATRIX)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
