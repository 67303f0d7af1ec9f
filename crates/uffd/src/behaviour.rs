//! What this kernel does, seen on scratch mappings of our own.
//!
//! Version is not behaviour: distributions carry changes back (6.12.103 has a meaning of "written"
//! that 6.18.15 lacks). Every fact here is the outcome of trying.

use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};

use crate::{
    PAGE_SIZE, PMD_SIZE, PageCategories, PageRegion, Pagemap, PagemapEntry, RegisterMode,
    ScanQuery, ScratchMapping, UffdError, UffdFeatures, Userfaultfd, page_table_bytes,
};

/// What `PAGE_IS_WRITTEN` says about pages of a registered range that were never armed or touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WrittenMeaning {
    /// Written, whatever is asked, and whether a page table is there or not.
    Fixed,
    /// Not written, unless the kernel takes its fast path over a page table that is there.
    Old,
    /// Written where a page table is there and not written where none is, or the reverse.
    Mixed,
}

/// Whether hugetlb has huge pages of 2 MiB to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum HugetlbPool {
    /// At least one is free.
    Available,
    /// The kernel has hugetlb and its pool is empty (`vm.nr_hugepages`).
    NoFreePages,
    /// The kernel has none.
    #[default]
    Unsupported,
}

/// What this kernel was seen to do. The default is a kernel that can do nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KernelBehaviour {
    /// Features that a userfaultfd may be opened with.
    pub features: UffdFeatures,
    /// What "written" means to `PAGEMAP_SCAN`; `None`: there is no `PAGEMAP_SCAN` (before 6.7).
    pub written: Option<WrittenMeaning>,
    /// `PAGEMAP_SCAN` says of memory that is not registered, too, that it is written. Since 7.3 it
    /// says so of registered memory only (`pagemap_page_category`), so that no scan tells memory
    /// that was mapped anew from memory that is armed.
    pub unregistered_is_written: bool,
    /// Arming anonymous memory that is not there installs markers, and page tables to hold them.
    pub anonymous_markers: bool,
    /// The same for shmem.
    pub shmem_markers: bool,
    /// A `PAGEMAP_SCAN` that arms written pages also arms a range without page tables.
    pub scan_arms_holes: bool,
    /// `MADV_DONTNEED` of whole page tables frees them (`CONFIG_PT_RECLAIM`).
    pub dontneed_frees_tables: bool,
    /// Huge pages of hugetlb.
    pub hugetlb: HugetlbPool,
    /// Soft-dirty bits exist (`CONFIG_MEM_SOFT_DIRTY`).
    pub soft_dirty: bool,
}

/// Tries everything on scratch mappings; takes well under a millisecond and leaves nothing behind.
///
/// # Errors
/// If no userfaultfd can be opened ([`Userfaultfd::open_user_mode_only`] says why), or there is not
/// enough memory.
pub fn self_test() -> Result<KernelBehaviour, UffdError> {
    let features = UffdFeatures::offered()?;
    let pagemap = match Pagemap::own() {
        // There is no /proc.
        Err(error) if error.errno() == Some(Errno::NOENT) => {
            return Ok(KernelBehaviour {
                features,
                hugetlb: hugetlb(),
                ..KernelBehaviour::default()
            });
        }
        pagemap => pagemap?,
    };
    let can_scan = features.is_async() && pagemap.can_scan()?;
    let has_markers = features.contains(UffdFeatures::WP_HUGETLBFS_SHMEM);
    Ok(KernelBehaviour {
        features,
        written: if can_scan {
            Some(written_meaning(&pagemap)?)
        } else {
            None
        },
        unregistered_is_written: can_scan && unregistered_is_written(&pagemap)?,
        anonymous_markers: arms_nothing(&pagemap, ScratchMapping::anonymous(PAGE_SIZE)?, features)?,
        shmem_markers: has_markers
            && arms_nothing(&pagemap, ScratchMapping::shared(PAGE_SIZE)?, features)?,
        scan_arms_holes: can_scan && scan_arms_holes(&pagemap)?,
        dontneed_frees_tables: dontneed_frees_tables()?,
        hugetlb: hugetlb(),
        soft_dirty: soft_dirty(&pagemap)?,
    })
}

/// Registers a scratch mapping whole.
fn register(scratch: &ScratchMapping, features: UffdFeatures) -> Result<Userfaultfd, UffdError> {
    let fd = Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only())?;
    fd.enable(features)?;
    fd.register(&scratch.range(), RegisterMode::WP)?;
    Ok(fd)
}

