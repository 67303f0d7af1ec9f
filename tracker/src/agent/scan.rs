//! The background scan: how many pages of each uffd-wp VMA are armed, how many written.
//!
//! It never runs inside a scrape, never arms anything, and rests between small steps to stay within
//! its share of a core. It keeps its place in a VMA while it rests, and a VMA that takes long waits
//! for its next turn until all others had theirs.

use super::discovery::key_of;
use super::engine::{AgentCollector, AgentEngine, unix_seconds};
use super::looks::{LookFailure, LookWatch, LookedAt};
use super::loops::LoopClock;
use super::pace::{rest, thread_cpu_time};
use super::stop::StopSignal;
use crate::model::{FoundVma, ProcessKey, ScanResult, VmaDiscovery};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use uffd::{
    Backing, CountMethod, CountPlace, CountProgress, KernelBehaviour, PAGE_SIZE, PageCount,
    PageCounter, Pagemap, UffdError,
};

/// Pages of one step: 64 MiB, well under a millisecond even where each page table entry is read.
const STEP: u64 = (64 << 20) / PAGE_SIZE;

/// A step over nothing may be as large as that: where there is something after all, the kernel
/// holds the lock of the mappings for a few milliseconds.
const LONGEST_STEP: u64 = (512 << 20) / PAGE_SIZE;

/// A step that took no more found no page tables.
const EMPTY: Duration = Duration::from_micros(50);

/// CPU time after which a VMA waits until all others had their turn.
const TURN: Duration = Duration::from_millis(10);

/// CPU time after which it rests: shorter rests would cost more in wake-ups than they smooth.
const STRETCH: Duration = Duration::from_millis(1);

/// One in so many passes counts the pages of a process that has not run since the last one.
const PASSES: u32 = 6;

/// Where the scan is, for `/status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScanState {
    /// Finished passes over all VMAs.
    pub passes: u64,
    /// VMAs in this pass.
    pub vmas: usize,
    /// How many of them had their turn.
    pub done: usize,
    /// VMAs that need more turns than one, and have not been counted to their end.
    pub late: usize,
    /// How long the last pass took, rests included.
    pub last_pass_seconds: Option<f64>,
    /// How much CPU time the last pass took.
    pub last_pass_cpu_seconds: Option<f64>,
    /// VMAs that could not be scanned in this pass.
    pub failed: usize,
    /// Why the last of them could not.
    pub last_failure: Option<String>,
    /// Why the last pass has counted no page, if it was to count any.
    pub blind: Option<String>,
}

impl ScanState {
    /// Why the pass that is over has counted no page, if so: not one VMA could be scanned.
    fn blindness(&self) -> Option<String> {
        if self.failed == 0 || self.failed < self.vmas {
            return None;
        }
        let last = self.last_failure.as_deref().unwrap_or_default();
        Some(format!(
            "no pages can be counted of the processes that use uffd-wp (VMAs: {}); the last: {last}",
            self.failed
        ))
    }
}

/// What a scan works with.
#[derive(Clone, Copy)]
pub struct ScanReach<'a> {
    /// Where results go.
    pub engine: &'a AgentEngine,
    /// Tells when to end.
    pub stop: &'a StopSignal,
    /// Where the scan is told.
    pub state: &'a Mutex<ScanState>,
    /// Watches each look.
    pub watch: &'a LookWatch,
    /// Tells that it goes on.
    pub clock: &'a LoopClock,
}

/// The scan; it has a thread of its own.
pub struct BackgroundScan<'a> {
    reach: ScanReach<'a>,
    behaviour: KernelBehaviour,
    budget: f64,
    counter: PageCounter,
    /// Processes of which all VMAs were counted, as they were before that.
    counted: HashMap<ProcessKey, CountedProcess>,
    /// Whether a process has the same number for us as in `/proc`.
    knows_pids: bool,
    /// VMAs that were not counted to their end, by process and start.
    late: BTreeMap<(ProcessKey, u64), CountPlace>,
    /// Passes that began.
    passes: u32,
    /// CPU time at which the last rest ended.
    rested: Duration,
}

/// This thread is to end: the agent stops, or another thread goes on in its place.
struct ScanEnds;

/// A process whose pages are as they were if it is the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CountedProcess {
    /// Its CPU time before they were counted.
    ran: Duration,
    /// A digest of its VMAs.
    layout: u64,
}

