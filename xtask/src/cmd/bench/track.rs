//! `cargo xtask bench track`: what tracking costs, measured on this machine.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    ConsentArgs, paths,
    setup::{self, SetupExtent},
};

#[derive(Args)]
pub struct TrackArgs {
    #[command(flatten)]
    consent: ConsentArgs,
}

/// Runs the benchmark, which prints its tables in Markdown.
pub fn run(args: &TrackArgs) -> Result<ExitCode> {
    setup::prepare(SetupExtent::Build, &args.consent.consent())?;
    let mut command = Command::new("cargo");
    command
        .args(["bench", "--package", "tracker", "--bench", "track"])
        .current_dir(paths::root());
    let status = command.status().context("cannot start cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
