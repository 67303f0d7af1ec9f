//! The table of the hooks that `explain` needs: what takes the uffd-wp bit off pages of watched address spaces.
//!
//! Not counted but told one by one, so these are apart from [`super::HOOKS`], and attached only to explain.

use super::{Hook, HookMechanism, HookNeed, HookPartner, HookSubject};

/// Runs under the pte lock, so a trampoline is never preempted there.
const LOCKED: &[HookMechanism] = &[HookMechanism::Fentry, HookMechanism::Kprobe];
/// A preempted trampoline program loses the events of others on its CPU; a kprobe is not preempted.
const PREEMPTIBLE: &[HookMechanism] = &[HookMechanism::Kprobe, HookMechanism::Fentry];
/// Needs the caller.
const KPROBE: &[HookMechanism] = &[HookMechanism::Kprobe];
/// Needs the arguments, which a kretprobe does not see.
const FEXIT: &[HookMechanism] = &[HookMechanism::Fexit];
const TRACEPOINT: &[HookMechanism] = &[HookMechanism::Tracepoint];

/// What every hook needs that is told a VMA.
macro_rules! vma_offsets {
    ($($more:literal),*) => {
        &["vma_vm_flags", "vma_vm_mm", "task_flags", $($more),*]
    };
}

const fn hook(
    name: &'static str,
    functions: &'static [&'static str],
    rungs: &'static [HookMechanism],
    offsets: &'static [&'static str],
    without: &'static str,
) -> Hook {
    Hook {
        name,
        subject: HookSubject::Causes,
        functions,
        rungs,
        offsets,
        needs: &[],
        partner: None,
        without,
    }
}

