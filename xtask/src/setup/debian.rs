//! A small Debian, as packages: what a guest that has systemd consists of.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::paths;

/// What it is asked for; apt adds what these need. Without a package that merges `/usr` itself, which
/// we do when we unpack.
const PACKAGES: [&str; 6] = [
    "?essential",
    "usr-is-merged",
    "apt",
    "systemd-sysv",
    "curl",
    "openssl",
];

/// Where the directory of packages says what was asked for.
const ASKED: &str = "asked";

/// The packages, fetched if they are not here.
pub fn prepare() -> Result<Vec<PathBuf>> {
    let dir = paths::tools()?.join("debian");
    let asked = PACKAGES.join(" ");
    if fs::read_to_string(dir.join(ASKED)).is_ok_and(|old| old == asked) {
        return apt::debs(&dir);
    }
    if !apt::is_here() {
        bail!("a guest with systemd is made of Debian's packages, and this machine has no apt");
    }
    fetch(&dir, &asked)?;
    apt::debs(&dir)
}

fn fetch(dir: &Path, asked: &str) -> Result<()> {
    let source = apt::PackageSource::open()?;
    let packages = source.closure(&PACKAGES)?;
    source.fetch(&packages, dir)?;
    fs::write(dir.join(ASKED), asked)
        .with_context(|| format!("cannot note in {} what was fetched", dir.display()))
}
