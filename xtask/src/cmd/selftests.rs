//! `cargo xtask selftests`: the kernel's own tests of userfaultfd, alone and under the agent.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;

use super::guest_programs;
use crate::{
    ConsentArgs, cargo,
    setup::{self, Extent, kernels, selftests},
    vm::{GuestFile, VmRun},
};

/// Build the kernel's pagemap_ioctl and uffd-unit-tests, and run them alone and under the agent
///
/// What fails under the agent must be what fails without it, and the agent must stay ready.
#[derive(Args)]
pub struct SelftestsArgs {
    /// A series of which Debian has both a kernel and its sources
    #[arg(default_value = "6.12")]
    kernel: String,
    #[command(flatten)]
    consent: ConsentArgs,
}

/// Runs it; success if the agent changed nothing.
pub fn run(args: &SelftestsArgs) -> Result<ExitCode> {
    setup::prepare(Extent::Vm, &args.consent.consent())?;
    let kernel = kernels::prepare(&args.kernel)?;
    let mut run = VmRun::new(&format!("selftests-{}", kernel.label), &kernel);
    run.files = guest_programs(&cargo::programs()?, "/bin")?;
    for program in selftests::prepare(&args.kernel)? {
        let name = program.file_name().context("a program has a name")?;
        run.files.push(GuestFile {
            guest: format!("/selftests/{}", name.to_string_lossy()),
            host: program,
        });
    }
    run.command = Some(include_str!("selftests.sh").to_owned());
    run.timeout = Duration::from_secs(1200);
    let report = run.run(|line| println!("{line}"))?;
    Ok(match report.verdict()? {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
