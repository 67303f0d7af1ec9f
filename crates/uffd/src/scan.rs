//! `PAGEMAP_SCAN` (6.7): which pages of a range are in which categories, and arming them in the
//! same step (Documentation/admin-guide/mm/pagemap.rst; fs/proc/task_mmu.c `do_pagemap_scan`).

use std::ops::{BitOr, Range};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use crate::{Pagemap, UffdError};

/// A set of categories of pages (`PAGE_IS_*` of linux/fs.h), as its bits; unknown ones are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct PageCategories(pub u64);

impl PageCategories {
    /// In a VMA that is registered for asynchronous write protection.
    pub const WPALLOWED: Self = Self(1 << 0);
    /// Written since it was armed, or never armed.
    pub const WRITTEN: Self = Self(1 << 1);
    /// A page of a file or of shared memory, as against anonymous memory and copies of a file's
    /// pages.
    pub const FILE: Self = Self(1 << 2);
    /// Mapped.
    pub const PRESENT: Self = Self(1 << 3);
    /// In swap, or a marker.
    pub const SWAPPED: Self = Self(1 << 4);
    /// The zero page.
    pub const PFNZERO: Self = Self(1 << 5);
    /// A huge page, of THP or of hugetlb.
    pub const HUGE: Self = Self(1 << 6);

    /// Whether every category of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for PageCategories {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Pages that follow each other and have the same categories (`struct page_region`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PageRegion {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Those of [`ScanQuery::returned`] that the pages are in.
    pub categories: PageCategories,
}

impl PageRegion {
    /// Its addresses.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// Which pages a scan reports, and what it does to them (`struct pm_scan_arg`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanQuery {
    /// Categories that are negated before the two masks are applied.
    pub inverted: PageCategories,
    /// A page must be in all of these.
    pub all_of: PageCategories,
    /// A page must be in one of these, if any is given.
    pub any_of: PageCategories,
    /// Categories to report. More than `WRITTEN` is off the kernel's fast path, 20 times slower.
    pub returned: PageCategories,
    /// Arm the pages that are reported and written, in the same step (`PM_SCAN_WP_MATCHING`).
    pub arm: bool,
    /// Fail with EPERM at a VMA that is not registered for asynchronous write protection
    /// (`PM_SCAN_CHECK_WPASYNC`).
    pub require_async: bool,
}

impl ScanQuery {
    /// Which pages are written: the fast question.
    pub const WRITTEN: Self = Self {
        inverted: PageCategories(0),
        all_of: PageCategories::WRITTEN,
        any_of: PageCategories(0),
        returned: PageCategories::WRITTEN,
        arm: false,
        require_async: false,
    };

    /// As [`Self::WRITTEN`], and arms what it reports: a round of tracking.
    pub const WRITTEN_AND_ARM: Self = Self {
        arm: true,
        require_async: true,
        ..Self::WRITTEN
    };

    /// Memory that is registered for asynchronous write protection, armed or not, there or not.
    pub const REGISTERED: Self = Self {
        inverted: PageCategories(0),
        all_of: PageCategories::WPALLOWED,
        any_of: PageCategories(0),
        returned: PageCategories::WPALLOWED,
        arm: false,
        require_async: false,
    };

    /// Armed pages, markers included. A page that is neither present nor swapped is not there and
    /// was never armed, and kernels differ in whether such a page is written.
    pub(crate) const ARMED: Self = Self {
        inverted: PageCategories::WRITTEN,
        all_of: PageCategories::WRITTEN,
        any_of: PageCategories(PageCategories::PRESENT.0 | PageCategories::SWAPPED.0),
        returned: PageCategories(0),
        arm: false,
        require_async: false,
    };
}

/// What one call of `PAGEMAP_SCAN` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanOutcome {
    /// How many regions of the buffer it filled.
    pub regions: usize,
    /// Where the walk ended: before the end of the range if the buffer was full.
    pub walk_end: u64,
}

/// What one call of `PAGEMAP_SCAN` that arms did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArmOutcome {
    /// All it walked is armed, and what was written before is in the buffer.
    Walked(ScanOutcome),
    /// It came to memory that is not registered for asynchronous write protection, and stopped; it
    /// does not say where.
    Refused {
        /// How many regions of the buffer it filled: they were reported, and armed, before.
        regions: usize,
    },
}

