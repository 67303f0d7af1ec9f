//! `cargo xtask dist`: what is shipped.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    ConsentArgs, dist, paths,
    setup::{self, SetupExtent, packager},
};

/// Make what is shipped in target/dist: the program, a .deb, an OCI image
///
/// Two runs give the same bytes, for the same commit, compilers and directories. With them come the
/// licences of what the program contains, a bill of materials (CycloneDX) and SHA256SUMS.
#[derive(Args)]
pub struct DistArgs {
    #[command(flatten)]
    consent: ConsentArgs,
}

/// Makes them and prints their names and sizes.
pub fn run(args: &DistArgs) -> Result<ExitCode> {
    setup::prepare(SetupExtent::Build, &args.consent.consent())?;
    setup::print(&[packager::prepare()?]);
    for file in dist::make()? {
        let size = fs::metadata(&file)
            .with_context(|| format!("cannot read {}", file.display()))?
            .len();
        let shown = file.strip_prefix(paths::root()).unwrap_or(&file);
        println!("{size:>10} {}", shown.display());
    }
    Ok(ExitCode::SUCCESS)
}
