//! What packages contain that is not in the checkout, in files where their lists expect it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{NAME, unit};
use crate::{cargo::OwnProgram, paths, sh};

/// The shells whose completions are packaged.
const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// What was written that is not in packages only.
pub struct Stage {
    /// tracker without debug information.
    pub program: PathBuf,
    /// The licences of what it contains.
    pub licences: PathBuf,
}

/// Writes it, with the built `program`, which writes its man pages and completions itself.
pub fn fill(program: &Path, licences: &str) -> Result<Stage> {
    let directory = paths::root().join("target/stage");
    if directory.exists() {
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot empty {}", directory.display()))?;
    }
    let completions = paths::create(directory.join("completions"))?;
    let stage = Stage {
        program: directory.join(OwnProgram::Tracker.name()),
        licences: directory.join("third-party-licences.txt"),
    };
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&stage.program).arg(program);
    sh::output(&mut strip)
        .context("cannot take the debug information out of tracker; `strip` is in binutils")?;
    for shell in SHELLS {
        let script = sh::output(Command::new(program).args(["completions", shell]))?;
        write(&completions.join(shell), &script)?;
    }
    let pages = directory.join("man");
    sh::output(Command::new(program).arg("man-pages").arg(&pages))?;
    let unit = directory.join(format!("{NAME}.service"));
    write(&unit, &unit::packaged()?)?;
    write(&stage.licences, licences)?;
    Ok(stage)
}

/// Copies `file` into `directory`.
pub fn copy(file: &Path, directory: &Path) -> Result<PathBuf> {
    let name = file.file_name().context("a file has a name")?;
    let copy = directory.join(name);
    fs::copy(file, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    Ok(copy)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
