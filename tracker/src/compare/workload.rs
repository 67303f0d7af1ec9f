//! What is done to memory, as data: each workload makes one point of the discussion measurable.

use uffd::{Backing, PAGE_SIZE, PMD_SIZE, ScratchMapping, UffdError};

use super::pattern::PagePattern;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A kind of memory that a workload uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkloadMemory {
    /// Private anonymous, in pages of 4 KiB.
    Anon,
    /// Private anonymous, in huge pages where the kernel has some.
    AnonHuge,
    /// Shared anonymous.
    Shmem,
    /// Private huge pages of hugetlb.
    Hugetlb,
}

impl WorkloadMemory {
    /// What its pages come from.
    pub(super) const fn backing(self) -> Backing {
        match self {
            Self::Anon | Self::AnonHuge => Backing::Anon,
            Self::Shmem => Backing::Shmem,
            Self::Hugetlb => Backing::Hugetlb,
        }
    }

    /// Bytes of a page of it; of a huge one only where every page is.
    pub(super) const fn page_size(self) -> u64 {
        match self {
            Self::Hugetlb => PMD_SIZE,
            Self::Anon | Self::AnonHuge | Self::Shmem => PAGE_SIZE,
        }
    }

    /// In words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Anon => "anonymous memory",
            Self::AnonHuge => "anonymous memory in huge pages",
            Self::Shmem => "shmem",
            Self::Hugetlb => "hugetlb",
        }
    }

    /// Maps so many bytes.
    pub(super) fn map(self, bytes: u64) -> Result<ScratchMapping, UffdError> {
        match self {
            Self::Anon => ScratchMapping::anonymous(bytes),
            Self::AnonHuge => ScratchMapping::huge(bytes),
            Self::Shmem => ScratchMapping::shared(bytes),
            Self::Hugetlb => ScratchMapping::hugetlb(bytes),
        }
    }

    /// What may be missing if it cannot be mapped.
    pub(super) fn needs(self, bytes: u64) -> Option<String> {
        (self == Self::Hugetlb).then(|| {
            format!(
                "it takes {} free huge pages (vm.nr_hugepages)",
                bytes.div_ceil(PMD_SIZE)
            )
        })
    }
}

/// What is done to pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageAct {
    /// A load.
    Read,
    /// A store of a value that was never there.
    Write,
    /// `MADV_DONTNEED`.
    Zap,
    /// `MADV_PAGEOUT`: the kernel reclaims them.
    Reclaim,
    /// A child of fork(2) stores to its copy, and ends.
    WriteInChild,
}

/// One act on some pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkloadStep {
    pub act: PageAct,
    pub pages: PagePattern,
}

/// Steps, after which a round is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkloadPhase {
    pub steps: &'static [WorkloadStep],
    /// How many threads do each step, all to the same pages. With more than one, rounds are made
    /// all the time meanwhile.
    pub threads: u8,
}

/// A workload.
#[derive(Debug)]
pub(crate) struct CompareWorkload {
    pub name: &'static str,
    /// What it does, in a few words.
    pub what: &'static str,
    /// The point of the discussion that it makes measurable.
    pub point: &'static str,
    pub memory: WorkloadMemory,
    /// How large the range is, in bytes. Of several, the same is done to each.
    pub sizes: &'static [u64],
    /// Done before anything is armed.
    pub before: &'static [WorkloadStep],
    pub phases: &'static [WorkloadPhase],
}

impl CompareWorkload {
    /// The one of a name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }

    /// All steps with the value that each stores: before, and phase by phase. No value comes twice,
    /// and none is 0.
    pub(super) fn steps(&self) -> Vec<Vec<(WorkloadStep, u8)>> {
        let mut value = 0;
        let mut valued = |step: &WorkloadStep| {
            value += 1;
            (*step, value)
        };
        let phases = self.phases.iter().map(|phase| phase.steps);
        std::iter::once(self.before)
            .chain(phases)
            .map(|steps| steps.iter().map(&mut valued).collect())
            .collect()
    }
}

