//! Prints the facts about the running kernel as JSON.
//!
//! To add a kernel to `tests/fixtures/kernel/`, boot it (in a VM if need be), run
//! `cargo run -p tracker --example capture-facts > KERNEL.json` as root with tracefs, debugfs and
//! securityfs mounted, and add a test for what is different there.

use std::io::Write;

use serde_json::Value;
use tracker::kernel::KernelFacts;
use tracker::probes::{EVENT_HOOKS, FAULT_TIME_HOOKS, HOOKS, calibrate, hooks};

/// Further kernel functions on the paths that uffd-wp takes: neighbours of those that hooks attach
/// to, and some that are inlined on some kernels.
const NEIGHBOURS: &[&str] = &[
    // faults
    "handle_mm_fault",
    "__handle_mm_fault",
    "handle_pte_fault",
    "wp_page_copy",
    "wp_page_reuse",
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
    "hugetlb_wp",
    "hugetlb_no_page",
    "hugetlb_cow",
    "__split_huge_pmd_locked",
    "userfaultfd_wp_async",
    "userfaultfd_ctx_put",
    // markers
    "change_protection",
    "change_pte_range",
    "change_pmd_range",
    "mwriteprotect_range",
    "hugetlb_change_protection",
    "make_uffd_wp_huge_pte",
    "make_uffd_wp_pmd",
    "pagemap_scan_pte_hole",
    "pagemap_scan_pmd_entry",
    "pagemap_scan_thp_entry",
    "pagemap_scan_hugetlb_entry",
    "do_pagemap_cmd",
    "unmap_single_vma",
    "unmap_vmas",
    "zap_page_range_single",
    "zap_page_range_single_batched",
    "zap_pte_range",
    "zap_present_ptes",
    "zap_nonpresent_ptes",
    "zap_install_uffd_wp_if_needed",
    "try_to_migrate_one",
    "unmap_hugepage_range",
    "copy_pte_marker",
    "copy_pte_range",
    "copy_huge_pmd",
    "copy_hugetlb_page_range",
    "dup_userfaultfd",
    "mremap_userfaultfd_prep",
    "move_ptes",
    "move_huge_pmd",
    "move_hugetlb_page_tables",
    "remove_migration_pte",
    "collapse_huge_page",
    "mfill_atomic_install_pte",
    "unmap_mapping_folio",
    "unmap_mapping_pages",
    "unmap_mapping_range",
    "replace_page",
    "write_protect_page",
    "zap_vma_range",
    "move_pages_ptes",
    "move_pages_huge_pmd",
    "set_huge_pmd",
    // page tables
    "__pte_alloc",
    "__p4d_alloc",
    "pte_alloc_one",
    "pte_free",
    "pagetable_free",
    "pagetable_pte_dtor",
    "huge_pmd_share",
    "huge_pmd_unshare",
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
    "userfaultfd_reset_ctx",
    "userfaultfd_unregister",
    "userfaultfd_register",
    "userfaultfd_release",
    "userfaultfd_release_all",
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
    "mmput",
    "__mmput",
    "__mm_populate",
    "faultin_page",
    "do_madvise",
    "madvise_populate",
    // life of VMAs, and iterators
    "__vm_area_free",
    "vm_area_alloc",
    "vma_link",
    "remove_vma",
    "exit_mm",
];

/// Further tracepoints that tell of a process or of a cause.
const TRACEPOINTS: &[&str] = &[
    "huge_memory:mm_collapse_huge_page",
    "kmem:rss_stat",
    "mmap:exit_mmap",
    "raw_syscalls:sys_enter",
    "sched:sched_process_exec",
    "sched:sched_process_exit",
    "sched:sched_process_fork",
    "syscalls:sys_enter_userfaultfd",
    "task:task_rename",
];

fn main() -> anyhow::Result<()> {
    let tables = [HOOKS, EVENT_HOOKS, FAULT_TIME_HOOKS];
    let mut functions = tables.map(hooks::functions).concat();
    functions.extend_from_slice(NEIGHBOURS);
    let mut tracepoints = tables.map(hooks::tracepoints).concat();
    tracepoints.extend_from_slice(TRACEPOINTS);
    let mut facts = KernelFacts::gather(&functions, &tracepoints);
    facts.tried = calibrate::tried();
    let text = one_line_each(&serde_json::to_value(&facts)?)?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// JSON with a line for each function, offset and so on, so that diff(1) compares two kernels well.
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
