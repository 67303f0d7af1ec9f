//! The userfaultfd itself: userfaultfd(2) and its ioctls (ioctl_userfaultfd(2)).

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater};
use rustix::mm::UserfaultfdFlags;

use crate::abi::{
    API, API_VERSION, CONTINUE, CONTINUE_WP, COPY, COPY_WP, DONTWAKE, MOVE, NEW, REGISTER,
    UNREGISTER, UffdioApi, UffdioCopy, UffdioRange, UffdioRangeMode, UffdioWriteprotect, WAKE, WP,
    WRITEPROTECT, ZEROPAGE,
};
use crate::message::{MESSAGE_BYTES, UffdMessage};
use crate::{UffdError, UffdFeatures};

/// What a registration asks for (`UFFDIO_REGISTER_MODE_*` of ioctl_userfaultfd(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterMode(u64);

impl RegisterMode {
    /// Faults on pages that are not there.
    pub const MISSING: Self = Self(1);
    /// Writes to armed pages (anonymous memory: 5.7; shmem and hugetlb: 5.19).
    pub const WP: Self = Self(2);
    /// Both.
    pub const MISSING_WP: Self = Self(3);
    /// Writes to armed pages, and faults on pages that the file has and that are not mapped (shmem
    /// 5.14, hugetlb 5.13).
    pub const MINOR_WP: Self = Self(6);
}

/// A userfaultfd (userfaultfd(2)), of this process or taken over from another one.
///
/// It is non-blocking and belongs to the address space of the process that opened it. Closing it
/// ends every registration and lets go whoever waits; kernels before 6.12 leave write-protect bits
/// in the page tables then, which nobody looks at without a registration.
#[derive(Debug)]
pub struct Userfaultfd(OwnedFd);

impl Userfaultfd {
    /// Opens one for this process that also handles faults of the kernel, such as a read(2) into
    /// an armed page.
    ///
    /// Takes CAP_SYS_PTRACE, `vm.unprivileged_userfaultfd=1`, or the right to open
    /// `/dev/userfaultfd` (6.1), which is tried if userfaultfd(2) answers EPERM.
    ///
    /// # Errors
    /// EPERM: none of these, or a seccomp filter that refuses. ENOSYS: the kernel has no
    /// userfaultfd (`CONFIG_USERFAULTFD`).
    pub fn open() -> Result<Self, UffdError> {
        match open_with(UserfaultfdFlags::empty()) {
            Err(Errno::PERM) => Self::open_device(),
            result => result
                .map(Self)
                .map_err(|e| UffdError::system("cannot create", "userfaultfd", e)),
        }
    }

    /// Opens one for this process that handles faults of user code only, which takes no privilege
    /// (`UFFD_USER_MODE_ONLY`, 5.11). A fault of the kernel ends its system call with EFAULT then,
    /// unless the kernel resolves it itself ([`UffdFeatures::WP_ASYNC`]).
    ///
    /// # Errors
    /// EPERM: a seccomp filter refuses, as those of container runtimes do. ENOSYS: the kernel has
    /// no userfaultfd.
    pub fn open_user_mode_only() -> Result<Self, UffdError> {
        open_with(UserfaultfdFlags::from_bits_retain(1))
            .map(Self)
            .map_err(|e| UffdError::system("cannot create", "userfaultfd (user mode only)", e))
    }

