//! The mappings of a process, and which of them are to be tracked.

use std::collections::HashSet;
use std::sync::Arc;

use uffd::{
    Backing, HugetlbDevices, MapsFile, PAGE_SIZE, ProcVma, ProcessGone, ShmemDevices, UffdError,
};

use super::model::TrackedMapping;
use crate::strategy::TrackedArea;

/// A mapping, and whether it is to be tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundMapping {
    /// The mapping.
    pub mapping: Arc<TrackedMapping>,
    /// Whether it can be written to. What becomes read-only later stays tracked.
    pub(crate) wanted: bool,
}

impl FoundMapping {
    /// The mapping as strategies see it.
    pub(super) fn area(&self) -> TrackedArea {
        TrackedArea {
            range: self.mapping.start..self.mapping.end,
            backing: self.mapping.backing,
            page_size: self.mapping.page_size,
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
        let huge = self.hugetlb.page_size(vma.device);
        let mapping = TrackedMapping {
            start: vma.start,
            end: vma.end,
            name: String::from_utf8_lossy(&vma.name).into_owned(),
            backing: huge.map_or_else(|| vma.backing(&self.shmem), |_| Backing::Hugetlb),
            page_size: huge.unwrap_or(PAGE_SIZE),
        };
        let last = self
            .last
            .binary_search_by_key(&vma.start, |last| last.start);
        let last = last.ok().and_then(|index| self.last.get(index));
        FoundMapping {
            mapping: last
                .filter(|last| ***last == mapping)
                .cloned()
                .unwrap_or_else(|| Arc::new(mapping)),
            wanted: vma.permissions[1] == b'w' && (huge.is_some() || is_memory(&vma.name)),
        }
    }
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

/// Whether it is memory of the process: not of a device, no ring shared with the kernel, and
/// nothing that the kernel maps into every process.
fn is_memory(name: &[u8]) -> bool {
    const KERNELS: [&[u8]; 5] = [
        b"[vdso]",
        b"[vvar]",
        b"[vvar_vclock]",
        b"[vsyscall]",
        b"[uprobes]",
    ];
    const DEVICES_OF_MEMORY: [&[u8]; 2] = [b"/dev/shm/", b"/dev/zero"];
    let starts = |prefix: &&[u8]| name.starts_with(prefix);
    let device = name.starts_with(b"/dev/") && !DEVICES_OF_MEMORY.iter().any(starts);
    let shared_with_kernel = [&b"anon_inode:"[..], b"socket:", b"/[aio]"]
        .iter()
        .any(starts);
    !device && !shared_with_kernel && !KERNELS.contains(&name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use uffd::ScratchMapping;

    #[test]
    fn devices_are_left_alone() {
        for name in [
            "/dev/dri/card0",
            "[vdso]",
            "anon_inode:kvm-vcpu:0",
            "/dev/mem",
        ] {
            assert!(!is_memory(name.as_bytes()), "{name}");
        }
        for name in [
            "",
            "[heap]",
            "/dev/shm/segment",
            "/dev/zero (deleted)",
            "/usr/lib/x.so",
        ] {
            assert!(is_memory(name.as_bytes()), "{name}");
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
        assert_eq!((first.mapping.backing, first.wanted), (Backing::Anon, true));
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
