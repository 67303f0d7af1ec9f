//! The commands of a contributor: `cargo xtask setup`, `run`, `test`, `vm`, `bench`, `selftests`,
//! `dist`, `test-package`.

mod cargo;
mod cmd;
mod dist;
mod exposition;
mod http;
mod installation;
mod matrix;
#[cfg(test)]
mod pages;
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

use setup::{RootConsent, SetupExtent};

#[derive(Parser)]
#[command(about, bin_name = "cargo xtask", disable_help_subcommand = true)]
struct XtaskCli {
    #[command(subcommand)]
    command: XtaskCommand,
}

#[derive(Subcommand)]
enum XtaskCommand {
    /// Find or install what building, testing and booting kernels need
    Setup(SetupArgs),
    Run(cmd::run::RunArgs),
    Test(cmd::test::TestArgs),
    Vm(cmd::vm::VmArgs),
    Bench(cmd::bench::BenchArgs),
    Selftests(cmd::selftests::SelftestsArgs),
    Dist(cmd::dist::DistArgs),
    TestPackage(cmd::test_package::TestPackageArgs),
}

/// The option of every command that may install packages.
#[derive(Args)]
struct ConsentArgs {
    /// Install missing packages without asking (as does CI=true)
    #[arg(long)]
    yes: bool,
}

impl ConsentArgs {
    fn consent(&self) -> RootConsent {
        RootConsent::new(self.yes)
    }
}

#[derive(Args)]
struct SetupArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// Set up only what `cargo build` needs: no QEMU, no kernels
    #[arg(long)]
    build_only: bool,
    /// Replace fetched kernels where Debian's archive has newer ones
    #[arg(long, conflicts_with = "build_only")]
    refresh: bool,
}

fn main() -> ExitCode {
    match dispatch(XtaskCli::parse().command) {
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

fn dispatch(command: XtaskCommand) -> Result<ExitCode> {
    match command {
        XtaskCommand::Run(args) => return cmd::run::run(&args),
        XtaskCommand::Test(args) => return cmd::test::run(&args),
        XtaskCommand::Bench(args) => return cmd::bench::run(&args),
        XtaskCommand::Selftests(args) => return cmd::selftests::run(&args),
        XtaskCommand::Dist(args) => return cmd::dist::run(&args),
        XtaskCommand::TestPackage(args) => return cmd::test_package::run(&args),
        XtaskCommand::Vm(args) => return cmd::vm::run(args),
        XtaskCommand::Setup(args) => {
            let consent = args.consent.consent();
            if args.build_only {
                setup::print(&setup::prepare(SetupExtent::Build, &consent)?);
            } else {
                setup::print(&setup::prepare(SetupExtent::Vm, &consent)?);
                setup::print(&setup::prepare_tests()?);
                let kernels = setup::prepare_kernels(&matrix::KERNELS, args.refresh)?;
                setup::print(&kernels);
                if !args.refresh {
                    let advice = "`cargo xtask setup --refresh` looks for newer kernels";
                    eprintln!("{:>8} {advice}", "note");
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