    fn open_device() -> Result<Self, UffdError> {
        let path = Path::new("/dev/userfaultfd");
        let device = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|_| UffdError::system("cannot create", "userfaultfd", Errno::PERM))?;
        // SAFETY: USERFAULTFD_IOC_NEW takes open flags as its integer argument and no pointer.
        let fd = unsafe { rustix::ioctl::ioctl(&device, NewFd) }.map_err(|e| {
            UffdError::system("cannot create userfaultfd by", "/dev/userfaultfd", e)
        })?;
        Ok(Self(fd))
    }

    /// Takes ownership of the descriptor in a [`UffdMessage::Fork`].
    ///
    /// # Safety
    /// `fd` came from such a message to this process, and nothing else owns it.
    pub unsafe fn from_fork(fd: i32) -> Self {
        // SAFETY: the caller promises that it is open and ours alone.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Starts the protocol with `features`; returns those that the kernel offers (`UFFDIO_API`).
    /// Once for each userfaultfd, before anything else is done with it.
    ///
    /// # Errors
    /// EINVAL: the kernel lacks one of them; ask [`UffdFeatures::offered`] first. EPERM:
    /// [`UffdFeatures::EVENT_FORK`] without CAP_SYS_PTRACE.
    pub fn enable(&self, features: UffdFeatures) -> Result<UffdFeatures, UffdError> {
        let mut api = UffdioApi {
            api: API_VERSION,
            features: features.0,
            ioctls: 0,
        };
        // SAFETY: UFFDIO_API reads and writes one uffdio_api.
        unsafe { self.call::<API, _>(&mut api) }.map_err(|e| {
            UffdError::system("UFFDIO_API refuses features", features.to_string(), e)
        })?;
        Ok(UffdFeatures(api.features))
    }

    /// Registers a page-aligned range (`UFFDIO_REGISTER`; fs/userfaultfd.c `userfaultfd_register`).
    /// A part that is registered in this way already stays as it is.
    ///
    /// # Errors
    /// EBUSY: part of it belongs to another userfaultfd. EINVAL: part of it is not mapped, or this
    /// kernel cannot have a userfaultfd for memory of this kind. EPERM: a shared file that is not
    /// open for writing, or sealed against it. ENOMEM: the address space is gone.
    pub fn register(&self, range: &Range<u64>, mode: RegisterMode) -> Result<(), UffdError> {
        let mut arg = UffdioRangeMode {
            range: raw(range),
            mode: mode.0,
            answer: 0,
        };
        // SAFETY: UFFDIO_REGISTER reads and writes one uffdio_register; it changes no content.
        unsafe { self.call::<REGISTER, _>(&mut arg) }.map_err(|e| on("UFFDIO_REGISTER", range, e))
    }

    /// Ends the registration of a range, which disarms its pages (`UFFDIO_UNREGISTER`). It wakes
    /// who waits for a missing page there, but not who waits to write: see [`Self::wake`].
    ///
    /// Kernels before 6.12 let anybody unregister what belongs to another userfaultfd.
    ///
    /// # Errors
    /// EINVAL: part of it is memory that no userfaultfd can have, or nothing is mapped. ENOMEM: the
    /// address space is gone.
    pub fn unregister(&self, range: &Range<u64>) -> Result<(), UffdError> {
        // SAFETY: UFFDIO_UNREGISTER reads one uffdio_range; it changes no content.
        unsafe { self.call::<UNREGISTER, _>(&mut raw(range)) }
            .map_err(|e| on("UFFDIO_UNREGISTER", range, e))
    }

    /// Arms every page of a registered range (`UFFDIO_WRITEPROTECT`, 5.7). Pages that are not there
    /// get a marker where the kernel has them: shmem and hugetlb with
    /// [`UffdFeatures::WP_HUGETLBFS_SHMEM`], anonymous memory with
    /// [`UffdFeatures::WP_UNPOPULATED`].
    ///
    /// # Errors
    /// ENOENT: part of it is not registered, or not mapped. ESRCH: the address space is gone.
    pub fn arm(&self, range: &Range<u64>) -> Result<(), UffdError> {
        self.write_protect(range, WP)
    }

    /// Disarms a range and wakes who waits there: how a handler answers a write to an armed page.
    ///
    /// # Errors
    /// As [`Self::arm`].
    pub fn resolve(&self, range: &Range<u64>) -> Result<(), UffdError> {
        self.write_protect(range, 0)
    }

    fn write_protect(&self, range: &Range<u64>, mode: u64) -> Result<(), UffdError> {
        loop {
            let mut arg = UffdioWriteprotect {
                range: raw(range),
                mode,
            };
            // SAFETY: UFFDIO_WRITEPROTECT reads one uffdio_writeprotect; it changes no content.
            match unsafe { self.call::<WRITEPROTECT, _>(&mut arg) } {
                // The address space is changing (fork, mremap): the kernel asks to try again.
                Err(Errno::AGAIN) => std::thread::yield_now(),
                result => return result.map_err(|e| on("UFFDIO_WRITEPROTECT", range, e)),
            }
        }
    }

    /// Wakes who waits in a range, without changing it (`UFFDIO_WAKE`).
    ///
    /// # Errors
    /// EINVAL: the range is not aligned to pages.
    pub fn wake(&self, range: &Range<u64>) -> Result<(), UffdError> {
        // SAFETY: UFFDIO_WAKE reads one uffdio_range.
        unsafe { self.call::<WAKE, _>(&mut raw(range)) }.map_err(|e| on("UFFDIO_WAKE", range, e))
    }

    /// Fills missing pages with a copy (`UFFDIO_COPY`), armed as they are mapped if `armed` (5.7);
    /// returns how many bytes were copied, which are fewer than asked for if the address space
    /// changed meanwhile.
    ///
    /// # Safety
    /// `source` points to as many readable bytes as `range` has. If the userfaultfd is of this
    /// process, nothing holds a reference into `range`.
    ///
    /// # Errors
    /// EEXIST: a page is there already. ENOENT: the range is not registered, or not mapped. ESRCH:
    /// the address space is gone.
    pub unsafe fn copy(
        &self,
        range: &Range<u64>,
        source: *const u8,
        armed: bool,
    ) -> Result<u64, UffdError> {
        let mode = if armed { COPY_WP } else { 0 };
        let mut arg = copy_arg(range, source as u64, mode);
        // SAFETY: UFFDIO_COPY reads and writes one uffdio_copy; the caller promises the memory.
        let result = unsafe { self.call::<COPY, _>(&mut arg) };
        partial(result, arg.done).map_err(|e| on("UFFDIO_COPY", range, e))
    }

    /// Moves anonymous pages here from `source`, where they are missing then (`UFFDIO_MOVE`, 6.8);
    /// returns how many bytes were moved.
    ///
    /// # Safety
    /// If the userfaultfd is of this process, nothing holds a reference into either range.
    ///
    /// # Errors
    /// EINVAL: the kernel has no such ioctl, or cannot move memory of this kind. EBUSY: a page at
    /// `source` is shared or pinned. EEXIST and ENOENT: as [`Self::copy`]. ENOENT also: nothing is
    /// at `source`. ESRCH: the address space is gone.
    pub unsafe fn move_pages(&self, range: &Range<u64>, source: u64) -> Result<u64, UffdError> {
        let mut arg = copy_arg(range, source, 0);
        // SAFETY: UFFDIO_MOVE reads and writes one uffdio_move; the caller promises the memory.
        let result = unsafe { self.call::<MOVE, _>(&mut arg) };
        partial(result, arg.done).map_err(|e| on("UFFDIO_MOVE", range, e))
    }

    /// Maps the zero page where pages are missing (`UFFDIO_ZEROPAGE`), and wakes who waits for them
    /// if `wake`; returns how many bytes were mapped. Not for hugetlb.
    ///
    /// # Errors
    /// As [`Self::copy`]. EINVAL: hugetlb.
    pub fn zeropage(&self, range: &Range<u64>, wake: bool) -> Result<u64, UffdError> {
        let mode = if wake { 0 } else { DONTWAKE };
        let mut arg = UffdioRangeMode {
            range: raw(range),
            mode,
            answer: 0,
        };
        // SAFETY: UFFDIO_ZEROPAGE reads and writes one uffdio_zeropage; nothing can have seen
        // anything but zeroes in a page that is missing.
        let result = unsafe { self.call::<ZEROPAGE, _>(&mut arg) };
        partial(result, arg.answer as i64).map_err(|e| on("UFFDIO_ZEROPAGE", range, e))
    }

    /// Maps what the file has where a page is not mapped (`UFFDIO_CONTINUE`, 5.13), and wakes who
    /// waits for it; returns how many bytes were mapped.
    ///
    /// # Errors
    /// EEXIST: a page is mapped there. EFAULT: the file has no page there. ENOENT: part of it is
    /// not registered, or not mapped. ESRCH: the address space is gone.
    pub fn continue_pages(&self, range: &Range<u64>, armed: bool) -> Result<u64, UffdError> {
        let mut arg = UffdioRangeMode {
            range: raw(range),
            mode: if armed { CONTINUE_WP } else { 0 },
            answer: 0,
        };
        // SAFETY: UFFDIO_CONTINUE reads and writes one uffdio_continue; what it maps is what the
        // mapping has there.
        let result = unsafe { self.call::<CONTINUE, _>(&mut arg) };
        partial(result, arg.answer as i64).map_err(|e| on("UFFDIO_CONTINUE", range, e))
    }

    /// Appends the messages that are queued, at most 16; none if there is none. poll(2) for more.
    ///
    /// # Errors
    /// EINVAL: [`Self::enable`] has not been called yet.
    pub fn read_messages(&self, messages: &mut Vec<UffdMessage>) -> Result<(), UffdError> {
        let mut buffer = [[0; MESSAGE_BYTES]; 16];
        let length = match rustix::io::read(&self.0, buffer.as_flattened_mut()) {
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            result => result.map_err(|e| UffdError::system("cannot read", "userfaultfd", e))?,
        };
        messages.extend(
            buffer[..length / MESSAGE_BYTES]
                .iter()
                .map(UffdMessage::parse),
        );
        Ok(())
    }

    /// # Safety
    /// `T` is the type the kernel expects for `OPCODE`, and the effect on memory is accounted for.
    unsafe fn call<const OPCODE: Opcode, T>(&self, arg: &mut T) -> Result<(), Errno> {
        // SAFETY: the caller pairs OPCODE and T.
        unsafe { rustix::ioctl::ioctl(&self.0, Updater::<OPCODE, T>::new(arg)) }
    }
}

