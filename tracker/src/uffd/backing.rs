//! What the pages of a VMA come from, as far as `/proc` tells.

use std::collections::HashSet;
use std::fs;

use rustix::fs::MemfdFlags;
use tracker_ebpf::Backing;

use super::error::unless_gone;
use super::{Error, Result, Vma};

/// The devices whose files are shmem. The kernel compares `vm_ops`; from outside a VMA shows only its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShmemDevices(HashSet<(u32, u32)>);

impl ShmemDevices {
    /// Those a process can have mapped: the kernel's internal mount (memfd, shared anonymous memory) and every
    /// tmpfs of its mount namespace. `None`: the process is gone.
    pub fn of(pid: u32) -> Result<Option<Self>> {
        let path = format!("/proc/{pid}/mountinfo");
        let Some(text) = unless_gone(fs::read(&path), "cannot read", &path)? else {
            return Ok(None);
        };
        let mut devices = parse_mountinfo(&text);
        devices.insert(internal_device()?);
        Ok(Some(Self(devices)))
    }
}

impl Vma {
    /// What its pages come from.
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

/// The device of the mount that holds every memfd, found by making one.
fn internal_device() -> Result<(u32, u32)> {
    let failed = |e| Error::system("cannot create", "a memfd", e);
    let memfd = rustix::fs::memfd_create("tracker", MemfdFlags::CLOEXEC).map_err(failed)?;
    let device = rustix::fs::fstat(&memfd).map_err(failed)?.st_dev;
    Ok((rustix::fs::major(device), rustix::fs::minor(device)))
}

/// Devices of tmpfs and devtmpfs in `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).
fn parse_mountinfo(text: &[u8]) -> HashSet<(u32, u32)> {
    text.split(|&byte| byte == b'\n')
        .filter_map(parse_mount)
        .collect()
}

fn parse_mount(line: &[u8]) -> Option<(u32, u32)> {
    let mut words = line.split(|&byte| byte == b' ');
    let (major, minor) = std::str::from_utf8(words.nth(2)?).ok()?.split_once(':')?;
    // A lone hyphen ends the optional fields; the type follows.
    words.find(|&word| word == b"-")?;
    let is_shmem = matches!(words.next()?, b"tmpfs" | b"devtmpfs");
    is_shmem.then_some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::uffd::{Scratch, smaps};
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
        let (anonymous, shared) = (Scratch::anonymous(1).unwrap(), Scratch::shared(1).unwrap());
        let shmem = ShmemDevices::of(std::process::id()).unwrap().unwrap();
        let backing_at = |address: u64| {
            let vmas = smaps(std::process::id())
                .unwrap()
                .unwrap()
                .map(Result::unwrap);
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

    proptest! {
        #[test]
        fn any_bytes_parse_or_not(text: Vec<u8>) {
            let _ = parse_mountinfo(&text);
        }
    }
}
