//! One thread of a process, stopped: that which notices least.
#![forbid(unsafe_code)]

use std::fs::File;
use std::time::{Duration, Instant};

use uffd::ProcessGone;

use super::super::{InjectError, InjectNote};
use super::moment::{self, ThreadCandidate};
use super::ptrace::{self, ThreadRegisters, WaitDeadline};
use super::stop::{self, InterruptedCalls, StoppedThread, StragglingThreads, ThreadStand};
use super::{proc, rseq};

/// How long a thread that was asked may take until another one is asked as well.
const NEXT: Duration = Duration::from_millis(100);
/// How many are asked at most.
const ASKED: usize = 4;
/// How long to wait for a moment in which some thread would notice little.
const BETTER_MOMENT: Duration = Duration::from_millis(500);

/// How each of them is traced.
const OPTIONS: usize = ptrace::MARK_SYSCALLS | ptrace::HOLD_CHILDREN;

/// How long to go on trying.
#[derive(Clone, Copy)]
pub(super) struct StopLimits {
    /// With nobody asked to stop.
    pub(super) patience: Duration,
    /// At least, once somebody is.
    pub(super) stop: Duration,
}

/// It stands still. Dropping it lets it go.
pub(super) struct ChosenThread {
    /// Its id.
    pub(super) tid: u32,
    still: StoppedThread,
    asked: Instant,
    calls: InterruptedCalls,
}

impl ChosenThread {
    /// Stops one. Nobody stands still before this returns; whoever was asked in vain becomes a
    /// straggler.
    pub(super) fn stop(
        pid: u32,
        limits: StopLimits,
        stragglers: &mut StragglingThreads,
    ) -> Result<Self, InjectError> {
        let mut search = ThreadSearch {
            pid,
            limits,
            began: Instant::now(),
            asked: Vec::new(),
            unfit: Vec::new(),
            calls: InterruptedCalls::default(),
        };
        let found = search.run();
        for (tid, _) in search.asked {
            stragglers.add(tid);
        }
        let (tid, still, asked) = found?;
        Ok(Self {
            tid,
            still,
            asked,
            calls: search.calls,
        })
    }

    /// Its registers as they must be when it goes on.
    pub(super) fn goes_on_with(&self, memory: &File) -> ThreadRegisters {
        goes_on_with(self.tid, &self.still.registers, memory)
    }

    /// What happened to it that its owner might notice.
    pub(super) fn notes(&self) -> Vec<InjectNote> {
        let mut notes = self.calls.notes();
        if self.still.group_stopped {
            notes.push(InjectNote::StaysStopped);
        }
        notes
    }

    /// Lets it go; returns how long after it was asked.
    pub(super) fn release(self) -> Duration {
        let asked = self.asked;
        drop(self);
        asked.elapsed()
    }
}

impl Drop for ChosenThread {
    fn drop(&mut self) {
        // It can only fail for a thread that was killed.
        let _ = ptrace::detach(self.tid);
    }
}

/// Where a thread must go on that was stopped with `registers` and is made to run elsewhere.
pub(super) fn goes_on_with(
    tid: u32,
    registers: &ThreadRegisters,
    memory: &File,
) -> ThreadRegisters {
    let rip = rseq::goes_on_at(registers.rip, ptrace::rseq_area(tid), memory);
    ThreadRegisters { rip, ..*registers }
}

/// Whether a stopped thread can make calls for us: it runs 64-bit code, and has no handler of its
/// own for system calls.
pub(super) fn is_fit(tid: u32, registers: &ThreadRegisters) -> bool {
    /// The selector of 64-bit user code.
    const CODE_64: u64 = 0x33;
    registers.cs == CODE_64 && !ptrace::dispatches_syscalls(tid)
}

/// A thread that stands still, and when it was asked to.
type FoundThread = (u32, StoppedThread, Instant);

struct ThreadSearch {
    pid: u32,
    limits: StopLimits,
    began: Instant,
    /// Asked to stop, and when.
    asked: Vec<(u32, Instant)>,
    /// Those that cannot serve.
    unfit: Vec<u32>,
    calls: InterruptedCalls,
}