impl UffdFeatures {
    /// Those that this kernel offers, asked on a userfaultfd that is thrown away.
    ///
    /// # Errors
    /// If none can be opened: see [`Userfaultfd::open_user_mode_only`].
    pub fn offered() -> Result<Self, UffdError> {
        let fd = Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only())?;
        fd.enable(Self::default())
    }
}

impl AsFd for Userfaultfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Userfaultfd {
    /// One that was duplicated from another process, by pidfd_getfd(2) or over a socket.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

fn open_with(flags: UserfaultfdFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    // SAFETY: opening it changes nothing; what its ioctls change is told at each.
    unsafe { rustix::mm::userfaultfd(flags) }
}

fn raw(range: &Range<u64>) -> UffdioRange {
    UffdioRange {
        start: range.start,
        len: range.end.saturating_sub(range.start),
    }
}

fn copy_arg(range: &Range<u64>, src: u64, mode: u64) -> UffdioCopy {
    let UffdioRange { start, len } = raw(range);
    UffdioCopy {
        dst: start,
        src,
        len,
        mode,
        done: 0,
    }
}

/// An ioctl that stops early answers EAGAIN and says how far it came.
fn partial(result: Result<(), Errno>, done: i64) -> Result<u64, Errno> {
    match result {
        Ok(()) => Ok(done.unsigned_abs()),
        Err(Errno::AGAIN) if done >= 0 => Ok(done.unsigned_abs()),
        Err(errno) => Err(errno),
    }
}

fn on(what: &'static str, range: &Range<u64>, errno: Errno) -> UffdError {
    UffdError::system(
        what,
        format!("of {:#x}-{:#x}", range.start, range.end),
        errno,
    )
}

/// `USERFAULTFD_IOC_NEW`: flags as an integer, a new fd as its result.
struct NewFd;

// SAFETY: the argument is an integer, nothing in user memory is read or written, and a result that
// is not an error is a new descriptor.
unsafe impl rustix::ioctl::Ioctl for NewFd {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        NEW
    }

