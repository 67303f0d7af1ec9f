//! The static busybox that is the user space of guests: the machine's own, or Debian's package
//! unpacked beside our tools, because installing it would remove a dynamic one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::apt;
use crate::paths;

/// A static busybox, fetched if there is none.
pub fn prepare() -> Result<PathBuf> {
    if let Some(path) = find() {
        return Ok(path);
    }
    const ADVICE: &str = "guests need a static busybox. Install the package busybox-static, or put \
                          a busybox without shared libraries in PATH";
    if !apt::is_here() {
        bail!(ADVICE);
    }
    let source = apt::PackageSource::open().context(ADVICE)?;
    source.unpack(
        &["busybox-static".to_owned()],
        &paths::tools()?.join("busybox"),
    )?;
    find().context("the package busybox-static contains no static busybox")
}

/// A static busybox that is already here.
pub fn find() -> Option<PathBuf> {
    let fetched = paths::tools().ok().map(|tools| tools.join("busybox"));
    let fetched = fetched
        .into_iter()
        .flat_map(|dir| [dir.join("bin/busybox"), dir.join("usr/bin/busybox")]);
    paths::program("busybox")
        .into_iter()
        .chain(fetched)
        .find(|path| is_static(path))
}

/// Whether `program` runs without shared libraries: an ELF file that names no interpreter.
fn is_static(program: &Path) -> bool {
    const INTERPRETER: &[u8] = b"/ld-";
    fs::read(program).is_ok_and(|bytes| {
        let head = &bytes[..bytes.len().min(4096)];
        bytes.starts_with(b"\x7fELF")
            && !head
                .windows(INTERPRETER.len())
                .any(|window| window == INTERPRETER)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_not_static() {
        assert!(!is_static(Path::new("/bin/sh")));
        assert!(!is_static(Path::new("/etc/passwd")));
        assert!(!is_static(Path::new("/no/such/file")));
    }
}
