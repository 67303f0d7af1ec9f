//! The one way in which files are made: with what is in them, they appear under their names.
//!
//! Until then they are hidden files beside them, so a file that exists stays as it was, links are
//! not followed, and nothing is left of a failure. They are for their owner only: addresses tell
//! how to attack a process.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tempfile::{NamedTempFile, PersistError};

/// A file that does not have its name yet. Dropping it leaves nothing behind.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    place: FilePlace,
    /// Whether a file that exists is replaced.
    replaces: bool,
}

#[derive(Debug)]
enum FilePlace {
    Hidden(NamedTempFile),
    /// A device, such as /dev/null, is written as it is.
    Device(File),
}

/// Why a file cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum NewFileError {
    /// It is there, and nobody said to replace it.
    #[error("{} exists; --force replaces it", .0.display())]
    Exists(PathBuf),
    /// No file can have this name.
    #[error("{} is no name of a file", .0.display())]
    NoName(PathBuf),
    /// Something else has this name: to write there might wait for ever, or destroy it.
    #[error("{} is {what}; name a file, or let `--json` print into it", .path.display())]
    Special {
        /// Its name.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refuses.
    #[error("cannot write {}", .path.display())]
    System {
        /// Its name.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl NewFile {
    /// Makes a hidden file in the place of another, before anything else is done: what cannot be
    /// written is told then.
    ///
    /// # Errors
    /// If a file exists and is to be kept, or none can be there.
    pub(super) fn new(path: &Path, replaces: bool) -> Result<Self, NewFileError> {
        let failed = |source| NewFileError::System {
            path: path.to_owned(),
            source,
        };
        let no_name = || NewFileError::NoName(path.to_owned());
        path.file_name().ok_or_else(no_name)?;
        let place = match fs::symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_char_device() => {
                FilePlace::Device(device(path).map_err(failed)?)
            }
            Ok(meta) => {
                if let Some(what) = special(meta.file_type()) {
                    let path = path.to_owned();
                    return Err(NewFileError::Special { path, what });
                }
                if !replaces {
                    return Err(NewFileError::Exists(path.to_owned()));
                }
                FilePlace::Hidden(hidden(path).map_err(failed)?)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                FilePlace::Hidden(hidden(path).map_err(failed)?)
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self {
            path: path.to_owned(),
            place,
            replaces,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name; it grows from now on.
    ///
    /// # Errors
    /// If a file was made there meanwhile and is to be kept, or the system refuses.
    pub(super) fn begin(self) -> Result<File, NewFileError> {
        let Self {
            path,
            place,
            replaces,
        } = self;
        let named = match place {
            FilePlace::Device(file) => return Ok(file),
            FilePlace::Hidden(file) if replaces => file.persist(&path),
            FilePlace::Hidden(file) => file.persist_noclobber(&path),
        };
        named.map_err(|PersistError { error, .. }| match error.kind() {
            io::ErrorKind::AlreadyExists => NewFileError::Exists(path),
            _ => NewFileError::System {
                path,
                source: error,
            },
        })
    }

    /// Writes all of it and gives it its name then.
    ///
    /// # Errors
    /// As [`NewFile::begin`], and if it cannot be written.
    pub(super) fn write(mut self, bytes: &[u8]) -> Result<(), NewFileError> {
        let file = match &mut self.place {
            FilePlace::Hidden(file) => file.as_file_mut(),
            FilePlace::Device(file) => file,
        };
        if let Err(source) = file.write_all(bytes) {
            let path = self.path;
            return Err(NewFileError::System { path, source });
        }
        self.begin().map(drop)
    }
}

/// A file for its owner only, which goes again unless it is named.
fn hidden(path: &Path) -> io::Result<NamedTempFile> {
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    tempfile::Builder::new()
        .prefix(".tracker-")
        .tempfile_in(directory.unwrap_or(Path::new(".")))
}

/// What a file is that is neither replaced nor written.
fn special(kind: fs::FileType) -> Option<&'static str> {
    let kinds = [
        (kind.is_dir(), "a directory"),
        (kind.is_fifo(), "a pipe"),
        (kind.is_socket(), "a socket"),
        (kind.is_block_device(), "a disk"),
    ];
    kinds.into_iter().find_map(|(is, what)| is.then_some(what))
}

/// A device, if it still is one when it is open.
fn device(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.file_type().is_char_device() {
        return Ok(file);
    }
    Err(io::Error::other("it was changed while it was opened"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn error(path: &Path, replaces: bool) -> String {
        NewFile::new(path, replaces).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("heat.svg");
        NewFile::new(&path, false).unwrap().write(b"old").unwrap();
        let new = NewFile::new(&path, true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        new.write(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_never_begins_is_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.rec");
        drop(NewFile::new(&path, false).unwrap());
        assert!(!path.exists());
        let late = NewFile::new(&path, false).unwrap();
        fs::write(&path, b"old").unwrap();
        assert!(error(&path, false).contains("--force replaces it"));
        drop(NewFile::new(&path, true).unwrap());
        // Also one that appears meanwhile.
        let told = late.begin().unwrap_err().to_string();
        assert!(told.contains("exists"), "{told}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        let mut begun = NewFile::new(&path, true).unwrap().begin().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        begun.write_all(b"grows").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"grows");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_replaced_and_never_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (link, theirs) = (directory.path().join("link"), directory.path().join("dear"));
        fs::write(&theirs, b"dear").unwrap();
        symlink(&theirs, &link).unwrap();
        assert!(error(&link, false).contains("exists"));
        NewFile::new(&link, true).unwrap().write(b"new").unwrap();
        assert_eq!(fs::read(&theirs).unwrap(), b"dear");
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }

    #[test]
    fn what_cannot_be_written_is_told_before() {
        let directory = tempfile::tempdir().unwrap();
        assert!(error(&directory.path().join("no/a"), true).contains("cannot write"));
        assert!(error(directory.path(), true).contains("is a directory"));
        assert!(error(Path::new("/"), true).contains("no name"));
        let pipe = directory.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR;
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        assert!(error(&pipe, true).contains("is a pipe"));
        let null = Path::new("/dev/null");
        NewFile::new(null, false)
            .unwrap()
            .write(b"nothing")
            .unwrap();
    }
}
