//! Numbers of the kernel, each once, under the name that its header gives it. x86-64 only.

// include/linux/mm_types.h
/// The access is a write.
pub const FAULT_FLAG_WRITE: u32 = 0x1;
/// The fault may drop its lock and be tried again.
pub const FAULT_FLAG_ALLOW_RETRY: u32 = 0x4;
/// It must not wait.
pub const FAULT_FLAG_RETRY_NOWAIT: u32 = 0x8;
/// It comes from user mode.
pub const FAULT_FLAG_USER: u32 = 0x40;
/// It is in an address space that is not the task's own.
pub const FAULT_FLAG_REMOTE: u32 = 0x80;
/// A signal may interrupt it.
pub const FAULT_FLAG_INTERRUPTIBLE: u32 = 0x200;
/// It only makes a shared page the task's own, and writes nothing.
pub const FAULT_FLAG_UNSHARE: u32 = 0x400;

// include/linux/mm.h
/// Others can map the same pages.
pub const VM_SHARED: u64 = 0x8;
/// A driver's memory without `struct page`.
pub const VM_PFNMAP: u64 = 0x400;
/// Registered for write protection. Also the reason that `handle_userfault` is called with.
pub const VM_UFFD_WP: u64 = 0x1000;
/// hugetlb memory.
pub const VM_HUGETLB: u64 = 0x40_0000;
/// A driver's memory, with and without `struct page`.
pub const VM_MIXEDMAP: u64 = 0x1000_0000;
/// Markers are dropped too.
pub const ZAP_FLAG_DROP_MARKER: u32 = 0x1;

// include/linux/page-flags.h
/// The low bit of `mapping` of an anonymous page.
pub const PAGE_MAPPING_ANON: u64 = 0x1;
/// The low bits of `mapping` of a page that KSM shares.
pub const PAGE_MAPPING_KSM: u64 = 0x3;

// include/linux/sched.h
/// The task is exiting.
pub const PF_EXITING: u32 = 0x4;
/// A worker of io_uring.
pub const PF_IO_WORKER: u32 = 0x10;
/// The task is dumping core.
pub const PF_DUMPCORE: u32 = 0x200;
/// A kernel thread.
pub const PF_KTHREAD: u32 = 0x20_0000;

// include/uapi/linux/userfaultfd.h
/// Faults raise SIGBUS instead of queueing a message.
pub const UFFD_FEATURE_SIGBUS: u32 = 1 << 7;
/// Empty entries of anonymous memory get markers.
pub const UFFD_FEATURE_WP_UNPOPULATED: u32 = 1 << 13;
/// The kernel answers write-protect faults itself.
pub const UFFD_FEATURE_WP_ASYNC: u32 = 1 << 15;
/// A flag of userfaultfd(2): only faults from user mode are handled.
pub const UFFD_USER_MODE_ONLY: u32 = 1;
/// Commands of ioctl(2).
pub const UFFDIO_REGISTER: u32 = 0xc020_aa00;
/// See [`UFFDIO_REGISTER`].
pub const UFFDIO_UNREGISTER: u32 = 0x8010_aa01;
/// See [`UFFDIO_REGISTER`].
pub const UFFDIO_COPY: u32 = 0xc028_aa03;
/// See [`UFFDIO_REGISTER`].
pub const UFFDIO_ZEROPAGE: u32 = 0xc020_aa04;
/// See [`UFFDIO_REGISTER`].
pub const UFFDIO_MOVE: u32 = 0xc028_aa05;
/// See [`UFFDIO_REGISTER`].
pub const UFFDIO_WRITEPROTECT: u32 = 0xc018_aa06;
/// See [`UFFDIO_REGISTER`].
pub const UFFDIO_CONTINUE: u32 = 0xc020_aa07;
/// See [`UFFDIO_REGISTER`].
pub const UFFDIO_POISON: u32 = 0xc020_aa08;
/// In `uffdio_register.mode`.
pub const UFFDIO_REGISTER_MODE_WP: u64 = 1 << 1;
/// In `uffdio_writeprotect.mode`: arms; without it the range is disarmed.
pub const UFFDIO_WRITEPROTECT_MODE_WP: u64 = 1 << 0;
/// In `uffdio_copy.mode`: the page comes armed.
pub const UFFDIO_COPY_MODE_WP: u64 = 1 << 1;
/// In `uffdio_continue.mode`: the same.
pub const UFFDIO_CONTINUE_MODE_WP: u64 = 1 << 1;

// include/uapi/linux/fs.h
/// In `pm_scan_arg.flags`: arms the pages that it finds.
pub const PM_SCAN_WP_MATCHING: u64 = 1 << 0;

