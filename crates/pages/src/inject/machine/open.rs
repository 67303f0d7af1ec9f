//! Has a thread of the target open a userfaultfd, and takes it away.
//!
//! A process with one thread opens it itself, while that thread stands still. In one with several
//! the others run on, so a child of the thread opens it in a descriptor table that is nobody else's
//! ([`super::child`]). Where no child can be made, all threads are stopped, and one opens it itself.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use uffd::ProcessGone;

use super::super::facts::field;
use super::super::wire::{InjectAnswer, InjectRequest};
use super::super::{InjectError, InjectNote, KernelFaults};
use super::call::{BorrowedThread, CallingThread};
use super::child::{self, NoChildReason, in_child};
use super::chosen::{ChosenThread, StopLimits};
use super::everyone::{StoppedProcess, wait_until_stoppable};
use super::ptrace::{self, ThreadRegisters};
use super::stop::StragglingThreads;
use super::{proc, text};

const CLOEXEC_NONBLOCK: u64 = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
const USER_MODE_ONLY: u64 = 1;
/// How often a child that was left is tried to be collected: each waits for a better moment.
const COLLECTED: usize = 3;

/// A userfaultfd that is ours alone.
struct TakenUffd {
    fd: OwnedFd,
    user_mode_only: bool,
}

/// Gets a userfaultfd of the process that is asked for.
pub(super) fn open(
    request: &InjectRequest,
    stragglers: &mut StragglingThreads,
) -> Result<(InjectAnswer, OwnedFd), InjectError> {
    let pid = request.target.pid;
    let process = request.target.open()?;
    // Looked for while it runs, to be quick later. It may be about to execute another program: not
    // final.
    let expected = memory(pid).and_then(|memory| text::find(pid, &memory)).ok();
    let threads = proc::tasks(pid)?.len();
    ptrace::hurry(0);
    let attempt = UffdAttempt {
        pid,
        process,
        threads,
        expected,
        faults: request.kernel_faults,
        limits: StopLimits {
            patience: Duration::from_millis(request.patience_ms),
            stop: Duration::from_millis(request.longest_stop_ms),
        },
    };
    let opened = attempt.with_one_thread(stragglers);
    for child in stragglers.take_left() {
        // If it cannot be now, the kernel does it at the target's end.
        let may_pass =
            |tried: &Result<(), InjectError>| matches!(tried, Err(error) if error.may_pass());
        let mut tries = (0..COLLECTED).map(|_| attempt.collect(child, stragglers));
        let _ = tries.find(|tried| !may_pass(tried));
    }
    let (taken, stop) = match opened? {
        Ok(done) => done,
        Err(why) => attempt.with_all_threads(why, stragglers)?,
    };
    let answer = InjectAnswer {
        stopped_ns: stop.time.as_nanos() as u64,
        threads,
        stopped_threads: stop.threads,
        user_mode_only: taken.user_mode_only,
        notes: stop.notes,
    };
    Ok((answer, taken.fd))
}

/// What it took.
struct StopRecord {
    time: Duration,
    threads: usize,
    notes: Vec<InjectNote>,
}

struct UffdAttempt {
    pid: u32,
    process: OwnedFd,
    /// How many threads it had before any was stopped.
    threads: usize,
    /// Where an instruction `syscall` is expected.
    expected: Option<u64>,
    faults: KernelFaults,
    limits: StopLimits,
}

impl UffdAttempt {
    /// Stops the thread that notices least.
    fn with_one_thread(
        &self,
        stragglers: &mut StragglingThreads,
    ) -> Result<Result<(TakenUffd, StopRecord), NoChildReason>, InjectError> {
        let chosen = ChosenThread::stop(self.pid, self.limits, stragglers)?;
        let memory = memory(self.pid)?;
        let registers = chosen.goes_on_with(&memory);
        let mut thread = self.borrow(chosen.tid, registers, &memory)?;
        // One that stands still makes no others. With many the list is long: not read once more.
        let is_alone = self.threads == 1 && proc::is_alone(self.pid, chosen.tid)?;
        let taken = if is_alone {
            Ok(self.in_its_own_table(&mut thread.caller)?)
        } else {
            in_child(&mut thread, self.limits.stop, stragglers, |child| {
                self.in_childs_table(child)
            })?
        };
        drop(thread);
        let notes = chosen.notes();
        let time = chosen.release();
        let threads = 1;
        Ok(taken.map(|taken| {
            (
                taken,
                StopRecord {
                    time,
                    threads,
                    notes,
                },
            )
        }))
    }

