//! The discovery thread.

use super::discovery::{
    DiscoveryError, DiscoveryOutcome, DiscoveryRoute, LookFailure, LookWatch, refused,
};
use super::engine::{AgentCollector, AgentEngine};
use super::loops::LoopClock;
use super::pace::{rest, thread_cpu_time};
use super::stop::StopSignal;
use crate::metrics::ProcessSight;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Share of one core that discovery may take at most: a machine with thousands of processes is
/// searched less often, not at a higher cost.
const SHARE: f64 = 0.02;
/// For its budget, which is less, it rests no longer than that.
const FRESH: Duration = Duration::from_secs(30);

/// The last discovery, for `/status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DiscoveryState {
    /// The route it took: a BPF iterator or smaps.
    pub route: String,
    /// Why it did not take the BPF iterator, though that is attached.
    pub fallen_back: Option<String>,
    /// Processes that it saw, the agent itself not among them.
    pub processes: usize,
    /// Whether it sees VMAs of all processes, whatever `/proc` refuses.
    pub sees_all: bool,
    /// Uffd-wp VMAs that it found.
    pub vmas: usize,
    /// How long it took.
    pub seconds: f64,
    /// How much CPU time it took.
    pub cpu_seconds: f64,
    /// Processes that could not be looked at, or not in all.
    pub refused: usize,
    /// The same, by reason.
    pub refused_by_reason: BTreeMap<&'static str, usize>,
    /// The first of them, with what to do.
    pub first_refusal: Option<String>,
    /// The first of them for each reason.
    pub first_refusals: BTreeMap<&'static str, String>,
    /// Why nothing could be discovered at all.
    pub failure: Option<String>,
}

impl DiscoveryState {
    /// How many processes it saw, and refused by reason.
    pub fn sight(&self) -> ProcessSight {
        let done = !self.route.is_empty();
        ProcessSight {
            seen: done.then_some(self.processes),
            refused: self.refused_by_reason.clone().into_iter().collect(),
        }
    }

    /// Why hardly anything can be seen, if so: no more than is refused. What `/proc` does not list
    /// at all counts as one, so that what is started beside a blind agent does not make it see.
    pub fn blindness(&self) -> Option<String> {
        if self.failure.is_some() {
            return self.failure.clone();
        }
        let (seen, refused) = (self.processes, self.refused);
        let done = !self.route.is_empty();
        if !done || self.sees_all || seen > refused {
            return None;
        }
        let first = self.first_refusal.as_deref();
        Some(match (seen, first) {
            (0, None) => {
                "no process but the agent can be seen, and nothing says why: /proc shows no \
                          other (hidepid=, a pid namespace)"
                    .to_owned()
            }
            (0, Some(first)) => {
                format!("no process can be seen, {refused} are refused; the first: {first}")
            }
            (_, first) => {
                let first = first.unwrap_or_default();
                format!("processes seen: {seen}, refused: {refused}; the first: {first}")
            }
        })
    }
}

/// What discovery works with.
pub struct DiscoveryLoop<'a> {
    /// Where what is found goes.
    pub engine: &'a AgentEngine,
    /// Tells when to end.
    pub stop: &'a StopSignal,
    /// Where the last discovery is told.
    pub state: &'a Mutex<DiscoveryState>,
    /// Watches each look.
    pub watch: &'a LookWatch,
    /// Tells that it goes on.
    pub clock: &'a LoopClock,
    /// From one discovery to the next, at least.
    pub interval: Duration,
    /// Share of one core that it is to take, as long as it is not too rare then.
    pub budget: f64,
}

impl DiscoveryLoop<'_> {
    /// Discovers until the agent stops, or another thread does it in our place.
    pub fn run(&self, route: &mut dyn DiscoveryRoute) {
        let mut told = 0;
        loop {
            let (begin, cpu) = (Instant::now(), thread_cpu_time());
            let result = route.discover(self.engine.now(), self.watch);
            if matches!(result, Err(DiscoveryError::Look(LookFailure::GivenUp))) {
                return;
            }
            let (took, cpu) = (begin.elapsed(), thread_cpu_time() - cpu);
            let new = describe(route.route(), &result, took, cpu);
            let success = result.is_ok() && new.blindness().is_none();
            self.engine.ran(AgentCollector::Discovery, took, success);
            tell(&new, &mut told);
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = new;
            if let Ok(outcome) = result {
                self.engine.discovered(outcome);
                // So that the next scrape has what is new; this also makes us ready.
                self.engine.collect();
            }
            let rest = rest_after(cpu, self.interval, self.budget);
            if !self.clock.sleep(self.stop, rest) {
                return;
            }
        }
    }
}

/// How long to rest after a discovery that took so much CPU time.
fn rest_after(cpu: Duration, interval: Duration, budget: f64) -> Duration {
    let within_budget = rest(cpu, budget).min(FRESH);
    interval.max(within_budget).max(rest(cpu, SHARE))
}

/// What one discovery came to.
pub(super) fn describe(
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
            state.sees_all = found.sees_all;
            for (obstacle, count) in refused(&found.refusals) {
                state.refused += count;
                state.refused_by_reason.insert(obstacle.as_str(), count);
            }
            for refusal in found.refusals.iter().rev() {
                let reason = refusal.obstacle.as_str();
                state.first_refusals.insert(reason, refusal.message.clone());
            }
            state.fallen_back.clone_from(&found.fallen_back);
            state.first_refusal = found.refusals.first().map(|one| one.message.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sees_no_more_than_is_refused_is_blind() {
        assert_eq!(DiscoveryState::default().blindness(), None);
        let state = |processes, refused, sees_all| DiscoveryState {
            route: "smaps".to_owned(),
            processes,
            refused,
            sees_all,
            first_refusal: (refused != 0).then(|| "why".to_owned()),
            ..DiscoveryState::default()
        };
        for (processes, refused) in [(0, 1), (1, 1), (1, 100), (0, 0)] {
            let told = state(processes, refused, false).blindness();
            let told = told.unwrap_or_default();
            let why = if refused == 0 {
                "pid namespace)"
            } else {
                "why"
            };
            assert!(told.ends_with(why), "{told}");
            assert_eq!(state(processes, refused, true).blindness(), None);
        }
        assert_eq!(state(3, 1, false).blindness(), None);
        assert_eq!(state(200, 0, false).blindness(), None);
    }

    #[test]
    fn a_search_keeps_its_budget_unless_it_would_be_rare_and_its_share_in_any_case() {
        let rest_after = |cpu| {
            let seconds = Duration::from_secs;
            rest_after(Duration::from_millis(cpu), seconds(5), 0.002).as_millis()
        };
        assert_eq!(rest_after(1), 5_000);
        assert_eq!(rest_after(40), 19_960);
        assert_eq!(rest_after(100), 30_000);
        assert_eq!(rest_after(1_000), 49_000);
    }
}
