//! Where things are: the checkout, its `target`, and the directory of set-up's tools.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::tools_dir;

/// The target triple everything for guests and for `run` is built for.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The root of the checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Cargo's target directory.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where logs and images of virtual machines go; created when missing.
pub fn vm_dir() -> Result<PathBuf> {
    create(target().join("vm"))
}

/// Where set-up keeps compilers, kernels and programs; created when missing.
pub fn tools() -> Result<PathBuf> {
    let dir = tools_dir::tools_dir()
        .context("no place for tools: set TRACKER_TOOLS to a directory, or HOME")?;
    create(dir)
}

/// Creates `dir` with its parents.
pub fn create(dir: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// The program called `name` in `PATH`, or where administrators' programs are.
pub fn program(name: &str) -> Option<PathBuf> {
    which::which(name).ok().or_else(|| {
        ["/usr/sbin", "/sbin"]
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|p| p.is_file())
    })
}
