//! The hooks: places in the kernel we want to see, and the mechanisms that can see them.
//!
//! What each does there is in docs/hooks.md and at its body in `tracker-ebpf`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a program gets to see a place in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mechanism {
    /// A BPF trampoline at a function's entry.
    Fentry,
    /// A BPF trampoline around a function, run at its return.
    Fexit,
    /// A probe at a function's entry.
    Kprobe,
    /// A probe at a function's return.
    Kretprobe,
    /// A BPF iterator, run when it is read.
    Iterator,
}

impl Mechanism {
    /// Its name, as in messages, metrics and `--force-mechanism`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Kretprobe => "kretprobe",
            Self::Iterator => "iterator",
        }
    }

    /// Whether it needs the function in BTF and a BPF trampoline.
    #[must_use]
    pub const fn is_trampoline(self) -> bool {
        matches!(self, Self::Fentry | Self::Fexit)
    }

    /// The mechanism of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Fentry,
            Self::Fexit,
            Self::Kprobe,
            Self::Kretprobe,
            Self::Iterator,
        ]
        .into_iter()
        .find(|m| m.as_str() == name)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a hook is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Write-protect faults.
    Faults,
    /// Pte markers.
    Markers,
    /// Page tables.
    Tables,
    /// What a task is doing while it allocates a table.
    Scopes,
    /// When VMAs and processes begin and end.
    Life,
    /// Finding what is there.
    Discovery,
}

/// What a hook needs besides its function and offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The bits of a marker, found by calibration on the agent's own memory.
    MarkerPte,
    /// The addresses of `__handle_mm_fault`'s code.
    FaultText,
    /// The addresses of `zap_huge_pmd`'s code.
    ZapHugeText,
    /// `PAGEMAP_SCAN` in this kernel; without it the hook has nothing to see.
    PagemapScan,
}

/// How a hook depends on another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partner {
    /// Both or none, such as an entry and an exit.
    Both(&'static str),
    /// As a kretprobe, which sees no arguments, this one needs that entry.
    Entry(&'static str),
    /// This entry is needed only if that one is a kretprobe.
    Return(&'static str),
}

/// A place in the kernel we want to see.
#[derive(Debug)]
pub struct Hook {
    /// Its name; its programs are called `NAME_MECHANISM`.
    pub name: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// The function it is in; alternatives are older or newer names of the same place.
    pub functions: &'static [&'static str],
    /// Mechanisms, the preferred one first.
    pub rungs: &'static [Mechanism],
    /// Offsets that its programs read (names in [`crate::kernel::Offsets`]).
    pub offsets: &'static [&'static str],
    /// What else it needs.
    pub needs: &'static [Need],
    /// The hook without which this one means nothing.
    pub partner: Option<Partner>,
    /// What is not known without it, in a few words.
    pub without: &'static str,
}

/// Runs under the pte lock, so a trampoline is never preempted there.
const LOCKED: &[Mechanism] = &[Mechanism::Fentry, Mechanism::Kprobe];
/// A preempted trampoline program loses the events of others on its CPU; a kprobe is not preempted.
const PREEMPTIBLE: &[Mechanism] = &[Mechanism::Kprobe, Mechanism::Fentry];
/// Reads page tables for as long as the kernel works on them, so it had better be preemptible.
const RANGE: &[Mechanism] = &[Mechanism::Fentry, Mechanism::Kprobe];
/// Needs the caller.
const KPROBE: &[Mechanism] = &[Mechanism::Kprobe];
/// A kretprobe has a bounded number of returns under way; a trampoline has not.
const EXIT: &[Mechanism] = &[Mechanism::Fexit, Mechanism::Kretprobe];

/// What every hook needs that attributes an event to a VMA.
macro_rules! vma_offsets {
    ($($more:literal),*) => {
        &[
            "vma_vm_start", "vma_vm_end", "vma_vm_mm", "vma_vm_flags", "vma_vm_ops", "vma_vm_file",
            "vma_uffd_ctx", "uffd_ctx_features", "file_f_inode", "inode_i_sb", "super_block_s_magic",
            "task_mm", "task_group_leader", "task_tgid", "task_comm", "task_start_boottime",
            $($more),*
        ]
    };
}

/// What it takes to tell for which VMA a table is allocated.
macro_rules! tables_offsets {
    () => {
        vma_offsets!(
            "vm_fault_vma",
            "vm_fault_address",
            "vm_fault_pmd",
            "mm_tree_root",
            "maple_range_pivots",
            "maple_range_slots",
            "maple_range_end",
            "maple_arange_pivots",
            "maple_arange_slots",
            "maple_arange_end"
        )
    };
}

