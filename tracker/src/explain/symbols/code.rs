//! The code that a process has mapped, and the files it comes from.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use uffd::ProcVma;

use crate::explain::StackFrame;

/// What maps adds to the name of a file that nobody can open by name any more.
const DELETED: &[u8] = b" (deleted)";

/// One mapping of code.
#[derive(Clone, Debug)]
pub(super) struct CodeMapping {
    vma: ProcVma,
    /// The file, to be opened; `None` if there is none, or none for us.
    file: Option<PathBuf>,
}

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

/// Executable mappings by address; none if the process is gone.
pub(super) fn of(pid: u32) -> Vec<CodeMapping> {
    let Ok(maps) = uffd::maps(pid) else {
        return Vec::new();
    };
    let executable = |vma: &ProcVma| vma.permissions.get(2) == Some(&b'x');
    let code = |vma: ProcVma| CodeMapping {
        file: file(pid, &vma),
        vma,
    };
    maps.map_while(Result::ok)
        .filter(executable)
        .map(code)
        .collect()
}

impl CodeMapping {
    /// The mapping that holds an address.
    pub(super) fn at(all: &[Self], address: u64) -> Option<&Self> {
        let after = all.partition_point(|code| code.vma.start <= address);
        let code = all.get(after.checked_sub(1)?)?;
        (address < code.vma.end).then_some(code)
    }

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

    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// How far into the file an address lies.
    pub(super) fn offset(&self, address: u64) -> u64 {
        let within = address.saturating_sub(self.vma.start);
        self.vma.offset.saturating_add(within)
    }

    /// The name of what an address lies in, and the offset there.
    pub(super) fn module(&self, address: u64) -> String {
        let name = self.vma.name.strip_suffix(DELETED);
        let name = String::from_utf8_lossy(name.unwrap_or(&self.vma.name));
        match self.kind() {
            CodeKind::Anonymous => StackFrame::ANONYMOUS.to_owned(),
            CodeKind::File | CodeKind::Vdso | CodeKind::Other => {
                format!("{name}+{:#x}", self.offset(address))
            }
        }
    }
}

/// Where we can open the file of a mapping: by its name, if that is the same file here; through the
/// kernel's link to it, which needs a privilege and serves deleted files and other mount
/// namespaces; below the process's root.
fn file(pid: u32, vma: &ProcVma) -> Option<PathBuf> {
    let [b'/', path @ ..] = vma.name.as_slice() else {
        return None;
    };
    let link = PathBuf::from(format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        vma.start, vma.end
    ));
    let linked = identity(&link);
    let named = Path::new(std::ffi::OsStr::from_bytes(&vma.name));
    let here = identity(named);
    let mapped = (major_minor(vma.device), vma.inode);
    if here.is_some() && (here == linked || here == Some(mapped)) {
        return Some(named.to_owned());
    }
    if linked.is_some() {
        return Some(link);
    }
    let root = format!("/proc/{pid}/root");
    let below = Path::new(&root).join(std::ffi::OsStr::from_bytes(path));
    let whole = !vma.name.ends_with(DELETED);
    (whole && identity(&below).is_some()).then_some(below)
}

/// Device and inode of a regular file: any other file may keep us waiting.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some((meta.dev(), meta.ino()))
}

fn major_minor((major, minor): (u32, u32)) -> u64 {
    rustix::fs::makedev(major, minor)
}
