//! The mappings of a process: which there are, and which of them are tracked.

use std::collections::HashSet;
use std::sync::Arc;

use tracker_ebpf::Backing;

use super::model::Mapping;
use crate::strategy::Area;
use crate::uffd::{self, HugetlbDevices, PAGE_SIZE, Result, ShmemDevices, Vma};

/// A mapping, and whether it is to be tracked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The mapping.
    pub mapping: Arc<Mapping>,
    /// It can be written to; what becomes read-only later stays tracked.
    pub wanted: bool,
}

impl Found {
    /// As strategies see it.
    pub fn area(&self) -> Area {
        Area {
            range: self.mapping.start..self.mapping.end,
            backing: self.mapping.backing,
            page_size: self.mapping.page_size,
        }
    }
}

/// Reads the mappings of one process again and again.
#[derive(Debug)]
pub struct Reader {
    pid: u32,
    shmem: ShmemDevices,
    hugetlb: HugetlbDevices,
    /// Devices met so far: a new one may be of a file system that was mounted since.
    devices: HashSet<(u32, u32)>,
    /// As read last, by address.
    last: Vec<Arc<Mapping>>,
}

impl Reader {
    /// Of a process.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            shmem: ShmemDevices::default(),
            hugetlb: HugetlbDevices::default(),
            devices: HashSet::new(),
            last: Vec::new(),
        }
    }

    /// The mappings now, by address. `None`: the process is gone.
    pub fn read(&mut self) -> Result<Option<Vec<Found>>> {
        let Some(maps) = uffd::maps(self.pid)? else {
            return Ok(None);
        };
        let vmas = maps.collect::<Result<Vec<_>>>()?;
        // A process without a single mapping is on its way out.
        if vmas.is_empty() || self.learn_devices(&vmas)?.is_none() {
            return Ok(None);
        }
        let found: Vec<_> = vmas.iter().map(|vma| self.found(vma)).collect();
        self.last = found.iter().map(|found| found.mapping.clone()).collect();
        Ok(Some(found))
    }

    fn learn_devices(&mut self, vmas: &[Vma]) -> Result<Option<()>> {
        let known = self.devices.len();
        self.devices.extend(vmas.iter().map(|vma| vma.device));
        if self.devices.len() == known {
            return Ok(Some(()));
        }
        let (Some(shmem), Some(hugetlb)) =
            (ShmemDevices::of(self.pid)?, HugetlbDevices::of(self.pid)?)
        else {
            return Ok(None);
        };
        (self.shmem, self.hugetlb) = (shmem, hugetlb);
        Ok(Some(()))
    }

    fn found(&self, vma: &Vma) -> Found {
        let huge = self.hugetlb.page_size(vma.device);
        let mapping = Mapping {
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
        Found {
            mapping: last
                .filter(|last| ***last == mapping)
                .cloned()
                .unwrap_or_else(|| Arc::new(mapping)),
            wanted: vma.permissions[1] == b'w' && is_memory(&vma.name),
        }
    }
}

/// Not the memory of a device, a ring shared with the kernel, or what the kernel itself maps into every process.
fn is_memory(name: &[u8]) -> bool {
    const KERNELS: [&[u8]; 5] = [
        b"[vdso]",
        b"[vvar]",
        b"[vvar_vclock]",
        b"[vsyscall]",
        b"[uprobes]",
    ];
    const DEVICES_OF_MEMORY: [&[u8]; 3] = [b"/dev/shm/", b"/dev/zero", b"/dev/hugepages/"];
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
    use crate::uffd::Scratch;

    #[test]
    fn devices_are_left_alone() {
        for name in [
            "/dev/dri/card0",
            "[vdso]",
            "anon_inode:kvm-vcpu:0",
            "/dev/zeroes/../mem",
        ] {
            assert!(
                !is_memory(name.as_bytes()) || name.contains("zero"),
                "{name}"
            );
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
        let scratch = Scratch::anonymous(1 << 20).unwrap();
        let mut reader = Reader::new(std::process::id());
        let here = |found: &Vec<Found>| {
            let mut here = found.iter().filter(|found| {
                (found.mapping.start..found.mapping.end).contains(&scratch.range().start)
            });
            here.next().unwrap().clone()
        };
        let first = here(&reader.read().unwrap().unwrap());
        let second = here(&reader.read().unwrap().unwrap());
        assert!(Arc::ptr_eq(&first.mapping, &second.mapping) || first != second);
        assert_eq!((first.mapping.backing, first.wanted), (Backing::Anon, true));
        assert_eq!(first.mapping.page_size, PAGE_SIZE);
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert!(Reader::new(u32::MAX - 1).read().unwrap().is_none());
    }
}