    fn as_ptr(&mut self) -> *mut std::ffi::c_void {
        let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
        std::ptr::without_provenance_mut(flags.bits() as usize)
    }

    // SAFETY: the trait's caller hands over the result of this ioctl, which nobody else has.
    unsafe fn output_from_ptr(
        fd: rustix::ioctl::IoctlOutput,
        _: *mut std::ffi::c_void,
    ) -> rustix::io::Result<OwnedFd> {
        // SAFETY: the kernel has just made this descriptor, for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::{PAGE_SIZE, ScratchMapping};

    #[test]
    fn an_early_stop_tells_how_far_it_came() {
        assert_eq!(partial(Err(Errno::AGAIN), 4096), Ok(4096));
        assert_eq!(partial(Ok(()), 8192), Ok(8192));
        assert_eq!(partial(Err(Errno::EXIST), -17), Err(Errno::EXIST));
    }

    #[test]
    fn a_sync_fault_arrives_as_a_message_and_is_resolved() {
        let scratch = ScratchMapping::anonymous(PAGE_SIZE).unwrap();
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::default()).unwrap();
        let range = scratch.range();
        fd.register(&range, RegisterMode::WP).unwrap();
        scratch.write(0);
        fd.arm(&range).unwrap();
        let mut messages = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| scratch.write(0));
            while messages.is_empty() {
                std::thread::yield_now();
                fd.read_messages(&mut messages).unwrap();
            }
            fd.resolve(&range).unwrap();
        });
        let expected = UffdMessage::Fault {
            address: range.start,
            write_protect: true,
            write: true,
        };
        assert_eq!(messages, [expected]);
    }

    #[test]
    fn copy_fills_a_missing_page() {
        let scratch = ScratchMapping::anonymous(PAGE_SIZE).unwrap();
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::default()).unwrap();
        fd.register(&scratch.range(), RegisterMode::MISSING_WP)
            .unwrap();
        let page = [7u8; PAGE_SIZE as usize];
        // SAFETY: `page` is as long as the range, and nobody refers to the scratch's content.
        let copied = unsafe { fd.copy(&scratch.range(), page.as_ptr(), true) }.unwrap();
        assert_eq!((copied, scratch.read(0)), (PAGE_SIZE, 7));
    }

    #[test]
    fn a_refused_range_is_named() {
        let fd = Userfaultfd::open_user_mode_only().unwrap();
        fd.enable(UffdFeatures::default()).unwrap();
        let error = fd
            .register(&(0x1000..0x3000), RegisterMode::WP)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("UFFDIO_REGISTER of 0x1000-0x3000: "),
            "{error}"
        );
    }
}
