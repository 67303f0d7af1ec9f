//! Calls of trackers: what `explain` reads from a ring buffer of its own, so that a flood of page
//! faults loses none.

use crate::{COMM_LEN, FRAMES, numbered::numbered};

numbered! {
    /// What a tracker does to an address space, or what it makes a thread do. A kind is one line;
    /// which hooks tell it is in docs/hooks.md. [`CallRecord::words`] are the struct that the call
    /// is given, as it is when the call returns.
    pub enum CallKind {
        /// `do_pagemap_scan`. Words: `struct pm_scan_arg`.
        Scan = "PAGEMAP_SCAN",
        /// Words: `struct uffdio_register`.
        Register = "UFFDIO_REGISTER",
        /// Words: `struct uffdio_range`.
        Unregister = "UFFDIO_UNREGISTER",
        /// Words: `struct uffdio_writeprotect`.
        WriteProtect = "UFFDIO_WRITEPROTECT",
        /// Words: `struct uffdio_copy`.
        Copy = "UFFDIO_COPY",
        /// Words: `struct uffdio_zeropage`.
        ZeroPage = "UFFDIO_ZEROPAGE",
        /// Words: `struct uffdio_continue`.
        Continue = "UFFDIO_CONTINUE",
        /// Words: `struct uffdio_poison`.
        Poison = "UFFDIO_POISON",
        /// Words: `struct uffdio_move`.
        Move = "UFFDIO_MOVE",
        /// `pagemap_read`. Words: the position in `/proc/PID/pagemap` at which it begins, and the
        /// length that is asked for; [`CallRecord::result`] is the length that was read.
        Pagemap = "read of pagemap",
        /// `clear_refs_write`. Words: the first 8 bytes of what is written to
        /// `/proc/PID/clear_refs`, and its length.
        ClearRefs = "write to clear_refs",
        /// A thread waits for a handler (`handle_userfault`). Words: the address, the flags of the
        /// fault (`FAULT_FLAG_*`), the reason (`VM_UFFD_*`).
        Wait = "handle_userfault",
    }
}

/// Words of the longest struct that a call is given: `struct pm_scan_arg`.
pub const CALL_WORDS: usize = 12;

/// One call that has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CallRecord {
    /// When it began: CLOCK_MONOTONIC, in nanoseconds.
    pub began: u64,
    /// When it returned.
    pub ended: u64,
    /// What it returned; negative: an error.
    pub result: u64,
    /// What it was given, see [`CallKind`]; the rest is zero, and all of it if it cannot be read.
    pub words: [u64; CALL_WORDS],
    /// Where the thread is in user space.
    pub instruction: u64,
    /// See [`crate::EventHead::top`].
    pub top: u64,
    /// [`CallKind`] as a number.
    pub kind: u32,
    /// The watched address space that it is about.
    pub watch: u32,
    /// The process that made it.
    pub tgid: u32,
    /// The thread that made it.
    pub tid: u32,
    /// The CPU on which it returned.
    pub cpu: u32,
    /// Features of the userfaultfd (`UFFD_FEATURE_*`); 0 if it is about none.
    pub features: u32,
    /// The system call that the thread is in, or [`crate::NO_SYSCALL`].
    pub syscall: u32,
    /// Frames of the user stack.
    pub user_frames: u32,
    /// The thread's name.
    pub comm: [u8; COMM_LEN],
    /// The user stack; frames beyond [`Self::user_frames`] are garbage.
    pub user: [u64; FRAMES],
}

#[cfg(feature = "user")]
// SAFETY: repr(C), no padding, any bits are one.
unsafe impl bytemuck::Zeroable for CallRecord {}
#[cfg(feature = "user")]
// SAFETY: as above.
unsafe impl bytemuck::Pod for CallRecord {}

const _: () =
    assert!(size_of::<CallRecord>() == (3 + CALL_WORDS + 2 + FRAMES) * 8 + 8 * 4 + COMM_LEN);
