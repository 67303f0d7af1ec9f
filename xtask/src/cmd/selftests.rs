//! `cargo xtask selftests`: the kernel's own tests of userfaultfd, alone and under the agent.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::guest_programs;
use crate::{
    ConsentArgs, cargo,
    selftests::{self, PROGRAMS, Program},
    setup::{self, Extent, kernels},
    sh::Progress,
};

/// Run the kernel's pagemap_ioctl and uffd-unit-tests without, under and after the agent
///
/// What fails under the agent must be what fails without it, and the agent must stay ready at
/// level full and count what they do.
#[derive(Args)]
pub struct SelftestsArgs {
    /// A series of Debian's kernels, from 6.12 on
    #[arg(default_value = "6.12")]
    kernel: String,
    /// Only this program (may be repeated)
    #[arg(long, value_name = "NAME", value_parser = program)]
    program: Vec<&'static Program>,
    /// Show what the programs print
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    consent: ConsentArgs,
}

fn program(name: &str) -> Result<&'static Program, String> {
    let names: Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
    let found = PROGRAMS.iter().find(|program| program.name == name);
    found.ok_or_else(|| format!("there are {}", names.join(" and ")))
}

/// Runs it; success if the agent changed nothing.
pub fn run(args: &SelftestsArgs) -> Result<ExitCode> {
    setup::prepare(Extent::Vm, &args.consent.consent())?;
    let kernel = kernels::prepare(&args.kernel)?;
    let mut built = setup::selftests::prepare(&args.kernel)?;
    if !args.program.is_empty() {
        let chosen = |name| args.program.iter().any(|program| program.name == name);
        built.programs.retain(|(program, _)| chosen(program.name));
    }
    let programs = guest_programs(&cargo::programs()?, "/bin")?;
    let progress = Progress::start(&format!("the kernel's tests on {}", kernel.release));
    let outcome = selftests::run(&kernel, &built, programs, |line| {
        if args.verbose {
            println!("{line}");
        }
        progress.detail(line);
    });
    let good = outcome.as_ref().is_ok_and(|o| o.judgement.is_good());
    progress.finish(good);
    println!("\n{}", outcome?);
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
