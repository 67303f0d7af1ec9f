//! Files that are written whole or not at all, and files that grow.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::Context as _;

/// Writes a new file and gives it its name then: what was there before stays until the new file is
/// whole.
///
/// # Errors
/// If it cannot be written; nothing is left behind.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
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

/// Finds out early that a file cannot be written.
///
/// # Errors
/// If it exists and is to be kept, or cannot be there.
pub(super) fn check(path: &Path, replaces: bool) -> anyhow::Result<()> {
    if !replaces && path.exists() {
        anyhow::bail!("{} exists; --force replaces it", path.display());
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    if parent.is_some_and(|parent| !parent.is_dir()) || path.is_dir() {
        anyhow::bail!(
            "cannot write {}: there is no such directory, or it is one",
            path.display()
        );
    }
    Ok(())
}

/// A file that is open and has not begun to grow: what it holds is still there, and if it is new,
/// it goes again when this is dropped.
pub(super) struct OpenedFile {
    file: Option<File>,
    path: PathBuf,
    is_new: bool,
}

impl OpenedFile {
    /// Opens a file, before anything else is done.
    ///
    /// # Errors
    /// If it exists and is to be kept, or cannot be written.
    pub(super) fn new(path: &Path, replaces: bool) -> anyhow::Result<Self> {
        let open = |is_new| {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(is_new).open(path);
            file.map(|file| (file, is_new))
        };
        let opened = open(true).or_else(|error| {
            if replaces && error.kind() == io::ErrorKind::AlreadyExists {
                open(false)
            } else {
                Err(error)
            }
        });
        let (file, is_new) = opened.map_err(|error| {
            let exists = error.kind() == io::ErrorKind::AlreadyExists;
            let advice = if exists { "; --force replaces it" } else { "" };
            anyhow::anyhow!("cannot record to {}: {error}{advice}", path.display())
        })?;
        Ok(Self {
            file: Some(file),
            path: path.to_owned(),
            is_new,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Empties the file, which begins to grow now and stays.
    ///
    /// # Errors
    /// If it cannot be emptied.
    pub(super) fn begin(mut self) -> io::Result<File> {
        let file = self.file.take();
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        // A device, such as /dev/null, has no length.
        if file.metadata()?.is_file() {
            file.set_len(0)?;
        }
        Ok(file)
    }
}

impl Drop for OpenedFile {
    fn drop(&mut self) {
        if self.is_new && self.file.is_some() {
            // Why nothing was recorded is told in any case.
            let _ = fs::remove_file(&self.path);
        }
    }
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

    #[test]
    fn a_file_that_never_begins_is_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.rec");
        drop(OpenedFile::new(&path, false).unwrap());
        assert!(!path.exists());
        fs::write(&path, b"old").unwrap();
        let error = OpenedFile::new(&path, false).err().unwrap().to_string();
        assert!(error.contains("--force replaces it"), "{error}");
        drop(OpenedFile::new(&path, true).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        OpenedFile::new(&path, true).unwrap().begin().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn what_cannot_be_written_is_told_before() {
        let directory = tempfile::tempdir().unwrap();
        let (path, nowhere) = (directory.path().join("a"), directory.path().join("no/a"));
        fs::write(&path, b"").unwrap();
        assert!(check(&path, false).is_err() && check(&path, true).is_ok());
        assert!(check(&nowhere, true).is_err() && check(directory.path(), true).is_err());
    }
}
