//! cargo-deb, which packs a .deb: of one version, so that packages come out the same everywhere.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::FoundItem;
use crate::{paths, sh};

/// Its package and its program.
const NAME: &str = "cargo-deb";
const VERSION: &str = "3.8.0";

/// Where it is, once prepared.
pub fn program() -> Result<PathBuf> {
    Ok(paths::tools()?.join("bin").join(NAME))
}

/// Makes sure that it is among our tools.
pub fn prepare() -> Result<FoundItem> {
    let said = sh::output(Command::new(program()?).arg("--version"));
    if !said.is_ok_and(|said| said.split_whitespace().last() == Some(VERSION)) {
        build()?;
    }
    Ok(FoundItem::new(NAME, VERSION.to_owned()))
}

fn build() -> Result<()> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["install", NAME, "--version", VERSION, "--locked", "--force"])
        // With an xz of its own.
        .args(["--no-default-features", "--features", "static-lzma"])
        .arg("--root")
        .arg(paths::tools()?)
        .arg("--target-dir")
        .arg(paths::target().join(NAME))
        .env_remove("RUSTFLAGS");
    let title = format!("building {NAME} {VERSION} (1 to 3 minutes)");
    sh::step(&title, &mut cargo).context(
        "cargo-deb makes the package. If crates.io cannot be reached, check the network and run \
         this again",
    )
}
