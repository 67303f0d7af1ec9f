//! userfaultfd, pagemap and the `/proc` files about them: what the kernel says, as data.
//!
//! The leaf of the project. The only unsafe system calls are here, each wrapped where it stands; all
//! parsing is pure over bytes, because paths and thread names need not be UTF-8.
//!
//! A process may end while it is read: [`UffdError::Gone`] says so, whatever was asked.

mod abi;
mod backing;
mod behaviour;
mod count;
mod error;
mod fd;
mod fdinfo;
mod features;
mod memory;
mod message;
mod pagemap;
mod privilege;
mod process;
mod scan;
mod scratch;
mod smaps;

pub use backing::{Backing, HugetlbDevices, ShmemDevices};
pub use behaviour::{HugetlbPool, KernelBehaviour, WrittenMeaning, self_test};
pub use count::{CountMethod, CountProgress, PageCount, PageCounter};
pub use error::{ProcessGone, UffdError, unless_gone};
pub use fd::{RegisterMode, Userfaultfd};
pub use fdinfo::{UffdFdInfo, userfaultfds};
pub use features::UffdFeatures;
pub use memory::ProcessMemory;
pub use message::UffdMessage;
pub use pagemap::{Pagemap, PagemapEntry};
pub use privilege::{Capability, Privilege, UserNamespace};
pub use process::{
    ProcessStat, arguments, cgroup_path, clear_soft_dirty, comm, page_table_bytes, parse_cgroup,
    parse_stat, parse_status_kb, pids_of, stat,
};
pub use scan::{ArmOutcome, PageCategories, PageRegion, ScanOutcome, ScanQuery};
pub use scratch::ScratchMapping;
pub use smaps::{MapsFile, ProcVma, VmFlags, VmaReader, maps, smaps};

/// The unit of every page number here: 4 KiB, the base page of x86-64.
pub const PAGE_SIZE: u64 = 4096;
/// What one pte table maps, and the size of a PMD huge page: 2 MiB.
pub const PMD_SIZE: u64 = 2 << 20;

/// How many 4 KiB pages an address range touches.
pub fn pages_in(range: &std::ops::Range<u64>) -> u64 {
    range.end.saturating_sub(range.start).div_ceil(PAGE_SIZE)
}
