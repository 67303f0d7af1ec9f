//! `cargo xtask selftests`: the kernel's own tests of userfaultfd, alone and under the agent.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::guest_programs;
use crate::{
    ConsentArgs, cargo, matrix,
    selftests::{self, KernelSelftest, PROGRAMS, SelftestOutcome},
    setup::{self, SetupExtent, kernels},
    sh::ProgressLine,
    tally::TestTally,
    vm::guest_log::TestVerdict,
};

/// Run the kernel's pagemap_ioctl and uffd-unit-tests without, under and after the agent
///
/// Every sub-test must end under the agent as it does without it, and the agent must stay ready at
/// level full and count what the programs do.
#[derive(Args)]
pub struct SelftestsArgs {
    /// A series of Debian's kernels, from 6.12 on
    #[arg(default_value = "6.12", value_parser = kernels::parse_series)]
    kernel: String,
    /// Run only this program (may be repeated)
    #[arg(long, value_name = "NAME", value_parser = program)]
    program: Vec<&'static KernelSelftest>,
    /// Show what the programs print
    #[arg(long, short)]
    verbose: bool,
    #[command(flatten)]
    consent: ConsentArgs,
}

fn program(name: &str) -> Result<&'static KernelSelftest, String> {
    let names = PROGRAMS.map(|program| program.name);
    let found = PROGRAMS.into_iter().find(|program| program.name == name);
    found.ok_or_else(|| format!("the programs are {}", names.join(" and ")))
}

/// Runs them; succeeds if the agent changed nothing.
pub fn run(args: &SelftestsArgs) -> Result<ExitCode> {
    setup::prepare(SetupExtent::Vm, &args.consent.consent())?;
    let programs = if args.program.is_empty() {
        &PROGRAMS[..]
    } else {
        &args.program
    };
    let outcome = boot(&args.kernel, programs, |line| {
        if args.verbose {
            println!("{line}");
        }
    })?;
    println!("\n{outcome}");
    Ok(if outcome.judgement.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Counts a verdict for each program that [`matrix::SELFTESTS`] names, and one for the agent.
pub fn check(tally: &mut TestTally) {
    let (kernel, programs) = matrix::SELFTESTS;
    match boot(kernel, programs, |_| {}) {
        Ok(outcome) => {
            tally.repeated(outcome.repeated);
            for (name, wrong) in outcome.judgement.verdicts() {
                let verdict = if wrong.is_empty() {
                    TestVerdict::Passed
                } else {
                    TestVerdict::Failed
                };
                tally.guest(kernel, &test_name(name), Some(verdict), &wrong.join("\n"));
            }
        }
        Err(error) => {
            let why = format!("{error:#}");
            for program in programs {
                tally.guest(kernel, &test_name(program.name), None, &why);
            }
        }
    }
}

/// The name of the kernel's test program `name` in tables and filters.
pub fn test_name(name: &str) -> String {
    format!("selftests::{name}")
}

/// Boots a kernel of `series` and runs `programs` in it.
fn boot(
    series: &str,
    programs: &[&KernelSelftest],
    mut sink: impl FnMut(&str),
) -> Result<SelftestOutcome> {
    let mut built = setup::selftests::prepare(series)?;
    let kernel = kernels::prepare(series)?;
    built
        .programs
        .retain(|(built, _)| programs.iter().any(|program| program.name == built.name));
    let files = guest_programs(&cargo::programs()?, "/bin")?;
    let progress = ProgressLine::start(&format!("the kernel's own tests on {series}"));
    let outcome = selftests::run(&kernel, &built, files, |line| {
        sink(line);
        progress.detail(line);
    });
    progress.finish(outcome.as_ref().is_ok_and(|o| o.judgement.is_good()));
    outcome
}
