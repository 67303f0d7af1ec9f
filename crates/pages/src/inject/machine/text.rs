//! Finds an instruction `syscall` that the target has anyway: nothing is written to its memory.
#![forbid(unsafe_code)]

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use uffd::{ProcVma, ProcessGone};

use super::super::InjectError;

/// The instruction's bytes.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// Bytes searched of each mapping, from its start.
const WINDOW: u64 = 4 << 20;

/// The memory of a process.
pub(super) fn memory(pid: u32) -> std::io::Result<File> {
    File::open(format!("/proc/{pid}/mem"))
}

/// Finds one: in the vDSO, which every process has unless the kernel was booted without it, or else
/// in whatever it can execute.
pub(super) fn find(pid: u32, memory: &File) -> Result<u64, InjectError> {
    let gone = ProcessGone { pid };
    let maps = uffd::maps(pid).map_err(|_| gone)?;
    let mut all: Vec<ProcVma> = maps.map_while(Result::ok).collect();
    // A process on its way out has no memory any more.
    if all.is_empty() {
        return Err(gone.into());
    }
    all.retain(|vma| vma.permissions[2] == b'x' && vma.name != b"[vsyscall]");
    all.sort_by_key(|vma| vma.name != b"[vdso]");
    let mut found = all.iter().filter_map(|vma| search(memory, vma.range()));
    found.next().ok_or(InjectError::NoInstruction { pid })
}

/// Whether it still is there: the target may have executed another program since.
pub(super) fn is_there(memory: &File, at: u64) -> bool {
    let mut bytes = [0; 2];
    memory.read_exact_at(&mut bytes, at).is_ok() && bytes == SYSCALL
}

fn search(memory: &File, range: Range<u64>) -> Option<u64> {
    let length = (range.end - range.start).min(WINDOW);
    let mut code = vec![0; length as usize];
    let read = memory.read_at(&mut code, range.start).ok()?;
    let mut pairs = code[..read].windows(SYSCALL.len());
    let offset = pairs.position(|pair| pair == SYSCALL)?;
    Some(range.start + offset as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn our_own_is_found() {
        let pid = std::process::id();
        let memory = memory(pid).unwrap();
        let at = find(pid, &memory).unwrap();
        assert!(is_there(&memory, at));
        assert!(!is_there(&memory, at + 1) && !is_there(&memory, 0));
    }

    #[test]
    fn a_mapping_without_one() {
        let data = vec![0u8; 4096];
        let start = data.as_ptr().expose_provenance() as u64;
        let memory = memory(std::process::id()).unwrap();
        assert_eq!(search(&memory, start..start + 4096), None);
    }
}
