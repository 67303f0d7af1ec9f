//! All threads of a process, stopped, and let go again whatever happens.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};
use uffd::ProcessGone;

use super::super::{InjectError, InjectNote};
use super::calls::CallMade;
use super::chosen::{busy, goes_on_with, is_fit};
use super::proc;
use super::ptrace::{self, ThreadRegisters, WaitDeadline};
use super::stop::{self, InterruptedCalls, StoppedThread, StragglingThreads, ThreadStand};

/// A process of which no thread runs. Dropping it lets them go.
pub(super) struct StoppedProcess {
    pid: u32,
    threads: BTreeMap<u32, StoppedThread>,
    /// Ours; they run.
    seized: Vec<u32>,
    began: Instant,
    calls: InterruptedCalls,
}

impl StoppedProcess {
    /// Stops every thread of `pid`, or lets all go again after `longest`. Whoever was asked in vain
    /// becomes a straggler.
    pub(super) fn new(
        pid: u32,
        longest: Duration,
        stragglers: &mut StragglingThreads,
    ) -> Result<Self, InjectError> {
        let mut stopped = Self {
            pid,
            threads: BTreeMap::new(),
            seized: Vec::new(),
            began: Instant::now(),
            calls: InterruptedCalls::default(),
        };
        // Made ours while they run: only asking them to stop, and waiting for it, costs them time.
        stopped.seize_new()?;
        stopped.began = Instant::now();
        let deadline = stopped.began + longest;
        // A thread that runs makes threads. One that stands still is outside of clone(2), so a list
        // made when all known ones stand still, with nobody new in it, is the whole.
        while !stopped.seized.is_empty() {
            stopped.stop_seized(deadline, stragglers)?;
            stopped.seize_new()?;
        }
        if stopped.threads.is_empty() {
            return Err(ProcessGone { pid }.into());
        }
        Ok(stopped)
    }

    /// Seizes the threads that are not ours yet.
    fn seize_new(&mut self) -> Result<(), InjectError> {
        for tid in proc::tasks(self.pid)? {
            let is_known = self.threads.contains_key(&tid) || self.seized.contains(&tid);
            if !is_known && stop::seize(self.pid, tid, ptrace::MARK_SYSCALLS)? {
                self.seized.push(tid);
            }
        }
        Ok(())
    }

    fn stop_seized(
        &mut self,
        deadline: Instant,
        stragglers: &mut StragglingThreads,
    ) -> Result<(), InjectError> {
        let mut asked = Vec::with_capacity(self.seized.len());
        let mut result = Ok(());
        for tid in std::mem::take(&mut self.seized) {
            // Of the rest nobody was disturbed.
            if result.is_ok() {
                result = stop::ask(self.pid, tid);
                asked.push(tid);
            }
        }
        while result.is_ok()
            && let Some(tid) = asked.pop()
        {
            result = self.wait(tid, deadline);
            if result.is_err() {
                asked.push(tid);
            }
        }
        asked.into_iter().for_each(|tid| stragglers.add(tid));
        result
    }

    fn wait(&mut self, tid: u32, deadline: Instant) -> Result<(), InjectError> {
        match stop::stand(self.pid, tid, WaitDeadline::At(deadline), &mut self.calls)? {
            ThreadStand::Still(thread) => {
                self.threads.insert(tid, *thread);
                Ok(())
            }
            ThreadStand::Ended => Ok(()),
            ThreadStand::Runs => {
                let waited = self.began.elapsed();
                Err(busy(self.pid, tid, waited, self.calls.notes()))
            }
        }
    }

    /// The thread to make calls with, and the registers that it goes on with afterwards.
    pub(super) fn choose(&self, memory: &File) -> Result<(u32, ThreadRegisters), InjectError> {
        let candidates = self.threads.iter().filter_map(|(&tid, thread)| {
            if !is_fit(tid, &thread.registers) {
                return None;
            }
            let registers = goes_on_with(tid, &thread.registers, memory);
            let aborts = registers.rip != thread.registers.rip;
            let rank = rank(&thread.registers, aborts, tid == self.pid);
            Some((rank, tid, registers))
        });
        // No thread is better than the first kind: with many, the others need not be asked.
        let mut best: Option<(u8, u32, ThreadRegisters)> = None;
        for candidate in candidates {
            if best.as_ref().is_none_or(|best| candidate.0 < best.0) {
                best = Some(candidate);
            }
            if best.as_ref().is_some_and(|best| best.0 == 0) {
                break;
            }
        }
        best.map(|(_, tid, registers)| (tid, registers))
            .ok_or(InjectError::NoThread { pid: self.pid })
    }

    /// What happened to the threads that their owner might notice.
    pub(super) fn notes(&self) -> Vec<InjectNote> {
        let mut notes = self.calls.notes();
        if self.threads.values().any(|thread| thread.group_stopped) {
            notes.push(InjectNote::StaysStopped);
        }
        notes
    }

    /// How many threads stand still.
    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Lets all go; returns how long they stood still, first to last.
    pub(super) fn release(self) -> Duration {
        let began = self.began;
        drop(self);
        began.elapsed()
    }
}

impl Drop for StoppedProcess {
    /// Those that are seized and were not asked to stop are let go by the kernel when this process
    /// ends, and notice nothing.
    fn drop(&mut self) {
        for &tid in self.threads.keys() {
            // It can only fail for a thread that was killed.
            let _ = ptrace::detach(tid);
        }
    }
}

/// Which thread is better, the lower the better. The first one has the descriptors of the process
/// for sure.
fn rank(registers: &ThreadRegisters, aborts: bool, first: bool) -> u8 {
    let call = CallMade::of(registers);
    let masks_signals = |call: &CallMade| call.known().is_some_and(|known| known.masks_signals);
    let kind = match call {
        _ if aborts => 2,
        // The mask that it gets back is the one from before the call, until the kernel begins the
        // call again.
        Some(call) if masks_signals(&call) => 3,
        Some(_) => 1,
        None => 0,
    };
    2 * kind + u8::from(!first)
}

/// Waits, with nobody stopped, for each thread that sleeps where it cannot be stopped. One that does
/// so often and shortly, as for a disk, need not be met awake at the same time as all others: it
/// stops when it wakes.
pub(super) fn wait_until_stoppable(pid: u32, patience: Duration) -> Result<(), InjectError> {
    let began = Instant::now();
    let mut asleep = proc::tasks(pid)?;
    loop {
        asleep.retain(|&tid| proc::state(pid, tid) == Some('D'));
        let Some(&tid) = asleep.first() else {
            return Ok(());
        };
        if began.elapsed() >= patience {
            return Err(busy(pid, tid, began.elapsed(), Vec::new()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_code_before_calls_before_what_is_delicate() {
        // SAFETY: a user_regs_struct is integers only.
        let mut registers: ThreadRegisters = unsafe { std::mem::zeroed() };
        registers.orig_rax = u64::MAX;
        let user = rank(&registers, false, false);
        let aborts = rank(&registers, true, false);
        registers.orig_rax = libc::SYS_read as u64;
        let call = rank(&registers, false, false);
        registers.orig_rax = libc::SYS_ppoll as u64;
        let masks = rank(&registers, false, false);
        assert!(user < call && call < aborts && aborts < masks);
        assert!(rank(&registers, false, true) < masks, "the first thread");
    }
}
