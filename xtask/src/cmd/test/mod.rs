//! `cargo xtask test`: everything that must pass before a change lands.

mod guests;
mod host;

use std::{process::ExitCode, thread};

use anyhow::Result;
use clap::{Args, builder::PossibleValuesParser};

use super::selftests;
use crate::{
    ConsentArgs, cargo,
    matrix::{self, MatrixExtent},
    selftests::KernelSelftest,
    setup::{
        self, SetupExtent,
        kernels::{self, GuestKernel},
    },
    tally::TestTally,
};

/// Check format and lints, and run the tests on this host and in virtual machines
#[derive(Args)]
pub struct TestArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// Run only tests with this in their name (in guests: PROGRAM::TEST), and no lints
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Boot no virtual machines
    #[arg(long)]
    no_vm: bool,
    /// Run only the tests in virtual machines
    #[arg(long, conflicts_with = "no_vm")]
    vm_only: bool,
    /// Run each guest test on each kernel of the matrix where it can run. Without it, only those of
    /// hooks and strategies run on other kernels than 6.12, unless tests or kernels are chosen
    #[arg(long, conflicts_with = "no_vm")]
    whole: bool,
    /// Boot only this series of the matrix (may be repeated)
    #[arg(long, value_name = "SERIES", value_parser = PossibleValuesParser::new(matrix::KERNELS))]
    kernel: Vec<String>,
    /// Boot this image instead of the matrix (may be repeated)
    #[arg(
        long,
        value_name = "PATH",
        conflicts_with = "kernel",
        value_parser = kernels::parse_image
    )]
    kernel_image: Vec<GuestKernel>,
    /// Virtual machines at a time, each with two CPUs [default: one per core, at most 4]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=16))]
    jobs: Option<u8>,
}

/// Runs it all; the last line on stdout is `N passed, N failed`.
pub fn run(args: &TestArgs) -> Result<ExitCode> {
    let extent = if args.no_vm {
        SetupExtent::Build
    } else {
        SetupExtent::Vm
    };
    setup::prepare(extent, &args.consent.consent())?;
    setup::prepare_tests()?;
    let boots = if args.no_vm {
        Vec::new()
    } else {
        guests::boots(args)?
    };
    let mut tally = TestTally::default();
    if !args.vm_only {
        if args.filter.is_none() {
            host::lint(&mut tally);
        }
        let meanwhile = (!args.no_vm).then(cargo::build_for_guests_meanwhile);
        host::test(args, &mut tally)?;
        // Its only failure would be a panic, after which it is built below.
        let _ = meanwhile.map(thread::JoinHandle::join);
    }
    if !args.no_vm {
        guests::test(args, &boots, &mut tally)?;
        if wants_selftests(args) {
            selftests::check(&mut tally);
        }
    }
    print!("\n{tally}");
    Ok(if tally.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How much of the matrix `args` ask for: of what is chosen, all.
fn extent(args: &TestArgs) -> MatrixExtent {
    if args.whole || args.filter.is_some() || !args.kernel.is_empty() {
        MatrixExtent::Whole
    } else {
        MatrixExtent::Landing
    }
}

/// Whether `args` include the kernel's own tests.
fn wants_selftests(args: &TestArgs) -> bool {
    let (kernel, programs) = matrix::SELFTESTS;
    let chosen = args.kernel.is_empty() || args.kernel.iter().any(|series| series == kernel);
    let filter = args.filter.as_deref().unwrap_or_default();
    let named = |program: &&KernelSelftest| selftests::test_name(program.name).contains(filter);
    args.kernel_image.is_empty() && chosen && programs.iter().any(named)
}
