//! The hooks: one row each. `main.rs` makes the programs from the rows, the agent its table
//! (`tracker/src/probes/hooks.rs`). docs/hooks.md says what each counts, and why the count is
//! right.

/// Hands all rows to the macro `$then`. A row is
///
/// ```text
/// name: Subject, at [where it is], by [mechanism program, ...] => body, ...,
///     fires Always(Exercise), with Partner(hook), only [Where, ...],
///     without "what is not known without it";
/// ```
///
/// - *at*: the function, or its names in other kernels; of a tracepoint `category:event`.
/// - *by*: the ladder. The agent tries one program after the other until the kernel takes one:
///   - Where the kernel holds the pte lock nothing preempts a trampoline: fentry is first, as it
///     costs less. It is also first where the program reads page tables for as long as the kernel
///     works on them, and had better be preemptible.
///   - Elsewhere a preempted trampoline program loses the events of others on its CPU; a kprobe is
///     not preempted, and is first.
///   - What needs to know its caller is a kprobe or nothing.
///   - At a return fexit is first: a kretprobe has a bounded number of returns under way. What
///     needs the arguments, which a kretprobe does not see, is fexit or nothing.
/// - *fires*: how it is proved that it fires (`HookProof`): what the agent does to memory of its own
///   (`uffd::KernelExercise`), or why nothing it does tells.
/// - *with*: the hook on which it depends, and how (`HookPartner`).
/// - *under*: the lock that is held there (`HookLock`).
/// - *only*: it has nothing to see elsewhere (`HookCondition`).
///
/// Which fields and values of the kernel a program needs is read from the built program.
#[macro_export]
#[rustfmt::skip]
macro_rules! hooks { ($then:ident) => { $then! {

/// What is counted.
HOOKS {
    // Faults

    do_wp_page: Faults, at ["do_wp_page"],
        by [fentry do_wp_page_fentry, kprobe do_wp_page_kprobe]
            => faults::do_wp_page,
        fires Always(WriteArmed),
        under Pte,
        without "async faults at ptes";
    handle_userfault: Faults, at ["handle_userfault"],
        by [kprobe handle_userfault_kprobe, fentry handle_userfault_fentry]
            => faults::handle_userfault,
        fires Always(WriteArmed),
        without "sync faults";
    handle_userfault_exit: Faults, at ["handle_userfault"],
        by [fexit handle_userfault_exit_fexit, kretprobe handle_userfault_exit_kretprobe]
            => timing::handle_userfault_exit,
        fires Always(WriteArmed),
        with Both(handle_userfault),
        without "how long threads wait for a handler";
    split_huge_pmd: Faults, at ["__split_huge_pmd"],
        by [kprobe split_huge_pmd_kprobe] => faults::split_huge_pmd,
        fires Always(HugePage),
        only [HugePages],
        without "async faults at huge pages";
    hugetlb_fault: Faults, at ["hugetlb_fault"],
        by [kprobe hugetlb_fault_kprobe, fentry hugetlb_fault_fentry]
            => faults::hugetlb_fault,
        fires Always(Hugetlb),
        with Both(huge_pte_alloc_exit),
        without "async and marker faults in hugetlb memory";
    huge_pte_alloc_exit: Faults, at ["huge_pte_alloc"],
        by [fexit huge_pte_alloc_exit_fexit, kretprobe huge_pte_alloc_exit_kretprobe]
            => faults::huge_pte_alloc_exit,
        fires Always(Hugetlb),
        with Both(hugetlb_fault),
        without "async and marker faults in hugetlb memory";

    // Markers

    do_swap_page: Markers, at ["do_swap_page"],
        by [kprobe do_swap_page_kprobe, fentry do_swap_page_fentry]
            => markers::do_swap_page,
        fires Always(ReadMarker),
        without "faults at markers, and markers they consume";
    make_uffd_wp_pte: Markers, at ["make_uffd_wp_pte"],
        by [fentry make_uffd_wp_pte_fentry, kprobe make_uffd_wp_pte_kprobe]
            => markers::make_uffd_wp_pte,
        fires Always(Scan),
        under Pte,
        only [PagemapScan],
        without "markers that PAGEMAP_SCAN installs";
    marks: Markers, at ["uffd_wp_range"],
        by [fentry marks_fentry, kprobe marks_kprobe] => markers::marks,
        fires Always(Arm),
        without "markers that arming makes of empty entries, and that disarming drops";
    zap: Markers, at ["unmap_page_range", "__zap_vma_range"],
        by [fentry zap_fentry, kprobe zap_kprobe] => markers::zap,
        fires Always(Drop),
        without "markers that unmapping drops, or makes of armed pages of files";
    hugetlb_zap: Markers, at ["__unmap_hugepage_range"],
        by [fentry hugetlb_zap_fentry, kprobe hugetlb_zap_kprobe]
            => markers::hugetlb_zap,
        fires Always(Hugetlb),
        without "the same in hugetlb memory";
    clear: Markers, at ["userfaultfd_clear_vma"],
        by [fentry clear_fentry, kprobe clear_kprobe] => markers::clear,
        fires Always(Unregister),
        with Both(clear_exit),
        only [WhereFound],
        without "markers that unregistering drops by itself";
    clear_exit: Markers, at ["userfaultfd_clear_vma"],
        by [fexit clear_exit_fexit, kretprobe clear_exit_kretprobe]
            => markers::clear_exit,
        fires Always(Unregister),
        with Both(clear),
        only [WhereFound],
        without "markers that unregistering drops by itself";

    // Page tables

    pmd_install: Tables, at ["pmd_install"],
        by [fexit pmd_install_fexit] => tables::pmd_installed,
            [kretprobe pmd_install_kretprobe] => tables::pmd_install_return,
        fires Always(Tables),
        with Entry(pmd_install_entry),
        without "allocated PTE tables";
    pmd_install_entry: Tables, at ["pmd_install"],
        by [kprobe pmd_install_entry_kprobe] => tables::pmd_install_entry,
        fires Always(Tables),
        with Return(pmd_install),
        without "allocated PTE tables";
    deposit: Tables, at ["pgtable_trans_huge_deposit"],
        by [kprobe deposit_kprobe] => tables::deposit,
        fires Always(HugePage),
        only [HugePages],
        without "PTE tables kept beside huge pages";
    pmd_alloc: Tables, at ["__pmd_alloc"],
        by [fexit pmd_alloc_fexit] => tables::pmd_allocated,
            [kretprobe pmd_alloc_kretprobe] => tables::pmd_alloc_return,
        fires Always(Tables),
        with Entry(pmd_alloc_entry),
        without "allocated PMD tables";
    pmd_alloc_entry: Tables, at ["__pmd_alloc"],
        by [kprobe pmd_alloc_entry_kprobe] => tables::upper_alloc_entry,
        fires Always(Tables),
        with Return(pmd_alloc),
        without "allocated PMD tables";
    pud_alloc: Tables, at ["__pud_alloc"],
        by [fexit pud_alloc_fexit] => tables::pud_allocated,
            [kretprobe pud_alloc_kretprobe] => tables::pud_alloc_return,
        fires Always(Tables),
        with Entry(pud_alloc_entry),
        without "allocated PUD tables";
    pud_alloc_entry: Tables, at ["__pud_alloc"],
        by [kprobe pud_alloc_entry_kprobe] => tables::upper_alloc_entry,
        fires Always(Tables),
        with Return(pud_alloc),
        without "allocated PUD tables";
    pte_free_tlb: Tables, at ["___pte_free_tlb"],
        by [kprobe pte_free_tlb_kprobe, fentry pte_free_tlb_fentry]
            => tables::pte_free_tlb,
        fires Always(Tables),
        without "freed PTE tables";
    pte_free_defer: Tables, at ["pte_free_defer", "collapse_and_free_pmd"],
        by [kprobe pte_free_defer_kprobe, fentry pte_free_defer_fentry]
            => tables::pte_free_defer,
        fires Never("khugepaged frees tables in its own time"),
        only [HugePages],
        without "PTE tables that khugepaged frees";
    withdraw: Tables, at ["pgtable_trans_huge_withdraw"],
        by [kprobe withdraw_kprobe] => tables::withdraw,
        fires Always(HugePage),
        only [HugePages],
        without "PTE tables freed with a huge page";
    pmd_free_tlb: Tables, at ["___pmd_free_tlb"],
        by [kprobe pmd_free_tlb_kprobe, fentry pmd_free_tlb_fentry]
            => tables::pmd_free_tlb,
        fires Always(Tables),
        without "freed PMD tables";
    pud_free_tlb: Tables, at ["___pud_free_tlb"],
        by [kprobe pud_free_tlb_kprobe, fentry pud_free_tlb_fentry]
            => tables::pud_free_tlb,
        fires Always(Tables),
        without "freed PUD tables";

    // Scopes

    userfaultfd_ioctl: Scopes, at ["userfaultfd_ioctl"],
        by [kprobe userfaultfd_ioctl_kprobe, fentry userfaultfd_ioctl_fentry]
            => scope::userfaultfd_ioctl,
        fires Always(Arm),
        with Both(userfaultfd_ioctl_exit),
        without "which tables arming, UFFDIO_COPY and UFFDIO_MOVE allocate, and how long \
                 arming takes";
    userfaultfd_ioctl_exit: Scopes, at ["userfaultfd_ioctl"],
        by [fexit userfaultfd_ioctl_exit_fexit,
            kretprobe userfaultfd_ioctl_exit_kretprobe]
            => scope::userfaultfd_ioctl_exit,
        fires Always(Arm),
        with Both(userfaultfd_ioctl),
        without "which tables arming, UFFDIO_COPY and UFFDIO_MOVE allocate, and how long \
                 arming takes";
    wp_range: Scopes, at ["uffd_wp_range"],
        by [kprobe wp_range_kprobe, fentry wp_range_fentry] => scope::wp_range,
        fires Always(Arm),
        without "the VMA of tables that arming allocates";
    scan: Scopes, at ["do_pagemap_scan"],
        by [kprobe scan_kprobe, fentry scan_fentry] => scope::scan,
        fires Always(Scan),
        with Both(scan_exit), only [PagemapScan],
        without "which tables PAGEMAP_SCAN allocates, and how long it takes";
    scan_exit: Scopes, at ["do_pagemap_scan"],
        by [fexit scan_exit_fexit, kretprobe scan_exit_kretprobe] => scope::scan_exit,
        fires Always(Scan),
        with Both(scan), only [PagemapScan],
        without "which tables PAGEMAP_SCAN allocates, and how long it takes";
    fork: Scopes, at ["copy_page_range"],
        by [kprobe fork_kprobe, fentry fork_fentry] => scope::fork,
        fires Always(Fork),
        with Both(fork_exit),
        without "which tables fork allocates";
    fork_exit: Scopes, at ["copy_page_range"],
        by [fexit fork_exit_fexit, kretprobe fork_exit_kretprobe] => scope::exit,
        fires Always(Fork),
        with Both(fork),
        without "which tables fork allocates";
    mremap: Scopes, at ["move_page_tables"],
        by [kprobe mremap_kprobe, fentry mremap_fentry] => scope::mremap,
        fires Always(Move),
        with Both(mremap_exit),
        without "which tables mremap allocates";
    mremap_exit: Scopes, at ["move_page_tables"],
        by [fexit mremap_exit_fexit, kretprobe mremap_exit_kretprobe] => scope::exit,
        fires Always(Move),
        with Both(mremap),
        without "which tables mremap allocates";
    populate: Scopes, at ["populate_vma_page_range"],
        by [kprobe populate_kprobe, fentry populate_fentry] => scope::populate,
        fires Always(Populate),
        with Both(populate_exit),
        without "which tables MAP_POPULATE and mlock allocate";
    populate_exit: Scopes, at ["populate_vma_page_range"],
        by [fexit populate_exit_fexit, kretprobe populate_exit_kretprobe]
            => scope::exit,
        fires Always(Populate),
        with Both(populate),
        without "which tables MAP_POPULATE and mlock allocate";
    madvise_populate: Scopes, at ["faultin_page_range", "faultin_vma_page_range"],
        by [kprobe madvise_populate_kprobe, fentry madvise_populate_fentry]
            => scope::madvise_populate,
        fires Always(MadvisePopulate),
        with Both(madvise_populate_exit),
        without "which tables MADV_POPULATE allocates";
    madvise_populate_exit: Scopes, at ["faultin_page_range", "faultin_vma_page_range"],
        by [fexit madvise_populate_exit_fexit, kretprobe madvise_populate_exit_kretprobe]
            => scope::exit,
        fires Always(MadvisePopulate),
        with Both(madvise_populate),
        without "which tables MADV_POPULATE allocates";

    // Life of VMAs and processes

    vm_area_free: Life, at ["vm_area_free"],
        by [kprobe vm_area_free_kprobe, fentry vm_area_free_fentry]
            => life::vm_area_free,
        fires Always(Tables),
        without "the end of a VMA, until discovery misses it";
    vm_area_dup: Life, at ["vm_area_dup"],
        by [kprobe vm_area_dup_kprobe, fentry vm_area_dup_fentry] => life::vm_area_dup,
        fires Always(Fork),
        without "splits and moves, until the next discovery";
    mmdrop: Life, at ["__mmdrop"],
        by [kprobe mmdrop_kprobe, fentry mmdrop_fentry] => life::mmdrop,
        fires Perhaps(Fork),
        without "the end of a process, until discovery misses it";

    task_vma: Discovery, at ["bpf_iter_task_vma"],
        by [iterator task_vma "iter/task_vma"] => discover::task_vma,
        fires Never("discovery runs it, and says when it fails"),
        without "quick discovery: smaps of every process is read instead";
}

/// What takes the uffd-wp bit off pages of watched address spaces, and what trackers do to them. It
/// is not counted but told one by one, and attached only to explain.
EVENT_HOOKS {
    wp_fault: Causes, at ["do_wp_page"],
        by [fentry wp_fault_fentry, kprobe wp_fault_kprobe] => causes::wp_fault,
        fires Always(WriteArmed),
        under Pte,
        without "who writes";
    huge_fault: Causes, at ["handle_userfault"],
        by [kprobe huge_fault_kprobe, fentry huge_fault_fentry] => causes::huge_fault,
        fires Always(WriteArmed),
        without "who writes to a huge page that a handler answers for";
    hugetlb_write: Causes, at ["hugetlb_fault"],
        by [kprobe hugetlb_write_kprobe, fentry hugetlb_write_fentry]
            => causes::hugetlb_write,
        fires Always(Hugetlb),
        without "who writes to hugetlb memory";
    huge_split: Causes, at ["__split_huge_pmd"],
        by [kprobe huge_split_kprobe] => causes::huge_split,
        fires Always(HugePage),
        only [HugePages],
        without "huge pages of files that lose all their bits at once";
    huge_unmapped: Causes, at ["split_huge_pmd_locked"],
        by [kprobe huge_unmapped_kprobe] => causes::huge_unmapped,
        fires Perhaps(HugePage),
        only [HugePages, WhereFound],
        without "huge pages of files that reclaim takes";
    huge_emptied: Causes, at ["zap_huge_pmd"],
        by [kprobe huge_emptied_kprobe, fentry huge_emptied_fentry]
            => causes::huge_emptied,
        fires Always(HugePage),
        only [HugePages],
        without "huge pages of files that are emptied, and leave no markers";
    emptied: Causes, at ["unmap_page_range", "__zap_vma_range"],
        by [kprobe emptied_kprobe, fentry emptied_fentry] => causes::emptied,
        fires Always(Drop),
        without "who empties memory";
    emptied_exit: Causes, at ["unmap_page_range", "__zap_vma_range"],
        by [fexit emptied_exit_fexit] => causes::emptied_exit,
        fires Always(Drop),
        with Both(emptied),
        without "when memory has been emptied: a write during that may be taken for one \
                 after it";
    hugetlb_emptied: Causes, at ["__unmap_hugepage_range"],
        by [kprobe hugetlb_emptied_kprobe, fentry hugetlb_emptied_fentry]
            => causes::hugetlb_emptied,
        fires Always(Hugetlb),
        without "who empties hugetlb memory";
    hugetlb_emptied_exit: Causes, at ["__unmap_hugepage_range"],
        by [fexit hugetlb_emptied_exit_fexit] => causes::hugetlb_emptied_exit,
        fires Always(Hugetlb),
        with Both(hugetlb_emptied),
        without "when hugetlb memory has been emptied";
    freed: Causes, at ["madvise_free_pte_range"],
        by [kprobe freed_kprobe, fentry freed_fentry] => causes::freed,
        fires Always(Free),
        without "pages in swap that MADV_FREE gives up";
    reclaimed: Causes, at ["try_to_unmap_one"],
        by [kprobe reclaimed_kprobe, fentry reclaimed_fentry] => causes::reclaimed,
        fires Perhaps(Reclaim),
        without "pages that MADV_FREE gave up and reclaim took";
    ksm: Causes, at ["ksm:ksm_merge_with_ksm_page"],
        by [tracepoint ksm_tracepoint] => causes::ksm,
        fires Never("KSM merges pages in its own time"),
        only [Ksm, WhereFound],
        without "pages that KSM merges";
    ksm_zero: Causes, at ["ksm:ksm_merge_one_page"],
        by [tracepoint ksm_zero_tracepoint] => causes::ksm_zero,
        fires Never("KSM merges pages in its own time"),
        only [Ksm, WhereFound],
        without "pages that KSM merges with the zero page";
    ksm_merge: Causes, at ["try_to_merge_one_page"],
        by [fexit ksm_merge_fexit] => causes::ksm_merge,
        fires Never("KSM merges pages in its own time"),
        with Instead(ksm), only [Ksm],
        without "pages that KSM merges";
    guard_install: Causes, at ["guard_install_set_pte"],
        by [kprobe guard_install_kprobe, fentry guard_install_fentry]
            => causes::guard_install,
        fires Always(Guard),
        only [GuardPages],
        without "guard pages that are installed";
    guard_remove: Causes, at ["guard_remove_pte_entry"],
        by [kprobe guard_remove_kprobe, fentry guard_remove_fentry]
            => causes::guard_remove,
        fires Always(Guard),
        only [GuardPages],
        without "guard pages that are removed";
    moved: Causes, at ["move_page_tables"],
        by [kprobe moved_kprobe, fentry moved_fentry] => causes::moved,
        fires Always(Move),
        without "what mremap moves";
    forked: Causes, at ["copy_page_range"],
        by [kprobe forked_kprobe, fentry forked_fentry] => causes::forked,
        fires Always(Fork),
        without "when the process forks";
    unregistered: Causes, at ["userfaultfd_clear_vma"],
        by [kprobe unregistered_kprobe, fentry unregistered_fentry]
            => causes::unregistered,
        fires Always(Unregister),
        only [WhereFound],
        without "what is unregistered";
    uffd_command: Causes, at ["userfaultfd_ioctl"],
        by [kprobe uffd_command_kprobe, fentry uffd_command_fentry]
            => causes::uffd_command,
        fires Always(Arm),
        without "what UFFDIO_MOVE moves, and on older kernels what is unregistered";
    watch_end: Causes, at ["__mmdrop"],
        by [kprobe watch_end_kprobe, fentry watch_end_fentry] => watch::ended,
        fires Perhaps(Fork),
        without "the end of a process, until it is not watched any more";
    watch: Discovery, at ["bpf_iter_task"],
        by [iterator watch "iter/task"] => watch::watch,
        fires Never("it runs whenever a process is to be watched, and says when it fails"),
        without "everything: no process can be watched";

    // Calls of trackers

    scan_call: Calls, at ["do_pagemap_scan"],
        by [kprobe scan_call_kprobe, fentry scan_call_fentry] => calls::scan_begins,
        fires Always(Scan),
        with Both(scan_call_exit), only [PagemapScan],
        without "which trackers scan, and what they ask for";
    scan_call_exit: Calls, at ["do_pagemap_scan"],
        by [fexit scan_call_exit_fexit, kretprobe scan_call_exit_kretprobe]
            => calls::call_ends,
        fires Always(Scan),
        with Both(scan_call), only [PagemapScan],
        without "which trackers scan, and what they ask for";
    pagemap_call: Calls, at ["pagemap_read"],
        by [kprobe pagemap_call_kprobe, fentry pagemap_call_fentry]
            => calls::pagemap_begins,
        fires Always(ReadPagemap),
        with Both(pagemap_call_exit),
        without "which trackers read /proc/PID/pagemap";
    pagemap_call_exit: Calls, at ["pagemap_read"],
        by [fexit pagemap_call_exit_fexit, kretprobe pagemap_call_exit_kretprobe]
            => calls::call_ends,
        fires Always(ReadPagemap),
        with Both(pagemap_call),
        without "which trackers read /proc/PID/pagemap";
    clear_refs_call: Calls, at ["clear_refs_write"],
        by [kprobe clear_refs_call_kprobe, fentry clear_refs_call_fentry]
            => calls::clear_refs_begins,
        fires Always(ClearRefs),
        with Both(clear_refs_call_exit),
        without "which trackers clear soft-dirty bits";
    clear_refs_call_exit: Calls, at ["clear_refs_write"],
        by [fexit clear_refs_call_exit_fexit, kretprobe clear_refs_call_exit_kretprobe]
            => calls::call_ends,
        fires Always(ClearRefs),
        with Both(clear_refs_call),
        without "which trackers clear soft-dirty bits";
    uffd_call: Calls, at ["userfaultfd_ioctl"],
        by [kprobe uffd_call_kprobe, fentry uffd_call_fentry] => calls::uffd_begins,
        fires Always(Arm),
        with Both(uffd_call_exit),
        without "which trackers register, arm and resolve";
    uffd_call_exit: Calls, at ["userfaultfd_ioctl"],
        by [fexit uffd_call_exit_fexit, kretprobe uffd_call_exit_kretprobe]
            => calls::call_ends,
        fires Always(Arm),
        with Both(uffd_call),
        without "which trackers register, arm and resolve";
    handler_wait: Calls, at ["handle_userfault"],
        by [kprobe handler_wait_kprobe, fentry handler_wait_fentry] => calls::wait_begins,
        fires Always(WriteArmed),
        with Both(handler_wait_exit),
        without "which threads wait for a handler";
    handler_wait_exit: Calls, at ["handle_userfault"],
        by [fexit handler_wait_exit_fexit, kretprobe handler_wait_exit_kretprobe]
            => calls::wait_ends,
        fires Always(WriteArmed),
        with Both(handler_wait),
        without "which threads wait for a handler";

    // Where no function can be hooked

    user_fault: Observed, at ["exceptions:page_fault_user"],
        by [tracepoint user_fault_tracepoint] => observed::user_fault,
        fires Always(Touch),
        with Instead(wp_fault),
        without "the threads that write";
    kernel_fault: Observed, at ["exceptions:page_fault_kernel"],
        by [tracepoint kernel_fault_tracepoint] => observed::kernel_fault,
        fires Always(WriteArmed),
        with Instead(wp_fault),
        without "the system calls that write to the memory of their process";
    syscall: Observed, at ["raw_syscalls:sys_exit"],
        by [tracepoint syscall_tracepoint] => observed::syscall,
        fires Always(Free),
        with Instead(wp_fault),
        without "the system calls that empty, move or unregister memory";
}

/// What the strategy `fault-time` sees of watched address spaces, at the moment at which page
/// tables forget it. Without any of these the strategy is refused.
FAULT_TIME_HOOKS {
    file_write: FaultTime, at ["do_wp_page"],
        by [fentry file_write_fentry, kprobe file_write_kprobe] => fault_time::file_write,
        fires Always(WriteArmed),
        under Pte,
        without "writes to shared memory that was only read";
    file_mapped: FaultTime, at ["set_pte_range"],
        by [fentry file_mapped_fentry, kprobe file_mapped_kprobe] => fault_time::file_mapped,
        fires Never("nothing that is tried maps pages of files"),
        under Pte,
        without "whether shared memory was first read or first written";
    huge_mapped: FaultTime, at ["do_set_pmd"],
        by [fexit huge_mapped_fexit] => fault_time::huge_mapped,
        fires Never("nothing that is tried maps huge pages of files"),
        only [HugePages],
        without "first writes to huge pages of shared memory";
    filled: FaultTime, at ["mfill_atomic_install_pte"],
        by [fexit filled_fexit] => fault_time::filled,
        fires Never("nothing that is tried fills pages"),
        without "what UFFDIO_COPY and UFFDIO_CONTINUE of others map";
    private_emptied: FaultTime, at ["unmap_page_range", "__zap_vma_range"],
        by [kprobe private_emptied_kprobe, fentry private_emptied_fentry]
            => fault_time::emptied,
        fires Always(Drop),
        with Both(private_emptied_exit),
        without "private memory that is emptied";
    private_emptied_exit: FaultTime, at ["unmap_page_range", "__zap_vma_range"],
        by [fexit private_emptied_exit_fexit] => fault_time::emptied_exit,
        fires Always(Drop),
        with Both(private_emptied),
        without "when private memory has been emptied";
    swap_freed: FaultTime, at ["madvise_free_pte_range"],
        by [kprobe swap_freed_kprobe, fentry swap_freed_fentry] => fault_time::swap_freed,
        fires Always(Free),
        with Both(swap_freed_exit),
        without "pages in swap that MADV_FREE gives up";
    swap_freed_exit: FaultTime, at ["madvise_free_pte_range"],
        by [fexit swap_freed_exit_fexit] => fault_time::swap_freed_exit,
        fires Always(Free),
        with Both(swap_freed),
        without "when MADV_FREE has given them up";
    free_reclaimed: FaultTime, at ["try_to_unmap_one"],
        by [fexit free_reclaimed_fexit] => fault_time::free_reclaimed,
        fires Perhaps(Reclaim),
        without "pages that MADV_FREE gave up and reclaim took";
    replaced: FaultTime, at ["folio_remove_rmap_ptes"],
        by [fentry replaced_fentry, kprobe replaced_kprobe] => fault_time::replaced,
        fires Always(Drop),
        under Pte,
        without "private memory that is emptied while the kernel replaces its page";
    hides: FaultTime, at ["change_protection"],
        by [kprobe hides_kprobe, fentry hides_fentry] => fault_time::hides,
        fires Always(Arm),
        with Both(hides_exit),
        without "private memory that is emptied while the kernel changes its protection";
    hides_exit: FaultTime, at ["change_protection"],
        by [fexit hides_exit_fexit] => fault_time::hides_exit,
        fires Always(Arm),
        with Both(hides),
        without "private memory that is emptied while the kernel changes its protection";
    split_to_zero: FaultTime, at ["remove_migration_pte"],
        by [kprobe split_to_zero_kprobe, fentry split_to_zero_fentry]
            => fault_time::split_to_zero,
        fires Never("nothing that is tried splits huge pages"),
        with Both(split_to_zero_exit),
        only [SplitsToZero],
        without "the zero page in the place of pages of a huge page";
    split_to_zero_exit: FaultTime, at ["remove_migration_pte"],
        by [fexit split_to_zero_exit_fexit] => fault_time::split_to_zero_exit,
        fires Never("nothing that is tried splits huge pages"),
        with Both(split_to_zero),
        only [SplitsToZero],
        without "the zero page in the place of pages of a huge page";
    moved_away: FaultTime, at ["move_page_tables"],
        by [kprobe moved_away_kprobe, fentry moved_away_fentry] => fault_time::moved_away,
        fires Always(Move),
        with Both(moved_away_exit),
        without "private memory that mremap moves away";
    moved_away_exit: FaultTime, at ["move_page_tables"],
        by [fexit moved_away_exit_fexit] => fault_time::moved_away_exit,
        fires Always(Move),
        with Both(moved_away),
        without "when mremap has moved it away";
    uffd_moved_away: FaultTime, at ["userfaultfd_ioctl"],
        by [kprobe uffd_moved_away_kprobe, fentry uffd_moved_away_fentry]
            => fault_time::uffd_moved_away,
        fires Always(Arm),
        with Both(uffd_moved_away_exit),
        without "private memory that UFFDIO_MOVE moves away";
    uffd_moved_away_exit: FaultTime, at ["userfaultfd_ioctl"],
        by [fexit uffd_moved_away_exit_fexit] => fault_time::uffd_moved_away_exit,
        fires Always(Arm),
        with Both(uffd_moved_away),
        without "when UFFDIO_MOVE has moved it away";
    fault_time_end: FaultTime, at ["__mmdrop"],
        by [kprobe fault_time_end_kprobe, fentry fault_time_end_fentry] => watch::ended,
        fires Perhaps(Fork),
        without "the end of a process, until it is not tracked any more";
    fault_time_watch: Discovery, at ["bpf_iter_task"],
        by [iterator fault_time_watch "iter/task"] => watch::watch,
        fires Never("it runs whenever a process is to be watched, and says when it fails"),
        without "everything: no process can be tracked";
}

} } }
