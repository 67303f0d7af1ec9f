//! The code that a process has mapped, and the files it comes from.
//!
//! A file is held from the moment its mapping is seen, without being opened for reading: what gets
//! its name later is another file, and a pipe keeps nobody waiting.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use uffd::ProcVma;

use crate::explain::StackFrame;

/// What maps adds to the name of a file that nobody can open by name any more.
const DELETED: &[u8] = b" (deleted)";
/// Files held at once, at most.
const FILES: usize = 512;

/// Holds a file, and does not read it: nothing waits then.
const HOLD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// One mapping of code.
#[derive(Clone, Debug)]
pub(super) struct CodeMapping {
    vma: ProcVma,
    /// The file, to be opened; `None` if there is none, or none for us.
    file: Option<Arc<HeldFile>>,
}

/// A regular file that stays what it is, whatever happens to its name.
#[derive(Debug)]
pub(super) struct HeldFile(OwnedFd);

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeKind {
    /// A file.
    File,
    /// The kernel's code for processes.
    Vdso,
    /// Code made at run time.
    Anonymous,
    /// `[vsyscall]`, and whatever else has a name.
    Other,
}

/// Code by address, as it was mapped when it was last seen there.
#[derive(Debug, Default)]
pub(super) struct CodeTable {
    mappings: Vec<CodeMapping>,
    files: HashMap<(u64, u64), Arc<HeldFile>>,
}

impl CodeTable {
    /// Reads what a process has mapped now. What was mapped before and is not in the way stays.
    pub(super) fn look(&mut self, pid: u32) {
        let Ok(maps) = uffd::maps(pid) else {
            return;
        };
        let executable = |vma: &ProcVma| vma.permissions.get(2) == Some(&b'x');
        for vma in maps.map_while(Result::ok).filter(executable) {
            self.add(pid, vma);
        }
    }

    fn add(&mut self, pid: u32, vma: ProcVma) {
        let from = self
            .mappings
            .partition_point(|code| code.vma.end <= vma.start);
        let until = self
            .mappings
            .partition_point(|code| code.vma.start < vma.end);
        let until = until.max(from);
        let there = self.mappings.get(from..until).unwrap_or_default();
        if there.iter().any(|code| code.vma == vma) {
            return;
        }
        let file = self.hold(pid, &vma);
        self.mappings
            .splice(from..until, [CodeMapping { vma, file }]);
    }

    /// The file of a mapping, held once however often it is mapped.
    fn hold(&mut self, pid: u32, vma: &ProcVma) -> Option<Arc<HeldFile>> {
        if self.files.len() >= FILES {
            return None;
        }
        let file = HeldFile::of(pid, vma)?;
        let held = self.files.entry(file.identity()?);
        Some(Arc::clone(held.or_insert_with(|| Arc::new(file))))
    }

    /// The mapping that holds an address.
    pub(super) fn at(&self, address: u64) -> Option<&CodeMapping> {
        let after = self
            .mappings
            .partition_point(|code| code.vma.start <= address);
        let code = self.mappings.get(after.checked_sub(1)?)?;
        (address < code.vma.end).then_some(code)
    }
}

impl CodeMapping {
    /// What its addresses belong to.
    pub(super) fn kind(&self) -> CodeKind {
        match self.vma.name.as_slice() {
            [b'/', ..] => CodeKind::File,
            b"[vdso]" => CodeKind::Vdso,
            b"" | b"[heap]" | b"[stack]" => CodeKind::Anonymous,
            name if name.starts_with(b"[anon") => CodeKind::Anonymous,
            _ => CodeKind::Other,
        }
    }

    pub(super) fn file(&self) -> Option<&Arc<HeldFile>> {
        self.file.as_ref()
    }

    /// How far into the file an address lies.
    pub(super) fn offset(&self, address: u64) -> u64 {
        let within = address.saturating_sub(self.vma.start);
        self.vma.offset.saturating_add(within)
    }

