//! The memory of a process, read from outside: `/proc/PID/mem`.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use crate::{PAGE_SIZE, ProcessGone, UffdError};

/// The open `/proc/PID/mem` of an address space: what the process executes later is not in it, and
/// it serves on when the first thread of the process has ended.
///
/// Unlike process_vm_readv(2) it also reads memory that the process itself may not read, and it
/// pins no page: pinning takes a page of its own for what is shared since fork(2) or by KSM.
#[derive(Debug)]
pub struct MemoryFile {
    file: File,
    pid: u32,
}

impl MemoryFile {
    /// Of the address space that a process has now, which must be one that may be traced.
    ///
    /// # Errors
    /// [`UffdError::Gone`]: the process is gone. EACCES or EPERM: it may not be traced.
    pub fn open(pid: u32) -> Result<Self, UffdError> {
        let path = format!("/proc/{pid}/mem");
        let failed = UffdError::of_process(pid, "cannot open", &path);
        let file = File::open(&path).map_err(failed)?;
        Ok(Self { file, pid })
    }

    /// Reads from `address` on; returns how many bytes came before the first page that cannot be
    /// read.
    ///
    /// # Errors
    /// [`UffdError::Gone`]: nobody uses the address space any more.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, UffdError> {
        let Self { file, pid } = self;
        match file.read_at(buffer, address) {
            Ok(0) if !buffer.is_empty() => Err(ProcessGone { pid: *pid }.into()),
            Ok(read) => Ok(read),
            Err(error)
                if matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::IO | Errno::FAULT | Errno::INVAL)
                ) =>
            {
                Ok(0)
            }
            Err(error) => {
                let on = format_args!("memory of process {pid}");
                Err(UffdError::of_process(*pid, "cannot read", on)(error))
            }
        }
    }

    /// Reads a byte of every page of a range, which maps those that are not there; returns how many
    /// pages cannot be read.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn populate(&self, range: &Range<u64>) -> Result<u64, UffdError> {
        let mut unreadable = 0;
        for page in range.clone().step_by(PAGE_SIZE as usize) {
            unreadable += u64::from(self.read(page, &mut [0])? == 0);
        }
        Ok(unreadable)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{Pagemap, PagemapEntry, ScratchMapping};

    #[test]
    fn reads_up_to_the_first_page_that_is_not_mapped() {
        let own = MemoryFile::open(std::process::id()).unwrap();
        let scratch = ScratchMapping::anonymous(2 * PAGE_SIZE).unwrap();
        scratch.store(1, 7);
        let mut bytes = vec![9; 2 * PAGE_SIZE as usize];
        let read = own.read(scratch.range().start, &mut bytes).unwrap();
        assert_eq!(read, bytes.len());
        assert_eq!((bytes[0], bytes[PAGE_SIZE as usize]), (0, 7));
        assert_eq!(own.read(0x1000, &mut bytes).unwrap(), 0);
    }

    #[test]
    fn the_file_reads_what_the_process_may_not() {
        let own = MemoryFile::open(std::process::id()).unwrap();
        let scratch = ScratchMapping::anonymous(2 * PAGE_SIZE).unwrap();
        scratch.store(1, 7);
        let start = scratch.range().start as usize;
        // SAFETY: nobody refers to the scratch's content while it may not be read.
        let protected = unsafe {
            let start = std::ptr::without_provenance_mut(start);
            libc::mprotect(start, 2 * PAGE_SIZE as usize, libc::PROT_NONE)
        };
        assert_eq!(protected, 0);
        let mut bytes = vec![9; 3 * PAGE_SIZE as usize];
        let read = own.read(scratch.range().start, &mut bytes[..2 * PAGE_SIZE as usize]);
        assert_eq!(read.unwrap(), 2 * PAGE_SIZE as usize);
        assert_eq!((bytes[0], bytes[PAGE_SIZE as usize]), (0, 7));
        assert_eq!(own.read(0x1000, &mut bytes).unwrap(), 0);
    }

    #[test]
    fn populating_maps_every_page_and_passes_over_holes() {
        let own = MemoryFile::open(std::process::id()).unwrap();
        let scratch = ScratchMapping::anonymous(3 * PAGE_SIZE).unwrap();
        assert_eq!(own.populate(&scratch.range()).unwrap(), 0);
        let mut entries = [PagemapEntry::default(); 3];
        let pagemap = Pagemap::own().unwrap();
        pagemap.read(&scratch.range(), &mut entries).unwrap();
        assert_eq!(entries.map(PagemapEntry::present), [true; 3]);
        assert_eq!(own.populate(&(0x1000..0x4000)).unwrap(), 3);
    }

    #[test]
    fn a_process_that_never_was() {
        let nobody = MemoryFile::open(i32::MAX as u32);
        assert!(nobody.unwrap_err().is_gone());
    }
}
