//! All threads of a process, stopped, and let go again whatever happens.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use uffd::ProcessGone;

use super::super::{CallTimeout, InjectError, InjectNote, InterruptedCall, facts};
use super::ptrace::{self, PtraceEvent, ThreadRegisters};
use super::restart::{self, CallRepair, ERESTARTNOHAND};
use super::rseq;

/// A thread that stands still.
#[derive(Clone, Copy)]
struct StoppedThread {
    /// With which it goes on: [`restart`] may have repaired them.
    registers: ThreadRegisters,
    /// Whether the process was stopped before.
    group_stopped: bool,
}

/// A process of which no thread runs. Dropping it lets them go.
pub(crate) struct StoppedProcess {
    pid: u32,
    /// Those that stand still.
    threads: BTreeMap<u32, StoppedThread>,
    /// Those that are ours and run.
    seized: Vec<u32>,
    began: Option<Instant>,
    /// What became of the calls that threads were in, and of how many threads.
    interrupted: BTreeMap<InterruptedCall, usize>,
}

impl StoppedProcess {
    /// Stops every thread of `pid`, or lets all go again after `longest`.
    pub(crate) fn new(pid: u32, longest: Duration) -> Result<Self, InjectError> {
        let mut stopped = Self {
            pid,
            threads: BTreeMap::new(),
            seized: Vec::new(),
            began: None,
            interrupted: BTreeMap::new(),
        };
        // They are seized while they run: only being stopped costs them time.
        stopped.seize_new()?;
        let began = Instant::now();
        stopped.began = Some(began);
        // A thread that runs may make threads, one that stands still cannot: so a list that has
        // nobody new when all known threads stand still is complete.
        while !stopped.seized.is_empty() {
            stopped.stop_seized(began + longest)?;
            stopped.seize_new()?;
        }
        if stopped.threads.is_empty() {
            return Err(ProcessGone { pid }.into());
        }
        Ok(stopped)
    }

    fn step(&self, what: &str, tid: u32, error: Errno) -> InjectError {
        InjectError::step(self.pid, format!("{what} thread {tid}"), error)
    }

    /// Seizes threads that are not ours yet.
    fn seize_new(&mut self) -> Result<(), InjectError> {
        for tid in tasks(self.pid)? {
            if self.threads.contains_key(&tid) || self.seized.contains(&tid) {
                continue;
            }
            match ptrace::seize(tid, ptrace::MARK_SYSCALLS) {
                Ok(()) => self.seized.push(tid),
                // It has ended since.
                Err(Errno::SRCH) => {}
                Err(Errno::PERM) if has_ended(self.pid, tid) => {}
                Err(error) => return Err(self.step("seize", tid, error)),
            }
        }
        Ok(())
    }

