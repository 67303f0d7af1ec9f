//! `cargo xtask test-package`: what is shipped, installed and removed again.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    ConsentArgs, dist, installation,
    setup::{self, SetupExtent, kernels::KernelChoice, packager},
};

/// Install the .deb in a Debian under systemd, in QEMU: scrape, reload, upgrade and purge it
///
/// Makes the package first, as `cargo xtask dist` does. The guest consists of Debian's own packages.
#[derive(Args)]
pub struct TestPackageArgs {
    /// A series or the path of an image
    #[arg(default_value = "6.12", value_parser = KernelChoice::parse)]
    kernel: KernelChoice,
    /// Test this package instead of making one
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
    #[command(flatten)]
    consent: ConsentArgs,
}

/// Goes through the steps; succeeds if each went well.
pub fn run(args: &TestPackageArgs) -> Result<ExitCode> {
    setup::prepare(SetupExtent::Vm, &args.consent.consent())?;
    let package = match &args.package {
        Some(package) => package.clone(),
        None => {
            packager::prepare()?;
            let made = dist::make()?.into_iter();
            let mut packages = made.filter(|file| file.extension().is_some_and(|it| it == "deb"));
            packages.next().context("no package was made")?
        }
    };
    let kernel = args.kernel.prepare()?;
    let report = installation::run(&kernel, &package, |line| println!("{line}"))?;
    Ok(match report.verdict()? {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
