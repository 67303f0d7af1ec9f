//! What the agent takes from the probes layer, or from a test in its place.

use super::discovery::{Discover, Fallback, IterRoute, SmapsRoute};
use crate::model::sample::{CounterSource, Snapshot};
use crate::model::signal::Availability;
use crate::probes::AttachedProbes;
use crate::probes::ProbeReport;
use crate::probes::program_log::ProgramLog;
use crate::probes::task_vma::TaskVmaIterator;
use std::sync::{Mutex, PoisonError};

/// Reads the events that each hook missed, by its name; those the kernel does not tell are left out.
pub type Missed = Box<dyn Fn() -> Vec<(String, u64)> + Send>;

/// Counters, discovery, and the report of every hook.
pub struct Probes {
    /// The counters.
    pub source: Box<dyn CounterSource>,
    /// Discovery by a BPF iterator, where one could be loaded.
    pub discover: Option<Box<dyn Discover>>,
    /// What became of each hook.
    pub report: ProbeReport,
    /// What can be counted.
    pub availability: Availability,
    /// What the programs say, if anybody listens.
    pub diagnostics: Option<ProgramLog>,
    /// The events missed. Holds what is attached: dropping it detaches everything.
    pub missed: Missed,
}

impl From<AttachedProbes> for Probes {
    fn from(mut attached: AttachedProbes) -> Self {
        let source: Box<dyn CounterSource> = match attached.counters.take() {
            Some(counters) => Box::new(counters),
            None => Box::new(NoCounters),
        };
        Self {
            source,
            discover: attached.iterator.take().map(iterate),
            report: ProbeReport::of(&attached),
            availability: attached.availability.clone(),
            diagnostics: attached.diagnostics.take(),
            missed: missed(Mutex::new(attached)),
        }
    }
}

/// Discovery by the iterator, and by smaps while the kernel refuses that.
fn iterate(iterator: TaskVmaIterator) -> Box<dyn Discover> {
    let read = move || iterator.read().map_err(|e| e.to_string());
    let iterate = IterRoute::new(Box::new(read));
    Box::new(Fallback::new(
        Box::new(iterate),
        Box::new(SmapsRoute::default()),
    ))
}

fn missed(attached: Mutex<AttachedProbes>) -> Missed {
    Box::new(move || {
        let attached = attached.lock().unwrap_or_else(PoisonError::into_inner);
        let known = attached.misses().into_iter();
        known
            .map(|missed| (missed.hook.name().to_owned(), missed.events))
            .collect()
    })
}

/// Counters where nothing is attached.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCounters;

impl CounterSource for NoCounters {
    fn snapshot(&mut self) -> Snapshot {
        Snapshot::default()
    }

    fn release(&mut self, _: &[u32], _: &[u32]) {}
}