/// What a turn of a VMA came to.
enum ScanTurn {
    /// It was counted to its end.
    Counted,
    /// It was not, or not yet.
    Over,
    /// The process is gone.
    Gone,
}

impl<'a> BackgroundScan<'a> {
    /// A scan that takes `budget` of one core (more than 0, at most 1).
    pub fn new(reach: ScanReach<'a>, behaviour: KernelBehaviour, budget: f64) -> Self {
        Self {
            reach,
            behaviour,
            budget,
            counter: PageCounter::new(0..0, CountMethod::Entries),
            counted: HashMap::new(),
            knows_pids: uffd::own_pid_in_proc() == Some(std::process::id()),
            passes: 0,
            late: BTreeMap::new(),
            rested: thread_cpu_time(),
        }
    }

    /// Scans all VMAs again and again, a pass at most every `interval`, until the agent stops.
    pub fn run(&mut self, interval: Duration) {
        while self.round(interval).is_ok() {}
    }

    fn round(&mut self, interval: Duration) -> Result<(), ScanEnds> {
        let begin = Instant::now();
        let Some(discovery) = self.reach.engine.discovery() else {
            // Until the first discovery there is nothing else to wait for.
            return self.sleep(Duration::from_millis(50).min(interval));
        };
        self.pass(&discovery)?;
        // What is late has the time until the next pass.
        while !self.late.is_empty() && begin.elapsed() < interval {
            self.turns_of_late(&discovery)?;
            self.note(|_| ());
        }
        self.sleep(interval.saturating_sub(begin.elapsed()))
    }

    /// A turn for each VMA, and for what is late one more.
    fn pass(&mut self, discovery: &VmaDiscovery) -> Result<(), ScanEnds> {
        let (begin, cpu) = (Instant::now(), thread_cpu_time());
        self.forget(discovery);
        self.note(|state| {
            (state.vmas, state.done, state.failed) = (discovery.vmas.len(), 0, 0);
        });
        self.passes = self.passes.wrapping_add(1);
        for vmas in discovery.vmas.chunk_by(|a, b| a.process == b.process) {
            self.process_in_pass(vmas, discovery)?;
            self.note(|state| state.done += vmas.len());
        }
        let failed = self.note(|state| {
            state.passes += 1;
            state.blind = state.blindness();
            state.last_pass_seconds = Some(begin.elapsed().as_secs_f64());
            state.last_pass_cpu_seconds = Some((thread_cpu_time() - cpu).as_secs_f64());
            state.failed
        });
        let engine = self.reach.engine;
        engine.ran(AgentCollector::Scan, begin.elapsed(), failed == 0);
        Ok(())
    }

    fn turns_of_late(&mut self, discovery: &VmaDiscovery) -> Result<(), ScanEnds> {
        let late: Vec<_> = self.late.keys().copied().collect();
        for (process, start) in late {
            let here = |vma: &&FoundVma| (vma.process, vma.start) == (process, start);
            match discovery.vmas.iter().find(here) {
                Some(vma) => _ = self.process(std::slice::from_ref(vma), discovery)?,
                None => _ = self.late.remove(&(process, start)),
            }
        }
        Ok(())
    }

    /// Of a VMA that is gone, or is another one by now, nothing goes on.
    fn forget(&mut self, discovery: &VmaDiscovery) {
        let known: BTreeMap<_, _> = (discovery.vmas.iter())
            .map(|vma| ((vma.process, vma.start), vma.end))
            .collect();
        self.late
            .retain(|key, place| known.get(key) == Some(&place.range().end));
        let processes: HashSet<_> = discovery.vmas.iter().map(|vma| vma.process).collect();
        self.counted
            .retain(|process, _| processes.contains(process));
    }

    /// Counts the VMAs of a process, unless it has not run since they were all counted: then it has
    /// neither written nor armed anything. Others may have, so each [`PASSES`]th pass counts anyway.
    fn process_in_pass(
        &mut self,
        vmas: &[FoundVma],
        discovery: &VmaDiscovery,
    ) -> Result<(), ScanEnds> {
        let Some(process) = vmas.first().map(|vma| vma.process) else {
            return Ok(());
        };
        let ran = self
            .knows_pids
            .then(|| uffd::cpu_time(process.pid))
            .flatten();
        let layout = layout(vmas);
        let now = ran.map(|ran| CountedProcess { ran, layout });
        if is_same(now, self.counted.get(&process), self.passes, process.pid) {
            return Ok(());
        }
        self.counted.remove(&process);
        if self.process(vmas, discovery)? {
            self.counted.extend(now.map(|now| (process, now)));
        }
        Ok(())
    }