    /// Stops all, so that none sees the descriptor or makes a child that has it.
    fn with_all_threads(
        &self,
        why: NoChildReason,
        stragglers: &mut StragglingThreads,
    ) -> Result<(TakenUffd, StopRecord), InjectError> {
        wait_until_stoppable(self.pid, self.limits.patience)?;
        let stopped = StoppedProcess::new(self.pid, self.limits.stop, stragglers)?;
        let memory = memory(self.pid)?;
        let (tid, registers) = stopped.choose(&memory)?;
        let mut thread = self.borrow(tid, registers, &memory)?;
        let taken = self.in_its_own_table(&mut thread.caller)?;
        drop(thread);
        let threads = stopped.len();
        let mut notes = vec![InjectNote::AllStopped {
            threads,
            why: why.to_string(),
        }];
        notes.extend(stopped.notes());
        let time = stopped.release();
        Ok((
            taken,
            StopRecord {
                time,
                threads,
                notes,
            },
        ))
    }

    /// Has the first thread of the program that another thread executed collect a child of ours.
    fn collect(&self, child: u64, stragglers: &mut StragglingThreads) -> Result<(), InjectError> {
        let chosen = ChosenThread::stop(self.pid, self.limits, stragglers)?;
        let memory = memory(self.pid)?;
        let registers = chosen.goes_on_with(&memory);
        let mut thread = self.borrow(chosen.tid, registers, &memory)?;
        let collected = child::collect(&mut thread.caller, child);
        drop(thread);
        chosen.release();
        collected
    }

    fn borrow(
        &self,
        tid: u32,
        registers: ThreadRegisters,
        memory: &File,
    ) -> Result<BorrowedThread, InjectError> {
        let instruction = match self.expected {
            Some(at) if text::is_there(memory, at) => at,
            _ => text::find(self.pid, memory)?,
        };
        hold(self.pid, tid)?;
        BorrowedThread::new(self.pid, tid, registers, instruction)
    }

    /// Has a thread open one, duplicates it, and has the thread close its own. Nobody else runs who
    /// has this table.
    fn in_its_own_table(&self, thread: &mut CallingThread) -> Result<TakenUffd, InjectError> {
        let (number, user_mode_only) = self.call(thread)?;
        let taken = take(self.pid, &self.process, number);
        let closed = thread.call(libc::SYS_close, &[number])?;
        let fd = taken?;
        closed.map_err(|error| InjectError::step(self.pid, "close the userfaultfd", error))?;
        Ok(TakenUffd { fd, user_mode_only })
    }

    /// Has a child open one, and duplicates it. The child's table goes with it.
    fn in_childs_table(&self, child: &mut CallingThread) -> Result<TakenUffd, InjectError> {
        let process = pidfd(child.tid)
            .map_err(|error| InjectError::step(self.pid, "open the pidfd of a child", error))?;
        let (number, user_mode_only) = self.call(child)?;
        let fd = take(self.pid, &process, number)?;
        Ok(TakenUffd { fd, user_mode_only })
    }

    fn call(&self, thread: &mut CallingThread) -> Result<(u64, bool), InjectError> {
        let mut user_mode_only = false;
        let mut opened = thread.call(libc::SYS_userfaultfd, &[CLOEXEC_NONBLOCK])?;
        // The privilege asked for is the target's, which most have not.
        if opened == Err(Errno::PERM) && self.faults == KernelFaults::IfAllowed {
            user_mode_only = true;
            let flags = CLOEXEC_NONBLOCK | USER_MODE_ONLY;
            opened = thread.call(libc::SYS_userfaultfd, &[flags])?;
        }
        let number = opened.map_err(|error| refused(self.pid, error))?;
        Ok((number, user_mode_only))
    }
}

/// Duplicates the userfaultfd that a process has under a number.
fn take(pid: u32, process: &OwnedFd, number: u64) -> Result<OwnedFd, InjectError> {
    let failed = |what, error| InjectError::step(pid, what, error);
    let flags = PidfdGetfdFlags::empty();
    let fd = rustix::process::pidfd_getfd(process, number as i32, flags)
        .map_err(|error| failed("take the userfaultfd", error))?;
    if !is_userfaultfd(&fd) {
        return Err(failed("recognise the userfaultfd", Errno::BADF));
    }
    Ok(fd)
}

/// A first thread with a descriptor table of its own would give us some other file.
fn is_userfaultfd(fd: &OwnedFd) -> bool {
    let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    link.is_ok_and(|path| path.as_os_str() == "anon_inode:[userfaultfd]")
}

/// A descriptor of a process.
pub(super) fn pidfd(pid: u32) -> rustix::io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid as i32).ok_or(Errno::SRCH)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
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

/// A filter that would judge our calls rests while the thread is ours, and it does not end without
/// us.
fn hold(pid: u32, tid: u32) -> Result<(), InjectError> {
    let options = ptrace::MARK_SYSCALLS | ptrace::HOLD_CHILDREN | ptrace::HOLD_AT_EXIT;
    let status = fs::read(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
    if matches!(field(&status, "Seccomp"), None | Some("0")) {
        let held = ptrace::set_options(tid, options);
        return held.map_err(|error| InjectError::step(pid, "hold a thread", error));
    }
    ptrace::set_options(tid, options | ptrace::SUSPEND_SECCOMP).map_err(|error| {
        let why = error.to_string();
        InjectError::Seccomp { pid, why }
    })
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
