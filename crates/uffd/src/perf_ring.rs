//! The ring of a perf event, as perf_event_open(2) describes it.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::bindings;
use rustix::mm::{MapFlags, ProtFlags};

use crate::{PAGE_SIZE, UffdError};

/// Bytes of the ring; one page before it describes it.
const RING: usize = PAGE_SIZE as usize;

/// An event that is not shared, with the ring that it writes to.
#[derive(Debug)]
pub(crate) struct PerfRing {
    fd: OwnedFd,
    page: NonNull<bindings::perf_event_mmap_page>,
}

// SAFETY: the mapping is this value's alone, and is not bound to a thread.
unsafe impl Send for PerfRing {}

/// Opens an event for all processes on a processor.
pub(crate) fn perf_event(attr: &bindings::perf_event_attr, cpu: i32) -> Result<OwnedFd, UffdError> {
    let mut attr = *attr;
    let flags = u64::from(bindings::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: the kernel reads the attributes, and a name of static life that they point to.
    let fd =
        unsafe { perf_event_open_sys::perf_event_open(&raw mut attr, -1, cpu, -1, flags as _) };
    if fd < 0 {
        let error = std::io::Error::last_os_error();
        return Err(UffdError::system("cannot open", "a perf event", error));
    }
    // SAFETY: it is open, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl PerfRing {
    pub(crate) fn map(fd: OwnedFd) -> Result<Self, UffdError> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let (length, flags) = (RING + PAGE_SIZE as usize, MapFlags::SHARED);
        // SAFETY: a new mapping, wherever the kernel finds room.
        let page =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), length, protection, flags, &fd, 0) };
        let on = |e| UffdError::system("cannot map", format!("perf event {}", fd.as_raw_fd()), e);
        let page = NonNull::new(page.map_err(on)?.cast());
        let page = page.ok_or_else(|| on(rustix::io::Errno::NOMEM))?;
        Ok(Self { fd, page })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Passes on the words of every sample that is there.
    pub(crate) fn read(&mut self, mut each: impl FnMut(&[u64])) {
        let head = self.head().load(Ordering::Acquire);
        let mut at = self.tail().load(Ordering::Relaxed);
        while at < head {
            // type, misc, size: `struct perf_event_header`.
            let header = self.word(at);
            let words = (header >> 48) / 8;
            if words == 0 {
                break;
            }
            if header as u32 == bindings::PERF_RECORD_SAMPLE {
                let sample: Vec<u64> = (1..words).map(|n| self.word(at + n * 8)).collect();
                each(&sample);
            }
            at += words * 8;
        }
        self.tail().store(head, Ordering::Release);
    }

    /// The word at an offset that only grows. Records are multiples of 8 bytes.
    fn word(&self, at: u64) -> u64 {
        let offset = at as usize % RING;
        // SAFETY: within the ring, which begins after a page, and aligned.
        unsafe {
            let ring = self.page.cast::<u8>().add(PAGE_SIZE as usize);
            ring.add(offset).cast::<u64>().read_volatile()
        }
    }

    fn head(&self) -> &AtomicU64 {
        // SAFETY: it is mapped as long as this value lives; the kernel writes it at any time.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.page.as_ptr()).data_head) }
    }

    fn tail(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.page.as_ptr()).data_tail) }
    }
}

impl Drop for PerfRing {
    fn drop(&mut self) {
        // SAFETY: what was mapped, and nobody has a reference into it any more.
        let _ = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), RING + PAGE_SIZE as usize) };
    }
}
