//! The helper process: apart from tracker, so that killing tracker half way does no harm.
//!
//! A thread must not be let go between setting its registers and restoring them, and the kernel
//! lets it go the moment its tracer dies. So the tracer is a process in a session of its own, which
//! nobody's Ctrl-C, hang-up or end reaches, and which ends by itself when it is done. See
//! docs/inject.md.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use uffd::ProcessGone;

use super::super::facts::field;
use super::super::wire::{self, HelperAnswer, HelperRequest};
use super::super::{InjectError, KernelFaults};
use super::call::BorrowedThread;
use super::ptrace;
use super::text;
use super::threads::{StoppedProcess, wait_until_stoppable};

/// The argument that makes this program a helper.
pub(super) const ARGUMENT: &str = "inject-helper";

const CLOEXEC_NONBLOCK: u64 = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
const USER_MODE_ONLY: u64 = 1;

/// Serves one request, from standard input.
pub(super) fn serve() -> ExitCode {
    let socket = std::io::stdin();
    let request = match wire::receive::<HelperRequest>(&socket) {
        Ok(Some((request, _))) => request,
        // Whoever asked is gone.
        Ok(None) => return ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tracker: {ARGUMENT} is started by tracker itself, on a socket: {error}");
            return ExitCode::FAILURE;
        }
    };
    withdraw();
    let (outcome, fd) = match inject(&request) {
        Ok((answer, fd)) => (Ok(answer), Some(fd)),
        Err(error) => (Err(error), None),
    };
    // If tracker is gone, the userfaultfd goes with this process.
    let sent = wire::send(socket.as_fd(), &outcome, fd.as_ref().map(AsFd::as_fd));
    ExitCode::from(u8::from(sent.is_err() || outcome.is_err()))
}

/// Gets out of the reach of whatever ends tracker.
fn withdraw() {
    ptrace::block_signals();
    // Fails only for the leader of a process group, whose only member this process is.
    let _ = rustix::process::setsid();
    // Best effort: a machine short of memory should not end us just now.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    // What the target's owner sees as its tracer.
    let _ = rustix::thread::set_name(c"tracker-inject");
}

fn inject(request: &HelperRequest) -> Result<(HelperAnswer, OwnedFd), InjectError> {
    let pid = request.pid;
    let failed = |what: &str, error| InjectError::step(pid, what, error);
    let raw = Pid::from_raw(pid as i32).ok_or(ProcessGone { pid })?;
    let process = rustix::process::pidfd_open(raw, PidfdFlags::empty())
        .map_err(|error| failed("open the pidfd", error))?;
    let start = uffd::stat(pid).ok();
    if start.map(|stat| stat.start_time) != Some(request.start_time) {
        return Err(ProcessGone { pid }.into());
    }
    // Looked for while it runs, to be quick later. Not final: it may execute another program.
    let expected = memory(pid).and_then(|memory| text::find(pid, &memory));
    wait_until_stoppable(pid, Duration::from_millis(request.patience_ms))?;

    ptrace::hurry();
    let stopped = StoppedProcess::new(pid, Duration::from_millis(request.longest_stop_ms))?;
    let memory = memory(pid)?;
    let instruction = match expected {
        Ok(at) if text::is_there(&memory, at) => at,
        _ => text::find(pid, &memory)?,
    };
    let (tid, registers) = stopped.choose(&memory)?;
    suspend_seccomp(pid, tid)?;
    let mut thread = BorrowedThread::new(pid, tid, registers, instruction)?;
    let taken = take(&mut thread, process, request);
    drop(thread);

    let (threads, notes) = (stopped.len(), stopped.notes());
    let stopped_ns = stopped.release().as_nanos() as u64;
    let (fd, user_mode_only) = taken?;
    let answer = HelperAnswer {
        stopped_ns,
        threads,
        user_mode_only,
        notes,
    };
    Ok((answer, fd))
}

fn memory(pid: u32) -> Result<File, InjectError> {
    text::memory(pid).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        match errno {
            Errno::NOENT => ProcessGone { pid }.into(),
            errno => InjectError::step(pid, "open the memory", errno),
        }
    })
}

/// Suspends a seccomp filter, which would judge our calls, while the thread is ours.
fn suspend_seccomp(pid: u32, tid: u32) -> Result<(), InjectError> {
    let status = fs::read(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
    if matches!(field(&status, "Seccomp"), None | Some("0")) {
        return Ok(());
    }
    ptrace::set_options(tid, ptrace::MARK_SYSCALLS | ptrace::SUSPEND_SECCOMP).map_err(|error| {
        let why = error.to_string();
        InjectError::Seccomp { pid, why }
    })
}

/// Has the thread open a userfaultfd, duplicates it, and has the thread close its own.
fn take(
    thread: &mut BorrowedThread,
    process: OwnedFd,
    request: &HelperRequest,
) -> Result<(OwnedFd, bool), InjectError> {
    let pid = request.pid;
    let mut user_mode_only = false;
    let mut opened = thread.call(libc::SYS_userfaultfd, CLOEXEC_NONBLOCK)?;
    // This takes the target's privilege, which most targets lack.
    if opened == Err(Errno::PERM) && request.kernel_faults == KernelFaults::IfAllowed {
        user_mode_only = true;
        opened = thread.call(libc::SYS_userfaultfd, CLOEXEC_NONBLOCK | USER_MODE_ONLY)?;
    }
    let number = opened.map_err(|error| refused(pid, error))?;
    let taken = rustix::process::pidfd_getfd(&process, number as i32, PidfdGetfdFlags::empty());
    let closed = thread.call(libc::SYS_close, number)?;
    let fd = taken.map_err(|error| InjectError::step(pid, "take the userfaultfd", error))?;
    closed.map_err(|error| InjectError::step(pid, "close the userfaultfd", error))?;
    if !is_userfaultfd(&fd) {
        let error = Errno::BADF;
        return Err(InjectError::step(pid, "recognise the userfaultfd", error));
    }
    Ok((fd, user_mode_only))
}

/// Makes sure: a first thread with a descriptor table of its own would give us another file.
fn is_userfaultfd(fd: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd as _;
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.is_ok_and(|path| path.as_os_str() == "anon_inode:[userfaultfd]")
}

fn refused(pid: u32, error: Errno) -> InjectError {
    let help = match error {
        Errno::PERM => {
            ": a process without CAP_SYS_PTRACE gets none that handles faults of the kernel; set \
             vm.unprivileged_userfaultfd=1, or choose a strategy that does without (markers)"
        }
        Errno::NOSYS => ": this kernel was built without CONFIG_USERFAULTFD",
        Errno::MFILE => ": it has as many descriptors open as it may (ulimit -n)",
        Errno::NFILE => ": the machine has as many files open as it may (fs.file-max)",
        Errno::ACCESS => ": its security policy (SELinux) forbids it",
        _ => "",
    };
    let why = format!("{error}{help}");
    InjectError::Refused { pid, why }
}
