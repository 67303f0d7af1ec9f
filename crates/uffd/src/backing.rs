//! What the pages of a VMA come from, as far as `/proc` tells.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::fs::MemfdFlags;

use crate::{PMD_SIZE, ProcVma, UffdError};

/// What the pages of a VMA come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backing {
    /// Private anonymous memory.
    Anon,
    /// tmpfs, a memfd, shared anonymous memory.
    Shmem,
    /// hugetlbfs.
    Hugetlb,
    /// Any other file.
    File,
}

impl Backing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Anon, Self::Shmem, Self::Hugetlb, Self::File];

    /// Its name in metrics and reports: `anon`, `shmem`, `hugetlb` or `file`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::Shmem => "shmem",
            Self::Hugetlb => "hugetlb",
            Self::File => "file",
        }
    }
}

/// The devices whose files are shmem. The kernel tells shmem by `vm_ops` (`vma_is_shmem`); from
/// outside, a VMA shows only its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShmemDevices(HashSet<(u32, u32)>);

impl ShmemDevices {
    /// Those that a process can have mapped: the kernel's internal mount (memfd, shared anonymous
    /// memory) and every tmpfs of its mount namespace (`/proc/PID/mountinfo`).
    ///
    /// # Errors
    /// [`UffdError::Gone`]: the process is gone. Otherwise its mounts cannot be read, or no memfd
    /// be made.
    pub fn of(pid: u32) -> Result<Self, UffdError> {
        let path = format!("/proc/{pid}/mountinfo");
        let failed = UffdError::of_process(pid, "cannot read", &path);
        let text = fs::read(&path).map_err(failed)?;
        let mut devices = parse_mountinfo(&text);
        devices.insert(internal_device()?);
        Ok(Self(devices))
    }
}

/// The devices whose files are hugetlb, with the size of their pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugetlbDevices(HashMap<(u32, u32), u64>);

impl HugetlbDevices {
    /// Those that a process can have mapped: the kernel's internal mount of each page size (memfd,
    /// `MAP_HUGETLB`) and every hugetlbfs of its mount namespace (`/proc/PID/mountinfo`).
    ///
    /// # Errors
    /// [`UffdError::Gone`]: the process is gone. Otherwise its mounts cannot be read.
    pub fn of(pid: u32) -> Result<Self, UffdError> {
        let path = format!("/proc/{pid}/mountinfo");
        let failed = UffdError::of_process(pid, "cannot read", &path);
        let text = fs::read(&path).map_err(failed)?;
        let mut devices = HashMap::new();
        for mount in text.split(|&byte| byte == b'\n') {
            if let Some((device, b"hugetlbfs", options)) = parse_mount(mount) {
                devices.insert(device, parse_page_size(options).unwrap_or(PMD_SIZE));
            }
        }
        // A memfd takes no page before it is mapped; a size the kernel does not have is refused.
        let sizes = [
            (MemfdFlags::HUGE_2MB, PMD_SIZE),
            (MemfdFlags::HUGE_1GB, 1 << 30),
        ];
        for (size, bytes) in sizes {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | size;
            let Ok(memfd) = rustix::fs::memfd_create("tracker", flags) else {
                continue;
            };
            let stat = rustix::fs::fstat(&memfd)
                .map_err(|e| UffdError::system("cannot look at", "a memfd", e))?;
            devices.insert(major_minor(stat.st_dev), bytes);
        }
        Ok(Self(devices))
    }

    /// The bytes of one page of a device's files, if they are hugetlb.
    #[must_use]
    pub fn page_size(&self, device: (u32, u32)) -> Option<u64> {
        self.0.get(&device).copied()
    }
}

impl ProcVma {
    /// What its pages come from, by its flags, device and inode. Without flags (as from
    /// `/proc/PID/maps`) hugetlb is not told: see [`HugetlbDevices::page_size`].
    #[must_use]
    pub fn backing(&self, shmem: &ShmemDevices) -> Backing {
        if self.flags.hugetlb() {
            Backing::Hugetlb
        } else if self.is_anonymous() {
            Backing::Anon
        } else if shmem.0.contains(&self.device) {
            Backing::Shmem
        } else {
            Backing::File
        }
    }
}

/// The device of the mount that holds every memfd: that of one made for this.
fn internal_device() -> Result<(u32, u32), UffdError> {
    let failed = |e| UffdError::system("cannot create", "a memfd", e);
    let memfd = rustix::fs::memfd_create("tracker", MemfdFlags::CLOEXEC).map_err(failed)?;
    Ok(major_minor(
        rustix::fs::fstat(&memfd).map_err(failed)?.st_dev,
    ))
}

