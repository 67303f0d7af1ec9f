//! The process that stops the target: apart from tracker, so that killing tracker half way does no
//! harm.
//!
//! Between setting a thread's registers and restoring them the thread must not be let go, and a
//! thread that was asked to stop must be waited for and repaired; but the kernel lets all go the
//! moment their tracer dies. So the tracer is a process of its own session that nobody's Ctrl-C,
//! hang-up or end reaches, which ends by itself as soon as it is done. docs/inject.md has the whole
//! of it.
#![forbid(unsafe_code)]

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use serde::Serialize;
use uffd::ProcessGone;

use super::super::InjectError;
use super::super::wire::{
    self, FreezeAnswer, FreezeRequest, GuardAnswer, HelperReply, HelperRequest, TargetProcess,
    ThawAnswer, ThawRequest,
};
use super::everyone::{StoppedProcess, wait_until_stoppable};
use super::guard::GuardProcess;
use super::open::{self, pidfd};
use super::ptrace;
use super::stop::StragglingThreads;

/// The argument that makes this program a helper.
pub(super) const ARGUMENT: &str = "inject-helper";

/// Serves the one request that comes on standard input.
pub(super) fn serve() -> ExitCode {
    let socket = std::io::stdin();
    let (request, fd) = match wire::receive::<HelperRequest>(&socket) {
        Ok(Some(request)) => request,
        // Nobody asks any more.
        Ok(None) => return ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tracker: {ARGUMENT} is started by tracker itself, on a socket: {error}");
            return ExitCode::FAILURE;
        }
    };
    withdraw();
    let mut stragglers = StragglingThreads::none(request.target().pid);
    let done = match &request {
        HelperRequest::Inject(request) => {
            let opened = open::open(request, &mut stragglers);
            answer_with(&socket, opened, &stragglers)
        }
        HelperRequest::Freeze(request) => freeze(&socket, request, &mut stragglers),
        HelperRequest::Guard(request) => fd.is_some_and(|fd| {
            let guard = GuardProcess::new(request.target.pid, fd.into());
            let answer = GuardAnswer {
                is_apart: guard.is_apart(),
            };
            reply(socket.as_fd(), Ok(answer), None, &stragglers) && guard.stand(&socket)
        }),
    };
    stragglers.see_off();
    ExitCode::from(u8::from(!done))
}

/// Gets out of reach of what ends tracker.
fn withdraw() {
    ptrace::block_signals();
    // It fails only for the leader of a process group, which nobody else can be in.
    let _ = rustix::process::setsid();
    // Best effort: a machine short of memory should not end us just now.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    // What the target's owner sees as its tracer.
    let _ = rustix::thread::set_name(c"tracker-inject");
}

/// Sends what came of a request; false if nothing did, or nobody hears of it. The descriptor is
/// closed here then: if tracker is gone, so is the userfaultfd.
fn answer_with<T: Serialize>(
    socket: impl AsFd,
    result: Result<(T, OwnedFd), InjectError>,
    stragglers: &StragglingThreads,
) -> bool {
    let (result, fd) = match result {
        Ok((answer, fd)) => (Ok(answer), Some(fd)),
        Err(error) => (Err(error), None),
    };
    let fd = fd.as_ref().map(AsFd::as_fd);
    reply(socket.as_fd(), result, fd, stragglers)
}

fn reply<T: Serialize>(
    socket: BorrowedFd<'_>,
    result: Result<T, InjectError>,
    fd: Option<BorrowedFd<'_>>,
    stragglers: &StragglingThreads,
) -> bool {
    let is_done = result.is_ok();
    let reply = HelperReply {
        result,
        stays: !stragglers.is_empty(),
    };
    wire::send(socket, &reply, fd).is_ok() && is_done
}

/// Stops all threads until tracker says so, or is gone, or for as long as it may last.
fn freeze(socket: impl AsFd, request: &FreezeRequest, stragglers: &mut StragglingThreads) -> bool {
    let stopped = match stop_all(request, stragglers) {
        Ok(stopped) => stopped,
        Err(error) => return reply::<FreezeAnswer>(socket.as_fd(), Err(error), None, stragglers),
    };
    let answer = FreezeAnswer {
        threads: stopped.len(),
        notes: stopped.notes(),
    };
    let is_told = reply(socket.as_fd(), Ok(answer), None, stragglers);
    let is_in_time = is_told && wait_for_word(&socket, request.longest_ms);
    let stood = stopped.release();
    let thawed = ThawAnswer {
        stood_ns: is_in_time.then_some(stood.as_nanos() as u64),
    };
    wire::send(socket.as_fd(), &thawed, None).is_ok()
}

fn stop_all(
    request: &FreezeRequest,
    stragglers: &mut StragglingThreads,
) -> Result<StoppedProcess, InjectError> {
    let pid = request.target.pid;
    let longest = Duration::from_millis(request.longest_stop_ms);
    // Of this process, and of no other that has its number by now.
    let _process = request.target.open()?;
    ptrace::hurry(0);
    // Whoever sleeps where nothing stops it would keep the others waiting.
    wait_until_stoppable(pid, longest)?;
    StoppedProcess::new(pid, longest, stragglers)
}

/// Waits until tracker says something or is gone; false: it took longer.
fn wait_for_word(socket: impl AsFd, longest_ms: u64) -> bool {
    let time = Timespec {
        tv_sec: (longest_ms / 1000) as i64,
        tv_nsec: (longest_ms % 1000 * 1_000_000) as i64,
    };
    // Every signal is blocked.
    let mut word = [PollFd::new(&socket, PollFlags::IN)];
    let is_said = rustix::event::poll(&mut word, Some(&time)).is_ok_and(|ready| ready > 0);
    // Unread, it would keep tracker from reading our last message (ECONNRESET).
    is_said && wire::receive::<ThawRequest>(&socket).is_ok()
}

impl TargetProcess {
    /// A descriptor of it, if it is still the same.
    pub(super) fn open(&self) -> Result<OwnedFd, InjectError> {
        let pid = self.pid;
        let process =
            pidfd(pid).map_err(|error| InjectError::step(pid, "open the pidfd", error))?;
        let start = uffd::stat(pid).ok();
        if start.map(|stat| stat.start_time) != Some(self.start_time) {
            return Err(ProcessGone { pid }.into());
        }
        Ok(process)
    }
}