const fn act(act: PageAct, pages: PagePattern) -> WorkloadStep {
    WorkloadStep { act, pages }
}

const fn read(pages: PagePattern) -> WorkloadStep {
    act(PageAct::Read, pages)
}

const fn write(pages: PagePattern) -> WorkloadStep {
    act(PageAct::Write, pages)
}

const fn phase(steps: &'static [WorkloadStep]) -> WorkloadPhase {
    WorkloadPhase { steps, threads: 1 }
}

const ALL: PagePattern = PagePattern::ALL;
/// 64 pages of each 64 MiB.
const CLUMPS: PagePattern = ALL.first(64, 16384);
/// One page of 100.
const FEW: PagePattern = ALL.first(1, 100);
/// One page of each huge page.
const EACH_HUGE: PagePattern = ALL.first(1, 512);
const LOWER: PagePattern = PagePattern::parts(0, 32);
const UPPER: PagePattern = PagePattern::parts(32, 64);

/// All workloads, in the order of the discussion.
pub(crate) const WORKLOADS: &[CompareWorkload] = &[
    CompareWorkload {
        name: "sparse",
        what: "a range that is empty; 64 pages of each 64 MiB are written, twice",
        point: "David Hildenbrand: can we avoid allocating all these page tables?",
        memory: WorkloadMemory::Anon,
        sizes: &[GIB],
        before: &[],
        phases: &[phase(&[write(CLUMPS)]), phase(&[write(CLUMPS)])],
    },
    CompareWorkload {
        name: "dense",
        what: "all pages are there and are written, then one of 100",
        point: "Peter Xu: the trade-off. Where everything is there, markers cost no table",
        memory: WorkloadMemory::Anon,
        sizes: &[64 * MIB],
        before: &[write(ALL)],
        phases: &[phase(&[write(ALL)]), phase(&[write(FEW)])],
    },
    CompareWorkload {
        name: "read-mostly",
        what: "half is there; all is read, one page of 100 is written, then all is read again",
        point: "an unpopulated page that is read: the zero page must not look written",
        memory: WorkloadMemory::Anon,
        sizes: &[64 * MIB],
        before: &[write(LOWER)],
        phases: &[
            phase(&[read(LOWER), read(UPPER), write(FEW)]),
            phase(&[read(ALL)]),
            phase(&[write(FEW)]),
        ],
    },
    CompareWorkload {
        name: "shmem-read",
        what: "shmem that nobody has touched is read, and never written",
        point: "Peter Xu: on shmem, with only a per-VMA attribute, tons of false positives",
        memory: WorkloadMemory::Shmem,
        sizes: &[64 * MIB],
        before: &[],
        phases: &[phase(&[read(ALL)]), phase(&[read(ALL)])],
    },
    CompareWorkload {
        name: "shmem-reclaim",
        what: "shmem is reclaimed (MADV_PAGEOUT) and read back; then one page of 100 is written \
               and reclaimed before the round; then all is read",
        point: "Peter Xu: shmem ptes easily get zapped",
        memory: WorkloadMemory::Shmem,
        sizes: &[32 * MIB],
        before: &[write(ALL)],
        phases: &[
            phase(&[act(PageAct::Reclaim, ALL), read(ALL)]),
            phase(&[write(FEW), act(PageAct::Reclaim, ALL)]),
            phase(&[read(ALL)]),
        ],
    },
    CompareWorkload {
        name: "shmem-zap",
        what: "as shmem-reclaim, but the process itself unmaps the pages (MADV_DONTNEED)",
        point: "Peter Xu: the same without any pressure on memory",
        memory: WorkloadMemory::Shmem,
        sizes: &[32 * MIB],
        before: &[write(ALL)],
        phases: &[
            phase(&[act(PageAct::Zap, ALL), read(ALL)]),
            phase(&[write(FEW), act(PageAct::Zap, ALL)]),
            phase(&[read(ALL)]),
        ],
    },
    CompareWorkload {
        name: "free-list",
        what: "an allocator gives back half (MADV_DONTNEED), reads a part, and writes it again",
        point: "Peter Xu: how do we tell an empty pte from one that was written and got zapped?",
        memory: WorkloadMemory::Anon,
        sizes: &[32 * MIB],
        before: &[write(ALL)],
        phases: &[
            phase(&[act(PageAct::Zap, LOWER), read(PagePattern::parts(0, 8))]),
            phase(&[write(LOWER)]),
            phase(&[act(PageAct::Zap, LOWER), write(LOWER)]),
        ],
    },
    CompareWorkload {
        name: "thp",
        what: "one page of 4 KiB of each huge page is written, in the upper half for the first \
               time",
        point: "what is reported of a huge page: 4 KiB, or all of it",
        memory: WorkloadMemory::AnonHuge,
        sizes: &[64 * MIB],
        before: &[write(LOWER.first(1, 512))],
        phases: &[phase(&[write(EACH_HUGE)]), phase(&[write(EACH_HUGE)])],
    },
    CompareWorkload {
        name: "hugetlb",
        what: "half of the huge pages are there; of each half, one is written and all are read",
        point: "\"And uffd-wp even supports hugetlb\"; soft-dirty does not",
        memory: WorkloadMemory::Hugetlb,
        sizes: &[16 * MIB],
        before: &[write(LOWER.first(1, 512))],
        phases: &[
            phase(&[
                write(PagePattern::parts(0, 8).first(1, 512)),
                read(UPPER.first(1, 512)),
            ]),
            phase(&[write(PagePattern::parts(32, 40).first(1, 512))]),
        ],
    },
    CompareWorkload {
        name: "fork",
        what: "a child writes to half of its copy and ends; then the parent writes a quarter",
        point: "faults of copy-on-write must not be taken for ours, nor ours for theirs",
        memory: WorkloadMemory::Anon,
        sizes: &[32 * MIB],
        before: &[write(ALL)],
        phases: &[
            phase(&[act(PageAct::WriteInChild, LOWER)]),
            phase(&[write(PagePattern::parts(16, 32))]),
        ],
    },
    CompareWorkload {
        name: "growing-heap",
        what: "a heap reserves address space and grows by 4 MiB in each round",
        point: "what grows into an armed range is seen, at the price of a second fault or a marker",
        memory: WorkloadMemory::Anon,
        sizes: &[256 * MIB],
        before: &[write(PagePattern::parts(0, 1))],
        phases: &[
            phase(&[write(PagePattern::parts(1, 2))]),
            phase(&[write(PagePattern::parts(2, 3))]),
            phase(&[write(PagePattern::parts(3, 4))]),
        ],
    },
    CompareWorkload {
        name: "lost-write",
        what: "four threads write twice to the same untouched pages while rounds are made",
        point: "Peter Xu: what if another thread writes right after the table got set up?",
        memory: WorkloadMemory::Anon,
        sizes: &[16 * MIB],
        before: &[],
        phases: &[WorkloadPhase {
            steps: &[write(ALL), write(ALL)],
            threads: 4,
        }],
    },
    CompareWorkload {
        name: "empty",
        what: "a range that nobody touches, from 64 MiB to as much as can be mapped",
        point: "the cost of arming what is not there, as the range grows",
        memory: WorkloadMemory::Anon,
        sizes: &[64 * MIB, 256 * MIB, GIB, 4 * GIB, 16 * GIB],
        before: &[],
        phases: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_different_and_values_too() {
        let names: BTreeSet<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        for workload in WORKLOADS {
            let values: Vec<_> = workload.steps().concat();
            let different: BTreeSet<_> = values.iter().map(|(_, value)| value).collect();
            assert_eq!(different.len(), values.len(), "{}", workload.name);
            assert!(!different.contains(&0) && !workload.sizes.is_empty());
            assert_eq!(workload.steps().len(), workload.phases.len() + 1);
        }
    }
}