    /// What an address lies in.
    pub(super) fn name(&self) -> String {
        let name = self.vma.name.strip_suffix(DELETED);
        String::from_utf8_lossy(name.unwrap_or(&self.vma.name)).into_owned()
    }

    /// The name of what an address lies in, and the offset there.
    pub(super) fn module(&self, address: u64) -> String {
        match self.kind() {
            CodeKind::Anonymous => StackFrame::ANONYMOUS.to_owned(),
            CodeKind::File | CodeKind::Vdso | CodeKind::Other => {
                format!("{}+{:#x}", self.name(), self.offset(address))
            }
        }
    }
}

impl HeldFile {
    /// The file of a mapping: by its name, if that is the same file here; through the kernel's link
    /// to it, which needs a privilege and serves deleted files and other mount namespaces; below
    /// the process's root.
    fn of(pid: u32, vma: &ProcVma) -> Option<Self> {
        let [b'/', path @ ..] = vma.name.as_slice() else {
            return None;
        };
        let (start, end) = (vma.start, vma.end);
        let linked = Self::open(Path::new(&format!(
            "/proc/{pid}/map_files/{start:x}-{end:x}"
        )));
        let is = linked.as_ref().and_then(Self::identity);
        let (major, minor) = vma.device;
        let mapped = Some((rustix::fs::makedev(major, minor), vma.inode));
        let named = Self::open(Path::new(OsStr::from_bytes(&vma.name)));
        let named = named.filter(|named| [is, mapped].contains(&named.identity()));
        let whole = !vma.name.ends_with(DELETED);
        let below = || Self::below(&root(pid)?, Path::new(OsStr::from_bytes(path)));
        named.or(linked).or_else(|| whole.then(below).flatten())
    }

    fn open(path: &Path) -> Option<Self> {
        Self::if_regular(rustix::fs::open(path, HOLD, Mode::empty()).ok()?)
    }

    /// A file below a directory, and nowhere else, whatever links say.
    pub(super) fn below(root: &OwnedFd, path: &Path) -> Option<Self> {
        let flags = HOLD | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
        Self::if_regular(file.ok()?)
    }

    fn if_regular(file: OwnedFd) -> Option<Self> {
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_regular.then_some(Self(file))
    }

    fn identity(&self) -> Option<(u64, u64)> {
        let stat = rustix::fs::fstat(&self.0).ok()?;
        Some((stat.st_dev, stat.st_ino))
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> Option<u32> {
        rustix::fs::fstat(&self.0).ok().map(|stat| stat.st_uid)
    }

    /// How a child of ours opens it.
    pub(super) fn path(&self) -> PathBuf {
        let (own, number) = (std::process::id(), self.0.as_raw_fd());
        PathBuf::from(format!("/proc/{own}/fd/{number}"))
    }
}

/// The root directory of a process, held: it is there when the process has ended, too.
pub(super) fn root(pid: u32) -> Option<OwnedFd> {
    let flags = HOLD | OFlags::DIRECTORY;
    rustix::fs::openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_held_once_however_often_one_looks() {
        let mut table = CodeTable::default();
        table.look(std::process::id());
        let number = |file: &Arc<HeldFile>| file.0.as_raw_fd();
        let held = |table: &CodeTable| {
            let files = table.mappings.iter().filter_map(CodeMapping::file);
            files.map(number).collect::<Vec<_>>()
        };
        let before = held(&table);
        assert!(!before.is_empty() && !table.files.is_empty());
        for _ in 0..3 {
            table.look(std::process::id());
        }
        // Other threads may map code meanwhile; nothing that was held is opened anew.
        let mut files: Vec<_> = table.files.values().map(number).collect();
        assert!(before.iter().all(|file| files.contains(file)));
        files.sort_unstable();
        files.dedup();
        assert_eq!(files.len(), table.files.len());
    }
}