/// All hooks.
pub const HOOKS: &[Hook] = &[
    Hook {
        name: "do_wp_page",
        subject: Subject::Faults,
        functions: &["do_wp_page"],
        rungs: LOCKED,
        offsets: vma_offsets!("vm_fault_vma", "vm_fault_orig_pte", "vm_fault_flags"),
        needs: &[],
        partner: None,
        without: "async faults at ptes",
    },
    Hook {
        name: "handle_userfault",
        subject: Subject::Faults,
        functions: &["handle_userfault"],
        rungs: PREEMPTIBLE,
        offsets: vma_offsets!(
            "vm_fault_vma",
            "vm_fault_flags",
            "vm_fault_pte",
            "uffd_ctx_flags",
            "uffd_ctx_released",
            "task_flags"
        ),
        needs: &[],
        partner: None,
        without: "sync faults",
    },
    Hook {
        name: "handle_userfault_exit",
        subject: Subject::Faults,
        functions: &["handle_userfault"],
        rungs: EXIT,
        offsets: vma_offsets!(),
        needs: &[],
        partner: Some(Partner::Both("handle_userfault")),
        without: "how long threads wait for a handler",
    },
    Hook {
        name: "split_huge_pmd",
        subject: Subject::Faults,
        functions: &["__split_huge_pmd"],
        rungs: KPROBE,
        offsets: vma_offsets!(),
        needs: &[Need::FaultText],
        partner: None,
        without: "async faults at huge pages",
    },
    Hook {
        name: "hugetlb_fault",
        subject: Subject::Faults,
        functions: &["hugetlb_fault"],
        rungs: PREEMPTIBLE,
        offsets: vma_offsets!(),
        needs: &[],
        partner: Some(Partner::Both("huge_pte_alloc_exit")),
        without: "async and marker faults in hugetlb memory",
    },
    Hook {
        name: "huge_pte_alloc_exit",
        subject: Subject::Faults,
        functions: &["huge_pte_alloc"],
        rungs: EXIT,
        offsets: vma_offsets!(),
        needs: &[Need::MarkerPte],
        partner: Some(Partner::Both("hugetlb_fault")),
        without: "async and marker faults in hugetlb memory",
    },
    Hook {
        name: "do_swap_page",
        subject: Subject::Markers,
        functions: &["do_swap_page"],
        rungs: PREEMPTIBLE,
        offsets: vma_offsets!(
            "vm_fault_vma",
            "vm_fault_orig_pte",
            "vm_fault_address",
            "vm_fault_pte",
            "task_pid",
            "task_min_flt",
            "task_maj_flt"
        ),
        needs: &[Need::MarkerPte],
        partner: None,
        without: "faults at markers, and markers they consume",
    },
    Hook {
        name: "make_uffd_wp_pte",
        subject: Subject::Markers,
        functions: &["make_uffd_wp_pte"],
        rungs: LOCKED,
        offsets: vma_offsets!(),
        needs: &[Need::PagemapScan],
        partner: None,
        without: "markers that PAGEMAP_SCAN installs",
    },
    Hook {
        name: "marks",
        subject: Subject::Markers,
        functions: &["uffd_wp_range"],
        rungs: RANGE,
        offsets: vma_offsets!("mm_pgd"),
        needs: &[Need::MarkerPte],
        partner: None,
        without: "markers that arming makes of empty entries, and that disarming drops",
    },
    Hook {
        name: "zap",
        subject: Subject::Markers,
        functions: &["unmap_page_range", "__zap_vma_range"],
        rungs: RANGE,
        offsets: vma_offsets!("mm_pgd", "zap_details_zap_flags"),
        needs: &[Need::MarkerPte],
        partner: None,
        without: "markers that unmapping drops, or makes of armed pages of files",
    },
    Hook {
        name: "hugetlb_zap",
        subject: Subject::Markers,
        functions: &["__unmap_hugepage_range"],
        rungs: RANGE,
        offsets: vma_offsets!("mm_pgd"),
        needs: &[Need::MarkerPte],
        partner: None,
        without: "the same in hugetlb memory",
    },
    Hook {
        name: "pmd_install",
        subject: Subject::Tables,
        functions: &["pmd_install"],
        rungs: EXIT,
        offsets: tables_offsets!(),
        needs: &[],
        partner: Some(Partner::Entry("pmd_install_entry")),
        without: "allocated PTE tables",
    },
    Hook {
        name: "pmd_install_entry",
        subject: Subject::Tables,
        functions: &["pmd_install"],
        rungs: KPROBE,
        offsets: tables_offsets!(),
        needs: &[],
        partner: Some(Partner::Return("pmd_install")),
        without: "allocated PTE tables",
    },
    Hook {
        name: "deposit",
        subject: Subject::Tables,
        functions: &["pgtable_trans_huge_deposit"],
        rungs: KPROBE,
        offsets: vma_offsets!("vm_fault_vma", "vm_fault_address", "vm_fault_pmd"),
        needs: &[],
        partner: None,
        without: "PTE tables kept beside huge pages",
    },
    Hook {
        name: "pmd_alloc",
        subject: Subject::Tables,
        functions: &["__pmd_alloc"],
        rungs: EXIT,
        offsets: tables_offsets!(),
        needs: &[],
        partner: Some(Partner::Entry("pmd_alloc_entry")),
        without: "allocated PMD tables",
    },
    Hook {
        name: "pmd_alloc_entry",
        subject: Subject::Tables,
        functions: &["__pmd_alloc"],
        rungs: KPROBE,
        offsets: tables_offsets!(),
        needs: &[],
        partner: Some(Partner::Return("pmd_alloc")),
        without: "allocated PMD tables",
    },
    Hook {
        name: "pud_alloc",
        subject: Subject::Tables,
        functions: &["__pud_alloc"],
        rungs: EXIT,
        offsets: tables_offsets!(),
        needs: &[],
        partner: Some(Partner::Entry("pud_alloc_entry")),
        without: "allocated PUD tables",
    },
    Hook {
        name: "pud_alloc_entry",
        subject: Subject::Tables,
        functions: &["__pud_alloc"],
        rungs: KPROBE,
        offsets: tables_offsets!(),
        needs: &[],
        partner: Some(Partner::Return("pud_alloc")),
        without: "allocated PUD tables",
    },
    Hook {
        name: "pte_free_tlb",
        subject: Subject::Tables,
        functions: &["___pte_free_tlb"],
        rungs: PREEMPTIBLE,
        offsets: &["mmu_gather_mm"],
        needs: &[],
        partner: None,
        without: "freed PTE tables",
    },
    Hook {
        name: "pte_free_defer",
        subject: Subject::Tables,
        functions: &["pte_free_defer", "collapse_and_free_pmd"],
        rungs: PREEMPTIBLE,
        offsets: &[],
        needs: &[],
        partner: None,
        without: "PTE tables that khugepaged frees",
    },
    Hook {
        name: "withdraw",
        subject: Subject::Tables,
        functions: &["pgtable_trans_huge_withdraw"],
        rungs: KPROBE,
        offsets: &[],
        needs: &[Need::ZapHugeText],
        partner: None,
        without: "PTE tables freed with a huge page",
    },
    Hook {
        name: "pmd_free_tlb",
        subject: Subject::Tables,
        functions: &["___pmd_free_tlb"],
        rungs: PREEMPTIBLE,
        offsets: &["mmu_gather_mm"],
        needs: &[],
        partner: None,
        without: "freed PMD tables",
    },
    Hook {
        name: "pud_free_tlb",
        subject: Subject::Tables,
        functions: &["___pud_free_tlb"],
        rungs: PREEMPTIBLE,
        offsets: &["mmu_gather_mm"],
        needs: &[],
        partner: None,
        without: "freed PUD tables",
    },
    Hook {
        name: "userfaultfd_ioctl",
        subject: Subject::Scopes,
        functions: &["userfaultfd_ioctl"],
        rungs: PREEMPTIBLE,
        offsets: vma_offsets!("file_private_data", "uffd_ctx_mm"),
        needs: &[],
        partner: Some(Partner::Both("userfaultfd_ioctl_exit")),
        without: "which tables arming, UFFDIO_COPY and UFFDIO_MOVE allocate, and how long arming takes",
    },
    Hook {
        name: "userfaultfd_ioctl_exit",
        subject: Subject::Scopes,
        functions: &["userfaultfd_ioctl"],
        rungs: EXIT,
        offsets: &[],
        needs: &[],
        partner: Some(Partner::Both("userfaultfd_ioctl")),
        without: "which tables arming, UFFDIO_COPY and UFFDIO_MOVE allocate, and how long arming takes",
    },
    Hook {
        name: "wp_range",
        subject: Subject::Scopes,
        functions: &["uffd_wp_range"],
        rungs: PREEMPTIBLE,
        offsets: &[],
        needs: &[],
        partner: None,
        without: "the VMA of tables that arming allocates",
    },
    Hook {
        name: "scan",
        subject: Subject::Scopes,
        functions: &["do_pagemap_scan"],
        rungs: PREEMPTIBLE,
        offsets: &[],
        needs: &[Need::PagemapScan],
        partner: Some(Partner::Both("scan_exit")),
        without: "which tables PAGEMAP_SCAN allocates, and how long it takes",
    },
    Hook {
        name: "scan_exit",
        subject: Subject::Scopes,
        functions: &["do_pagemap_scan"],
        rungs: EXIT,
        offsets: &[],
        needs: &[Need::PagemapScan],
        partner: Some(Partner::Both("scan")),
        without: "which tables PAGEMAP_SCAN allocates, and how long it takes",
    },
    Hook {
        name: "fork",
        subject: Subject::Scopes,
        functions: &["copy_page_range"],
        rungs: PREEMPTIBLE,
        offsets: &["vma_vm_flags", "vma_vm_mm"],
        needs: &[],
        partner: Some(Partner::Both("fork_exit")),
        without: "which tables fork allocates",
    },
    Hook {
        name: "fork_exit",
        subject: Subject::Scopes,
        functions: &["copy_page_range"],
        rungs: EXIT,
        offsets: &[],
        needs: &[],
        partner: Some(Partner::Both("fork")),
        without: "which tables fork allocates",
    },
    Hook {
        name: "mremap",
        subject: Subject::Scopes,
        functions: &["move_page_tables"],
        rungs: PREEMPTIBLE,
        offsets: &["vma_vm_mm"],
        needs: &[],
        partner: Some(Partner::Both("mremap_exit")),
        without: "which tables mremap allocates",
    },
    Hook {
        name: "mremap_exit",
        subject: Subject::Scopes,
        functions: &["move_page_tables"],
        rungs: EXIT,
        offsets: &[],
        needs: &[],
        partner: Some(Partner::Both("mremap")),
        without: "which tables mremap allocates",
    },
    Hook {
        name: "populate",
        subject: Subject::Scopes,
        functions: &["populate_vma_page_range"],
        rungs: PREEMPTIBLE,
        offsets: &["vma_vm_mm"],
        needs: &[],
        partner: Some(Partner::Both("populate_exit")),
        without: "which tables MAP_POPULATE and mlock allocate",
    },
    Hook {
        name: "populate_exit",
        subject: Subject::Scopes,
        functions: &["populate_vma_page_range"],
        rungs: EXIT,
        offsets: &[],
        needs: &[],
        partner: Some(Partner::Both("populate")),
        without: "which tables MAP_POPULATE and mlock allocate",
    },
    Hook {
        name: "madvise_populate",
        subject: Subject::Scopes,
        functions: &["faultin_page_range", "faultin_vma_page_range"],
        rungs: PREEMPTIBLE,
        offsets: &["vma_vm_mm"],
        needs: &[],
        partner: Some(Partner::Both("madvise_populate_exit")),
        without: "which tables MADV_POPULATE allocates",
    },
    Hook {
        name: "madvise_populate_exit",
        subject: Subject::Scopes,
        functions: &["faultin_page_range", "faultin_vma_page_range"],
        rungs: EXIT,
        offsets: &[],
        needs: &[],
        partner: Some(Partner::Both("madvise_populate")),
        without: "which tables MADV_POPULATE allocates",
    },
    Hook {
        name: "vm_area_free",
        subject: Subject::Life,
        functions: &["vm_area_free"],
        rungs: PREEMPTIBLE,
        offsets: &["vma_vm_flags"],
        needs: &[],
        partner: None,
        without: "the end of a VMA, until discovery misses it",
    },
    Hook {
        name: "vm_area_dup",
        subject: Subject::Life,
        functions: &["vm_area_dup"],
        rungs: PREEMPTIBLE,
        offsets: &["vma_vm_flags"],
        needs: &[],
        partner: None,
        without: "splits and moves, until the next discovery",
    },
    Hook {
        name: "mmdrop",
        subject: Subject::Life,
        functions: &["__mmdrop"],
        rungs: PREEMPTIBLE,
        offsets: &[],
        needs: &[],
        partner: None,
        without: "the end of a process, until discovery misses it",
    },
    Hook {
        name: "task_vma",
        subject: Subject::Discovery,
        functions: &["bpf_iter_task_vma"],
        rungs: &[Mechanism::Iterator],
        offsets: vma_offsets!(),
        needs: &[],
        partner: None,
        without: "quick discovery: smaps of every process is read instead",
    },
];

/// The hook of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<&'static Hook> {
    HOOKS.iter().find(|hook| hook.name == name)
}

/// Every kernel function that a hook names.
#[must_use]
pub fn functions() -> Vec<&'static str> {
    let mut all: Vec<_> = HOOKS
        .iter()
        .flat_map(|hook| hook.functions)
        .copied()
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}
