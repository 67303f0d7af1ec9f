//! System calls made by a stopped thread: by its registers and an instruction that is there.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};
use uffd::ProcessGone;

use rustix::io::Errno;

use super::super::InjectError;
use super::child::ChildProcess;
use super::ptrace::{self, PtraceEvent, ThreadRegisters, WaitDeadline};
use super::stop::{self, step};

/// None of the calls sleeps; but the machine may have other things to do.
const LONGEST: Duration = Duration::from_secs(2);

/// A stopped thread that makes calls.
pub(super) struct CallingThread {
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// What each call begins with.
    pub(super) registers: ThreadRegisters,
    /// Address of the instruction `syscall`.
    pub(super) instruction: u64,
    /// How long a call may take.
    pub(super) longest: Duration,
    /// The child that a call made.
    pub(super) child: Option<ChildProcess>,
}

impl CallingThread {
    /// Makes the thread do one call. The outer result is ours, the inner one the call's.
    pub(super) fn call(
        &mut self,
        number: i64,
        arguments: &[u64],
    ) -> Result<Result<u64, Errno>, InjectError> {
        self.set_out(number, arguments)?;
        self.run_to_syscall()?;
        let entered = self.read()?;
        if entered.orig_rax != number as u64 {
            let what = format!("make thread {} do system call {number}", self.tid);
            return Err(InjectError::step(self.pid, what, Errno::NOEXEC));
        }
        self.run_to_syscall()?;
        Ok(answer(self.read()?.rax))
    }

    /// Makes the thread end by exit(2).
    pub(super) fn exit(&mut self) -> Result<(), InjectError> {
        self.set_out(libc::SYS_exit, &[0])?;
        let failed = |error| step(self.pid, "run", self.tid, error);
        ptrace::resume(self.tid, 0).map_err(failed)?;
        match ptrace::wait(self.tid, self.deadline()).map_err(failed)? {
            Some(PtraceEvent::Ended) => Ok(()),
            Some(_) => Err(failed(Errno::PROTO)),
            None => Err(self.starved()),
        }
    }

    /// Sets the registers for a call.
    fn set_out(&self, number: i64, arguments: &[u64]) -> Result<(), InjectError> {
        let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
        let registers = ThreadRegisters {
            rip: self.instruction,
            rax: number as u64,
            rdi: argument(0),
            rsi: argument(1),
            rdx: argument(2),
            r10: argument(3),
            r8: argument(4),
            r9: argument(5),
            // Not a call that was interrupted: nothing is to be restarted on the way.
            orig_rax: u64::MAX,
            ..self.registers
        };
        ptrace::set_registers(self.tid, &registers).map_err(|error| self.failed("set", error))
    }

    fn read(&self) -> Result<ThreadRegisters, InjectError> {
        ptrace::registers(self.tid).map_err(|error| self.failed("read", error))
    }

    fn failed(&self, what: &str, error: Errno) -> InjectError {
        let what = format!("{what} the registers of");
        step(self.pid, &what, self.tid, error)
    }

    fn deadline(&self) -> WaitDeadline {
        WaitDeadline::At(Instant::now() + self.longest)
    }

    fn run_to_syscall(&mut self) -> Result<(), InjectError> {
        let (pid, tid) = (self.pid, self.tid);
        let failed = |error| step(pid, "run", tid, error);
        let deadline = self.deadline();
        let mut signal = 0;
        loop {
            ptrace::resume_to_syscall(tid, signal).map_err(failed)?;
            signal = match ptrace::wait(tid, deadline).map_err(failed)? {
                None => return Err(self.give_up()),
                Some(PtraceEvent::Ended | PtraceEvent::Exiting) => {
                    return Err(ProcessGone { pid }.into());
                }
                Some(PtraceEvent::Syscall) => return Ok(()),
                Some(PtraceEvent::Cloned) => {
                    self.child = ChildProcess::made_by(tid);
                    0
                }
                // Every other signal is blocked; the process stops, and this thread as soon as it
                // is let go.
                Some(PtraceEvent::Signal(signal)) if signal == libc::SIGSTOP => signal,
                // A fault of the instruction that we chose: it must not reach the thread.
                Some(PtraceEvent::Signal(_)) => return Err(failed(Errno::FAULT)),
                Some(
                    PtraceEvent::Interrupted | PtraceEvent::GroupStopped | PtraceEvent::Other(_),
                ) => 0,
            };
        }
    }

