//! A child that a thread of the target makes for us: it has the target's memory, and a descriptor
//! table of its own, so no other thread ever sees, closes or inherits what it opens.
//!
//! It is made with `CLONE_VM` and nothing else shared but, for a moment, the descriptor table: a
//! copy would hold every file of the target open for as long as it lives. What it shares it gives
//! up by one close_range(2), which copies the first 64 descriptors at most and closes them again.
//! It never runs a single instruction of its own accord: it belongs to the tracer from birth, and is
//! killed with it. `exit_signal` is 0, so its end sends no signal and an ordinary wait(2) of the
//! target does not find it; the thread that made it collects it.
//!
//! Another thread may execute a program meanwhile, which ends all others. This one then stands still
//! once more before it ends (`PTRACE_O_TRACEEXIT`), and until it is let go the kernel does not begin
//! with the new program. So the child is dead by then, and has neither sent a signal nor kept the
//! descriptor table shared (exec would have had to copy it, and lost its POSIX locks). What is left
//! of the child is a zombie that the new program's first thread is made to collect.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use uffd::ProcessGone;

use super::super::InjectError;
use super::call::{BorrowedThread, CallingThread};
use super::proc;
use super::ptrace::{self, PtraceEvent, WaitDeadline};
use super::stop::{StragglingThreads, step};

/// Where its stack would be: nothing is there, and nothing of it ever runs.
const NO_STACK: u64 = 16;
/// In rax when signals must be seen to before a fork ("begin again").
const ERESTARTNOINTR: Errno = Errno::from_raw_os_error(513);

/// The child. Dropping it kills it and waits for its end.
pub(super) struct ChildProcess {
    tid: u32,
    ended: bool,
}

/// Why a thread of the target makes no child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoChildReason {
    /// It would be the first process of a new pid namespace.
    PidNamespace,
    /// The kernel refuses: too many processes, a security module, a scheduling class.
    Refused(Errno),
}

impl fmt::Display for NoChildReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PidNamespace => {
                f.write_str("it would be the first process of a new pid namespace")
            }
            Self::Refused(error) => error.fmt(f),
        }
    }
}

impl ChildProcess {
    /// The child that a stopped thread has just made, and which is ours.
    pub(super) fn made_by(parent: u32) -> Option<Self> {
        let tid = ptrace::event_message(parent).ok()? as u32;
        Some(Self { tid, ended: false })
    }

    /// A child of which no event told: a thread that is killed in clone(2) has no other event than
    /// its end.
    fn untold(target: u32) -> Option<Self> {
        let tid = proc::processes_traced_by_us().find(|&pid| pid != target)?;
        Some(Self { tid, ended: false })
    }

