//! `/proc/PID/pagemap`: an entry of 64 bits for each page of 4 KiB
//! (Documentation/admin-guide/mm/pagemap.rst).

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::{PAGE_SIZE, ProcessGone, UffdError, pages_in};

/// What pagemap says about a page of 4 KiB (Documentation/admin-guide/mm/pagemap.rst), as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct PagemapEntry(pub u64);

/// `PTE_MARKER_UFFD_WP`, which stands in the offset of a marker's swap entry.
const MARKER_UFFD_WP: u64 = 1;

impl PagemapEntry {
    /// Written since the soft-dirty bits were cleared; never without `CONFIG_MEM_SOFT_DIRTY`.
    #[must_use]
    pub const fn soft_dirty(self) -> bool {
        self.bit(55)
    }

    /// Armed: a page or a swap entry with the uffd-wp bit, or a marker (shown since 5.13).
    #[must_use]
    pub const fn armed(self) -> bool {
        self.bit(57)
    }

    /// A page of a file or of shared memory, as against anonymous memory and copies of a file's
    /// pages. The zero page is none.
    pub const fn of_file(self) -> bool {
        self.bit(61)
    }

    /// In swap, migrating, or a marker.
    #[must_use]
    pub const fn swapped(self) -> bool {
        self.bit(62)
    }

    /// Mapped.
    #[must_use]
    pub const fn present(self) -> bool {
        self.bit(63)
    }

    /// A marker: armed, with no page there. Takes CAP_SYS_ADMIN: without, the kernel hides the swap
    /// type, and this is false. The type is the last one (31), or 30 on kernels that have
    /// `SWP_SWAPIN_ERROR` (6.1); no swap file has either. A marker of hugetlb is shown as armed
    /// only.
    #[must_use]
    pub const fn is_marker(self) -> bool {
        let swap_type = self.0 & 0x1f;
        let offset = (self.0 >> 5) & ((1 << 50) - 1);
        self.swapped() && self.armed() && swap_type >= 30 && offset & MARKER_UFFD_WP != 0
    }

    const fn bit(self, bit: u32) -> bool {
        self.0 >> bit & 1 != 0
    }
}

/// The open pagemap of a process: of the address space that the process had when it was opened.
#[derive(Debug)]
pub struct Pagemap {
    fd: OwnedFd,
    pid: u32,
    path: String,
}

impl Pagemap {
    /// Opens that of a process.
    ///
    /// # Errors
    /// [`UffdError::Gone`]: there is no such process. EACCES or EPERM: it may not be traced.
    pub fn open(pid: u32) -> Result<Self, UffdError> {
        let path = format!("/proc/{pid}/pagemap");
        let fd = open(&path).map_err(UffdError::of_process(pid, "cannot open", &path))?;
        Ok(Self { fd, pid, path })
    }

    /// Opens our own.
    ///
    /// # Errors
    /// ENOENT: `/proc` is not mounted.
    pub fn own() -> Result<Self, UffdError> {
        let path = "/proc/self/pagemap".to_owned();
        let fd = open(&path).map_err(|e| UffdError::system("cannot open", &path, e))?;
        let pid = std::process::id();
        Ok(Self { fd, pid, path })
    }

    /// The process that it was opened of.
    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// The file's name, for messages.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Reads the entries of a range from its first page on, as many as fit into `entries`; returns
    /// how many there were (fs/proc/task_mmu.c `pagemap_read`).
    ///
    /// # Errors
    /// [`UffdError::Gone`]: the address space has no user any more, or does not reach to the range.
    pub fn read(
        &self,
        range: &Range<u64>,
        entries: &mut [PagemapEntry],
    ) -> Result<usize, UffdError> {
        let wanted = entries.len().min(pages_in(range) as usize);
        if wanted == 0 {
            return Ok(0);
        }
        let offset = range.start / PAGE_SIZE * size_of::<PagemapEntry>() as u64;
        let bytes = as_bytes(&mut entries[..wanted]);
        let result = loop {
            match rustix::io::pread(&self.fd, &mut *bytes, offset) {
                Err(rustix::io::Errno::INTR) => (),
                result => break result,
            }
        };
        let length = result.map_err(UffdError::of_process(self.pid, "cannot read", &self.path))?;
        // The file is empty once the last user of the address space is gone.
        if length == 0 {
            return Err(ProcessGone { pid: self.pid }.into());
        }
        Ok(length / size_of::<PagemapEntry>())
    }
}

impl AsFd for Pagemap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn open(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

fn as_bytes(entries: &mut [PagemapEntry]) -> &mut [u8] {
    // SAFETY: an entry is a transparent u64: any bytes are one, and its size has no padding.
    unsafe {
        std::slice::from_raw_parts_mut(
            entries.as_mut_ptr().cast(),
            size_of_val::<[PagemapEntry]>(entries),
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::ScratchMapping;

    const SWAP_AND_ARMED: u64 = 1 << 62 | 1 << 57;

    #[test]
    fn markers_of_both_encodings() {
        assert!(PagemapEntry(SWAP_AND_ARMED | 1 << 5 | 31).is_marker());
        assert!(PagemapEntry(SWAP_AND_ARMED | 1 << 5 | 30).is_marker());
    }

    #[test]
    fn what_is_armed_but_no_marker() {
        assert!(
            !PagemapEntry(1 << 63 | 1 << 57).is_marker(),
            "a present page"
        );
        assert!(
            !PagemapEntry(SWAP_AND_ARMED | 77 << 5 | 2).is_marker(),
            "a page in swap file 2"
        );
        assert!(
            !PagemapEntry(1 << 62 | 4 << 5 | 31).is_marker(),
            "a guard marker"
        );
        assert!(
            !PagemapEntry(SWAP_AND_ARMED).is_marker(),
            "a reader without CAP_SYS_ADMIN"
        );
    }

    #[test]
    fn present_pages_and_holes_of_our_own() {
        let scratch = ScratchMapping::anonymous(4 * PAGE_SIZE).unwrap();
        scratch.write(1);
        let mut entries = [PagemapEntry::default(); 8];
        let read = Pagemap::own()
            .unwrap()
            .read(&scratch.range(), &mut entries)
            .unwrap();
        assert_eq!(read, 4);
        assert_eq!(
            entries.map(PagemapEntry::present)[..4],
            [false, true, false, false]
        );
    }

    #[test]
    fn a_process_that_is_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pagemap = Pagemap::open(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let read = pagemap.read(&(0..PAGE_SIZE), &mut [PagemapEntry(0)]);
        assert!(read.unwrap_err().is_gone());
        assert!(Pagemap::open(child.id()).unwrap_err().is_gone());
    }
}
