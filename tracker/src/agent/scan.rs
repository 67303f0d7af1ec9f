//! The background scan: how many pages of each uffd-wp VMA are armed, how many written.
//!
//! It never runs inside a scrape, never arms anything, and rests between small steps to stay within
//! its share of a core. It keeps its place in a VMA while it rests.

use super::discovery::key_of;
use super::engine::{AgentCollector, AgentEngine};
use super::pace::{rest, thread_cpu_time};
use super::stop::StopSignal;
use crate::model::{FoundVma, ScanResult};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uffd::{
    Backing, CountMethod, CountProgress, KernelBehaviour, PAGE_SIZE, PageCounter, Pagemap,
    UffdError,
};

/// Pages of one step: 64 MiB, well under a millisecond even where each page table entry is read.
const STEP: u64 = (64 << 20) / PAGE_SIZE;

/// CPU time after which it rests: shorter rests would cost more in wake-ups than they smooth.
const STRETCH: Duration = Duration::from_millis(1);

/// Where the scan is, for `/status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ScanState {
    /// Finished passes over all VMAs.
    pub passes: u64,
    /// VMAs in this pass.
    pub vmas: usize,
    /// How many of them are done.
    pub done: usize,
    /// How long the last pass took, rests included.
    pub last_pass_seconds: Option<f64>,
    /// How much CPU time the last pass took.
    pub last_pass_cpu_seconds: Option<f64>,
    /// VMAs that could not be scanned in this pass.
    pub failed: usize,
    /// Why the last of them could not.
    pub last_failure: Option<String>,
}

/// The scan; it has a thread of its own.
pub struct BackgroundScan<'a> {
    engine: &'a AgentEngine,
    stop: &'a StopSignal,
    state: &'a Mutex<ScanState>,
    behaviour: KernelBehaviour,
    budget: f64,
    counter: PageCounter,
    /// CPU time at which the last rest ended.
    rested: Duration,
}

/// The agent is stopping.
struct AgentStopping;

impl<'a> BackgroundScan<'a> {
    /// A scan that takes `budget` of one core (more than 0, at most 1).
    pub fn new(
        engine: &'a AgentEngine,
        stop: &'a StopSignal,
        state: &'a Mutex<ScanState>,
        behaviour: KernelBehaviour,
        budget: f64,
    ) -> Self {
        let counter = PageCounter::new(0..0, CountMethod::Entries);
        Self {
            engine,
            stop,
            state,
            behaviour,
            budget,
            counter,
            rested: thread_cpu_time(),
        }
    }

    /// Scans all VMAs again and again, a pass at most every `interval`, until the agent stops.
    pub fn run(&mut self, interval: Duration) {
        loop {
            let begin = Instant::now();
            if self.pass().is_err() || !self.stop.sleep(self.pause(begin, interval)) {
                return;
            }
        }
    }

    /// How long to wait for the next pass: until the first discovery, only for that.
    fn pause(&self, begin: Instant, interval: Duration) -> Duration {
        if self.engine.discovery().is_none() {
            return Duration::from_millis(50).min(interval);
        }
        interval.saturating_sub(begin.elapsed())
    }

    fn pass(&mut self) -> Result<(), AgentStopping> {
        let Some(discovery) = self.engine.discovery() else {
            return Ok(());
        };
        let (begin, cpu) = (Instant::now(), thread_cpu_time());
        self.note(|state| {
            (state.vmas, state.done, state.failed) = (discovery.vmas.len(), 0, 0);
        });
        for vmas in discovery.vmas.chunk_by(|a, b| a.process == b.process) {
            self.process(vmas)?;
        }
        let failed = self.note(|state| {
            state.passes += 1;
            state.last_pass_seconds = Some(begin.elapsed().as_secs_f64());
            state.last_pass_cpu_seconds = Some((thread_cpu_time() - cpu).as_secs_f64());
            state.failed
        });
        self.engine
            .ran(AgentCollector::Scan, begin.elapsed(), failed == 0);
        Ok(())
    }

    fn process(&mut self, vmas: &[FoundVma]) -> Result<(), AgentStopping> {
        let Some(first) = vmas.first() else {
            return Ok(());
        };
        let pid = first.process.pid;
        // The open file keeps the address space, so whose it is can be asked now.
        let opened = Pagemap::open(pid).and_then(|pagemap| Ok((pagemap, key_of(pid)?)));
        match opened {
            Ok((pagemap, key)) if key == first.process => self.vmas(&pagemap, vmas)?,
            // Another process by now, or gone: the next discovery will tell.
            Ok(_) => {}
            Err(error) if error.is_gone() => {}
            Err(error) => self.failed(vmas.len(), &error),
        }
        self.note(|state| state.done += vmas.len());
        Ok(())
    }

    fn vmas(&mut self, pagemap: &Pagemap, vmas: &[FoundVma]) -> Result<(), AgentStopping> {
        for vma in vmas {
            match self.vma(pagemap, vma)? {
                Ok(()) => {}
                Err(error) if error.is_gone() => break,
                Err(error) => self.failed(1, &error),
            }
        }
        Ok(())
    }

    /// Counts one VMA.
    fn vma(
        &mut self,
        pagemap: &Pagemap,
        vma: &FoundVma,
    ) -> Result<Result<(), UffdError>, AgentStopping> {
        let method = CountMethod::choose(&self.behaviour, vma.backing == Backing::Hugetlb);
        self.counter.restart(vma.start..vma.end, method);
        loop {
            self.breathe()?;
            match self.counter.step(pagemap, STEP) {
                Ok(CountProgress::More) => {}
                Err(error) => return Ok(Err(error)),
                Ok(CountProgress::Done(count)) => {
                    self.engine.scanned(ScanResult {
                        process: vma.process,
                        start: vma.start,
                        armed_pages: count.armed,
                        written_pages: count.written,
                        unix_seconds: unix_seconds(),
                    });
                    return Ok(Ok(()));
                }
            }
        }
    }

    /// Rests after it has worked for a while.
    fn breathe(&mut self) -> Result<(), AgentStopping> {
        let worked = thread_cpu_time().saturating_sub(self.rested);
        if worked < STRETCH {
            return if self.stop.is_stopped() {
                Err(AgentStopping)
            } else {
                Ok(())
            };
        }
        let goes_on = self.stop.sleep(rest(worked, self.budget));
        self.rested = thread_cpu_time();
        if goes_on { Ok(()) } else { Err(AgentStopping) }
    }

    fn failed(&self, vmas: usize, error: &UffdError) {
        tracing::debug!(%error, "scan");
        self.note(|state| {
            state.failed += vmas;
            state.last_failure = Some(error.to_string());
        });
    }

    fn note<T>(&self, change: impl FnOnce(&mut ScanState) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn unix_seconds() -> f64 {
    // A clock before 1970 is wrong; its scans look as old as it says.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}
