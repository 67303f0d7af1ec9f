//! What packages contain that is not in the checkout, in files where their lists expect it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{NAME, release::Release, unit};
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
pub fn fill(program: &Path, licences: &str, release: &Release) -> Result<Stage> {
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
    write(&directory.join("changelog"), &changelog(release)?)?;
    write(&stage.licences, licences)?;
    Ok(stage)
}

/// The changelog that a package of Debian has; what changed is in the history of the source.
fn changelog(release: &Release) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--rfc-email"])
        .arg(format!("--date=@{}", release.epoch));
    Ok(format!(
        "{NAME} ({}-1) unstable; urgency=medium\n\n  * As built from source at this time.\n\n \
         -- The tracker authors <tracker@tracker.example>  {}\n",
        release.version,
        sh::output(&mut date)?.trim(),
    ))
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
