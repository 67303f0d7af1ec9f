//! What a row needs from kernel and machine, decided by what they do, never by version.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use uffd::{HugetlbPool, KernelBehaviour, UffdFeatures, Userfaultfd, self_test};

/// What is missing, so that a row or scenario cannot run here. It is not a failure.
#[derive(Debug)]
pub enum SkipReason {
    /// Something that this kernel does not have.
    Kernel(String),
    /// A setting or a resource of the machine, or a privilege.
    Machine(String),
}

impl SkipReason {
    /// Whether it is the kernel or the machine, for other programs.
    pub fn part(&self) -> &'static str {
        match self {
            Self::Kernel(_) => "kernel",
            Self::Machine(_) => "machine",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Kernel(why) | Self::Machine(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for SkipReason {}

/// Something that a row or scenario needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestNeed {
    /// A kernel that resolves write-protect faults itself.
    Async,
    /// Markers in anonymous memory.
    AnonMarkers,
    /// Write-protection and markers of shmem and hugetlb.
    ShmemMarkers,
    /// `PAGEMAP_SCAN`.
    Scan,
    /// A userfaultfd that also handles faults of the kernel.
    KernelFaults,
    /// A pool of hugetlb pages.
    Hugetlb,
    /// Transparent huge pages of anonymous memory.
    Thp,
    /// Transparent huge pages of shmem.
    ShmemThp,
    /// A directory on a file system that is not tmpfs.
    RegularFile,
}

/// What this kernel and machine can do.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MachineFacts {
    /// The outcome of the self-test.
    pub kernel: KernelBehaviour,
    /// Whether this process may handle faults of the kernel.
    pub kernel_faults: bool,
    /// Content of `/sys/kernel/mm/transparent_hugepage/enabled`.
    pub thp: String,
    /// Content of `/sys/kernel/mm/transparent_hugepage/shmem_enabled`.
    pub shmem_thp: String,
    /// Directory for files.
    pub directory: PathBuf,
    /// Whether that directory is on tmpfs, whose files are shmem.
    pub directory_is_tmpfs: bool,
}

const TMPFS_MAGIC: i64 = 0x0102_1994;

impl MachineFacts {
    /// Finds out everything.
    pub fn gather(directory: &Path) -> Result<Self> {
        let setting = |name| {
            let path = format!("/sys/kernel/mm/transparent_hugepage/{name}");
            fs::read_to_string(path).unwrap_or_default()
        };
        let magic = rustix::fs::statfs(directory).map(|stat| stat.f_type);
        Ok(Self {
            kernel: self_test()?,
            kernel_faults: Userfaultfd::open().is_ok(),
            thp: setting("enabled"),
            shmem_thp: setting("shmem_enabled"),
            directory: directory.to_owned(),
            directory_is_tmpfs: magic == Ok(TMPFS_MAGIC),
        })
    }

    /// Reads what `uffdwp-workload facts` printed.
    pub fn read(file: &Path) -> Result<Self> {
        let text = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not the output of `facts`", file.display()))
    }

    /// Fails with the reason if it is missing.
    pub fn check(&self, need: TestNeed) -> Result<(), SkipReason> {
        self.missing(need).map_or(Ok(()), Err)
    }

    fn missing(&self, need: TestNeed) -> Option<SkipReason> {
        let kernel = |there: bool, why: &str| (!there).then(|| SkipReason::Kernel(why.to_owned()));
        let machine =
            |there: bool, why: &str| (!there).then(|| SkipReason::Machine(why.to_owned()));
        match need {
            TestNeed::Async => kernel(
                self.kernel.features.is_async(),
                "this kernel has no asynchronous mode (UFFD_FEATURE_WP_ASYNC, 6.7)",
            ),
            TestNeed::AnonMarkers => kernel(
                self.kernel.anonymous_markers,
                "this kernel has no markers in anonymous memory (UFFD_FEATURE_WP_UNPOPULATED, 6.4)",
            ),
            TestNeed::ShmemMarkers => kernel(
                self.kernel
                    .features
                    .contains(UffdFeatures::WP_HUGETLBFS_SHMEM),
                "this kernel write-protects no shmem or hugetlb \
                 (UFFD_FEATURE_WP_HUGETLBFS_SHMEM, 5.19)",
            ),
            TestNeed::Scan => kernel(
                self.kernel.written.is_some(),
                "this kernel has no PAGEMAP_SCAN (6.7)",
            ),
            TestNeed::KernelFaults => machine(
                self.kernel_faults,
                "handling faults of the kernel needs root, CAP_SYS_PTRACE or \
                 vm.unprivileged_userfaultfd=1",
            ),
            TestNeed::Hugetlb => match self.kernel.hugetlb {
                HugetlbPool::Available => None,
                HugetlbPool::NoFreePages => {
                    machine(false, "no free huge page of 2 MiB: raise vm.nr_hugepages")
                }
                HugetlbPool::Unsupported => kernel(false, "this kernel has no huge pages of 2 MiB"),
            },
            TestNeed::Thp => machine(
                allows(&self.thp),
                "transparent huge pages are off: \
                 echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
            ),
            TestNeed::ShmemThp => machine(
                allows(&self.shmem_thp),
                "transparent huge pages of shmem are off: \
                 echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
            ),
            TestNeed::RegularFile => self.directory_is_tmpfs.then(|| {
                SkipReason::Machine(format!(
                    "{} is tmpfs, whose files are shmem: choose another --dir",
                    self.directory.display()
                ))
            }),
        }
    }
}

/// Whether a sysfs setting such as `always [madvise] never` gives huge pages to areas that ask for
/// them.
fn allows(setting: &str) -> bool {
    [
        "[always]",
        "[madvise]",
        "[advise]",
        "[within_size]",
        "[force]",
    ]
    .iter()
    .any(|on| setting.contains(on))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_kernel_that_can_nothing_skips_everything_but_kernel_faults_of_root() {
        let facts = MachineFacts {
            kernel_faults: true,
            directory_is_tmpfs: true,
            ..MachineFacts::default()
        };
        let needs = [
            TestNeed::Async,
            TestNeed::AnonMarkers,
            TestNeed::ShmemMarkers,
            TestNeed::Scan,
            TestNeed::Hugetlb,
            TestNeed::Thp,
            TestNeed::ShmemThp,
            TestNeed::RegularFile,
        ];
        for need in needs {
            assert!(
                !facts.check(need).unwrap_err().to_string().is_empty(),
                "{need:?}"
            );
        }
        assert!(facts.check(TestNeed::KernelFaults).is_ok());
    }

    #[test]
    fn the_choice_in_brackets_counts() {
        assert!(allows("always [madvise] never\n"));
        assert!(!allows("always madvise [never]\n"));
        assert!(!allows("always within_size advise [never] deny force\n"));
        assert!(!allows(""), "a kernel without them");
    }
}