#[repr(C)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<PmScanArg>() == 96);
const _: () = assert!(size_of::<PageRegion>() == 24);

const PAGEMAP_SCAN: Opcode = opcode::read_write::<PmScanArg>(b'f', 16);
const WP_MATCHING: u64 = 1 << 0;
const CHECK_WPASYNC: u64 = 1 << 1;

impl Pagemap {
    /// Scans a page-aligned range once, into `regions`, which must not be empty.
    ///
    /// # Errors
    /// [`UffdError::Gone`]: the address space has no user any more. ENOTTY: the kernel is older
    /// than 6.7. EPERM: a query that arms, or has [`ScanQuery::require_async`], came to memory that
    /// is not registered for asynchronous write protection.
    pub fn scan_once(
        &self,
        range: &Range<u64>,
        query: &ScanQuery,
        regions: &mut [PageRegion],
    ) -> Result<ScanOutcome, UffdError> {
        let mut arg = PmScanArg {
            size: size_of::<PmScanArg>() as u64,
            flags: flag(query.arm, WP_MATCHING) | flag(query.require_async, CHECK_WPASYNC),
            start: range.start,
            end: range.end,
            walk_end: 0,
            vec: regions.as_mut_ptr().addr() as u64,
            vec_len: regions.len() as u64,
            max_pages: 0,
            category_inverted: query.inverted.0,
            category_mask: query.all_of.0,
            category_anyof_mask: query.any_of.0,
            return_mask: query.returned.0,
        };
        // The kernel learns the buffer's address as a number: keep the pointer's provenance alive.
        let _ = regions.as_mut_ptr().expose_provenance();
        // SAFETY: the kernel reads a pm_scan_arg, and writes its walk_end and at most vec_len
        // regions.
        let result = unsafe { rustix::ioctl::ioctl(self, PagemapScanCall(&mut arg)) };
        let failed = UffdError::of_process(self.pid(), "PAGEMAP_SCAN of", self.path());
        Ok(ScanOutcome {
            regions: result.map_err(failed)?,
            walk_end: arg.walk_end,
        })
    }

    /// Scans a whole range, however many calls that takes, and hands over every region. `regions`
    /// is the buffer: 512 is as many as the kernel's own has.
    ///
    /// # Errors
    /// As [`Self::scan_once`]. [`UffdError::Stuck`]: the range ends inside a huge page.
    pub fn scan(
        &self,
        range: &Range<u64>,
        query: &ScanQuery,
        regions: &mut [PageRegion],
        mut each: impl FnMut(PageRegion),
    ) -> Result<(), UffdError> {
        let mut at = range.start;
        while at < range.end {
            let scanned = self.scan_once(&(at..range.end), query, regions)?;
            regions
                .iter()
                .take(scanned.regions)
                .copied()
                .for_each(&mut each);
            if scanned.walk_end <= at {
                return Err(self.stuck(at));
            }
            at = scanned.walk_end;
        }
        Ok(())
    }

    /// Scans once with a query that arms. Where a VMA is not registered the kernel answers EPERM,
    /// although it has armed what lies before and copied that to the buffer: here that is no error,
    /// so that no page is armed without being reported.
    ///
    /// # Errors
    /// As [`Self::scan_once`], without EPERM.
    pub fn arm_once(
        &self,
        range: &Range<u64>,
        query: &ScanQuery,
        regions: &mut [PageRegion],
    ) -> Result<ArmOutcome, UffdError> {
        regions.fill(PageRegion::default());
        match self.scan_once(range, query, regions) {
            Err(e) if e.errno() == Some(Errno::PERM) => {
                let regions = regions.iter().take_while(|region| region.end != 0).count();
                Ok(ArmOutcome::Refused { regions })
            }
            result => result.map(ArmOutcome::Walked),
        }
    }

    /// The error of a walk that stays where it is.
    #[must_use]
    pub fn stuck(&self, at: u64) -> UffdError {
        let on = self.path().to_owned();
        UffdError::Stuck { on, at }
    }

