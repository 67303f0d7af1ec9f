//! The mappings of a process, and which of them are to be tracked.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use uffd::{
    Backing, HugetlbDevices, MapsFile, PAGE_SIZE, ProcVma, ProcessGone, ShmemDevices, UffdError,
};

use super::model::{SharedPlace, TrackedMapping};
use super::untracked::UntrackedReason;
use crate::strategy::TrackedArea;

/// A mapping, and how it is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundMapping {
    /// The mapping.
    pub mapping: Arc<TrackedMapping>,
    /// Whether and how, as far as the mapping itself decides it. What is tracked stays tracked,
    /// whatever becomes of it.
    pub look: MappingLook,
}

/// How a mapping is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MappingLook {
    /// It can be written to: every page.
    Writable,
    /// Private, and nobody may write to it at the moment: mprotect(2) can allow it, and
    /// `/proc/PID/mem` does not ask. What is there, and what comes to be there.
    Unwritable,
    /// Not at all.
    Untracked(UntrackedReason),
}

impl FoundMapping {
    /// The mapping as strategies see it.
    pub(super) fn area(&self) -> TrackedArea {
        TrackedArea {
            range: self.mapping.start..self.mapping.end,
            backing: self.mapping.backing,
            page_size: self.mapping.page_size,
            shared: self.mapping.shared.is_some(),
        }
    }
}

/// Reads the mappings of one address space again and again.
#[derive(Debug)]
pub(super) struct MappingReader {
    pid: u32,
    maps: MapsFile,
    shmem: ShmemDevices,
    hugetlb: HugetlbDevices,
    /// Devices seen so far. A new one may be of a file system that was mounted since.
    devices: HashSet<(u32, u32)>,
    /// The mappings as they were read last, by address.
    last: Vec<Arc<TrackedMapping>>,
}

impl MappingReader {
    /// Opens the address space that a process has now.
    pub(super) fn open(pid: u32) -> Result<Self, UffdError> {
        Ok(Self {
            pid,
            maps: MapsFile::open(pid)?,
            shmem: ShmemDevices::default(),
            hugetlb: HugetlbDevices::default(),
            devices: HashSet::new(),
            last: Vec::new(),
        })
    }

    /// The mappings now, by address, disjoint.
    pub(super) fn read(&mut self) -> Result<Vec<FoundMapping>, UffdError> {
        let vmas = self.maps.read()?.collect::<Result<Vec<_>, UffdError>>()?;
        // An address space without a single mapping is on its way out.
        if vmas.is_empty() {
            return Err(ProcessGone { pid: self.pid }.into());
        }
        self.learn_devices(&vmas)?;
        let found: Vec<_> = disjoint(vmas).iter().map(|vma| self.found(vma)).collect();
        self.last = found.iter().map(|found| found.mapping.clone()).collect();
        Ok(found)
    }

    fn learn_devices(&mut self, vmas: &[ProcVma]) -> Result<(), UffdError> {
        let known = self.devices.len();
        self.devices.extend(vmas.iter().map(|vma| vma.device));
        if self.devices.len() == known {
            return Ok(());
        }
        match (ShmemDevices::of(self.pid), HugetlbDevices::of(self.pid)) {
            (Ok(shmem), Ok(hugetlb)) => (self.shmem, self.hugetlb) = (shmem, hugetlb),
            // Once the first thread has ended its mounts cannot be read: those known must do.
            _ if known != 0 => (),
            (shmem, hugetlb) => return shmem.and(hugetlb).map(drop),
        }
        Ok(())
    }

    fn found(&self, vma: &ProcVma) -> FoundMapping {
        let mapping = TrackedMapping::of(vma, &self.shmem, &self.hugetlb);
        let last = self
            .last
            .binary_search_by_key(&vma.start, |last| last.start);
        let last = last.ok().and_then(|index| self.last.get(index));
        FoundMapping {
            look: self.look(vma, mapping.backing),
            mapping: last
                .filter(|last| ***last == mapping)
                .cloned()
                .unwrap_or_else(|| Arc::new(mapping)),
        }
    }

    fn look(&self, vma: &ProcVma, backing: Backing) -> MappingLook {
        if backing != Backing::Hugetlb
            && let Some(reason) = not_memory(&vma.name)
        {
            return MappingLook::Untracked(reason);
        }
        match (vma.is_writable(), vma.is_shared()) {
            (true, _) => MappingLook::Writable,
            (false, false) if backing == Backing::Hugetlb => MappingLook::Writable,
            (false, false) => MappingLook::Unwritable,
            (false, true) if self.may_become_writable(vma) => MappingLook::Writable,
            (false, true) => MappingLook::Untracked(UntrackedReason::SharedReadOnly),
        }
    }

