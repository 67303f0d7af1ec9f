//! System calls made by a stopped thread: by its registers and an instruction that is there.

use std::time::{Duration, Instant};

use rustix::io::Errno;
use uffd::ProcessGone;

use super::super::InjectError;
use super::ptrace::{self, PtraceEvent, ThreadRegisters};

/// Neither of the calls sleeps; but the machine may have other things to do.
const LONGEST: Duration = Duration::from_secs(2);

/// A stopped thread that works for us. Dropping it gives it back its registers and its signals.
pub(super) struct BorrowedThread {
    pid: u32,
    tid: u32,
    /// As it goes on afterwards.
    registers: ThreadRegisters,
    signal_mask: u64,
    /// Address of the instruction `syscall`.
    instruction: u64,
}

impl BorrowedThread {
    /// Takes over a thread that goes on with `registers` afterwards. Signals wait until then.
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
        // Not a call that was interrupted: nothing is to be restarted on the way.
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
                // Every other signal is blocked; the process stops, and this thread as soon as it is let go.
                Some(PtraceEvent::Signal(signal)) if signal == libc::SIGSTOP => signal,
                // A fault of the instruction that we chose: it must not reach the thread.
                Some(PtraceEvent::Signal(_)) => return Err(failed(Errno::FAULT)),
                Some(
                    PtraceEvent::Interrupted | PtraceEvent::GroupStopped | PtraceEvent::Other(_),
                ) => 0,
            };
        }
    }

    /// Stops a thread that does not come to its call, so that it can be given back: the freezer of its
    /// control group holds it (`docker pause`).
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
        // They can only fail for a thread that was killed.
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
