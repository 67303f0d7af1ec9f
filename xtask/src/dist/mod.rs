//! What `cargo xtask dist` makes: packages, an image, and what tells what is in them.

mod crates;
mod deb;
mod image;
mod licences;
mod release;
mod sbom;
mod stage;
mod sums;
mod unit;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{
    cargo::{self, OwnProgram},
    paths,
};
use release::Release;

/// The packages, the unit and the image are called so: Debian's `tracker` is another program.
const NAME: &str = "uffdwp-tracker";

/// Makes all of it anew, of the program that tests run in guests; returns the files.
pub fn make() -> Result<Vec<PathBuf>> {
    let release = Release::of_checkout()?;
    let programs = cargo::programs()?;
    let program = cargo::find(&programs, OwnProgram::Tracker)?;
    let crates = crates::linked()?;
    let stage = stage::fill(program, &licences::text(&crates)?, &release)?;

    let out = paths::root().join("target/dist");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    let out = paths::create(out)?;
    let mut files = vec![
        stage::copy(&stage.program, &out)?,
        stage::copy(&stage.licences, &out)?,
        deb::pack(&release, &out)?,
        image::write(&release, &stage, &out)?,
        sbom::write(&release, &stage.program, &crates, &out)?,
    ];
    files.push(sums::write(&files, &out)?);
    Ok(files)
}
