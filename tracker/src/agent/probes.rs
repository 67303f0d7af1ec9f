//! What the agent takes from the probes, or from a test in their place.

use super::discovery::{DiscoveryRoute, FallbackRoute, IterRoute, SmapsRoute};
use crate::model::{CounterSnapshot, CounterSource};
use crate::probes::program_log::ProgramLog;
use crate::probes::task_vma::TaskVmaIterator;
use crate::probes::{AttachedProbes, CountAvailability, HookMisses, ProbeReport};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Reads the events that each hook missed, as far as the kernel tells.
pub type ReadMissed = Box<dyn Fn() -> Vec<HookMisses> + Send>;

/// Makes a route.
pub type MakeRoute = Box<dyn FnMut() -> Box<dyn DiscoveryRoute> + Send>;

/// What a self-test of the hooks has shown.
pub struct ProofResult {
    /// What became of each hook.
    pub report: ProbeReport,
    /// What can be counted.
    pub availability: CountAvailability,
    /// Why it failed itself: then all this is older.
    pub failure: Option<String>,
}

/// Has every hook prove that it fires; `None` if nothing is attached.
pub type ProveHooks = Box<dyn Fn() -> Option<ProofResult> + Send>;

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
    /// The self-test of the hooks.
    pub prove: ProveHooks,
    /// The events missed. Holds what is attached: dropping it detaches everything.
    pub missed: ReadMissed,
}

impl From<AttachedProbes> for AgentProbes {
    fn from(mut attached: AttachedProbes) -> Self {
        let source: Box<dyn CounterSource> = match attached.counters.take() {
            Some(counters) => Box::new(counters),
            None => Box::new(NoCounters),
        };
        let discover = by_iterator(&mut attached);
        let (report, availability) = (ProbeReport::of(&attached), attached.availability.clone());
        let diagnostics = attached.diagnostics.take();
        let attached = Arc::new(Mutex::new(attached));
        Self {
            source,
            discover,
            report,
            availability,
            diagnostics,
            prove: prove(attached.clone()),
            missed: missed(attached),
        }
    }
}

/// Discovery by the iterator, where it visits all processes.
pub(super) fn by_iterator(attached: &mut AttachedProbes) -> Option<MakeRoute> {
    let iterator = attached.iterator.take();
    let iterator = iterator.filter(|_| uffd::is_in_initial_pid_namespace())?;
    Some(Box::new(move || iterate(iterator.clone())))
}

/// Discovery by smaps alone.
pub(super) fn by_smaps() -> MakeRoute {
    Box::new(|| Box::new(SmapsRoute::of_others()))
}

/// Discovery by the iterator, or by smaps while the kernel refuses that.
fn iterate(iterator: TaskVmaIterator) -> Box<dyn DiscoveryRoute> {
    let iterate = IterRoute::new(Box::new(move |each| iterator.read(each)));
    Box::new(FallbackRoute::new(
        Box::new(iterate),
        Box::new(SmapsRoute::of_others()),
    ))
}

fn lock(attached: &Mutex<AttachedProbes>) -> MutexGuard<'_, AttachedProbes> {
    attached.lock().unwrap_or_else(PoisonError::into_inner)
}

fn missed(attached: Arc<Mutex<AttachedProbes>>) -> ReadMissed {
    Box::new(move || lock(&attached).misses())
}

fn prove(attached: Arc<Mutex<AttachedProbes>>) -> ProveHooks {
    Box::new(move || {
        let mut attached = lock(&attached);
        attached.is_any().then(|| {
            attached.prove();
            ProofResult {
                report: ProbeReport::of(&attached),
                availability: attached.availability.clone(),
                failure: attached.untested().map(str::to_owned),
            }
        })
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
