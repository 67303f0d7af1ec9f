//! Prints the facts about the running kernel as JSON.
//!
//! This is how a kernel gets into `tests/fixtures/kernel/`: boot it (in a VM if need be), run
//! `cargo run -p tracker --example capture-facts > KERNEL.json` as root with tracefs, debugfs and
//! securityfs mounted, and add a test for what is different there.

use std::io::Write;

use serde_json::Value;
use tracker::kernel::KernelFacts;
use tracker::probes::calibrate;

/// Kernel functions on the paths that uffd-wp takes: those that hooks attach to or once attached
/// to, their neighbours, and those known to be inlined on some kernels.
const FUNCTIONS: &[&str] = &[
    // faults
    "handle_mm_fault",
    "__handle_mm_fault",
    "handle_pte_fault",
    "handle_userfault",
    "do_wp_page",
    "wp_page_copy",
    "wp_page_reuse",
    "do_swap_page",
    "do_fault",
    "finish_fault",
    "do_anonymous_page",
    "do_pte_missing",
    "do_shared_fault",
    "do_cow_fault",
    "do_read_fault",
    "do_set_pte",
    "set_pte_range",
    "do_set_pmd",
    "do_huge_pmd_anonymous_page",
    "do_huge_pmd_wp_page",
    "wp_huge_pmd",
    "handle_pte_marker",
    "pte_marker_handle_uffd_wp",
    "pte_marker_clear",
    "hugetlb_fault",
    "hugetlb_wp",
    "hugetlb_no_page",
    "hugetlb_cow",
    "huge_pte_alloc",
    "__split_huge_pmd",
    "__split_huge_pmd_locked",
    "split_huge_pmd_locked",
    "userfaultfd_wp_async",
    "userfaultfd_ctx_put",
    // markers
    "change_protection",
    "change_pte_range",
    "change_pmd_range",
    "uffd_wp_range",
    "mwriteprotect_range",
    "hugetlb_change_protection",
    "make_uffd_wp_pte",
    "make_uffd_wp_huge_pte",
    "make_uffd_wp_pmd",
    "pagemap_scan_pte_hole",
    "pagemap_scan_pmd_entry",
    "pagemap_scan_thp_entry",
    "pagemap_scan_hugetlb_entry",
    "do_pagemap_scan",
    "do_pagemap_cmd",
    "unmap_page_range",
    "unmap_single_vma",
    "unmap_vmas",
    "zap_page_range_single",
    "zap_page_range_single_batched",
    "zap_pte_range",
    "zap_huge_pmd",
    "zap_present_ptes",
    "zap_nonpresent_ptes",
    "zap_install_uffd_wp_if_needed",
    "try_to_unmap_one",
    "madvise_free_pte_range",
    "try_to_migrate_one",
    "__unmap_hugepage_range",
    "unmap_hugepage_range",
    "copy_page_range",
    "copy_pte_marker",
    "copy_pte_range",
    "copy_huge_pmd",
    "copy_hugetlb_page_range",
    "dup_userfaultfd",
    "mremap_userfaultfd_prep",
    "move_page_tables",
    "move_ptes",
    "move_huge_pmd",
    "move_hugetlb_page_tables",
    "remove_migration_pte",
    "collapse_huge_page",
    "mfill_atomic_install_pte",
    "unmap_mapping_folio",
    "unmap_mapping_pages",
    "unmap_mapping_range",
    "guard_install_set_pte",
    "guard_remove_pte_entry",
    "try_to_merge_one_page",
    "replace_page",
    "write_protect_page",
    "__zap_vma_range",
    "zap_vma_range",
    "move_pages_ptes",
    "move_pages_huge_pmd",
    "set_huge_pmd",
    // page tables
    "pmd_install",
    "pgtable_trans_huge_deposit",
    "pgtable_trans_huge_withdraw",
    "__pte_alloc",
    "__pmd_alloc",
    "__pud_alloc",
    "__p4d_alloc",
    "pte_alloc_one",
    "___pte_free_tlb",
    "___pmd_free_tlb",
    "___pud_free_tlb",
    "pte_free_defer",
    "pte_free",
    "pagetable_free",
    "pagetable_pte_dtor",
    "huge_pmd_share",
    "huge_pmd_unshare",
    "collapse_and_free_pmd",
    "collapse_pte_mapped_thp",
    "retract_page_tables",
    "try_collapse_pte_mapped_thp",
    "pmdp_collapse_flush",
    "ptep_clear_flush",
    "zap_deposited_table",
    "free_pgd_range",
    "free_pgtables",
    "try_to_free_pte",
    "try_get_and_clear_pmd",
    "free_pte",
    "userfaultfd_clear_vma",
    "userfaultfd_reset_ctx",
    "userfaultfd_unregister",
    "userfaultfd_register",
    "userfaultfd_release",
    "userfaultfd_release_all",
    "userfaultfd_ioctl",
    "userfaultfd_writeprotect",
    "userfaultfd_move",
    "mfill_atomic_copy",
    "mfill_atomic_zeropage",
    "mfill_atomic_continue",
    "mfill_atomic_poison",
    "mfill_atomic",
    "mcopy_atomic",
    "mfill_zeropage",
    "mcopy_continue",
    "__mcopy_atomic",
    "move_pages",
    "exit_mmap",
    "__mmdrop",
    "mmput",
    "__mmput",
    "populate_vma_page_range",
    "__mm_populate",
    "faultin_page",
    "do_madvise",
    "madvise_populate",
    "faultin_page_range",
    "faultin_vma_page_range",
    // life of VMAs, and iterators
    "vm_area_free",
    "__vm_area_free",
    "vm_area_alloc",
    "vm_area_dup",
    "vma_link",
    "remove_vma",
    "exit_mm",
    "bpf_iter_task_vma",
    "bpf_iter_task",
];

/// Tracepoints that stand in for hooks, or tell of a cause.
const TRACEPOINTS: &[&str] = &[
    "exceptions:page_fault_kernel",
    "exceptions:page_fault_user",
    "huge_memory:mm_collapse_huge_page",
    "kmem:rss_stat",
    "ksm:ksm_merge_one_page",
    "ksm:ksm_merge_with_ksm_page",
    "mmap:exit_mmap",
    "raw_syscalls:sys_enter",
    "raw_syscalls:sys_exit",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "sched:sched_process_fork",
    "syscalls:sys_enter_userfaultfd",
    "task:task_rename",
];

fn main() -> anyhow::Result<()> {
    let mut facts = KernelFacts::gather(FUNCTIONS, TRACEPOINTS);
    facts.tried = calibrate::tried();
    let text = one_line_each(&serde_json::to_value(&facts)?)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// JSON with a line for each function, offset and so on, so that two kernels compare well in diff.
fn one_line_each(facts: &Value) -> anyhow::Result<String> {
    let mut sections = Vec::new();
    for (name, section) in facts.as_object().into_iter().flatten() {
        let name = serde_json::to_string(name)?;
        let Some(entries) = section.as_object().filter(|entries| !entries.is_empty()) else {
            sections.push(format!("{name}: {section}"));
            continue;
        };
        let mut lines = Vec::new();
        for (key, value) in entries {
            lines.push(format!("  {}: {value}", serde_json::to_string(key)?));
        }
        sections.push(format!("{name}: {{\n{}\n}}", lines.join(",\n")));
    }
    Ok(format!("{{\n{}\n}}\n", sections.join(",\n")))
}
