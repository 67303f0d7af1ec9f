//! One run: starts the process that works, tracks it with one strategy or none, and measures.

use std::io::{self, BufRead as _, BufReader, Lines, Write as _};
use std::ops::Range;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use pages::inject::{self, InjectError, InjectOptions};
use pages::strategy::{
    StartError, StrategyName, StrategyTarget, TrackedArea, TrackingStrategy, WrittenRun, start,
};
use serde::de::DeserializeOwned;
use uffd::{MemoryFile, PAGE_SIZE, UffdError};

use crate::probes::ProbeError;
use crate::probes::fault_time::FaultTimeProbes;

use super::measured::{PhaseMeasurement, RunMeasurement, RunOutcome};
use super::truth::WorkloadTruth;
use super::worker::WorkerReady;
use super::workload::{CompareWorkload, WorkloadMemory, WorkloadStep};

/// Clean rounds of a run.
const CLEAN: usize = 5;
/// The command of tracker that works.
pub(crate) const WORK: &str = "compare-work";

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunOrder {
    pub workload: &'static CompareWorkload,
    /// How large the range is.
    pub bytes: u64,
    /// How it is tracked; `None`: not at all.
    pub strategy: Option<StrategyName>,
}

/// Why a run has no numbers.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the process that works cannot be started: {0}")]
    Start(io::Error),
    #[error("{0}")]
    NoMemory(String),
    #[error("the process that works has ended")]
    Lost,
    #[error("the process that works gives an answer that cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("no userfaultfd of the process: {0}")]
    Inject(#[from] InjectError),
    #[error(transparent)]
    Observer(#[from] ProbeError),
    #[error(transparent)]
    Strategy(#[from] StartError),
    #[error(transparent)]
    Kernel(#[from] UffdError),
}

/// Runs and measures. What stands against it is the outcome.
pub(crate) fn run(order: &RunOrder) -> RunOutcome {
    match measure(order) {
        Ok(measurement) => RunOutcome::Measured(measurement),
        Err(error) => RunOutcome::NotMeasured(error.to_string()),
    }
}

fn measure(order: &RunOrder) -> Result<RunMeasurement, RunError> {
    let mut worker = WorkerProcess::start(order)?;
    let pid = worker.child.id();
    let mut steps = order.workload.steps().into_iter();
    let mut truth = WorkloadTruth::new(order.workload, order.bytes);
    truth.phase(&steps.next().unwrap_or_default());
    let mut tracked = TrackedWork::new(order, &worker.range, pid)?;
    let target = order
        .strategy
        .map(|name| target(name, pid).map(|target| (name, target)))
        .transpose()?;
    let mut measured = RunMeasurement {
        tables_before: tables(pid)?,
        ..RunMeasurement::default()
    };
    let ours = own_memory()?;
    let began = Instant::now();
    if let Some((name, target)) = target {
        tracked.begin(start(name, target)?)?;
        measured.arm = nanoseconds(began);
    }
    measured.tables_armed = tables(pid)?;
    for (phase, steps) in order.workload.phases.iter().zip(steps) {
        let rounds_meanwhile = phase.threads > 1;
        measured
            .phases
            .push(tracked.phase(&mut worker, &mut truth, &steps, rounds_meanwhile)?);
    }
    measured.tables_end = tables(pid)?;
    let resident = uffd::resident_memory(pid)?;
    measured.resident = resident.map_or(0, |resident| resident.total());
    if tracked.strategy.is_some() {
        for _ in 0..CLEAN {
            measured.clean.push(tracked.round()?);
        }
    }
    measured.tracker = own_memory()?.saturating_sub(ours);
    tracked.end()?;
    Ok(measured)
}

/// The process as a target, with a userfaultfd of it where the strategy acts through one.
fn target(name: StrategyName, pid: u32) -> Result<StrategyTarget, RunError> {
    let inject = || inject::userfaultfd(pid, &InjectOptions::default());
    let injected = name.needs_descriptor().then(inject).transpose()?;
    // Attached before anything is measured: one attaches once for all processes.
    let attached = name.is_observed().then(FaultTimeProbes::attached);
    Ok(StrategyTarget {
        pid,
        uffd: injected.map(|injected| injected.uffd),
        behaviour: uffd::self_test()?,
        observer: attached.transpose()?,
        detailed: false,
    })
}

fn tables(pid: u32) -> Result<u64, UffdError> {
    Ok(uffd::page_table_bytes(pid)?.unwrap_or(0))
}

fn own_memory() -> Result<u64, UffdError> {
    let resident = uffd::resident_memory(std::process::id())?;
    Ok(resident.map_or(0, |resident| resident.anon))
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The range as a strategy tracks it, and what it has reported.
struct TrackedWork {
    strategy: Option<Box<dyn TrackingStrategy>>,
    area: TrackedArea,
    memory: MemoryFile,
    written: Vec<WrittenRun>,
    /// Pages that the last round reported since events were lost.
    in_doubt: u64,
    /// Pages that were reported in this phase.
    reported: Vec<bool>,
    /// The byte at the beginning of each page of 4 KiB, read when it was reported.
    copied: Vec<u8>,
}

impl TrackedWork {
    fn new(order: &RunOrder, range: &Range<u64>, pid: u32) -> Result<Self, UffdError> {
        let memory = order.workload.memory;
        let page_size = memory.page_size();
        Ok(Self {
            strategy: None,
            area: TrackedArea {
                range: range.clone(),
                backing: memory.backing(),
                page_size,
                shared: memory == WorkloadMemory::Shmem,
            },
            memory: MemoryFile::open(pid)?,
            written: Vec::new(),
            in_doubt: 0,
            reported: vec![false; (order.bytes / page_size) as usize],
            copied: vec![0; (order.bytes / PAGE_SIZE) as usize],
        })
    }

    fn begin(&mut self, mut strategy: Box<dyn TrackingStrategy>) -> Result<(), UffdError> {
        strategy.arm(&self.area)?;
        strategy.end_round()?;
        self.strategy = Some(strategy);
        Ok(())
    }

    /// Lets the worker do a phase, and makes a round; where rounds are made meanwhile, what is
    /// missed is what differs from the copies in the end.
    fn phase(
        &mut self,
        worker: &mut WorkerProcess,
        truth: &mut WorkloadTruth,
        steps: &[(WorkloadStep, u8)],
        rounds_meanwhile: bool,
    ) -> Result<PhaseMeasurement, RunError> {
        let pid = worker.child.id();
        self.reported.fill(false);
        let before = uffd::stat(pid)?.minor_faults;
        let times = if rounds_meanwhile && self.strategy.is_some() {
            worker.phase_while(|| {
                self.round()?;
                Ok(self.copy()?)
            })?
        } else {
            worker.phase()?
        };
        let mut phase = PhaseMeasurement {
            faults: uffd::stat(pid)?.minor_faults.saturating_sub(before),
            steps: times,
            ..PhaseMeasurement::default()
        };
        let changed = truth.phase(steps).changed;
        let count = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as u64;
        phase.changed = count(&changed);
        if self.strategy.is_none() {
            return Ok(phase);
        }
        phase.round = Some(self.round()?);
        phase.in_doubt = self.in_doubt;
        let both = changed.iter().zip(&self.reported);
        let right = both
            .filter(|(changed, reported)| **changed && **reported)
            .count() as u64;
        phase.reported = count(&self.reported);
        phase.false_positives = phase.reported - right;
        phase.false_negatives = phase.changed - right;
        if rounds_meanwhile {
            self.copy()?;
            let copies = self.copied.iter().zip(truth.content());
            phase.false_negatives =
                copies.filter(|(copied, content)| copied != content).count() as u64;
        }
        Ok(phase)
    }

    /// Makes a round; returns how long it took.
    fn round(&mut self) -> Result<u64, UffdError> {
        let Some(strategy) = &mut self.strategy else {
            return Ok(0);
        };
        self.written.clear();
        let began = Instant::now();
        self.in_doubt = strategy.round(&self.area, &mut self.written)?.in_doubt;
        strategy.end_round()?;
        let took = nanoseconds(began);
        let number =
            |address: u64| ((address - self.area.range.start) / self.area.page_size) as usize;
        for run in &self.written {
            // Part of a huge page is all of it: a huge page is one page here.
            let pages = number(run.range.start)..number(run.range.end - 1) + 1;
            if let Some(pages) = self.reported.get_mut(pages) {
                pages.fill(true);
            }
        }
        Ok(took)
    }

    /// Copies what the last round reported.
    fn copy(&mut self) -> Result<(), UffdError> {
        let mut byte = [0];
        for run in &self.written {
            for address in run.range.clone().step_by(PAGE_SIZE as usize) {
                self.memory.read(address, &mut byte)?;
                let page = ((address - self.area.range.start) / PAGE_SIZE) as usize;
                if let Some(copy) = self.copied.get_mut(page) {
                    *copy = byte[0];
                }
            }
        }
        Ok(())
    }

    fn end(self) -> Result<(), UffdError> {
        self.strategy.map_or(Ok(()), TrackingStrategy::release)
    }
}

/// The process that works. It ends with its standard input.
struct WorkerProcess {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    range: Range<u64>,
}

impl WorkerProcess {
    fn start(order: &RunOrder) -> Result<Self, RunError> {
        let program = std::env::current_exe().map_err(RunError::Start)?;
        let mut command = Command::new(program);
        command
            .args([WORK, order.workload.name, &order.bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().map_err(RunError::Start)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(RunError::Lost);
        };
        let mut worker = Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
            range: 0..0,
        };
        match worker.answer()? {
            WorkerReady::Mapped(range) => worker.range = range,
            WorkerReady::Refused(why) => return Err(RunError::NoMemory(why)),
        }
        Ok(worker)
    }

    fn go(&mut self) -> Result<(), RunError> {
        self.stdin.write_all(b"\n").map_err(|_| RunError::Lost)
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T, RunError> {
        let line = self.lines.next().and_then(Result::ok);
        Ok(serde_json::from_str(&line.ok_or(RunError::Lost)?)?)
    }

    /// Lets it do a phase; returns how long each step took.
    fn phase(&mut self) -> Result<Vec<u64>, RunError> {
        self.go()?;
        self.answer()
    }

    /// As [`Self::phase`], and calls `each` again and again meanwhile.
    fn phase_while(
        &mut self,
        mut each: impl FnMut() -> Result<(), RunError>,
    ) -> Result<Vec<u64>, RunError> {
        self.go()?;
        thread::scope(|scope| {
            let (done, answered) = mpsc::channel();
            scope.spawn(move || {
                // Nobody waits for it any more if a round failed.
                let _ = done.send(self.answer());
            });
            loop {
                each()?;
                match answered.recv_timeout(Duration::ZERO) {
                    Ok(answer) => return answer,
                    Err(mpsc::RecvTimeoutError::Timeout) => (),
                    Err(mpsc::RecvTimeoutError::Disconnected) => return Err(RunError::Lost),
                }
            }
        })
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
