//! `cargo xtask bench track`: what tracking costs, measured on this machine.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    ConsentArgs,
    cargo::{TESTBED, TRACKER},
    paths,
    setup::{self, SetupExtent},
};

#[derive(Args)]
pub struct BenchTrackArgs {
    #[command(flatten)]
    consent: ConsentArgs,
}

/// Runs the benchmark, which prints its tables in Markdown.
pub fn run(args: &BenchTrackArgs) -> Result<ExitCode> {
    setup::prepare(SetupExtent::Build, &args.consent.consent())?;
    // The benchmark starts programs of other packages, which `cargo bench` does not build.
    let programs = [
        "build",
        "--release",
        "--bins",
        "--package",
        TRACKER,
        "--package",
        TESTBED,
    ];
    let bench = ["bench", "--package", TESTBED, "--bench", "track"];
    for arguments in [&programs[..], &bench] {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(paths::root());
        if !command.status().context("cannot start cargo")?.success() {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
