//! As little of io_uring as fixed buffers need: submits one operation at a time and awaits its
//! completion.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::area::MappedArea;
use crate::needs::SkipReason;

const OFF_SQ_RING: i64 = 0;
const OFF_SQES: i64 = 0x1000_0000;
const FEAT_SINGLE_MMAP: u32 = 1;
const REGISTER_BUFFERS: libc::c_uint = 0;
const ENTER_GETEVENTS: libc::c_uint = 1;
const OP_READ_FIXED: u8 = 4;
/// The most bytes that both rings of two entries take.
const RINGS: usize = 4096;

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`, both of ten words.
#[repr(C)]
#[derive(Default)]
struct RingOffsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    /// Flags of submissions, overflow of completions.
    further: u32,
    /// Dropped submissions, where completions are.
    completions: u32,
    /// Order of submissions.
    array: u32,
    rest: [u32; 3],
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Default)]
struct RingParameters {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    sq_thread: [u32; 2],
    features: u32,
    rest: [u32; 4],
    sq: RingOffsets,
    cq: RingOffsets,
}

/// `struct io_uring_sqe`.
#[repr(C)]
struct RingSubmission {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    rw_flags: u32,
    user_data: u64,
    buffer: u16,
    rest: [u16; 11],
}

/// `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RingCompletion {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// A ring, whose mappings stay until the process ends.
pub struct IoRing {
    ring: OwnedFd,
    rings: *mut u8,
    submissions: *mut RingSubmission,
    parameters: RingParameters,
}

// SAFETY: its mappings are its own; it is used by one thread at a time.
unsafe impl Send for IoRing {}

impl IoRing {
    /// Makes a new ring; skips the scenario where there is no io_uring.
    pub fn open() -> Result<Self> {
        let mut parameters = RingParameters::default();
        // SAFETY: the kernel fills in the parameters, which have the layout it expects.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return Err(SkipReason::Kernel(format!("io_uring is refused: {error}")).into());
        }
        // SAFETY: a new descriptor that nobody else has.
        let ring = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        ensure!(
            parameters.features & FEAT_SINGLE_MMAP != 0,
            "an io_uring with two ring mappings"
        );
        let rings = map(&ring, OFF_SQ_RING)?;
        let submissions = map(&ring, OFF_SQES)?.cast();
        Ok(Self {
            ring,
            rings,
            submissions,
            parameters,
        })
    }

    /// Makes an area the ring's only fixed buffer.
    pub fn register(&mut self, area: &MappedArea) -> Result<()> {
        let buffer = libc::iovec {
            iov_base: area.byte(0).cast(),
            iov_len: (area.range().end - area.range().start) as usize,
        };
        // SAFETY: the kernel reads one iovec; the area stays mapped.
        let registered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.ring.as_raw_fd(),
                REGISTER_BUFFERS,
                &raw const buffer,
                1,
            )
        };
        ensure!(
            registered == 0,
            "REGISTER_BUFFERS: {}",
            io::Error::last_os_error()
        );
        Ok(())
    }

    /// Reads the first bytes of a file into the fixed buffer.
    pub fn read_fixed(&mut self, file: &File, to: *mut u8, length: u32) -> Result<()> {
        let submission = RingSubmission {
            opcode: OP_READ_FIXED,
            flags: 0,
            ioprio: 0,
            fd: file.as_raw_fd(),
            offset: 0,
            address: to.addr() as u64,
            length,
            rw_flags: 0,
            user_data: 0,
            buffer: 0,
            rest: [0; 11],
        };
        // SAFETY: the ring has one entry, number 0, which nobody reads before its tail moves.
        unsafe { self.submissions.write(submission) };
        self.word(self.parameters.sq.array)
            .store(0, Ordering::Relaxed);
        self.word(self.parameters.sq.tail)
            .fetch_add(1, Ordering::Release);
        // SAFETY: it takes no pointer; the buffer is pinned.
        let entered = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.ring.as_raw_fd(),
                1,
                1,
                ENTER_GETEVENTS,
                ptr::null::<u8>(),
                0,
            )
        };
        ensure!(
            entered == 1,
            "io_uring_enter: {}",
            io::Error::last_os_error()
        );
        let result = self.complete().context("nothing has completed")?;
        ensure!(
            result == length as i32,
            "READ_FIXED: {}",
            io::Error::from_raw_os_error(-result)
        );
        Ok(())
    }

    /// The result of the submission.
    fn complete(&self) -> Option<i32> {
        let (head, tail) = (
            self.word(self.parameters.cq.head),
            self.word(self.parameters.cq.tail),
        );
        let mask = self.word(self.parameters.cq.mask).load(Ordering::Relaxed);
        let next = head.load(Ordering::Relaxed);
        if next == tail.load(Ordering::Acquire) {
            return None;
        }
        let at = self.parameters.cq.completions as usize
            + (next & mask) as usize * size_of::<RingCompletion>();
        // SAFETY: inside the mapping, and complete: the kernel has moved the tail behind it.
        let completion = unsafe { self.rings.add(at).cast::<RingCompletion>().read() };
        head.store(next.wrapping_add(1), Ordering::Release);
        Some(completion.result)
    }

    /// A word that we share with the kernel.
    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel says where it is, aligned and inside the mapping, which stays.
        unsafe { AtomicU32::from_ptr(self.rings.add(offset as usize).cast()) }
    }
}

fn map(ring: &OwnedFd, offset: i64) -> Result<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping that replaces none.
    let mapped = unsafe {
        libc::mmap(
            ptr::null_mut(),
            RINGS,
            protection,
            libc::MAP_SHARED,
            ring.as_raw_fd(),
            offset,
        )
    };
    ensure!(
        mapped != libc::MAP_FAILED,
        "cannot map a ring: {}",
        io::Error::last_os_error()
    );
    Ok(mapped.cast())
}
