//! Writing a file whole or not at all.

use anyhow::Context;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process;

/// Writes a new file and gives it the name then: what was there before stays until the new is whole.
///
/// # Errors
/// If it cannot be written; nothing is left behind.
pub fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path
        .file_name()
        .with_context(|| format!("{} is no name of a file", path.display()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", process::id()));
    let part = path.with_file_name(hidden);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&part)
        .and_then(|mut file| {
            let written = file.write_all(bytes).and_then(|()| fs::rename(&part, path));
            if written.is_err() {
                // The first failure is the one to tell.
                let _ = fs::remove_file(&part);
            }
            written
        });
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("heat.svg");
        replace(&path, b"old").unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let blocked = directory.path().join("directory");
        fs::create_dir_all(blocked.join("full")).unwrap();
        let error = format!("{:#}", replace(&blocked, b"x").unwrap_err());
        assert!(error.contains("cannot write"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
