//! tracefs, whether it is mounted or not.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::UffdError;

/// The root of a tracefs. One that is mounted nowhere is mounted for this value only, where nobody
/// else sees it.
pub(crate) struct TraceFiles(OwnedFd);

impl TraceFiles {
    /// Takes one that is mounted, or mounts one, which takes `CAP_SYS_ADMIN`.
    pub(crate) fn open() -> Result<Self, UffdError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        for mounted in ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"] {
            let root = rustix::fs::open(mounted, flags, Mode::empty());
            let root = root.and_then(|root| {
                rustix::fs::openat(&root, "events", flags, Mode::empty()).map(|_| root)
            });
            if let Ok(root) = root {
                return Ok(Self(root));
            }
        }
        let mounted = mount(c"tracefs");
        mounted
            .map(Self)
            .map_err(|e| UffdError::system("cannot mount", "tracefs", e))
    }

    /// The number of a tracepoint, which perf_event_open(2) takes.
    pub(crate) fn tracepoint(&self, group: &str, name: &str) -> Result<u64, UffdError> {
        let path = format!("events/{group}/{name}/id");
        let on = |e: io::Error| UffdError::system("cannot read", format!("tracefs {path}"), e);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, path.as_str(), flags, Mode::empty());
        let mut text = String::new();
        File::from(file.map_err(|e| on(e.into()))?)
            .read_to_string(&mut text)
            .map_err(on)?;
        let number = text.trim().parse();
        number.map_err(|_| UffdError::format(path, text.as_bytes()))
    }
}

/// A mount that is attached nowhere (fsopen(2), Linux 5.2).
fn mount(kind: &CStr) -> io::Result<OwnedFd> {
    /// `FSCONFIG_CMD_CREATE` of include/uapi/linux/mount.h.
    const CREATE: libc::c_uint = 6;
    const CLOEXEC: libc::c_uint = 1;
    // SAFETY: fsopen(kind, FSOPEN_CLOEXEC).
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOEXEC) })?;
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0).
    let made = unsafe {
        let fd = context.as_raw_fd();
        libc::syscall(libc::SYS_fsconfig, fd, CREATE, null, null, 0)
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fsmount(fd, FSMOUNT_CLOEXEC, 0).
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, 0) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}