    /// Stops a thread that does not come to its call, so that it can be given back: the freezer of
    /// its control group holds it (`docker pause`).
    fn give_up(&mut self) -> InjectError {
        let stopped =
            ptrace::interrupt(self.tid).and_then(|()| ptrace::wait(self.tid, self.deadline()));
        match stopped {
            Ok(Some(PtraceEvent::Interrupted)) => InjectError::Frozen { pid: self.pid },
            Ok(Some(PtraceEvent::Cloned)) => {
                self.child = ChildProcess::made_by(self.tid);
                self.starved()
            }
            _ => self.starved(),
        }
    }

    /// It did not get to run for as long as a call may take.
    pub(super) const fn starved(&self) -> InjectError {
        InjectError::Starved {
            pid: self.pid,
            tid: self.tid,
            waited_ms: self.longest.as_millis() as u64,
        }
    }
}

/// A thread of the target that works for us. Dropping it gives it back its registers and signals.
pub(super) struct BorrowedThread {
    /// As it goes on afterwards.
    pub(super) caller: CallingThread,
    signal_mask: u64,
}

impl BorrowedThread {
    /// Takes over a thread that goes on with `registers` afterwards. Signals wait until then.
    pub(super) fn new(
        pid: u32,
        tid: u32,
        registers: ThreadRegisters,
        instruction: u64,
    ) -> Result<Self, InjectError> {
        let failed = |error| step(pid, "block signals of", tid, error);
        let signal_mask = ptrace::signal_mask(tid).map_err(failed)?;
        ptrace::set_signal_mask(tid, u64::MAX).map_err(failed)?;
        let caller = CallingThread {
            pid,
            tid,
            registers,
            instruction,
            longest: LONGEST,
            child: None,
        };
        Ok(Self {
            caller,
            signal_mask,
        })
    }
}

impl Drop for BorrowedThread {
    /// Waits for however long it takes until the thread stands still: it would run on with our
    /// registers.
    fn drop(&mut self) {
        let CallingThread {
            pid,
            tid,
            registers,
            ..
        } = &self.caller;
        while let Err(error) = ptrace::set_registers(*tid, registers) {
            // It runs, or was killed.
            if error != Errno::SRCH || !is_still_again(*pid, *tid) {
                return;
            }
        }
        // It can only fail for a thread that was killed.
        let _ = ptrace::set_signal_mask(*tid, self.signal_mask);
    }
}

/// Stops a thread that did not come to the end of a call; false: it has ended.
fn is_still_again(pid: u32, tid: u32) -> bool {
    if ptrace::interrupt(tid).is_err() {
        return false;
    }
    match stop::wait_to_the_end(pid, tid) {
        // The process is being stopped, which it must not miss.
        Ok(Some(PtraceEvent::Signal(signal))) if signal == libc::SIGSTOP => {
            ptrace::resume(tid, signal).is_ok()
        }
        Ok(Some(PtraceEvent::Cloned)) => {
            drop(ChildProcess::made_by(tid));
            true
        }
        Ok(Some(event)) => event != PtraceEvent::Ended,
        Ok(None) | Err(_) => false,
    }
}

/// What a system call returned in rax.
fn answer(rax: u64) -> Result<u64, Errno> {
    match rax as i64 {
        error @ -4095..0 => Err(Errno::from_raw_os_error(-error as i32)),
        _ => Ok(rax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_calls() {
        assert_eq!(answer(3), Ok(3));
        assert_eq!(answer(-1i64 as u64), Err(Errno::PERM));
        assert_eq!(answer(-4095i64 as u64), Err(Errno::from_raw_os_error(4095)));
        assert_eq!(answer(-4096i64 as u64), Ok(-4096i64 as u64), "an address");
    }
}
