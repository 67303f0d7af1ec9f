//! The memory of a process, read from outside: process_vm_readv(2) and `/proc/PID/mem`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::io::Errno;

use crate::{PAGE_SIZE, ProcessGone, UffdError};

/// How many pieces a call takes (`UIO_MAXIOV`).
const PIECES: usize = 1024;

/// The memory of a process (process_vm_readv(2)), which must be one that may be traced.
///
/// A read is an access like any other: a page that is not there is faulted in. The pid is all that
/// is kept: it may mean another process by the next call.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pid: u32,
}

impl ProcessMemory {
    /// That of a process, our own included.
    #[must_use]
    pub const fn of(pid: u32) -> Self {
        Self { pid }
    }

    /// Reads from `address` on; returns how many bytes came before the first page that cannot be
    /// read.
    ///
    /// # Errors
    /// [`UffdError::Gone`]: the process is gone. EPERM: it may not be traced.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<usize, UffdError> {
        let remote = [piece(address, buffer.len())];
        self.call(buffer, &remote)
    }

    /// Reads a byte of every page of a range, which maps those that are not there; returns how many
    /// pages cannot be read.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn populate(&self, range: &Range<u64>) -> Result<u64, UffdError> {
        let mut bytes = [0; PIECES];
        let (mut at, mut unreadable) = (range.start, 0);
        while at < range.end {
            let pages = super::pages_in(&(at..range.end)).min(PIECES as u64);
            let remote: Vec<_> = (0..pages).map(|n| piece(at + n * PAGE_SIZE, 1)).collect();
            let read = self.call(&mut bytes[..remote.len()], &remote)?;
            // A short count ends at a page that cannot be read: pass over it.
            let failed = u64::from((read as u64) < pages);
            unreadable += failed;
            at += (read as u64 + failed) * PAGE_SIZE;
        }
        Ok(unreadable)
    }

    fn call(&self, buffer: &mut [u8], remote: &[libc::iovec]) -> Result<usize, UffdError> {
        let local = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let (pid, pieces) = (self.pid as libc::pid_t, remote.len() as libc::c_ulong);
        // SAFETY: the kernel writes at most its length to `buffer`, which is borrowed for that, and
        // checks the remote addresses.
        let read =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, remote.as_ptr(), pieces, 0) };
        let Ok(read) = usize::try_from(read) else {
            let error = io::Error::last_os_error();
            if Errno::from_io_error(&error) == Some(Errno::FAULT) {
                return Ok(0);
            }
            let on = format_args!("memory of process {}", self.pid);
            return Err(UffdError::of_process(self.pid, "cannot read", on)(error));
        };
        Ok(read)
    }
}

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
}

fn piece(address: u64, length: usize) -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::without_provenance_mut(address as usize),
        iov_len: length,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{Pagemap, PagemapEntry, ScratchMapping};

    #[test]
    fn reads_up_to_the_first_page_that_is_not_mapped() {
        let own = ProcessMemory::of(std::process::id());
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
        let own = ProcessMemory::of(std::process::id());
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
        let nobody = ProcessMemory::of(i32::MAX as u32);
        assert!(nobody.read(0x1000, &mut [0]).unwrap_err().is_gone());
    }
}
