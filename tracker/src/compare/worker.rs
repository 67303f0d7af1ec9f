//! The process that is tracked: maps its memory and does the steps of a workload, phase by phase,
//! as it is told by lines on standard input.

use std::io::{self, BufRead as _, Write as _};
use std::thread;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use uffd::{PAGE_SIZE, ScratchMapping, UffdError};

use super::workload::{CompareWorkload, PageAct, WorkloadStep};

/// What the worker says first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum WorkerReady {
    /// Its memory is mapped, here, and prepared.
    Mapped(std::ops::Range<u64>),
    /// There is no such memory: why.
    Refused(String),
}

/// Why a worker ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkerError {
    /// The kernel refused a step.
    #[error(transparent)]
    Refused(#[from] UffdError),
    /// Whoever started it is gone.
    #[error("cannot talk to the process that measures")]
    Lost(#[from] io::Error),
    /// An answer cannot be written as JSON.
    #[error("cannot answer")]
    Answer(#[from] serde_json::Error),
}

/// Works until standard input ends.
///
/// # Errors
/// If a step is refused, or nobody listens.
pub(crate) fn work(workload: &CompareWorkload, bytes: u64) -> Result<(), WorkerError> {
    let mapping = match workload.memory.map(bytes) {
        Ok(mapping) => mapping,
        Err(error) => {
            let needs = workload.memory.needs(bytes);
            let why = needs.unwrap_or_else(|| error.to_string());
            return answer(&WorkerReady::Refused(why));
        }
    };
    let mut phases = workload.steps().into_iter();
    for (step, value) in phases.next().into_iter().flatten() {
        act(&mapping, step, value)?;
    }
    answer(&WorkerReady::Mapped(mapping.range()))?;
    let mut threads = workload.phases.iter().map(|phase| phase.threads);
    for line in io::stdin().lock().lines() {
        line?;
        let (steps, threads) = (
            phases.next().unwrap_or_default(),
            threads.next().unwrap_or(1),
        );
        answer(&timed(&mapping, &steps, threads)?)?;
    }
    Ok(())
}

fn answer(what: &impl Serialize) -> Result<(), WorkerError> {
    let text = serde_json::to_string(what)? + "\n";
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever measures has given up; standard input has ended, too.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Does the steps; returns how long each took, in nanoseconds.
fn timed(
    mapping: &ScratchMapping,
    steps: &[(WorkloadStep, u8)],
    threads: u8,
) -> Result<Vec<u64>, UffdError> {
    let mut times = Vec::with_capacity(steps.len());
    for &(step, value) in steps {
        let began = Instant::now();
        if threads == 1 {
            act(mapping, step, value)?;
        } else {
            thread::scope(|scope| {
                let all: Vec<_> = (0..threads)
                    .map(|_| scope.spawn(|| act(mapping, step, value)))
                    .collect();
                // A thread of ours does not panic: it only touches memory.
                all.into_iter()
                    .try_for_each(|one| one.join().unwrap_or(Ok(())))
            })?;
        }
        times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(times)
}

fn act(mapping: &ScratchMapping, step: WorkloadStep, value: u8) -> Result<(), UffdError> {
    let range = mapping.range();
    let total = (range.end - range.start) / PAGE_SIZE;
    match step.act {
        PageAct::Read => step.pages.pages(total).for_each(|page| {
            mapping.read(page);
        }),
        PageAct::Write => step
            .pages
            .pages(total)
            .for_each(|page| mapping.store(page, value)),
        PageAct::Zap => step
            .pages
            .runs(total)
            .try_for_each(|run| mapping.drop_range(run))?,
        PageAct::Reclaim => step
            .pages
            .runs(total)
            .try_for_each(|run| mapping.page_out(run))?,
        PageAct::WriteInChild => mapping.store_in_child(step.pages.pages(total), value)?,
    }
    Ok(())
}
