//! One file per command.

pub mod bench;
pub mod run;
pub mod selftests;
pub mod test;
pub mod vm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use crate::{cargo::Program, paths, sh, vm::GuestFile};

/// `programs` as files of a guest's `dir`.
fn guest_programs(programs: &[Program], dir: &str) -> Result<Vec<GuestFile>> {
    let file = |program: &Program| {
        Ok(GuestFile {
            host: slim(&program.path)?,
            guest: format!("{dir}/{}", program.name),
        })
    };
    programs.iter().map(file).collect()
}

/// A copy of `program` without debug information, which is most of it and which an emulated machine
/// takes long to load. The program itself where there is no `strip`.
fn slim(program: &Path) -> Result<PathBuf> {
    // Guests are made ready side by side.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(strip) = paths::program("strip") else {
        return Ok(program.to_owned());
    };
    let name = program.file_name().context("a program has a name")?;
    let copy = paths::create(paths::vm_dir()?.join("programs"))?.join(name);
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    if changed(&copy).is_none_or(|at| Some(at) < changed(program)) {
        let partial = copy.with_extension(std::process::id().to_string());
        sh::output(
            Command::new(strip)
                .arg("--strip-debug")
                .arg("-o")
                .arg(&partial)
                .arg(program),
        )?;
        fs::rename(&partial, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
    }
    Ok(copy)
}
