//! The `newc` cpio format, which the kernel unpacks as its first root file system; described in
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

/// An archive being written. Paths are absolute; missing parents are added.
pub struct CpioArchive<W> {
    out: W,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> CpioArchive<W> {
    /// Begins an archive that is written to `out` piece by piece.
    pub fn new(out: W) -> Self {
        Self {
            out,
            inode: 0,
            directories: BTreeSet::new(),
        }
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.directory_with(path, 0o755)
    }

    /// Adds a directory with permissions `mode`, unless it is there.
    pub fn directory_with(&mut self, path: &str, mode: u32) -> io::Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || !self.directories.insert(path.to_owned()) {
            return Ok(());
        }
        self.parents(path)?;
        self.entry(path, DIRECTORY | mode & 0o7777, (0, 0), b"")
    }

    /// Adds a regular file with permissions `mode`.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.parents(path.trim_matches('/'))?;
        self.entry(
            path.trim_matches('/'),
            REGULAR | mode & 0o7777,
            (0, 0),
            data,
        )
    }

    /// Adds a symbolic link to `to`.
    pub fn symlink(&mut self, path: &str, to: &str) -> io::Result<()> {
        self.parents(path.trim_matches('/'))?;
        self.entry(
            path.trim_matches('/'),
            SYMLINK | 0o777,
            (0, 0),
            to.as_bytes(),
        )
    }

    /// Adds a character device.
    pub fn device(&mut self, path: &str, major: u32, minor: u32) -> io::Result<()> {
        self.parents(path.trim_matches('/'))?;
        self.entry(
            path.trim_matches('/'),
            CHARACTER | 0o600,
            (major, minor),
            b"",
        )
    }

    /// Writes the trailer and returns `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), b"")?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &str) -> io::Result<()> {
        path.rsplit_once('/')
            .map_or(Ok(()), |(parent, _)| self.directory(parent))
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> io::Result<()> {
        let too_big =
            |_| io::Error::new(io::ErrorKind::FileTooLarge, format!("{path} is over 4 GiB"));
        let size = u32::try_from(data.len()).map_err(too_big)?;
        let name = u32::try_from(path.len() + 1).map_err(too_big)?;
        let fields = [
            self.inode, mode, 0, 0, // owner and group: root
            1, 0, // links, time of change
            size, 0, 0, device.0, device.1, name, 0, // no checksum in this format
        ];
        let mut header = b"070701".to_vec();
        for field in fields {
            header.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        header.extend_from_slice(path.as_bytes());
        header.push(0);
        self.padded(&header)?;
        self.padded(data)?;
        self.inode += 1;
        Ok(())
    }

    /// Writes `bytes` and zeros up to a multiple of four.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out
            .write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::{Command, Stdio};

    use super::*;

    fn sample() -> Vec<u8> {
        let mut archive = CpioArchive::new(Vec::new());
        archive.file("/etc/deep/name", 0o640, b"five!").unwrap();
        archive.symlink("/bin/sh", "busybox").unwrap();
        archive.directory("/etc").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn entries_are_aligned_and_parents_come_first() {
        let bytes = sample();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let at = |name: &str| text.find(name).unwrap();
        assert!(at("etc\0") < at("etc/deep\0") && at("etc/deep\0") < at("etc/deep/name\0"));
        assert_eq!(
            text.matches("070701").count(),
            6,
            "each directory once, and the trailer"
        );
    }

    #[test]
    fn another_implementation_reads_it() {
        let Some(busybox) = crate::setup::busybox::find() else {
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(busybox)
            .args(["cpio", "-id"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&sample()).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(
            std::fs::read(dir.path().join("etc/deep/name")).unwrap(),
            b"five!"
        );
        let link = std::fs::read_link(dir.path().join("bin/sh")).unwrap();
        assert_eq!(link.to_str(), Some("busybox"));
    }
}
