//! Everything a contributor types: set-up, build, run, test, vm, bench, selftests.

mod cargo;
mod cmd;
mod exposition;
mod http;
mod matrix;
mod paths;
mod selftests;
mod setup;
mod sh;
mod stop;
mod tally;
mod tools_dir;
mod vm;

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
    Run(cmd::run::RunArgs),
    Test(cmd::test::TestArgs),
    Vm(cmd::vm::VmArgs),
    Bench(cmd::bench::BenchArgs),
    Selftests(cmd::selftests::SelftestsArgs),
}

/// Options of every command that sets up.
#[derive(Args)]
struct ConsentArgs {
    /// Install missing packages without asking (CI=true means the same)
    #[arg(long)]
    yes: bool,
}

impl ConsentArgs {
    fn consent(&self) -> Consent {
        Consent::new(self.yes)
    }
}

#[derive(Args)]
struct SetupArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// Only what `cargo build` needs: no QEMU, no kernels
    #[arg(long)]
    build_only: bool,
    /// Replace kernels fetched earlier where Debian's archive has newer ones
    #[arg(long, conflicts_with = "build_only")]
    refresh: bool,
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Cmd) -> Result<ExitCode> {
    match command {
        Cmd::Run(args) => return cmd::run::run(&args),
        Cmd::Test(args) => return cmd::test::run(&args),
        Cmd::Bench(args) => return cmd::bench::run(&args),
        Cmd::Selftests(args) => return cmd::selftests::run(&args),
        Cmd::Vm(args) => return cmd::vm::run(args),
        Cmd::Setup(args) => {
            let consent = args.consent.consent();
            if args.build_only {
                setup::tell(&setup::prepare(Extent::Build, &consent)?);
            } else {
                setup::tell(&setup::prepare(Extent::Vm, &consent)?);
                setup::tell(&setup::prepare_tests()?);
                let kernels = setup::prepare_kernels(&setup::kernels::MATRIX, args.refresh)?;
                setup::tell(&kernels);
                if !args.refresh {
                    eprintln!(
                        "{:>8} kernels stay as they were fetched; `cargo xtask setup --refresh` \
                         looks for newer ones",
                        "note"
                    );
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
