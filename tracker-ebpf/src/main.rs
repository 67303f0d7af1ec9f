//! The hooks, a line or two each. What a hook does is in the module of its subject.
//!
//! A program is named `HOOK_MECHANISM` or `HOOK_exit_MECHANISM`; the agent's ladder
//! (`tracker::probes`) picks at most one mechanism for each hook.
#![no_std]
#![no_main]
// The BPF target lacks atomic operations: atomic.rs
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
mod attribution;
mod causes;
mod context;
mod discover;
mod events;
mod faults;
mod life;
mod maple;
mod maps;
mod markers;
mod memory;
mod observed;
mod patched;
mod record;
mod scope;
mod slot;
mod tables;
mod timing;
mod verifier;
mod walk;
mod watch;

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, kprobe, kretprobe},
    programs::{BtfTracePointContext, FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

/// The kernel lets only GPL-compatible programs call its tracing helpers.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// A hook at a function's entry: one fentry and one kprobe program around the same body.
macro_rules! entry {
    ($(#[$doc:meta])* $body:path, $fentry:ident, $kprobe:ident) => {
        $(#[$doc])*
        #[fentry]
        fn $fentry(ctx: FEntryContext) -> i32 {
            $body(&ctx);
            0
        }
        $(#[$doc])*
        #[kprobe]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            $body(&ctx);
            0
        }
    };
}

/// A hook at a function's return: one fexit and one kretprobe program around the same body.
macro_rules! exit {
    ($(#[$doc:meta])* $body:path, $fexit:ident, $kretprobe:ident) => {
        $(#[$doc])*
        #[fexit]
        fn $fexit(ctx: FExitContext) -> i32 {
            $body(&ctx);
            0
        }
        $(#[$doc])*
        #[kretprobe]
        fn $kretprobe(ctx: RetProbeContext) -> u32 {
            $body(&ctx);
            0
        }
    };
}

/// A hook at the return of a function that allocates tables: fexit sees the arguments as well, a
/// kretprobe needs a kprobe that keeps them.
macro_rules! table {
    ($done:path, $fexit:ident, $entry:path, $kprobe:ident, $return:path, $kretprobe:ident) => {
        #[fexit]
        fn $fexit(ctx: FExitContext) -> i32 {
            $done(&ctx);
            0
        }
        #[kprobe]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            $entry(&ctx);
            0
        }
        #[kretprobe]
        fn $kretprobe(ctx: RetProbeContext) -> u32 {
            $return(&ctx);
            0
        }
    };
}

/// A hook at the return of a function that needs its arguments.
macro_rules! returned {
    ($body:path, $fexit:ident) => {
        #[fexit]
        fn $fexit(ctx: FExitContext) -> i32 {
            $body(&ctx);
            0
        }
    };
}

/// A hook at a tracepoint.
macro_rules! tracepoint {
    ($body:path, $tracepoint:ident) => {
        #[btf_tracepoint]
        fn $tracepoint(ctx: BtfTracePointContext) -> i32 {
            $body(&ctx);
            0
        }
    };
}

// Faults
entry!(faults::do_wp_page, do_wp_page_fentry, do_wp_page_kprobe);
entry!(
    faults::handle_userfault,
    handle_userfault_fentry,
    handle_userfault_kprobe
);
exit!(
    timing::handle_userfault_exit,
    handle_userfault_exit_fexit,
    handle_userfault_exit_kretprobe
);
entry!(
    faults::hugetlb_fault,
    hugetlb_fault_fentry,
    hugetlb_fault_kprobe
);
exit!(
    faults::huge_pte_alloc_exit,
    huge_pte_alloc_exit_fexit,
    huge_pte_alloc_exit_kretprobe
);

/// Needs its caller, which only a kprobe sees.
#[kprobe]
fn split_huge_pmd_kprobe(ctx: ProbeContext) -> u32 {
    faults::split_huge_pmd(&ctx);
    0
}

// Markers
entry!(
    markers::do_swap_page,
    do_swap_page_fentry,
    do_swap_page_kprobe
);
entry!(
    markers::make_uffd_wp_pte,
    make_uffd_wp_pte_fentry,
    make_uffd_wp_pte_kprobe
);

entry!(markers::marks, marks_fentry, marks_kprobe);
entry!(markers::zap, zap_fentry, zap_kprobe);
entry!(markers::hugetlb_zap, hugetlb_zap_fentry, hugetlb_zap_kprobe);

// Page tables
entry!(
    tables::pte_free_tlb,
    pte_free_tlb_fentry,
    pte_free_tlb_kprobe
);
entry!(
    tables::pmd_free_tlb,
    pmd_free_tlb_fentry,
    pmd_free_tlb_kprobe
);
entry!(
    tables::pud_free_tlb,
    pud_free_tlb_fentry,
    pud_free_tlb_kprobe
);
entry!(
    tables::pte_free_defer,
    pte_free_defer_fentry,
    pte_free_defer_kprobe
);
table!(
    tables::pmd_installed,
    pmd_install_fexit,
    tables::pmd_install_entry,
    pmd_install_entry_kprobe,
    tables::pmd_install_return,
    pmd_install_kretprobe
);
table!(
    tables::pmd_allocated,
    pmd_alloc_fexit,
    tables::upper_alloc_entry,
    pmd_alloc_entry_kprobe,
    tables::pmd_alloc_return,
    pmd_alloc_kretprobe
);
table!(
    tables::pud_allocated,
    pud_alloc_fexit,
    tables::upper_alloc_entry,
    pud_alloc_entry_kprobe,
    tables::pud_alloc_return,
    pud_alloc_kretprobe
);

/// Looks for the fault on the stack, so a kprobe.
#[kprobe]
fn deposit_kprobe(ctx: ProbeContext) -> u32 {
    tables::deposit(&ctx);
    0
}

/// Needs its caller, which only a kprobe sees.
#[kprobe]
fn withdraw_kprobe(ctx: ProbeContext) -> u32 {
    tables::withdraw(&ctx);
    0
}

// Scopes
entry!(
    scope::userfaultfd_ioctl,
    userfaultfd_ioctl_fentry,
    userfaultfd_ioctl_kprobe
);
exit!(
    scope::userfaultfd_ioctl_exit,
    userfaultfd_ioctl_exit_fexit,
    userfaultfd_ioctl_exit_kretprobe
);
entry!(scope::wp_range, wp_range_fentry, wp_range_kprobe);
entry!(scope::scan, scan_fentry, scan_kprobe);
exit!(scope::scan_exit, scan_exit_fexit, scan_exit_kretprobe);
entry!(scope::fork, fork_fentry, fork_kprobe);
exit!(scope::exit, fork_exit_fexit, fork_exit_kretprobe);
entry!(scope::mremap, mremap_fentry, mremap_kprobe);
exit!(scope::exit, mremap_exit_fexit, mremap_exit_kretprobe);
entry!(scope::populate, populate_fentry, populate_kprobe);
exit!(scope::exit, populate_exit_fexit, populate_exit_kretprobe);
entry!(
    scope::madvise_populate,
    madvise_populate_fentry,
    madvise_populate_kprobe
);
exit!(
    scope::exit,
    madvise_populate_exit_fexit,
    madvise_populate_exit_kretprobe
);

// Life of VMAs and processes
entry!(life::vm_area_free, vm_area_free_fentry, vm_area_free_kprobe);
entry!(life::vm_area_dup, vm_area_dup_fentry, vm_area_dup_kprobe);
entry!(life::mmdrop, mmdrop_fentry, mmdrop_kprobe);

// Events: what takes the bit off pages
entry!(causes::wp_fault, wp_fault_fentry, wp_fault_kprobe);
entry!(causes::huge_fault, huge_fault_fentry, huge_fault_kprobe);
entry!(
    causes::hugetlb_write,
    hugetlb_write_fentry,
    hugetlb_write_kprobe
);

/// Needs its caller, which only a kprobe sees.
#[kprobe]
fn huge_split_kprobe(ctx: ProbeContext) -> u32 {
    causes::huge_split(&ctx);
    0
}

/// Likewise.
#[kprobe]
fn huge_unmapped_kprobe(ctx: ProbeContext) -> u32 {
    causes::huge_unmapped(&ctx);
    0
}

entry!(
    causes::huge_emptied,
    huge_emptied_fentry,
    huge_emptied_kprobe
);
entry!(causes::emptied, emptied_fentry, emptied_kprobe);
returned!(causes::emptied_exit, emptied_exit_fexit);
entry!(
    causes::hugetlb_emptied,
    hugetlb_emptied_fentry,
    hugetlb_emptied_kprobe
);
returned!(causes::hugetlb_emptied_exit, hugetlb_emptied_exit_fexit);
entry!(causes::freed, freed_fentry, freed_kprobe);
entry!(causes::reclaimed, reclaimed_fentry, reclaimed_kprobe);
tracepoint!(causes::ksm, ksm_tracepoint);
tracepoint!(causes::ksm_zero, ksm_zero_tracepoint);
returned!(causes::ksm_merge, ksm_merge_fexit);
entry!(
    causes::guard_install,
    guard_install_fentry,
    guard_install_kprobe
);
entry!(
    causes::guard_remove,
    guard_remove_fentry,
    guard_remove_kprobe
);
entry!(causes::moved, moved_fentry, moved_kprobe);
entry!(causes::forked, forked_fentry, forked_kprobe);
entry!(
    causes::unregistered,
    unregistered_fentry,
    unregistered_kprobe
);
entry!(
    causes::uffd_command,
    uffd_command_fentry,
    uffd_command_kprobe
);
entry!(watch::ended, watch_end_fentry, watch_end_kprobe);

// Events where no function can be hooked
tracepoint!(observed::user_fault, user_fault_tracepoint);
tracepoint!(observed::kernel_fault, kernel_fault_tracepoint);
tracepoint!(observed::syscall, syscall_tracepoint);

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