    /// A turn for each of these VMAs of one process; true if all were counted to their end.
    fn process(&mut self, vmas: &[FoundVma], discovery: &VmaDiscovery) -> Result<bool, ScanEnds> {
        let Some(process) = vmas.first().map(|vma| vma.process) else {
            return Ok(true);
        };
        if discovery.unreachable.contains(&process) {
            let why = "/proc is that of another pid namespace";
            return self.pass_over(process, vmas.len(), why);
        }
        match self.look(process, || open(process))? {
            Ok(Ok(Some(pagemap))) => self.vmas(&pagemap, vmas),
            // Another process by now, or gone: the next discovery will tell.
            Ok(Ok(None)) => self.pass_over(process, 0, ""),
            Ok(Err(error)) if error.is_gone() => self.pass_over(process, 0, ""),
            Ok(Err(error)) => self.pass_over(process, vmas.len(), &error),
            Err(stuck) => self.pass_over(process, vmas.len(), stuck),
        }
    }

    /// Nothing of a process goes on in this pass; so many of its VMAs failed.
    fn pass_over(
        &mut self,
        process: ProcessKey,
        failed: usize,
        error: impl Display,
    ) -> Result<bool, ScanEnds> {
        self.late.retain(|(late, _), _| *late != process);
        if failed > 0 {
            self.failed(failed, error);
        }
        Ok(false)
    }

    fn vmas(&mut self, pagemap: &Pagemap, vmas: &[FoundVma]) -> Result<bool, ScanEnds> {
        let mut all = true;
        for vma in vmas {
            match self.turn(pagemap, vma)? {
                ScanTurn::Counted => {}
                ScanTurn::Over => all = false,
                ScanTurn::Gone => return self.pass_over(vma.process, 0, ""),
            }
        }
        Ok(all)
    }

    /// Counts one VMA, or a part of it: one that takes longer goes on in its next turn.
    fn turn(&mut self, pagemap: &Pagemap, vma: &FoundVma) -> Result<ScanTurn, ScanEnds> {
        let key = (vma.process, vma.start);
        let place = self.late.remove(&key).unwrap_or_else(|| {
            let method = CountMethod::choose(&self.behaviour, vma.backing == Backing::Hugetlb);
            CountPlace::begin(vma.start..vma.end, method)
        });
        self.counter.go_on(place);
        let (begin, mut step) = (thread_cpu_time(), STEP);
        loop {
            self.breathe()?;
            let before = thread_cpu_time();
            let counter = &mut self.counter;
            let watch = self.reach.watch;
            let at = LookedAt::Process(vma.process.pid);
            let progress = match watch.look(at, || counter.step(pagemap, step)) {
                Ok(progress) => progress,
                Err(LookFailure::GivenUp) => return Err(ScanEnds),
                Err(stuck) => {
                    self.failed(1, stuck);
                    return Ok(ScanTurn::Over);
                }
            };
            match progress {
                Ok(CountProgress::More) => {}
                Ok(CountProgress::Done(count)) => {
                    self.tell(vma, count);
                    return Ok(ScanTurn::Counted);
                }
                Err(error) if error.is_gone() => return Ok(ScanTurn::Gone),
                Err(error) => {
                    self.failed(1, error);
                    return Ok(ScanTurn::Over);
                }
            }
            let now = thread_cpu_time();
            step = next_step(step, now.saturating_sub(before));
            if now.saturating_sub(begin) >= TURN {
                self.late.insert(key, self.counter.place().clone());
                return Ok(ScanTurn::Over);
            }
        }
    }

    fn tell(&self, vma: &FoundVma, count: PageCount) {
        self.reach.engine.scanned(ScanResult {
            process: vma.process,
            start: vma.start,
            armed_pages: count.armed,
            written_pages: count.written,
            unix_seconds: unix_seconds(),
        });
    }

