//! One file per command.

pub mod vm;

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::Result;

use crate::{cargo::Program, vm::GuestFile};

/// `programs` as files of a guest's `dir`.
fn guest_programs(programs: &[Program], dir: &str) -> Vec<GuestFile> {
    programs
        .iter()
        .map(|program| GuestFile {
            host: program.path.clone(),
            guest: format!("{dir}/{}", program.name),
        })
        .collect()
}

/// Whether `file` can be executed.
fn is_executable(file: &std::path::Path) -> Result<bool> {
    Ok(fs::metadata(file)?.permissions().mode() & 0o111 != 0)
}
