//! What the agent takes from the probes, or from a test in their place.

use super::discovery::{DiscoveryRoute, FallbackRoute, IterRoute, SmapsRoute};
use crate::model::{CounterSnapshot, CounterSource};
use crate::probes::program_log::ProgramLog;
use crate::probes::task_vma::TaskVmaIterator;
use crate::probes::{AttachedProbes, CountAvailability, HookMisses, ProbeReport};
use std::sync::{Mutex, PoisonError};

/// Reads the events that each hook missed, as far as the kernel tells.
pub type ReadMissed = Box<dyn Fn() -> Vec<HookMisses> + Send>;

/// Makes a route.
pub type MakeRoute = Box<dyn FnMut() -> Box<dyn DiscoveryRoute> + Send>;

/// Counters, discovery, and what became of every hook.
pub struct AgentProbes {
    /// Where counters are read.
    pub source: Box<dyn CounterSource>,
    /// Discovery by a BPF iterator, if one could be loaded; made anew for each thread that
    /// discovers.
    pub discover: Option<MakeRoute>,
    /// What became of each hook.
    pub report: ProbeReport,
    /// What can be counted.
    pub availability: CountAvailability,
    /// What the programs say, if anybody listens.
    pub diagnostics: Option<ProgramLog>,
    /// The events missed. Holds what is attached: dropping it detaches everything.
    pub missed: ReadMissed,
}

impl From<AttachedProbes> for AgentProbes {
    fn from(mut attached: AttachedProbes) -> Self {
        let source: Box<dyn CounterSource> = match attached.counters.take() {
            Some(counters) => Box::new(counters),
            None => Box::new(NoCounters),
        };
        Self {
            source,
            discover: iterator(&mut attached).map(|iterator| {
                let make = move || iterate(iterator.clone());
                Box::new(make) as MakeRoute
            }),
            report: ProbeReport::of(&attached),
            availability: attached.availability.clone(),
            diagnostics: attached.diagnostics.take(),
            missed: missed(Mutex::new(attached)),
        }
    }
}

/// The iterator, where it visits all processes.
fn iterator(attached: &mut AttachedProbes) -> Option<TaskVmaIterator> {
    let iterator = attached.iterator.take();
    iterator.filter(|_| uffd::is_in_initial_pid_namespace())
}

/// Discovery by the iterator, or by smaps while the kernel refuses that.
fn iterate(iterator: TaskVmaIterator) -> Box<dyn DiscoveryRoute> {
    let iterate = IterRoute::new(Box::new(move || iterator.read()));
    Box::new(FallbackRoute::new(
        Box::new(iterate),
        Box::new(SmapsRoute::default()),
    ))
}

fn missed(attached: Mutex<AttachedProbes>) -> ReadMissed {
    Box::new(move || {
        let attached = attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.misses()
    })
}

/// Counters where nothing is attached.
struct NoCounters;

impl CounterSource for NoCounters {
    fn snapshot(&mut self) -> CounterSnapshot {
        CounterSnapshot::default()
    }

    fn release(&mut self, _: &[u32], _: &[u32]) {}
}
