//! What the pages of a VMA come from, told from outside the kernel.

use crate::uffd::Vma;
use rustix::fs::{MemfdFlags, fstat, major, memfd_create, minor};
use std::collections::HashSet;
use std::fs;
use tracker_ebpf::Backing;

/// Device numbers of tmpfs mounts: a file there is shmem.
#[derive(Clone, Debug, Default)]
pub struct ShmemDevices(HashSet<(u32, u32)>);

impl ShmemDevices {
    /// The kernel's own mount, where memfds and shared anonymous memory are, and those that
    /// process `pid` sees. What cannot be read is left out: such files are then called `file`.
    pub fn of(pid: u32) -> Self {
        let text = fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        Self(text.split(|&b| b == b'\n').filter_map(parse_tmpfs).chain(internal_mount()).collect())
    }
}

/// The device of the mount that has no place in any mountinfo (`shm_mnt` in mm/shmem.c).
fn internal_mount() -> Option<(u32, u32)> {
    let memfd = memfd_create("tracker", MemfdFlags::CLOEXEC).ok()?;
    let device = fstat(&memfd).ok()?.st_dev;
    Some((major(device), minor(device)))
}

/// `36 35 98:0 / /mnt rw,noatime master:1 - tmpfs source options` (proc_pid_mountinfo(5)).
fn parse_tmpfs(line: &[u8]) -> Option<(u32, u32)> {
    let mut words = line.split(|&b| b == b' ');
    let device = std::str::from_utf8(words.nth(2)?).ok()?;
    let kind = words.skip_while(|word| *word != b"-").nth(1)?;
    let (major, minor) = device.split_once(':')?;
    if kind != b"tmpfs" && kind != b"devtmpfs" {
        return None;
    }
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What the pages of a VMA come from.
pub fn backing(vma: &Vma, shmem: &ShmemDevices) -> Backing {
    if vma.flags.hugetlb() {
        Backing::Hugetlb
    } else if vma.is_anonymous() {
        Backing::Anon
    } else if shmem.0.contains(&vma.device) {
        Backing::Shmem
    } else {
        Backing::File
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::uffd::Smaps;

    #[test]
    fn tmpfs_lines_of_mountinfo() {
        let line = b"24 22 0:21 / /dev/shm rw,nosuid shared:3 - tmpfs tmpfs rw,inode64";
        assert_eq!(parse_tmpfs(line), Some((0, 21)));
        assert_eq!(parse_tmpfs(b"24 22 0:21 / /a\\040b rw - tmpfs none rw"), Some((0, 21)));
        assert_eq!(parse_tmpfs(b"22 1 254:0 / / rw - ext4 /dev/vda rw"), None);
        for garbage in [b"".as_slice(), b"1 2", b"1 2 x / / rw - tmpfs", b"1 2 0:1 / / rw"] {
            assert_eq!(parse_tmpfs(garbage), None);
        }
    }

    fn vma(device: &str, inode: u64, flags: &str) -> Vma {
        let text = format!("1000-2000 rw-s 00000000 {device} {inode} /x\nVmFlags: rd {flags}\n");
        Smaps::new(text.as_bytes(), "test").next().unwrap().unwrap()
    }

    #[test]
    fn each_backing() {
        let shmem = ShmemDevices(HashSet::from([(0, 1)]));
        assert_eq!(backing(&vma("00:00", 0, ""), &shmem), Backing::Anon);
        assert_eq!(backing(&vma("00:01", 9, "sh"), &shmem), Backing::Shmem);
        assert_eq!(backing(&vma("fe:00", 9, "sh"), &shmem), Backing::File);
        assert_eq!(backing(&vma("00:0f", 9, "ht"), &shmem), Backing::Hugetlb);
    }

    #[test]
    fn a_memfd_is_on_the_internal_mount() {
        assert!(internal_mount().is_some());
    }
}
