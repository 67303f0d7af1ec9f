//! Stopping one thread: it is seized, asked to stop, waited for, and the call that it was in is
//! repaired the moment it stands still.
//!
//! Who was asked is waited for to the end, whatever became of the request meanwhile: the kernel has
//! woken it from its call by then, and only its repair lets that call go on.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::super::{CallTimeout, InjectError, InjectNote, InterruptedCall};
use super::calls::CallMade;
use super::proc;
use super::ptrace::{self, PtraceEvent, ThreadRegisters, WaitDeadline};
use super::restart::{self, CallRepair, ERESTARTNOHAND};
use super::text;

/// A thread that stands still.
#[derive(Clone, Copy)]
pub(super) struct StoppedThread {
    /// As it will go on: with [`restart`]'s repair.
    pub(super) registers: ThreadRegisters,
    /// Whether the whole process was stopped already.
    pub(super) group_stopped: bool,
}

/// What became of a thread that was asked to stop.
pub(super) enum ThreadStand {
    /// It stands still.
    Still(Box<StoppedThread>),
    /// It has ended.
    Ended,
    /// Not yet.
    Runs,
}

/// What became of the calls that threads were in, and of how many threads.
#[derive(Default)]
pub(super) struct InterruptedCalls(BTreeMap<InterruptedCall, usize>);

impl InterruptedCalls {
    fn add(&mut self, call: InterruptedCall) {
        *self.0.entry(call).or_default() += 1;
    }

    /// As notes.
    pub(super) fn notes(&self) -> Vec<InjectNote> {
        let note = |(call, threads): (&InterruptedCall, &usize)| InjectNote::Interrupted {
            threads: *threads,
            call: call.clone(),
        };
        self.0.iter().map(note).collect()
    }
}

/// Threads that were asked to stop and have not yet, when everything else was done with.
pub(super) struct StragglingThreads {
    pid: u32,
    tids: Vec<u32>,
    /// Children of ours that have ended, and that nobody has collected: their numbers as the target
    /// sees them.
    left: Vec<u64>,
}

impl StragglingThreads {
    /// None so far, of a process.
    pub(super) const fn none(pid: u32) -> Self {
        Self {
            pid,
            tids: Vec::new(),
            left: Vec::new(),
        }
    }

    /// A child of ours has ended, and its parent too.
    pub(super) fn leave(&mut self, child: u64) {
        self.left.push(child);
    }

    /// Whom to collect, which nobody else does then.
    pub(super) fn take_left(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.left)
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.tids.is_empty()
    }

    /// One more thread that was asked, or a child of ours that has not ended.
    pub(super) fn add(&mut self, tid: u32) {
        self.tids.push(tid);
    }

    /// Waits for all, for however long it takes, and repairs each and lets it go the moment it
    /// stops. When one sleeps where nothing wakes it, this waits with it: it costs nothing, and
    /// nothing else may end first. Not one after the other: the kernel tells of the end of a
    /// process's first thread only when all others are gone.
    pub(super) fn see_off(mut self) {
        let mut unheard = InterruptedCalls::default();
        loop {
            let now = WaitDeadline::At(Instant::now());
            self.tids
                .retain(|&tid| match stand(self.pid, tid, now, &mut unheard) {
                    Ok(ThreadStand::Runs) => true,
                    Ok(ThreadStand::Still(_)) => {
                        // It can only fail for a thread that was killed.
                        let _ = ptrace::detach(tid);
                        false
                    }
                    Ok(ThreadStand::Ended) | Err(_) => false,
                });
            if self.tids.is_empty() {
                return;
            }
            if !reap_ended(self.pid) {
                ptrace::sleep_until_change(WaitDeadline::Never);
            }
        }
    }
}

/// Reaps the threads of a process that have ended and are ours, also those that we have forgotten:
/// as long as one is a zombie, the kernel keeps back the end of the first thread
/// (`delay_group_leader`). Whether there was one. Of those that live no stop is taken away.
pub(super) fn reap_ended(pid: u32) -> bool {
    let ended = proc::tasks(pid).unwrap_or_default().into_iter();
    let ended = ended.filter(|&tid| proc::has_ended(pid, tid));
    let reaped = ended.filter(|&tid| matches!(ptrace::reap(tid), Ok(true)));
    reaped.count() > 0
}

/// Waits until a thread that is ours stops or ends, for however long it takes.
pub(super) fn wait_to_the_end(pid: u32, tid: u32) -> Result<Option<PtraceEvent>, Errno> {
    loop {
        if let Some(event) = ptrace::poll(tid)? {
            return Ok(Some(event));
        }
        if !reap_ended(pid) {
            ptrace::sleep_until_change(WaitDeadline::Never);
        }
    }
}

/// Makes a thread ours without disturbing it. False: it has ended.
pub(super) fn seize(pid: u32, tid: u32, options: usize) -> Result<bool, InjectError> {
    match ptrace::seize(tid, options) {
        Ok(()) => Ok(true),
        // It has ended since.
        Err(Errno::SRCH) => Ok(false),
        Err(Errno::PERM) if proc::has_ended(pid, tid) => Ok(false),
        Err(error) => Err(step(pid, "seize", tid, error)),
    }
}

