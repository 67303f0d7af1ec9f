//! What a process owns that ends with a descriptor table or a process: as long as it is there, no
//! copy of the table was closed on the process's behalf.

use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::null_mut;

use rustix::io::Errno;

use super::sys::answer;

/// A message queue that tells this process of its next message. The registration ends when the
/// process closes the queue, under whatever number.
pub struct NotifyingQueue(OwnedFd);

impl NotifyingQueue {
    /// None without `CONFIG_POSIX_MQUEUE`.
    pub fn new() -> Option<Self> {
        let name = format!("/inject-target-{}\0", std::process::id());
        let flags = libc::O_CREAT | libc::O_RDWR | libc::O_CLOEXEC;
        // SAFETY: the name ends with a NUL, and O_CREAT comes with a mode and no attributes.
        let queue = unsafe { libc::mq_open(name.as_ptr().cast(), flags, 0o600, null_mut::<u8>()) };
        // SAFETY: as above.
        unsafe { libc::mq_unlink(name.as_ptr().cast()) };
        // SAFETY: a queue is a descriptor, which is ours from now on.
        let queue = (queue >= 0).then(|| Self(unsafe { OwnedFd::from_raw_fd(queue) }))?;
        queue.register().ok().map(|_| queue)
    }

    fn register(&self) -> rustix::io::Result<i64> {
        // SAFETY: integers and a null pointer.
        let mut event: libc::sigevent = unsafe { zeroed() };
        event.sigev_notify = libc::SIGEV_NONE;
        // SAFETY: a valid event, which the kernel copies.
        answer(unsafe { libc::mq_notify(self.0.as_raw_fd(), &raw const event) }.into())
    }

    /// Whether it still does: a second registration is refused then.
    pub fn is_registered(&self) -> bool {
        self.register() == Err(Errno::BUSY)
    }
}

/// All of a file.
static WHOLE: libc::flock = libc::flock {
    l_type: libc::F_WRLCK as libc::c_short,
    l_whence: libc::SEEK_SET as libc::c_short,
    l_start: 0,
    l_len: 0,
    l_pid: 0,
};

/// Locks a file for this process, which loses the lock when it closes the file under any number.
pub fn lock(file: i32) -> rustix::io::Result<()> {
    // SAFETY: a valid lock, which the kernel reads.
    answer(unsafe { libc::fcntl(file, libc::F_SETLK, &raw const WHOLE) }.into()).map(drop)
}

/// Whether this process holds the lock: one of an open file would be in its way.
pub fn is_locked_here(file: i32) -> bool {
    let mut lock = WHOLE;
    // SAFETY: a valid lock, which the kernel writes to.
    let asked = unsafe { libc::fcntl(file, libc::F_OFD_GETLK, &raw mut lock) };
    asked == 0 && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// Whether another process holds the lock.
pub fn is_locked(file: i32) -> bool {
    let mut lock = WHOLE;
    // SAFETY: a valid lock, which the kernel writes to.
    unsafe { libc::fcntl(file, libc::F_GETLK, &raw mut lock) };
    lock.l_type != libc::F_UNLCK as libc::c_short
}