    /// Looks at a process; the inner error is that an earlier look is stuck.
    fn look<T>(
        &self,
        process: ProcessKey,
        look: impl FnOnce() -> T,
    ) -> Result<Result<T, LookFailure>, ScanEnds> {
        match self.reach.watch.look(LookedAt::Process(process.pid), look) {
            Err(LookFailure::GivenUp) => Err(ScanEnds),
            answer => Ok(answer),
        }
    }

    /// Rests after it has worked for a while.
    fn breathe(&mut self) -> Result<(), ScanEnds> {
        let worked = thread_cpu_time().saturating_sub(self.rested);
        if worked < STRETCH {
            return if self.reach.stop.is_stopped() {
                Err(ScanEnds)
            } else {
                Ok(())
            };
        }
        let slept = self.sleep(rest(worked, self.budget));
        self.rested = thread_cpu_time();
        slept
    }

    fn sleep(&self, rest: Duration) -> Result<(), ScanEnds> {
        let goes_on = self.reach.clock.sleep(self.reach.stop, rest);
        if goes_on { Ok(()) } else { Err(ScanEnds) }
    }

    fn failed(&self, vmas: usize, error: impl Display) {
        tracing::warn!("pages of a process that uses uffd-wp cannot be counted: {error}");
        self.note(|state| {
            state.failed += vmas;
            state.last_failure = Some(error.to_string());
        });
    }

    fn note<T>(&self, change: impl FnOnce(&mut ScanState) -> T) -> T {
        let mut state = self
            .reach
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.late = self.late.len();
        change(&mut state)
    }
}

/// The open pagemap of a process; `None` if its number is another one's by now.
fn open(process: ProcessKey) -> Result<Option<Pagemap>, UffdError> {
    let pagemap = Pagemap::open(uffd::thread_with_memory(process.pid)?)?;
    // The open file keeps the address space, so whose it is can be asked now.
    Ok((key_of(process.pid)? == process).then_some(pagemap))
}

/// Whether the pages of a process are taken for the same as when they were counted.
fn is_same(
    now: Option<CountedProcess>,
    counted: Option<&CountedProcess>,
    passes: u32,
    pid: u32,
) -> bool {
    let is_due = passes % PASSES == pid % PASSES;
    !is_due && now.is_some() && now.as_ref() == counted
}

/// A digest of the VMAs of a process.
fn layout(vmas: &[FoundVma]) -> u64 {
    let mut digest = DefaultHasher::new();
    for vma in vmas {
        (vma.start, vma.end).hash(&mut digest);
    }
    digest.finish()
}

/// How many pages the next step walks: more where there is nothing.
fn next_step(step: u64, took: Duration) -> u64 {
    if took > EMPTY {
        return STEP;
    }
    (2 * step).min(LONGEST_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_blind_if_not_one_vma_could_be_scanned() {
        let blind = |vmas, failed| {
            let state = ScanState {
                vmas,
                failed,
                last_failure: Some("no CAP_SYS_PTRACE".to_owned()),
                ..ScanState::default()
            };
            state.blindness()
        };
        assert!(blind(2, 2).is_some_and(|why| why.contains("no CAP_SYS_PTRACE")));
        for (vmas, failed) in [(0, 0), (2, 0), (2, 1)] {
            assert_eq!(blind(vmas, failed), None);
        }
    }

    #[test]
    fn who_has_not_run_is_counted_in_one_of_six_passes() {
        let at = |nanos, layout| CountedProcess {
            ran: Duration::from_nanos(nanos),
            layout,
        };
        let before = at(5, 1);
        let same = |now, passes| is_same(now, Some(&before), passes, 7);
        let passed_over = (0..60).filter(|pass| same(Some(at(5, 1)), *pass));
        assert_eq!(passed_over.count(), 50);
        assert!(same(Some(at(5, 1)), 2));
        assert!(!same(Some(at(6, 1)), 2), "it has run");
        assert!(!same(Some(at(5, 2)), 2), "it has other VMAs");
        assert!(!same(None, 2), "who knows");
        assert!(!is_same(Some(at(5, 1)), None, 2, 7), "it was not counted");
    }

    #[test]
    fn steps_grow_over_nothing_and_shrink_at_the_first_page_table() {
        let empty = Duration::from_micros(3);
        assert_eq!(next_step(STEP, empty), 2 * STEP);
        assert_eq!(next_step(LONGEST_STEP, empty), LONGEST_STEP);
        assert_eq!(next_step(LONGEST_STEP, Duration::from_millis(1)), STEP);
    }
}