/// Asks a seized thread to stop; from now on it must be waited for.
pub(super) fn ask(pid: u32, tid: u32) -> Result<(), InjectError> {
    match ptrace::interrupt(tid) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(step(pid, "interrupt", tid, error)),
    }
}

/// Waits until a thread that was asked stands still. Where it stops for another reason first it is
/// asked again: any stop takes back what was asked before (`ptrace_stop` of the kernel).
pub(super) fn stand(
    pid: u32,
    tid: u32,
    deadline: WaitDeadline,
    calls: &mut InterruptedCalls,
) -> Result<ThreadStand, InjectError> {
    loop {
        let event = ptrace::wait(tid, deadline);
        let event = event.map_err(|error| step(pid, "wait for", tid, error))?;
        let group_stopped = match event {
            None => return Ok(ThreadStand::Runs),
            Some(PtraceEvent::Ended) => return Ok(ThreadStand::Ended),
            Some(PtraceEvent::Exiting) => {
                go_on(pid, tid, 0)?;
                return Ok(ThreadStand::Ended);
            }
            Some(PtraceEvent::Interrupted) => false,
            Some(PtraceEvent::GroupStopped) => true,
            // It gets its signal now, and stops at the first instruction of the handler.
            Some(PtraceEvent::Signal(signal)) => {
                ask(pid, tid)?;
                go_on(pid, tid, signal)?;
                continue;
            }
            Some(event @ (PtraceEvent::Syscall | PtraceEvent::Cloned | PtraceEvent::Other(_))) => {
                if event == PtraceEvent::Cloned {
                    let_go_of_new(tid);
                }
                ask(pid, tid)?;
                go_on(pid, tid, 0)?;
                continue;
            }
        };
        return match look_at(pid, tid, group_stopped, calls) {
            // Killed meanwhile.
            Err(InjectError::Gone(_)) => Ok(ThreadStand::Ended),
            thread => Ok(ThreadStand::Still(Box::new(thread?))),
        };
    }
}

/// Lets go a thread that another one has just made of its own accord, and which is ours only because
/// that one is.
fn let_go_of_new(maker: u32) {
    /// It has to get a processor once.
    const LONGEST: Duration = Duration::from_secs(2);
    let Ok(new) = ptrace::event_message(maker) else {
        return;
    };
    let new = new as u32;
    let deadline = WaitDeadline::At(Instant::now() + LONGEST);
    if let Ok(Some(_)) = ptrace::wait(new, deadline) {
        // It can only fail for a thread that was killed.
        let _ = ptrace::detach(new);
    }
}

fn go_on(pid: u32, tid: u32, signal: i32) -> Result<(), InjectError> {
    match ptrace::resume(tid, signal) {
        // Killed meanwhile: the next wait tells.
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(step(pid, "resume", tid, error)),
    }
}

/// Takes down where a thread stands, and repairs the call it was in at once: should we be killed,
/// the kernel lets it go and finds it right.
fn look_at(
    pid: u32,
    tid: u32,
    group_stopped: bool,
    calls: &mut InterruptedCalls,
) -> Result<StoppedThread, InjectError> {
    let failed = |error| step(pid, "look at", tid, error);
    let mut registers = ptrace::registers(tid).map_err(failed)?;
    // SIGSTOP ends such calls with EINTR itself: that was not us.
    if !group_stopped {
        match restart::repair(&registers) {
            CallRepair::None => {}
            CallRepair::Again { name, timeout } => {
                registers.rax = ERESTARTNOHAND as u64;
                ptrace::set_registers(tid, &registers).map_err(failed)?;
                if timeout != CallTimeout::None {
                    let name = name.to_owned();
                    calls.add(InterruptedCall::BegunAgain { name, timeout });
                }
            }
            CallRepair::Ended(number) => calls.add(InterruptedCall::Ended(number)),
        }
        if let Some(call) = cut_short(pid, &registers) {
            calls.add(call);
        }
    }
    Ok(StoppedThread {
        registers,
        group_stopped,
    })
}

/// A call that returns a part of what it was asked for.
fn cut_short(pid: u32, registers: &ThreadRegisters) -> Option<InterruptedCall> {
    let call = CallMade::of(registers)?;
    let known = call.known()?;
    let done = u64::try_from(registers.rax as i64).ok()?;
    let read = |at, bytes: &mut [u8]| {
        let memory = text::memory(pid);
        memory.is_ok_and(|memory| memory.read_exact_at(bytes, at).is_ok())
    };
    let asked = known.asked(&call, read)?;
    (0 < done && done < asked).then(|| InterruptedCall::CutShort {
        name: known.name.to_owned(),
    })
}

/// A step with a thread that failed.
pub(super) fn step(pid: u32, what: &str, tid: u32, error: Errno) -> InjectError {
    InjectError::step(pid, format!("{what} thread {tid}"), error)
}