/// Asks about a range without a page table, and about an empty pte beside a touched one. A further
/// category keeps the kernel off its fast path, which reports every empty pte as written on all
/// kernels (fs/proc/task_mmu.c `pagemap_scan_pmd_entry`).
fn written_meaning(pagemap: &Pagemap) -> Result<WrittenMeaning, UffdError> {
    let scratch = ScratchMapping::anonymous(2 * PMD_SIZE)?;
    let _registered = register(&scratch, UffdFeatures::WP_ASYNC)?;
    scratch.write(512);
    let range = scratch.range();
    let hole = range.start..range.start + PAGE_SIZE;
    let empty = range.start + PMD_SIZE + PAGE_SIZE..range.start + PMD_SIZE + 2 * PAGE_SIZE;
    let returned = PageCategories::WRITTEN | PageCategories::PRESENT;
    let query = ScanQuery {
        returned,
        ..ScanQuery::WRITTEN
    };
    let is_written = |range| -> Result<bool, UffdError> {
        let scanned = pagemap.scan_once(&range, &query, &mut [PageRegion::default()])?;
        Ok(scanned.regions != 0)
    };
    Ok(match (is_written(hole)?, is_written(empty)?) {
        (true, true) => WrittenMeaning::Fixed,
        (false, false) => WrittenMeaning::Old,
        _ => WrittenMeaning::Mixed,
    })
}

fn unregistered_is_written(pagemap: &Pagemap) -> Result<bool, UffdError> {
    let scratch = ScratchMapping::anonymous(PAGE_SIZE)?;
    scratch.write(0);
    let mut regions = [PageRegion::default()];
    let scanned = pagemap.scan_once(&scratch.range(), &ScanQuery::WRITTEN, &mut regions)?;
    Ok(scanned.regions != 0)
}

/// Whether `UFFDIO_WRITEPROTECT` of a page that is not there leaves a marker.
fn arms_nothing(
    pagemap: &Pagemap,
    scratch: ScratchMapping,
    offered: UffdFeatures,
) -> Result<bool, UffdError> {
    let fd = register(&scratch, offered & UffdFeatures::WP_UNPOPULATED)?;
    fd.arm(&scratch.range())?;
    Ok(first_entry(pagemap, &scratch)?.armed())
}

fn scan_arms_holes(pagemap: &Pagemap) -> Result<bool, UffdError> {
    let scratch = ScratchMapping::anonymous(PMD_SIZE)?;
    let _registered = register(&scratch, UffdFeatures::WP_ASYNC)?;
    pagemap.scan(
        &scratch.range(),
        &ScanQuery::WRITTEN_AND_ARM,
        &mut [PageRegion::default()],
        |_| (),
    )?;
    Ok(first_entry(pagemap, &scratch)?.armed())
}

/// Tells from `VmPTE` what becomes of 32 page tables; other threads change it by less than half of
/// that meanwhile.
fn dontneed_frees_tables() -> Result<bool, UffdError> {
    const TABLES: u64 = 32;
    // `VmPTE` is one number for the whole process: one self-test at a time.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = ScratchMapping::anonymous(TABLES * PMD_SIZE)?;
    (0..TABLES).for_each(|table| scratch.write(table * PMD_SIZE / PAGE_SIZE));
    let before = page_table_bytes(std::process::id())?;
    scratch.drop_pages()?;
    let after = page_table_bytes(std::process::id())?;
    let freed = before.unwrap_or(0).saturating_sub(after.unwrap_or(0));
    Ok(freed > TABLES / 2 * PAGE_SIZE)
}

/// A fresh page is soft-dirty wherever the bit exists.
fn soft_dirty(pagemap: &Pagemap) -> Result<bool, UffdError> {
    let scratch = ScratchMapping::anonymous(PAGE_SIZE)?;
    scratch.write(0);
    Ok(first_entry(pagemap, &scratch)?.soft_dirty())
}

fn first_entry(pagemap: &Pagemap, scratch: &ScratchMapping) -> Result<PagemapEntry, UffdError> {
    let mut entries = [PagemapEntry::default()];
    pagemap.read(&scratch.range(), &mut entries)?;
    Ok(entries[0])
}

/// Reserves one huge page for a moment: mmap(2) fails without a free one, and nothing is touched.
fn hugetlb() -> HugetlbPool {
    let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB;
    let length = PMD_SIZE as usize;
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    match unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), length, protection, flags) } {
        Ok(mapping) => {
            // SAFETY: the mapping is ours and nothing refers to it.
            let _ = unsafe { rustix::mm::munmap(mapping, length) };
            HugetlbPool::Available
        }
        Err(Errno::NOMEM) => HugetlbPool::NoFreePages,
        Err(_) => HugetlbPool::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// What must hold together on any kernel.
    #[test]
    fn facts_agree_with_each_other() {
        let facts = self_test().unwrap();
        assert_eq!(facts, self_test().unwrap(), "the same twice");
        if facts.features.is_async() {
            assert!(facts.anonymous_markers, "async mode implies markers");
            assert!(facts.shmem_markers);
        }
        if facts.scan_arms_holes {
            assert!(facts.written.is_some());
        }
    }

    #[test]
    fn it_leaves_no_page_tables_behind() {
        self_test().unwrap();
        let before = page_table_bytes(std::process::id()).unwrap();
        for _ in 0..20 {
            self_test().unwrap();
        }
        let after = page_table_bytes(std::process::id()).unwrap();
        assert!(after.unwrap() < before.unwrap() + 20 * 32 * PAGE_SIZE);
    }
}