/// All hooks of events.
pub const EVENT_HOOKS: &[Hook] = &[
    hook(
        "wp_fault",
        &["do_wp_page"],
        LOCKED,
        vma_offsets!(
            "vm_fault_vma",
            "vm_fault_address",
            "vm_fault_orig_pte",
            "vm_fault_flags"
        ),
        "who writes",
    ),
    hook(
        "huge_fault",
        &["handle_userfault"],
        PREEMPTIBLE,
        vma_offsets!(
            "vm_fault_vma",
            "vm_fault_address",
            "vm_fault_pte",
            "vm_fault_flags"
        ),
        "who writes to a huge page that a handler answers for",
    ),
    hook(
        "hugetlb_write",
        &["hugetlb_fault"],
        PREEMPTIBLE,
        vma_offsets!(),
        "who writes to hugetlb memory",
    ),
    Hook {
        needs: &[HookNeed::FaultText],
        ..hook(
            "huge_split",
            &["__split_huge_pmd"],
            KPROBE,
            vma_offsets!("vma_vm_ops"),
            "huge pages of files that lose all their bits at once",
        )
    },
    Hook {
        needs: &[
            HookNeed::Function("split_huge_pmd_locked"),
            HookNeed::SplitText,
        ],
        ..hook(
            "huge_unmapped",
            &["split_huge_pmd_locked"],
            KPROBE,
            vma_offsets!("vma_vm_ops"),
            "huge pages of files that reclaim takes",
        )
    },
    hook(
        "huge_emptied",
        &["zap_huge_pmd"],
        PREEMPTIBLE,
        vma_offsets!("vma_vm_ops"),
        "huge pages of files that are emptied, and leave no markers",
    ),
    hook(
        "emptied",
        &["unmap_page_range", "__zap_vma_range"],
        PREEMPTIBLE,
        vma_offsets!("zap_details_zap_flags"),
        "who empties memory",
    ),
    Hook {
        partner: Some(HookPartner::Both("emptied")),
        ..hook(
            "emptied_exit",
            &["unmap_page_range", "__zap_vma_range"],
            FEXIT,
            vma_offsets!(),
            "when memory has been emptied: a write during that may be taken for one after it",
        )
    },
    hook(
        "hugetlb_emptied",
        &["__unmap_hugepage_range"],
        PREEMPTIBLE,
        vma_offsets!(),
        "who empties hugetlb memory",
    ),
    Hook {
        partner: Some(HookPartner::Both("hugetlb_emptied")),
        ..hook(
            "hugetlb_emptied_exit",
            &["__unmap_hugepage_range"],
            FEXIT,
            vma_offsets!(),
            "when hugetlb memory has been emptied",
        )
    },
    hook(
        "freed",
        &["madvise_free_pte_range"],
        PREEMPTIBLE,
        vma_offsets!("mm_walk_vma"),
        "pages in swap that MADV_FREE gives up",
    ),
    Hook {
        needs: &[HookNeed::FolioFlags],
        ..hook(
            "reclaimed",
            &["try_to_unmap_one"],
            PREEMPTIBLE,
            vma_offsets!("vma_vm_end", "folio_flags", "folio_mapping"),
            "pages that MADV_FREE gave up and reclaim took",
        )
    },
    Hook {
        needs: &[
            HookNeed::Ksm,
            HookNeed::Tracepoint("ksm:ksm_merge_with_ksm_page"),
        ],
        ..hook(
            "ksm",
            &["ksm:ksm_merge_with_ksm_page"],
            TRACEPOINT,
            &["ksm_rmap_item_address", "task_flags"],
            "pages that KSM merges",
        )
    },
    Hook {
        needs: &[
            HookNeed::Ksm,
            HookNeed::Tracepoint("ksm:ksm_merge_one_page"),
        ],
        ..hook(
            "ksm_zero",
            &["ksm:ksm_merge_one_page"],
            TRACEPOINT,
            &["ksm_rmap_item_address", "task_flags"],
            "pages that KSM merges with the zero page",
        )
    },
    Hook {
        needs: &[HookNeed::Ksm],
        partner: Some(HookPartner::Instead("ksm")),
        ..hook(
            "ksm_merge",
            &["try_to_merge_one_page"],
            FEXIT,
            vma_offsets!("vma_vm_start", "vma_vm_pgoff", "folio_index"),
            "pages that KSM merges",
        )
    },
    Hook {
        needs: &[HookNeed::GuardPages],
        ..hook(
            "guard_install",
            &["guard_install_set_pte"],
            PREEMPTIBLE,
            vma_offsets!("mm_walk_vma"),
            "guard pages that are installed",
        )
    },
    Hook {
        needs: &[HookNeed::GuardPages],
        ..hook(
            "guard_remove",
            &["guard_remove_pte_entry"],
            PREEMPTIBLE,
            vma_offsets!("mm_walk_vma"),
            "guard pages that are removed",
        )
    },
    hook(
        "moved",
        &["move_page_tables"],
        PREEMPTIBLE,
        vma_offsets!(),
        "what mremap moves",
    ),
    hook(
        "forked",
        &["copy_page_range"],
        PREEMPTIBLE,
        vma_offsets!("vma_vm_start", "vma_vm_end"),
        "when the process forks",
    ),
    Hook {
        needs: &[HookNeed::Function("userfaultfd_clear_vma")],
        ..hook(
            "unregistered",
            &["userfaultfd_clear_vma"],
            PREEMPTIBLE,
            vma_offsets!(),
            "what is unregistered",
        )
    },
    hook(
        "uffd_command",
        &["userfaultfd_ioctl"],
        PREEMPTIBLE,
        &["file_private_data", "uffd_ctx_mm", "task_flags"],
        "what UFFDIO_MOVE moves, and on older kernels what is unregistered",
    ),
    hook(
        "watch_end",
        &["__mmdrop"],
        PREEMPTIBLE,
        &[],
        "the end of a process, until it is not watched any more",
    ),
    Hook {
        subject: HookSubject::Discovery,
        ..hook(
            "watch",
            &["bpf_iter_task"],
            &[HookMechanism::Iterator],
            &["task_tgid", "task_mm"],
            "everything: no process can be watched",
        )
    },
    Hook {
        subject: HookSubject::Observed,
        partner: Some(HookPartner::Instead("wp_fault")),
        ..hook(
            "user_fault",
            &["exceptions:page_fault_user"],
            TRACEPOINT,
            &["task_mm", "task_flags"],
            "the threads that write",
        )
    },
    Hook {
        subject: HookSubject::Observed,
        partner: Some(HookPartner::Instead("wp_fault")),
        ..hook(
            "kernel_fault",
            &["exceptions:page_fault_kernel"],
            TRACEPOINT,
            &["task_mm", "task_flags"],
            "the system calls that write to the memory of their process",
        )
    },
    Hook {
        subject: HookSubject::Observed,
        partner: Some(HookPartner::Instead("wp_fault")),
        ..hook(
            "syscall",
            &["raw_syscalls:sys_exit"],
            TRACEPOINT,
            &["task_mm", "task_flags"],
            "the system calls that empty, move or unregister memory",
        )
    },
];
