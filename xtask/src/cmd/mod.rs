//! One module per command.

pub mod bench;
pub mod dist;
pub mod run;
pub mod selftests;
pub mod test;
pub mod test_package;
pub mod vm;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result};

use crate::{cargo::BuiltProgram, paths, sh, vm::GuestFile};

/// `programs` as files of a guest's `dir`.
fn guest_programs(programs: &[BuiltProgram], dir: &str) -> Result<Vec<GuestFile>> {
    let file = |program| guest_program(program, dir);
    programs.iter().map(file).collect()
}

/// `program` as a file of a guest's `dir`.
fn guest_program(program: &BuiltProgram, dir: &str) -> Result<GuestFile> {
    Ok(GuestFile {
        host: stripped(&program.path)?,
        guest: format!("{dir}/{}", program.name),
    })
}

/// A copy of `program` without debug information, which is most of the file and takes an emulated
/// machine long to load. The program itself on machines without `strip`.
fn stripped(program: &Path) -> Result<PathBuf> {
    // Guests are prepared in parallel.
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(strip) = paths::program("strip") else {
        return Ok(program.to_owned());
    };
    let name = program.file_name().context("a program has a name")?;
    let copy = paths::create(paths::vm_dir()?.join("programs"))?.join(name);
    let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    if changed(&copy).is_none_or(|at| Some(at) < changed(program)) {
        let partial = copy.with_extension(process::id().to_string());
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