impl ThreadSearch {
    fn run(&mut self) -> Result<FoundThread, InjectError> {
        /// Between two looks while nobody is asked.
        const TICK: Duration = Duration::from_millis(2);
        loop {
            let last = self.asked.last().map(|(_, asked)| *asked);
            let is_time = last.is_none_or(|asked| asked.elapsed() >= NEXT);
            if is_time
                && self.asked.len() < ASKED
                && let Some(candidate) = self.candidate()?
            {
                self.ask(candidate.tid)?;
            }
            if let Some(found) = self.found()? {
                return Ok(found);
            }
            let over = self.over();
            if Instant::now() >= over {
                return Err(self.in_vain());
            }
            let pause = if self.asked.is_empty() { TICK } else { NEXT };
            ptrace::sleep_until_change(WaitDeadline::At(over.min(Instant::now() + pause)));
        }
    }

    /// When to give up: who was asked gets time to stop.
    fn over(&self) -> Instant {
        let StopLimits { patience, stop } = self.limits;
        match self.asked.first() {
            None => self.began + patience,
            Some((_, asked)) => *asked + patience.max(stop),
        }
    }

    /// The best thread that was not asked yet; `None`: it is better to wait.
    fn candidate(&self) -> Result<Option<ThreadCandidate>, InjectError> {
        let tids = proc::tasks(self.pid)?;
        if tids.iter().all(|tid| self.unfit.contains(tid)) {
            return Err(InjectError::NoThread { pid: self.pid });
        }
        // The first thread before its equals.
        let first = tids.iter().copied().filter(|tid| *tid == self.pid);
        let others = tids.iter().copied().filter(|tid| *tid != self.pid);
        let is_known = |tid: &u32| {
            self.unfit.contains(tid) || self.asked.iter().any(|(asked, _)| asked == tid)
        };
        let best = moment::best(self.pid, first.chain(others).filter(|tid| !is_known(tid)));
        if best.is_none() && tids.iter().all(|&tid| proc::has_ended(self.pid, tid)) {
            return Err(ProcessGone { pid: self.pid }.into());
        }
        // Whoever is next when one does not come is no worse than that one.
        let patient = self.began.elapsed() < BETTER_MOMENT.min(self.limits.patience);
        Ok(best.filter(|best| !(patient && best.disturbance.is_worth_waiting())))
    }

    fn ask(&mut self, tid: u32) -> Result<(), InjectError> {
        match stop::seize(self.pid, tid, OPTIONS) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            // A thread can have a tracer of its own.
            Err(_) if proc::tracer(self.pid, tid).is_some_and(|tracer| tracer != 0) => {
                self.unfit.push(tid);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.asked.push((tid, Instant::now()));
        stop::ask(self.pid, tid)
    }

    /// Whoever of those that were asked stands still by now, and can serve.
    fn found(&mut self) -> Result<Option<FoundThread>, InjectError> {
        let now = WaitDeadline::At(Instant::now());
        for (tid, asked) in self.asked.clone() {
            let stand = stop::stand(self.pid, tid, now, &mut self.calls)?;
            if matches!(stand, ThreadStand::Runs) {
                continue;
            }
            self.asked.retain(|(other, _)| *other != tid);
            match stand {
                ThreadStand::Still(still) if is_fit(tid, &still.registers) => {
                    return Ok(Some((tid, *still, asked)));
                }
                ThreadStand::Still(_) => {
                    let _ = ptrace::detach(tid);
                    self.unfit.push(tid);
                }
                ThreadStand::Ended | ThreadStand::Runs => {}
            }
        }
        Ok(None)
    }

    fn in_vain(&self) -> InjectError {
        let tid = self.asked.first().map_or(self.pid, |(tid, _)| *tid);
        busy(self.pid, tid, self.began.elapsed(), self.calls.notes())
    }
}

/// A thread that did not stop.
pub(super) fn busy(pid: u32, tid: u32, waited: Duration, notes: Vec<InjectNote>) -> InjectError {
    InjectError::Busy {
        pid,
        tid,
        state: proc::state(pid, tid).unwrap_or('?'),
        place: proc::place(pid, tid),
        waited_ms: waited.as_millis() as u64,
        notes,
    }
}