    /// Whether mprotect(2) can make shared memory writable: its file was opened for writing. If
    /// that cannot be seen, registering it tells.
    fn may_become_writable(&self, vma: &ProcVma) -> bool {
        const OWNER_WRITES: u32 = 0o200;
        let (pid, start, end) = (self.pid, vma.start, vma.end);
        let path = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
        fs::symlink_metadata(path).map_or(true, |link| link.mode() & OWNER_WRITES != 0)
    }
}

impl TrackedMapping {
    /// A VMA as rounds tell it; what its pages come from is told by the devices of its process.
    #[must_use]
    pub fn of(vma: &ProcVma, shmem: &ShmemDevices, hugetlb: &HugetlbDevices) -> Self {
        let huge = hugetlb.page_size(vma.device);
        Self {
            start: vma.start,
            end: vma.end,
            name: String::from_utf8_lossy(&vma.name).into_owned(),
            backing: huge.map_or_else(|| vma.backing(shmem), |_| Backing::Hugetlb),
            page_size: huge.unwrap_or(PAGE_SIZE),
            shared: shared_place(vma),
        }
    }
}

/// Where shared memory has its pages: other mappings of the same pages, of any process, have the
/// same.
fn shared_place(vma: &ProcVma) -> Option<SharedPlace> {
    vma.is_shared().then_some(SharedPlace {
        device: vma.device,
        inode: vma.inode,
        offset: vma.offset,
    })
}

/// The kernel writes the file piece by piece, so a mapping that was joined to the one before it
/// meanwhile comes twice.
fn disjoint(mut vmas: Vec<ProcVma>) -> Vec<ProcVma> {
    let mut end = 0;
    vmas.retain_mut(|vma| {
        vma.start = vma.start.max(end);
        end = end.max(vma.end);
        vma.start < vma.end
    });
    vmas
}

/// Why something that is mapped is not memory of the process.
fn not_memory(name: &[u8]) -> Option<UntrackedReason> {
    const KERNELS: [&[u8]; 5] = [
        b"[vdso]",
        b"[vvar]",
        b"[vvar_vclock]",
        b"[vsyscall]",
        b"[uprobes]",
    ];
    const DEVICES_OF_MEMORY: [&[u8]; 2] = [b"/dev/shm/", b"/dev/zero"];
    const RINGS: [&[u8]; 3] = [b"anon_inode:", b"socket:", b"/[aio]"];
    let any = |prefixes: &[&[u8]]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if KERNELS.contains(&name) {
        Some(UntrackedReason::Kernel)
    } else if any(&RINGS) {
        Some(UntrackedReason::KernelRing)
    } else if name.starts_with(b"/dev/") && !any(&DEVICES_OF_MEMORY) {
        Some(UntrackedReason::Device)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use uffd::ScratchMapping;

    #[test]
    fn devices_are_left_alone() {
        use UntrackedReason::{Device, Kernel, KernelRing};
        for (name, reason) in [
            ("/dev/dri/card0", Device),
            ("[vdso]", Kernel),
            ("anon_inode:kvm-vcpu:0", KernelRing),
            ("/dev/mem", Device),
        ] {
            assert_eq!(not_memory(name.as_bytes()), Some(reason), "{name}");
        }
        for name in [
            "",
            "[heap]",
            "/dev/shm/segment",
            "/dev/zero (deleted)",
            "/usr/lib/x.so",
        ] {
            assert_eq!(not_memory(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn what_has_not_changed_is_the_same() {
        let scratch = ScratchMapping::anonymous(1 << 20).unwrap();
        let mut reader = MappingReader::open(std::process::id()).unwrap();
        let here = |found: &Vec<FoundMapping>| {
            let mut here = found.iter().filter(|found| {
                (found.mapping.start..found.mapping.end).contains(&scratch.range().start)
            });
            here.next().unwrap().clone()
        };
        let first = here(&reader.read().unwrap());
        let second = here(&reader.read().unwrap());
        assert!(Arc::ptr_eq(&first.mapping, &second.mapping) || first != second);
        assert_eq!(
            (first.mapping.backing, first.look),
            (Backing::Anon, MappingLook::Writable)
        );
        assert_eq!(first.mapping.page_size, PAGE_SIZE);
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert!(MappingReader::open(u32::MAX - 1).unwrap_err().is_gone());
    }

    #[test]
    fn a_mapping_that_is_told_twice_is_one() {
        let all = MappingReader::open(std::process::id()).unwrap();
        let mut vmas: Vec<ProcVma> = all.maps.read().unwrap().map(Result::unwrap).collect();
        vmas.truncate(1);
        let first = vmas[0].clone();
        let with_the_next = ProcVma {
            end: first.end + 2 * PAGE_SIZE,
            ..first.clone()
        };
        let found = disjoint(vec![first.clone(), with_the_next, first.clone()]);
        let ranges: Vec<_> = found.iter().map(ProcVma::range).collect();
        assert_eq!(
            ranges,
            [first.range(), first.end..first.end + 2 * PAGE_SIZE]
        );
    }
}
