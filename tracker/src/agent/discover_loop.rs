//! The discovery thread.

use super::discovery::{DiscoveryError, DiscoveryOutcome, DiscoveryRoute};
use super::engine::{AgentCollector, AgentEngine};
use super::pace::{rest, thread_cpu_time};
use super::stop::StopSignal;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Share of one core that discovery may take: a machine with thousands of processes is searched
/// less often, not at a higher cost.
const SHARE: f64 = 0.02;

/// The last discovery, for `/status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiscoveryState {
    /// The route it took: a BPF iterator or smaps.
    pub route: String,
    /// Why it did not take the BPF iterator, though that is attached.
    pub fallen_back: Option<String>,
    /// Processes that it looked at.
    pub processes: usize,
    /// Uffd-wp VMAs that it found.
    pub vmas: usize,
    /// How long it took.
    pub seconds: f64,
    /// How much CPU time it took.
    pub cpu_seconds: f64,
    /// Processes that could not be read.
    pub refused: usize,
    /// The first of them, with what to do.
    pub first_refusal: Option<String>,
    /// Why nothing could be discovered at all.
    pub failure: Option<String>,
}

/// Discovers until the agent stops, every `interval` or less often.
pub fn run(
    route: &mut dyn DiscoveryRoute,
    engine: &AgentEngine,
    stop: &StopSignal,
    state: &Mutex<DiscoveryState>,
    interval: Duration,
) {
    let mut told = 0;
    loop {
        let (begin, cpu) = (Instant::now(), thread_cpu_time());
        let result = route.discover(engine.now());
        let (took, cpu) = (begin.elapsed(), thread_cpu_time() - cpu);
        engine.ran(AgentCollector::Discovery, took, result.is_ok());
        let new = describe(route.route(), &result, took, cpu);
        tell(&new, &mut told);
        *state.lock().unwrap_or_else(PoisonError::into_inner) = new;
        if let Ok(outcome) = result {
            engine.discovered(outcome);
            // So that the next scrape has what is new; this also makes us ready.
            engine.collect();
        }
        if !stop.sleep(interval.max(rest(cpu, SHARE))) {
            return;
        }
    }
}

fn describe(
    route: &str,
    result: &Result<DiscoveryOutcome, DiscoveryError>,
    took: Duration,
    cpu: Duration,
) -> DiscoveryState {
    let mut state = DiscoveryState {
        route: route.to_owned(),
        seconds: took.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
        ..DiscoveryState::default()
    };
    match result {
        Ok(found) => {
            state.processes = found.processes;
            state.vmas = found.discovery.vmas.len();
            state.refused = found.refusals.len();
            state.fallen_back.clone_from(&found.fallen_back);
            state.first_refusal = found.refusals.first().cloned();
        }
        Err(failure) => state.failure = Some(failure.to_string()),
    }
    state
}

/// Logs refusals when their number grows by an order, not at each discovery.
fn tell(state: &DiscoveryState, told: &mut u32) {
    if let Some(failure) = &state.failure {
        tracing::error!("discovery failed: {failure}");
    }
    let order = state.refused.checked_ilog2().map_or(0, |order| order + 1);
    if order > *told {
        let first = state.first_refusal.as_deref().unwrap_or_default();
        tracing::warn!(
            processes = state.processes,
            refused = state.refused,
            "some processes cannot be read, so their VMAs stay unseen; the first: {first}"
        );
    }
    *told = order;
}