    /// Kills it and waits for its end; false: that takes longer.
    fn is_killed(&self, longest: Duration) -> bool {
        if let Some(pid) = Pid::from_raw(self.tid as i32) {
            // It is there for as long as nobody has waited for it, and that is us.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        let deadline = WaitDeadline::At(Instant::now() + longest);
        loop {
            match ptrace::wait(self.tid, deadline) {
                Ok(Some(PtraceEvent::Ended)) | Err(_) => return true,
                // It is held at its exit, as its parent is, until it has options of its own.
                Ok(Some(_)) => drop(ptrace::resume(self.tid, 0)),
                Ok(None) => return false,
            }
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        /// Nothing that it could be in lasts.
        const LONGEST: Duration = Duration::from_secs(2);
        if !self.ended {
            self.is_killed(LONGEST);
        }
    }
}

/// Does some work in a child of a thread, which has an empty descriptor table, and has the thread
/// collect it. A child that does not come to its end in time is killed and becomes a straggler.
pub(super) fn in_child<T>(
    thread: &mut BorrowedThread,
    longest: Duration,
    stragglers: &mut StragglingThreads,
    work: impl FnOnce(&mut CallingThread) -> Result<T, InjectError>,
) -> Result<Result<T, NoChildReason>, InjectError> {
    let parent = &mut thread.caller;
    if !proc::children_share_pid_namespace(parent.pid, parent.tid) {
        return Ok(Err(NoChildReason::PidNamespace));
    }
    let made = make(parent);
    let mut child = parent.child.take();
    if child.is_none() && made.is_err() {
        child = ChildProcess::untold(parent.pid);
    }
    let Some(mut child) = child else {
        return match made? {
            Ok(_) => Err(step(
                parent.pid,
                "follow the child of",
                parent.tid,
                Errno::PROTO,
            )),
            Err(error) => Ok(Err(NoChildReason::Refused(error))),
        };
    };
    let Some(number) = proc::number_in_its_namespace(child.tid) else {
        return Err(step(
            parent.pid,
            "number the child of",
            parent.tid,
            Errno::PROTO,
        ));
    };
    if let Err(error) = made {
        child.ended = child.is_killed(longest);
        stragglers.leave(number);
        return Err(error);
    }
    let mut caller = CallingThread {
        pid: parent.pid,
        tid: child.tid,
        registers: parent.registers,
        instruction: parent.instruction,
        longest,
        child: None,
    };
    let done = begin(&mut caller).and_then(|left| match left {
        Ok(()) => work(&mut caller).map(Ok),
        Err(error) => Ok(Err(NoChildReason::Refused(error))),
    });
    child.ended = caller.exit().is_ok() || child.is_killed(longest);
    if !child.ended {
        stragglers.add(child.tid);
        return done;
    }
    if let Err(error) = collect(parent, number) {
        // The thread ends, since another one executes a program; or it gets no processor.
        stragglers.leave(number);
        return Err(error);
    }
    done
}

/// Has a thread collect a child by its number, if it is one of its process and has ended.
pub(super) fn collect(parent: &mut CallingThread, number: u64) -> Result<(), InjectError> {
    let options = (libc::__WALL | libc::WNOHANG) as u64;
    // Somebody else may have waited for children of all kinds (`__WALL`).
    parent
        .call(libc::SYS_wait4, &[number, 0, options, 0])
        .map(drop)
}

/// Has a thread make the child.
fn make(parent: &mut CallingThread) -> Result<Result<u64, Errno>, InjectError> {
    /// A process that is stopped and continued all the time.
    const TRIES: usize = 100;
    const FLAGS: u64 = (libc::CLONE_VM | libc::CLONE_FILES) as u64;
    for _ in 1..TRIES {
        match parent.call(libc::SYS_clone, &[FLAGS, NO_STACK])? {
            Err(ERESTARTNOINTR) => {}
            made => return Ok(made),
        }
    }
    parent.call(libc::SYS_clone, &[FLAGS, NO_STACK])
}

/// Waits until the child stands still, and gives it an empty descriptor table.
fn begin(child: &mut CallingThread) -> Result<Result<(), Errno>, InjectError> {
    let failed = |what, error| step(child.pid, what, child.tid, error);
    let deadline = WaitDeadline::At(Instant::now() + child.longest);
    loop {
        match ptrace::wait(child.tid, deadline).map_err(|error| failed("wait for", error))? {
            Some(PtraceEvent::Interrupted | PtraceEvent::GroupStopped) => break,
            Some(PtraceEvent::Ended) => return Err(ProcessGone { pid: child.pid }.into()),
            Some(_) => {
                ptrace::resume(child.tid, 0).map_err(|error| failed("resume", error))?;
            }
            None => return Err(child.starved()),
        }
    }
    let options = ptrace::MARK_SYSCALLS | ptrace::END_WITH_US;
    // Seccomp filters rest as they do in its parent.
    let suspended = ptrace::set_options(child.tid, options | ptrace::SUSPEND_SECCOMP);
    suspended
        .or_else(|_| ptrace::set_options(child.tid, options))
        .map_err(|error| failed("keep", error))?;
    ptrace::hurry(child.tid);
    let all = [0, u32::MAX.into(), libc::CLOSE_RANGE_UNSHARE.into()];
    let left = match child.call(libc::SYS_close_range, &all)? {
        // Before 5.9 it takes all of them along.
        Err(Errno::NOSYS) => child.call(libc::SYS_unshare, &[libc::CLONE_FILES as u64])?,
        left => left,
    };
    Ok(left.map(drop))
}