// include/uapi/linux/magic.h
/// `s_magic` of tmpfs, which shared anonymous memory lies on, too.
pub const TMPFS_MAGIC: u64 = 0x0102_1994;

// include/uapi/asm-generic/mman-common.h
/// Advice of madvise(2).
pub const MADV_DONTNEED: u64 = 4;
/// See [`MADV_DONTNEED`].
pub const MADV_FREE: u64 = 8;
/// See [`MADV_DONTNEED`].
pub const MADV_POPULATE_WRITE: u64 = 23;
/// See [`MADV_DONTNEED`].
pub const MADV_DONTNEED_LOCKED: u64 = 24;
/// See [`MADV_DONTNEED`].
pub const MADV_GUARD_INSTALL: u64 = 102;
/// See [`MADV_DONTNEED`].
pub const MADV_GUARD_REMOVE: u64 = 103;

// arch/x86/include/asm/pgtable_types.h
/// The entry points to a page or table.
pub const PAGE_PRESENT: u64 = 1 << 0;
/// No page of its own: in anonymous memory, the zero page (`pte_mkspecial`).
pub const PAGE_SPECIAL: u64 = 1 << 9;
/// The page can be written.
pub const PAGE_RW: u64 = 1 << 1;
/// In an entry that is not present: the uffd-wp bit.
pub const PAGE_SWP_UFFD_WP: u64 = 1 << 2;
/// The CPU has used the page.
pub const PAGE_ACCESSED: u64 = 1 << 5;
/// The CPU has written to the page.
pub const PAGE_DIRTY: u64 = 1 << 6;
/// The entry is a huge page.
pub const PAGE_PSE: u64 = 1 << 7;
/// In an entry that is present: the uffd-wp bit.
pub const PAGE_UFFD_WP: u64 = 1 << 10;
/// The physical address in an entry (52 bits).
pub const PTE_PFN_MASK: u64 = 0x000f_ffff_ffff_f000;
/// What `pte_none` ignores: a CPU erratum sets these bits in empty entries.
pub const PTE_NONE_IGNORES: u64 = PAGE_ACCESSED | PAGE_DIRTY;

// arch/x86/include/asm/page_types.h, pgtable_64_types.h
/// What a pte spans, as a shift.
pub const PAGE_SHIFT: u64 = 12;
/// What a pte spans.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// What a PMD entry spans, as a shift.
pub const PMD_SHIFT: u64 = 21;
/// What a PMD entry spans.
pub const PMD_SIZE: u64 = 1 << PMD_SHIFT;
/// What a PGD entry spans with 4 levels of tables, as a shift.
pub const PGDIR_SHIFT_L4: u64 = 39;
/// What a PGD entry spans with 5 levels of tables, as a shift.
pub const PGDIR_SHIFT_L5: u64 = 48;
/// Entries of a table at any level.
pub const PTRS_PER_TABLE: u64 = 512;
/// Where physical memory is mapped with 4 levels, without CONFIG_RANDOMIZE_MEMORY.
pub const PAGE_OFFSET_BASE_L4: u64 = 0xffff_8880_0000_0000;
/// With 4 levels, the kernel's half of the address space begins here.
pub const KERNEL_HALF_L4: u64 = 0xffff_8000_0000_0000;

// arch/x86/include/asm/trap_pf.h
/// The error code of a page fault: the page is there.
pub const X86_PF_PROT: u64 = 1 << 0;
/// The error code of a page fault: a write.
pub const X86_PF_WRITE: u64 = 1 << 1;
/// The error code of a page fault: from user mode.
pub const X86_PF_USER: u64 = 1 << 2;

/// Numbers of system calls (arch/x86/entry/syscalls/syscall_64.tbl).
#[allow(missing_docs, reason = "they are the calls of that name")]
pub mod syscall {
    pub const MMAP: u64 = 9;
    pub const MUNMAP: u64 = 11;
    pub const BRK: u64 = 12;
    pub const IOCTL: u64 = 16;
    pub const MREMAP: u64 = 25;
    pub const MADVISE: u64 = 28;
    pub const CLONE: u64 = 56;
    pub const FORK: u64 = 57;
    pub const VFORK: u64 = 58;
    pub const MLOCK: u64 = 149;
    pub const MLOCKALL: u64 = 151;
    pub const PROCESS_VM_WRITEV: u64 = 311;
    pub const MLOCK2: u64 = 325;
    pub const IO_URING_REGISTER: u64 = 427;
    pub const CLONE3: u64 = 435;
}