fn major_minor(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

/// Devices of tmpfs and devtmpfs in `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
fn parse_mountinfo(text: &[u8]) -> HashSet<(u32, u32)> {
    text.split(|&byte| byte == b'\n')
        .filter_map(parse_mount)
        .filter(|(_, kind, _)| matches!(*kind, b"tmpfs" | b"devtmpfs"))
        .map(|(device, ..)| device)
        .collect()
}

/// Device, type and options of the file system in a line of mountinfo.
type MountLine<'a> = ((u32, u32), &'a [u8], &'a [u8]);

fn parse_mount(line: &[u8]) -> Option<MountLine<'_>> {
    let mut words = line.split(|&byte| byte == b' ');
    let (major, minor) = std::str::from_utf8(words.nth(2)?).ok()?.split_once(':')?;
    // A lone hyphen ends the optional fields; type, source and the file system's options follow.
    words.find(|&word| word == b"-")?;
    let kind = words.next()?;
    let options = words.nth(1).unwrap_or_default();
    Some(((major.parse().ok()?, minor.parse().ok()?), kind, options))
}

/// `pagesize=2M` among the options of a hugetlbfs, in bytes.
fn parse_page_size(options: &[u8]) -> Option<u64> {
    let mut options = options.split(|&byte| byte == b',');
    let text = options.find_map(|option| option.strip_prefix(b"pagesize="))?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let shift = match unit {
        b"K" => 10,
        b"M" => 20,
        b"G" => 30,
        _ => return None,
    };
    let number: u64 = std::str::from_utf8(number).ok()?.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{ScratchMapping, smaps};
    use proptest::prelude::*;

    const CAPTURED: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        24 27 0:6 / /dev rw,relatime shared:2 master:1 - devtmpfs devtmpfs rw,size=12334492k\n\
        25 24 0:23 / /dev/shm\xff rw,relatime - tmpfs tmpfs rw,size=24684092k\n\
        27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";

    #[test]
    fn tmpfs_mounts_with_and_without_optional_fields() {
        assert_eq!(parse_mountinfo(CAPTURED), HashSet::from([(0, 6), (0, 23)]));
    }

    #[test]
    fn our_own_mappings() {
        let (anonymous, shared) = (
            ScratchMapping::anonymous(1).unwrap(),
            ScratchMapping::shared(1).unwrap(),
        );
        let shmem = ShmemDevices::of(std::process::id()).unwrap();
        let backing_at = |address: u64| {
            let vmas = smaps(std::process::id()).unwrap().map(Result::unwrap);
            let mut here = vmas.filter(|vma| vma.range().contains(&address));
            here.next().unwrap().backing(&shmem)
        };
        assert_eq!(backing_at(anonymous.range().start), Backing::Anon);
        assert_eq!(backing_at(shared.range().start), Backing::Shmem);
        assert_eq!(
            backing_at(std::ptr::from_ref(CAPTURED).addr() as u64),
            Backing::File
        );
    }

    #[test]
    fn page_sizes_of_hugetlbfs() {
        let line = b"30 24 0:26 / /dev/hugepages rw shared:9 - hugetlbfs hugetlbfs rw,pagesize=1G";
        let (device, kind, options) = parse_mount(line).unwrap();
        assert_eq!((device, kind), ((0, 26), &b"hugetlbfs"[..]));
        assert_eq!(parse_page_size(options), Some(1 << 30));
        assert_eq!(parse_page_size(b"rw,pagesize="), None);
        assert_eq!(parse_page_size(b"rw"), None);
    }

    #[test]
    fn a_hugetlb_memfd_is_known_by_its_device() {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        let Ok(memfd) = rustix::fs::memfd_create("test", flags) else {
            eprintln!("skipped: this kernel has no hugetlb pages of 2 MiB");
            return;
        };
        let device = major_minor(rustix::fs::fstat(&memfd).unwrap().st_dev);
        let known = HugetlbDevices::of(std::process::id()).unwrap();
        assert_eq!(known.page_size(device), Some(PMD_SIZE));
        assert_eq!(known.page_size(internal_device().unwrap()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(text: Vec<u8>) {
            let _ = parse_mountinfo(&text);
            let _ = parse_page_size(&text);
        }
    }
}
