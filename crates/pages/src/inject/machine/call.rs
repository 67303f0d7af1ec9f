//! System calls that a stopped thread makes for us: with its registers and an instruction it has.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustix::io::Errno;
use uffd::ProcessGone;

use super::super::InjectError;
use super::ptrace::{self, PtraceEvent, ThreadRegisters};

/// Neither call sleeps, but the machine may be busy.
const LONGEST: Duration = Duration::from_secs(2);

/// A stopped thread that works for us. Dropping this gives the thread its registers and signals
/// back.
pub(super) struct BorrowedThread {
    pid: u32,
    tid: u32,
    /// With which it goes on afterwards.
    registers: ThreadRegisters,
    signal_mask: u64,
    /// Address of the instruction `syscall`.
    instruction: u64,
}

impl BorrowedThread {
    /// Takes over a thread, which goes on with `registers` afterwards. Signals wait until then.
    pub(super) fn new(
        pid: u32,
        tid: u32,
        registers: ThreadRegisters,
        instruction: u64,
    ) -> Result<Self, InjectError> {
        let failed =
            |error| InjectError::step(pid, format!("block signals of thread {tid}"), error);
        let signal_mask = ptrace::signal_mask(tid).map_err(failed)?;
        ptrace::set_signal_mask(tid, u64::MAX).map_err(failed)?;
        Ok(Self {
            pid,
            tid,
            registers,
            signal_mask,
            instruction,
        })
    }

    /// Makes the thread do one call. The outer result is ours, the inner one the call's.
    pub(super) fn call(
        &mut self,
        number: i64,
        argument: u64,
    ) -> Result<Result<u64, Errno>, InjectError> {
        let mut registers = self.registers;
        registers.rip = self.instruction;
        registers.rax = number as u64;
        registers.rdi = argument;
        // No interrupted call: the kernel must not restart anything on the way.
        registers.orig_rax = u64::MAX;
        ptrace::set_registers(self.tid, &registers).map_err(|error| self.failed("set", error))?;
        self.run_to_syscall()?;
        let entered = self.read()?;
        if entered.orig_rax != number as u64 {
            let what = format!("make thread {} do system call {number}", self.tid);
            return Err(InjectError::step(self.pid, what, Errno::NOEXEC));
        }
        self.run_to_syscall()?;
        Ok(answer(self.read()?.rax))
    }

    fn read(&self) -> Result<ThreadRegisters, InjectError> {
        ptrace::registers(self.tid).map_err(|error| self.failed("read", error))
    }

    fn failed(&self, what: &str, error: Errno) -> InjectError {
        let what = format!("{what} the registers of thread {}", self.tid);
        InjectError::step(self.pid, what, error)
    }

    fn run_to_syscall(&self) -> Result<(), InjectError> {
        let (pid, tid) = (self.pid, self.tid);
        let failed = |error| InjectError::step(pid, format!("run thread {tid}"), error);
        let deadline = Instant::now() + LONGEST;
        let mut signal = 0;
        loop {
            ptrace::resume_to_syscall(tid, signal).map_err(failed)?;
            signal = match ptrace::wait(tid, deadline).map_err(failed)? {
                None => return Err(self.give_up(failed(Errno::TIMEDOUT))),
                Some(PtraceEvent::Ended) => return Err(ProcessGone { pid }.into()),
                Some(PtraceEvent::Syscall) => return Ok(()),
                // All others are blocked. The process stops; this thread does once it is let go.
                Some(PtraceEvent::Signal(signal)) if signal == libc::SIGSTOP => signal,
                // The instruction that we chose has faulted: the thread must not see that.
                Some(PtraceEvent::Signal(_)) => return Err(failed(Errno::FAULT)),
                Some(
                    PtraceEvent::Interrupted | PtraceEvent::GroupStopped | PtraceEvent::Other(_),
                ) => 0,
            };
        }
    }

    /// Stops a thread that does not get to its call, so that it can be given back: the freezer of
    /// its control group holds it (`docker pause`).
    fn give_up(&self, error: InjectError) -> InjectError {
        let stopped = ptrace::interrupt(self.tid)
            .and_then(|()| ptrace::wait(self.tid, Instant::now() + LONGEST));
        match stopped {
            Ok(Some(PtraceEvent::Interrupted)) => InjectError::Frozen { pid: self.pid },
            _ => error,
        }
    }
}

impl Drop for BorrowedThread {
    fn drop(&mut self) {
        // These fail only for a thread that was killed.
        let _ = ptrace::set_registers(self.tid, &self.registers);
        let _ = ptrace::set_signal_mask(self.tid, self.signal_mask);
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
