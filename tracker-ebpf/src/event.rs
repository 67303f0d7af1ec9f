//! Events of watched address spaces: what `explain` reads from the ring buffer.

use crate::{COMM_LEN, numbered::numbered};

numbered! {
    /// What happened to pages, and takes or may take the uffd-wp bit off them. A kind is one line;
    /// which hooks tell it is in docs/hooks.md.
    pub enum EventKind {
        /// A write found an armed page (`do_wp_page`, `handle_userfault`, `hugetlb_fault`). `flags`
        /// are those of the fault (`FAULT_FLAG_*`), which say who wrote. The range is the 4 KiB
        /// page that was written, also in a huge page.
        Fault,
        /// The kernel gave up an armed huge page of a file, and every bit in it
        /// (`__split_huge_pmd`, `zap_huge_pmd`). `flags` is [`HUGE_SPLIT_BY_WRITE`] if a write was
        /// the cause, and `address` is where it wrote; otherwise `address` is where the kernel
        /// began.
        HugeSplit,
        /// A range is about to be emptied (`unmap_page_range`): its armed anonymous pages go, and
        /// with `ZAP_FLAG_DROP_MARKER` in `flags` its markers too.
        Zap,
        /// A range has been emptied: the end of a [`EventKind::Zap`].
        Zapped,
        /// Reclaim takes pages that `MADV_FREE` gave up (`try_to_unmap_one`).
        Reclaim,
        /// KSM has merged a page with another (`ksm_merge_with_ksm_page`, `ksm_merge_one_page`).
        Ksm,
        /// Guard pages are installed or removed (`guard_install_set_pte`,
        /// `guard_remove_pte_entry`).
        Guard,
        /// mremap(2) moves page tables; `address` is where the range was.
        Move,
        /// fork(2) copies this range of the parent (`copy_page_range`).
        Fork,
        /// A range is unregistered, or its userfaultfd is closed (`userfaultfd_clear_vma`,
        /// UFFDIO_UNREGISTER).
        Unregister,
        /// UFFDIO_MOVE puts pages here; `address` is where they came from.
        UffdMove,
        /// Only where no function can be hooked: a page fault as the hardware reports it
        /// (`exceptions:page_fault_user`, `page_fault_kernel`). `flags` is the error code.
        HardwareFault,
        /// Only where no function can be hooked: a system call has returned. `syscall` says which,
        /// `start` and `length` are its first two arguments, `address` is its third, and `result`
        /// what it returned.
        Syscall,
        /// `MADV_FREE` of a range (`madvise_free_pte_range`): its pages in swap are gone, and their
        /// bits with them.
        Free,
    }
}

/// One more than the address spaces that can be watched at once: their ids start at 1.
pub const WATCHES: u32 = 256;

/// Events of one watch that did not fit into the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EventDrops {
    /// How many there were.
    pub count: u64,
    /// When the first one was: CLOCK_MONOTONIC, in nanoseconds.
    pub first: u64,
    /// When the last one was.
    pub last: u64,
}

/// [`EventHead::flags`] of a [`EventKind::HugeSplit`] that a write caused.
pub const HUGE_SPLIT_BY_WRITE: u32 = 1;

/// Frames that are kept of a user stack, and of a kernel stack.
pub const FRAMES: usize = 32;
/// [`EventHead::syscall`] outside of system calls.
pub const NO_SYSCALL: u32 = u32::MAX;

/// One event. In the ring [`FRAMES`] user frames follow it and, unless `kernel_frames` is 0,
/// [`FRAMES`] kernel frames. Frames beyond the number that it tells are garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EventHead {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
    /// First address of the pages it is about.
    pub start: u64,
    /// Length of the range in bytes.
    pub length: u64,
    /// A second address, see [`EventKind`]; else 0.
    pub address: u64,
    /// What a system call returned; else 0.
    pub result: u64,
    /// Where the current thread is in user space; 0 for a kernel thread.
    pub instruction: u64,
    /// The word on top of its stack there, which is where a function returns to that has set up no
    /// frame; 0 if it cannot be read.
    pub top: u64,
    /// [`EventKind`] as a number.
    pub kind: u32,
    /// `FAULT_FLAG_*`, or what [`EventKind`] says.
    pub flags: u32,
    /// The watched address space that it is about.
    pub watch: u32,
    /// The current process.
    pub tgid: u32,
    /// The current thread.
    pub tid: u32,
    /// The system call that the thread is in, or [`NO_SYSCALL`].
    pub syscall: u32,
    /// Frames of the user stack that follow.
    pub user_frames: u32,
    /// Frames of the kernel stack that follow.
    pub kernel_frames: u32,
    /// The current thread's name.
    pub comm: [u8; COMM_LEN],
}

#[cfg(feature = "user")]
// SAFETY: repr(C), no padding, any bits are one.
unsafe impl bytemuck::Zeroable for EventHead {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for EventHead {}

#[cfg(feature = "user")]
// SAFETY: repr(C), u64 only, no padding.
unsafe impl bytemuck::Zeroable for EventDrops {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for EventDrops {}

const _: () = assert!(size_of::<EventHead>() == 7 * 8 + 8 * 4 + COMM_LEN);