    fn stop_seized(&mut self, deadline: Instant) -> Result<(), InjectError> {
        for &tid in &self.seized {
            match ptrace::interrupt(tid) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(self.step("interrupt", tid, error)),
            }
        }
        while let Some(&tid) = self.seized.last() {
            if let Some(thread) = self.wait(tid, deadline)? {
                self.threads.insert(tid, thread);
            }
            self.seized.pop();
        }
        Ok(())
    }

    /// Waits until a thread stands still; `None`: it has ended.
    fn wait(&mut self, tid: u32, deadline: Instant) -> Result<Option<StoppedThread>, InjectError> {
        loop {
            let event = match ptrace::wait(tid, deadline) {
                Err(Errno::CHILD) => return Ok(None),
                event => event.map_err(|error| self.step("wait for", tid, error))?,
            };
            let group_stopped = match event {
                None => return Err(self.busy(tid, deadline)),
                Some(PtraceEvent::Ended) => return Ok(None),
                Some(PtraceEvent::Interrupted) => false,
                Some(PtraceEvent::GroupStopped) => true,
                // It gets its signal now, and stops at the handler's first instruction.
                Some(PtraceEvent::Signal(signal)) => {
                    self.go_on(tid, signal)?;
                    continue;
                }
                Some(PtraceEvent::Syscall | PtraceEvent::Other(_)) => {
                    self.go_on(tid, 0)?;
                    continue;
                }
            };
            return self.look_at(tid, group_stopped).map(Some);
        }
    }

    fn go_on(&self, tid: u32, signal: i32) -> Result<(), InjectError> {
        match ptrace::resume(tid, signal) {
            // Killed meanwhile: the next wait tells.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(self.step("resume", tid, error)),
        }
    }

    /// Notes where a thread stands, and repairs its call at once: if we are killed, the kernel lets
    /// it go and finds it in order.
    fn look_at(&mut self, tid: u32, group_stopped: bool) -> Result<StoppedThread, InjectError> {
        let failed = |error| InjectError::step(self.pid, format!("look at thread {tid}"), error);
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
                        self.note(InterruptedCall::BegunAgain { name, timeout });
                    }
                }
                CallRepair::Ended(number) => self.note(InterruptedCall::Ended(number)),
            }
        }
        Ok(StoppedThread {
            registers,
            group_stopped,
        })
    }

    fn note(&mut self, call: InterruptedCall) {
        *self.interrupted.entry(call).or_default() += 1;
    }

    fn busy(&self, tid: u32, deadline: Instant) -> InjectError {
        let waited = self.began.map_or(Duration::ZERO, |began| deadline - began);
        busy(self.pid, tid, waited)
    }

    /// The thread to make calls with, and the registers with which it goes on afterwards.
    pub(crate) fn choose(&self, memory: &fs::File) -> Result<(u32, ThreadRegisters), InjectError> {
        let candidates = self.threads.iter().filter_map(|(&tid, thread)| {
            let mut registers = thread.registers;
            // The selector of 64-bit user code.
            if registers.cs != 0x33 || ptrace::dispatches_syscalls(tid) {
                return None;
            }
            registers.rip = rseq::goes_on_at(registers.rip, ptrace::rseq_area(tid), memory);
            let aborts = registers.rip != thread.registers.rip;
            let rank = rank(&thread.registers, aborts, tid == self.pid);
            Some((rank, tid, registers))
        });
        // Nothing is better than rank 0: of many threads, the rest need not be asked.
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

    /// What happened to threads that their owner might notice.
    pub(crate) fn notes(&self) -> Vec<InjectNote> {
        let note = |(call, threads): (&InterruptedCall, &usize)| InjectNote::Interrupted {
            threads: *threads,
            call: call.clone(),
        };
        let mut notes: Vec<_> = self.interrupted.iter().map(note).collect();
        if self.threads.values().any(|thread| thread.group_stopped) {
            notes.push(InjectNote::StaysStopped);
        }
        notes
    }

    /// How many threads stand still.
    pub(crate) fn len(&self) -> usize {
        self.threads.len()
    }

    /// Lets all go; returns how long they stood still, first to last.
    pub(crate) fn release(mut self) -> Duration {
        self.detach();
        self.began.map_or(Duration::ZERO, |began| began.elapsed())
    }

    fn detach(&mut self) {
        for (tid, _) in std::mem::take(&mut self.threads) {
            // Fails only for a thread that was killed.
            let _ = ptrace::detach(tid);
        }
    }
}

impl Drop for StoppedProcess {
    /// The kernel lets go those that never stopped when this process ends.
    fn drop(&mut self) {
        self.detach();
    }
}

/// How fit a thread is; lower is better. The first thread surely has the process's descriptors.
fn rank(registers: &ThreadRegisters, aborts: bool, first: bool) -> u8 {
    let kind = match registers {
        _ if aborts => 2,
        r if restart::masks_signals(r) => 3,
        r if restart::in_call(r) => 1,
        _ => 0,
    };
    2 * kind + u8::from(!first)
}

/// Waits, with nobody stopped, until each thread was seen out of a sleep that cannot be
/// interrupted. One that sleeps so often and briefly, as for a disk, need not be awake together
/// with all others: it stops when it wakes.
pub(super) fn wait_until_stoppable(pid: u32, patience: Duration) -> Result<(), InjectError> {
    let began = Instant::now();
    let mut asleep = tasks(pid)?;
    loop {
        asleep.retain(|&tid| state(pid, tid) == Some('D'));
        let Some(&tid) = asleep.first() else {
            return Ok(());
        };
        if began.elapsed() >= patience {
            return Err(busy(pid, tid, began.elapsed()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn busy(pid: u32, tid: u32, waited: Duration) -> InjectError {
    let place = fs::read_to_string(format!("/proc/{pid}/task/{tid}/wchan")).unwrap_or_default();
    let letter = state(pid, tid).unwrap_or('?');
    let state = match place.as_str() {
        "" | "0" => format!("state {letter}"),
        place => format!("state {letter} in {place}"),
    };
    let waited_ms = waited.as_millis() as u64;
    InjectError::Busy {
        pid,
        tid,
        state,
        waited_ms,
    }
}

/// The threads of a process, as far as they can be listed while they come and go.
fn tasks(pid: u32) -> Result<Vec<u32>, InjectError> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).map_err(|_| ProcessGone { pid })?;
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    Ok(entries.filter_map(|entry| number(entry.ok()?)).collect())
}

fn state(pid: u32, tid: u32) -> Option<char> {
    let status = fs::read(format!("/proc/{pid}/task/{tid}/status")).ok()?;
    facts::field(&status, "State")?.chars().next()
}

/// Whether a thread has ended. The first one then stays in the list until all have, unseizable.
fn has_ended(pid: u32, tid: u32) -> bool {
    matches!(state(pid, tid), None | Some('Z' | 'X' | 'x'))
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
