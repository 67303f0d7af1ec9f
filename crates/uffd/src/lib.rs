//! Write protection with userfaultfd(2), and what `/proc` tells about it: which pages of a process
//! were written, and who watches that.
//!
//! The kernel can protect pages against writing and note, or report, each first write. This crate
//! wraps the system calls for that, for this process and for any other one that may be traced:
//!
//! | to | there is |
//! |---|---|
//! | register memory, protect ("arm") it, answer faults | [`Userfaultfd`], [`UffdMessage`] |
//! | ask what was written, and arm it in the same step | [`Pagemap::scan`], [`ScanQuery`] |
//! | look at single pages | [`Pagemap::read`], [`PagemapEntry`] |
//! | count armed and written pages without disturbing who tracks them | [`PageCounter`] |
//! | find who uses userfaultfd | [`smaps()`], [`VmFlags::uffd_wp`], [`userfaultfds`] |
//! | read memory, or have it mapped | [`MemoryFile`] |
//! | know what a mapping consists of | [`ProcVma::backing`], [`ShmemDevices`], [`HugetlbDevices`] |
//! | know what this kernel really does | [`self_test`], [`KernelBehaviour`] |
//! | have it do something, to see who sees it | [`KernelExercise`] |
//!
//! # Example
//!
//! Which pages are written, told by the kernel alone: no handler, no fault that anybody waits for.
//!
//! ```
//! use uffd::{
//!     PAGE_SIZE, PageRegion, Pagemap, RegisterMode, ScanQuery, ScratchMapping, UffdError,
//!     UffdFeatures, Userfaultfd,
//! };
//!
//! fn main() -> Result<(), UffdError> {
//!     // For faults of user code only, which takes no privilege.
//!     let Ok(uffd) = Userfaultfd::open_user_mode_only() else {
//!         eprintln!("skipped: this process may not use userfaultfd(2)");
//!         return Ok(());
//!     };
//!     if !UffdFeatures::offered()?.is_async() {
//!         eprintln!("skipped: this kernel is older than 6.7");
//!         return Ok(());
//!     }
//!     uffd.enable(UffdFeatures::WP_ASYNC)?;
//!
//!     let memory = ScratchMapping::anonymous(16 * PAGE_SIZE)?;
//!     uffd.register(&memory.range(), RegisterMode::WP)?;
//!     uffd.arm(&memory.range())?;
//!     memory.write(3);
//!     memory.write(4);
//!
//!     let (mut written, mut buffer) = (Vec::new(), [PageRegion::default(); 512]);
//!     Pagemap::own()?.scan(
//!         &memory.range(),
//!         &ScanQuery::WRITTEN_AND_ARM,
//!         &mut buffer,
//!         |region| written.push(region.range()),
//!     )?;
//!     let page = |number| memory.range().start + number * PAGE_SIZE;
//!     assert_eq!(written, [page(3)..page(5)]);
//!     Ok(())
//! }
//! ```
//!
//! # Kernels
//!
//! x86-64, and Linux 5.7 or newer for write protection of anonymous memory. What came later is
//! documented at each item:
//!
//! | since | |
//! |---|---|
//! | 5.19 | write protection of shmem and hugetlb ([`UffdFeatures::WP_HUGETLBFS_SHMEM`]) |
//! | 6.1 | `/dev/userfaultfd`, which [`Userfaultfd::open`] falls back on |
//! | 6.4 | protection of anonymous pages that are not there ([`UffdFeatures::WP_UNPOPULATED`]) |
//! | 6.7 | faults that the kernel resolves itself ([`UffdFeatures::WP_ASYNC`]) |
//! | 6.7 | `PAGEMAP_SCAN` ([`Pagemap::scan`]) |
//! | 6.8 | `UFFDIO_MOVE` ([`Userfaultfd::move_pages`]) |
//! | 6.13 | guard pages ([`ScratchMapping::install_guards`]) |
//!
//! A version is a promise and no fact: distributions carry changes back. [`self_test`] tries.
//!
//! # Processes end
//!
//! A process may end, or execute another program, while it is looked at. Every function that looks
//! at one answers [`UffdError::Gone`] then; [`unless_gone`] makes that an ordinary answer.
//!
//! # Safety
//!
//! Every ioctl of userfaultfd and pagemap, and every system call here that takes an address, is
//! wrapped where it stands. Safe functions change no memory that a Rust reference could point to
//! ([`ScratchMapping`] gives none out), unsafe ones say what their caller promises. Files of
//! `/proc` are parsed as bytes by pure functions: paths and names of threads need not be UTF-8.
//! Nothing is logged or printed.

#![warn(missing_docs, unreachable_pub)]
#![warn(clippy::missing_errors_doc, clippy::missing_safety_doc)]

mod abi;
mod address_space;
mod backing;
mod behaviour;
mod count;
mod cpu_clock;
mod error;
mod exercise;
mod fd;
mod fdinfo;
mod features;
mod memory;
mod message;
mod opened;
mod pagemap;
mod perf_ring;
mod presence;
mod privilege;
mod process;
mod rollup;
mod scan;
mod scratch;
mod smaps;
mod tracefs;

use std::ops::Range;

pub use address_space::AddressSpace;
pub use backing::{Backing, HugetlbDevices, ShmemDevices};
pub use behaviour::{HugetlbPool, KernelBehaviour, WrittenMeaning, self_test};
pub use count::{CountMethod, CountPlace, CountProgress, PageCount, PageCounter};
pub use cpu_clock::cpu_time;
pub use error::{OtherPidNamespace, ProcessGone, UffdError, unless_gone, unless_unseen};
pub use exercise::{KernelExercise, on_this_cpu, prevent_preemption};
pub use fd::{RegisterMode, Userfaultfd};
pub use fdinfo::{HeldUffd, userfaultfds};
pub use features::UffdFeatures;
pub use memory::MemoryFile;
pub use message::UffdMessage;
pub use opened::{CreatedUffd, CreationSight, UffdCreations};
pub use pagemap::{Pagemap, PagemapEntry};
pub use presence::{
    boot_time_offset_ns, check_pid_namespace, is_in_initial_pid_namespace, number_in_proc,
    own_pid_in_proc, proc_shows_initial_pids, proc_shows_our_pids, thread_with_memory,
};
pub use privilege::{Capability, Privilege, UserNamespace};
pub use process::{
    ProcessStat, ResidentMemory, arguments, cgroup_path, clear_soft_dirty, comm, page_table_bytes,
    pids_of, real_uid, resident_memory, stat,
};
pub use rollup::anon_huge_bytes;
pub use scan::{ArmOutcome, PageCategories, PageRegion, ScanOutcome, ScanQuery};
pub use scratch::ScratchMapping;
pub use smaps::{MapsFile, ProcVma, VmFlags, maps, smaps};

/// The unit of every page number here: 4 KiB, the base page of x86-64.
pub const PAGE_SIZE: u64 = 4096;
/// What one pte table maps, and the size of a PMD huge page: 2 MiB.
pub const PMD_SIZE: u64 = 2 << 20;

/// How many 4 KiB pages an address range touches.
#[must_use]
pub fn pages_in(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start).div_ceil(PAGE_SIZE)
}

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
