//! Learns from pages of our own what no file tells.
//!
//! Which swap type means "marker" depends on how the kernel was built. To learn it, we arm a page
//! of our own before it exists, and `/proc/self/pagemap` shows what the kernel put there
//! (`pagemap_pte_hole`, `pte_to_pagemap_entry` in fs/proc/task_mmu.c).

use rustix::io::Errno;
use uffd::{Pagemap, PagemapEntry, RegisterMode, ScratchMapping, UffdFeatures, Userfaultfd};

use crate::kernel::facts::TriedFacts;

/// Where x86-64 swap entries have their type and offset (arch/x86/include/asm/pgtable_64.h).
const TYPE_BITS: u32 = 5;
const OFFSET_SHIFT: u32 = 9 + TYPE_BITS;

/// All that can be learned this way.
#[must_use]
pub fn tried() -> TriedFacts {
    TriedFacts {
        marker_pte: marker_pte().ok().flatten(),
        pagemap_scan: pagemap_scan(),
        guard_pages: guard_pages(),
        huge_pages: huge_pages(),
    }
}

/// Whether there is `PAGEMAP_SCAN`. Where that cannot be tried (no /proc), there may be.
fn pagemap_scan() -> bool {
    Pagemap::own().is_err() || uffd::self_test().is_ok_and(|behaviour| behaviour.written.is_some())
}

/// The pte of a uffd-wp marker on this kernel, bit for bit.
///
/// # Errors
/// If no marker could be made: no userfaultfd, no write protection for shmem or anonymous memory,
/// or no privilege to see swap types in pagemap (CAP_SYS_ADMIN).
pub fn marker_pte() -> Result<Option<u64>, uffd::UffdError> {
    let memory = ScratchMapping::shared(uffd::PAGE_SIZE)?;
    let uffd = Userfaultfd::open()?;
    uffd.enable(UffdFeatures::offered()? & UffdFeatures::WP_HUGETLBFS_SHMEM)?;
    uffd.register(&memory.range(), RegisterMode::WP)?;
    uffd.arm(&memory.range())?;
    let mut entry = [PagemapEntry::default()];
    Pagemap::own()?.read(&memory.range(), &mut entry)?;
    Ok(entry[0].is_marker().then(|| encode(entry[0].0)))
}

/// Whether this kernel has guard pages.
#[must_use]
pub fn guard_pages() -> bool {
    ScratchMapping::anonymous(uffd::PAGE_SIZE)
        .is_ok_and(|memory| memory.install_guards(0..1).is_ok())
}

/// Whether this kernel has transparent huge pages: one built without them does not know the advice
/// (`madvise_behavior_valid`). PREEMPT_RT cannot have them.
#[must_use]
pub fn huge_pages() -> bool {
    let refused = ScratchMapping::huge(uffd::PMD_SIZE).err();
    refused.is_none_or(|error| error.errno() != Some(Errno::INVAL))
}

/// The x86-64 pte of a swap entry as pagemap shows it: type in bits 0-4, offset in 5-54.
fn encode(pagemap: u64) -> u64 {
    let kind = pagemap & 0x1f;
    let offset = pagemap >> 5 & ((1 << 50) - 1);
    (!offset << OFFSET_SHIFT) >> TYPE_BITS | kind << (64 - TYPE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_kernels() {
        // Debian 6.12 and 6.18: type 31; 6.1: type 30. Offset 1 is PTE_MARKER_UFFD_WP.
        assert_eq!(
            encode(1 << 62 | 1 << 57 | 1 << 5 | 31),
            0xFFFF_FFFF_FFFF_FC00
        );
        assert_eq!(
            encode(1 << 62 | 1 << 57 | 1 << 5 | 30),
            0xF7FF_FFFF_FFFF_FC00
        );
    }

    #[test]
    fn this_kernel_has_markers_as_pagemap_shows_them() {
        // Needs CAP_SYS_ADMIN and shmem write protection; without them there is nothing to learn.
        if let Ok(Some(pte)) = marker_pte() {
            assert_eq!(pte & 0x1, 0, "a marker is not present");
            assert_ne!(pte, 0);
        }
    }
}