    /// Whether this kernel has `PAGEMAP_SCAN` at all.
    pub(crate) fn can_scan(&self) -> Result<bool, UffdError> {
        let mut regions = [PageRegion::default()];
        match self.scan_once(&(0..0), &ScanQuery::WRITTEN, &mut regions) {
            Ok(_) => Ok(true),
            Err(e) if e.errno() == Some(Errno::NOTTY) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn flag(set: bool, bit: u64) -> u64 {
    if set { bit } else { 0 }
}

/// The ioctl, whose result is a number of regions: rustix has no pattern for that.
struct PagemapScanCall<'a>(&'a mut PmScanArg);

// SAFETY: the opcode is PAGEMAP_SCAN, its argument a pm_scan_arg, its result a count.
unsafe impl rustix::ioctl::Ioctl for PagemapScanCall<'_> {
    type Output = usize;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        PAGEMAP_SCAN
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        std::ptr::from_mut(self.0).cast()
    }

    // SAFETY: it looks at the number alone, and asks no more of its caller than the trait does.
    unsafe fn output_from_ptr(
        filled: rustix::ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<usize> {
        usize::try_from(filled).map_err(|_| Errno::INVAL)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{PAGE_SIZE, RegisterMode, ScratchMapping, UffdFeatures, Userfaultfd, pages_in};

    #[test]
    fn the_opcode_is_that_of_the_header() {
        assert_eq!(PAGEMAP_SCAN, 0xc060_6610);
    }

    /// Every page is armed, every second one written: 32 regions, through a buffer of 5.
    #[test]
    fn a_full_buffer_continues_where_it_ended() {
        let pagemap = Pagemap::own().unwrap();
        if !pagemap.can_scan().unwrap() || !UffdFeatures::offered().unwrap().is_async() {
            return;
        }
        let scratch = ScratchMapping::anonymous(64 * PAGE_SIZE).unwrap();
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::WP_ASYNC).unwrap();
        fd.register(&scratch.range(), RegisterMode::WP).unwrap();
        fd.arm(&scratch.range()).unwrap();
        (0..64).step_by(2).for_each(|page| scratch.write(page));

        let mut buffer = [PageRegion::default(); 5];
        let mut found = Vec::new();
        pagemap
            .scan(
                &scratch.range(),
                &ScanQuery::WRITTEN,
                &mut buffer,
                |region| found.push(region),
            )
            .unwrap();
        assert_eq!(found.len(), 32);
        assert!(found.iter().all(|region| pages_in(&region.range()) == 1));

        let mut armed = 0;
        pagemap
            .scan(&scratch.range(), &ScanQuery::ARMED, &mut buffer, |r| {
                armed += pages_in(&r.range())
            })
            .unwrap();
        assert_eq!(armed, 32);
    }

    /// Two registered pages, written, and an unregistered one after them.
    #[test]
    fn what_is_armed_before_a_refusal_is_reported() {
        let pagemap = Pagemap::own().unwrap();
        if !pagemap.can_scan().unwrap() || !UffdFeatures::offered().unwrap().is_async() {
            return;
        }
        let scratch = ScratchMapping::anonymous(3 * PAGE_SIZE).unwrap();
        let (range, registered) = (scratch.range(), scratch.range().start + 2 * PAGE_SIZE);
        let registered = range.start..registered;
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::WP_ASYNC).unwrap();
        fd.register(&registered, RegisterMode::WP).unwrap();
        (0..3).for_each(|page| scratch.write(page));
        let mut buffer = [PageRegion::default(); 4];
        let mut arm = || {
            let scan = pagemap.arm_once(&range, &ScanQuery::WRITTEN_AND_ARM, &mut buffer);
            (scan.unwrap(), buffer[0].range())
        };
        assert_eq!(arm(), (ArmOutcome::Refused { regions: 1 }, registered));
        assert_eq!(arm(), (ArmOutcome::Refused { regions: 0 }, 0..0), "armed");
    }

    #[test]
    fn without_async_tracking_arming_is_refused() {
        let pagemap = Pagemap::own().unwrap();
        if !pagemap.can_scan().unwrap() {
            return;
        }
        let scratch = ScratchMapping::anonymous(PAGE_SIZE).unwrap();
        let mut buffer = [PageRegion::default(); 1];
        let result = pagemap.scan_once(&scratch.range(), &ScanQuery::WRITTEN_AND_ARM, &mut buffer);
        assert_eq!(result.unwrap_err().errno(), Some(Errno::PERM));
    }
}
