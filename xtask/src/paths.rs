//! Where things are: the checkout, its `target`, and the tools that set-up fetches and builds.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::tools_dir;

/// The target triple of what is built for guests and for `run`.
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

/// Where logs and images of virtual machines go; created if missing.
pub fn vm_dir() -> Result<PathBuf> {
    create(target().join("vm"))
}

/// Where set-up keeps bpf-linker, kernels and programs; created if missing.
pub fn tools() -> Result<PathBuf> {
    let dir = tools_dir::tools_dir().context(
        "there is no directory for tools: set TRACKER_TOOLS, or HOME, to an absolute path",
    )?;
    create(dir)
}

/// Creates `dir` with its parents.
pub fn create(dir: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

/// The program called `name` in `PATH`, or in the directories of administrators' programs.
pub fn program(name: &str) -> Option<PathBuf> {
    which::which(name).ok().or_else(|| {
        ["/usr/sbin", "/sbin"]
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|p| p.is_file())
    })
}
