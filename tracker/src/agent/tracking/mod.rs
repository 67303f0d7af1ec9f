//! Tracks chosen processes for as long as the agent runs (`--track`).
//!
//! ```text
//! thread track:     find (selectors) --> choose (pure) --> attach, one at a time / let go
//! thread track-PID: [ wait --> round (TrackSession) --> ledger: counts, next interval (budget) ]*
//! ledger:           rows --> /metrics, /status
//! ```
//!
//! None of it runs in a scrape or a collection. What it takes of a core is bounded: a round pays
//! with the time until the next one, looking and attaching with the time until the next look.

mod budget;
mod choose;
mod explained;
mod find;
mod ledger;
mod manager;
mod refusal;
mod selector;
mod status;
mod worker;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use selector::ProcessSelector;

use super::config::TrackingConfig;
use super::loops::LoopClock;
use super::stop::StopSignal;
use crate::explain::EventHub;
use crate::probes::events::{self, EventProbes};
use crate::probes::fault_time::FaultTimeProbes;
use ledger::TrackingLedger;
use pages::strategy::{
    self, NoStrategy, StrategyFacts, StrategyMeans, StrategyName, VerdictReason,
};
use refusal::RefusalReason;
use uffd::{KernelBehaviour, OtherPidNamespace, UffdError};

/// Tracks processes; shared by its threads and the handlers.
pub struct ProcessTracking {
    config: TrackingConfig,
    /// How to track, or why nothing can be tracked.
    means: Result<TrackingMeans, NoTrackingMeans>,
    ledger: Mutex<TrackingLedger>,
    /// The kernel's events, if processes are to be explained.
    hub: Option<EventHub>,
    started: Instant,
}

/// The strategy, and what the kernel can do.
#[derive(Clone, Debug)]
pub struct TrackingMeans {
    strategy: StrategyName,
    /// Why this one.
    reason: String,
    facts: StrategyFacts,
}

/// Why no process can be tracked here.
#[derive(Debug, thiserror::Error)]
pub enum NoTrackingMeans {
    /// What the kernel can do cannot be found out.
    #[error(transparent)]
    Facts(#[from] UffdError),
    /// No strategy works here.
    #[error(transparent)]
    NoneWorks(#[from] NoStrategy),
    /// What works here reads all memory of a process in every round: an agent does not do that for
    /// good unless it is asked to.
    #[error(
        "only `{strategy}` works here, which reads all memory in each round: \
         ask for it with --track-strategy {strategy} ({reason})"
    )]
    ReadsContent {
        /// The strategy that works.
        strategy: StrategyName,
        /// Why nothing else does.
        reason: String,
    },
    /// Which process is meant cannot be told.
    #[error(transparent)]
    PidNamespace(#[from] OtherPidNamespace),
    /// What works here has the process wait for the agent at first writes: whoever stops the agent
    /// (a freezer, `docker pause`, a debugger) would stop the process. Only if it is asked for.
    #[error(
        "only `{strategy}` works here, where processes wait for the agent, also while it is \
         stopped itself: ask for it with --track-strategy {strategy} ({reason})"
    )]
    Waits {
        /// The strategy that works.
        strategy: StrategyName,
        /// Why nothing else does.
        reason: String,
    },
    /// The strategy that was asked for does not work here.
    #[error("the strategy {strategy} does not work here: {reason}")]
    Fails {
        /// What was asked for.
        strategy: StrategyName,
        /// Why it does not work.
        reason: VerdictReason,
    },
}

impl NoTrackingMeans {
    /// The reason, in a word.
    const fn reason(&self) -> RefusalReason {
        match self {
            Self::PidNamespace(_) => RefusalReason::PidNamespace,
            Self::Facts(_) => RefusalReason::Kernel,
            Self::NoneWorks(_)
            | Self::ReadsContent { .. }
            | Self::Waits { .. }
            | Self::Fails { .. } => RefusalReason::Strategy,
        }
    }
}

impl TrackingMeans {
    /// Tries out what the kernel can do, on memory of this process: before probes would count it.
    ///
    /// # Errors
    /// If no process can be tracked here.
    pub fn find(asked: Option<StrategyName>) -> Result<Self, NoTrackingMeans> {
        uffd::check_pid_namespace(std::process::id())?;
        let observed = asked.is_some_and(StrategyName::is_observed);
        let observer = observed.then(FaultTimeProbes::shared);
        let facts = strategy::gather_observed(false, observer)?;
        let means = StrategyMeans::from_outside(&facts);
        let (strategy, reason) = match asked {
            Some(name) => (name, "asked for".to_owned()),
            None => {
                let choice = strategy::auto(&strategy::verdicts(&facts, means), None)?;
                (choice.strategy, choice.reason())
            }
        };
        let reason = match asked {
            Some(_) => reason,
            None => unasked(strategy, reason, &facts.behaviour)?,
        };
        let verdict = strategy::verdict(strategy, &facts, means);
        if !verdict.works {
            let reason = verdict.reason;
            return Err(NoTrackingMeans::Fails { strategy, reason });
        }
        Ok(Self {
            strategy,
            reason,
            facts,
        })
    }
}

/// The reason for a strategy that nobody asked for, unless an agent may not take it then.
fn unasked(
    strategy: StrategyName,
    reason: String,
    kernel: &KernelBehaviour,
) -> Result<String, NoTrackingMeans> {
    if strategy.waits(kernel) {
        Err(NoTrackingMeans::Waits { strategy, reason })
    } else if strategy.reads_content() {
        Err(NoTrackingMeans::ReadsContent { strategy, reason })
    } else {
        Ok(reason)
    }
}

impl ProcessTracking {
    /// Tracks nothing yet; reads the kernel's events from now on, if processes are to be explained.
    pub fn new(config: TrackingConfig, means: Result<TrackingMeans, NoTrackingMeans>) -> Self {
        match &means {
            Ok(means) => tracing::info!(
                strategy = means.strategy.as_str(),
                "tracking: {}",
                means.reason
            ),
            Err(why) => tracing::error!("no process can be tracked: {why}"),
        }
        Self {
            ledger: Mutex::new(TrackingLedger::new(config.interval, config.budget)),
            hub: (means.is_ok() && !config.explain.is_empty())
                .then(|| hub(config.self_test))
                .flatten(),
            config,
            means,
            started: Instant::now(),
        }
    }

    /// What of causes cannot be seen, in words, if processes are to be explained: hooks that are
    /// silent now among it.
    fn not_seen(&self) -> Option<Vec<String>> {
        let hub = self.hub.as_ref()?;
        let mut told = hub.seen().told();
        let silent = hub.silent().into_iter().map(|hook| {
            format!(
                "hook {} is attached, and was silent in the last self-test: rounds count as if \
                 events were lost, until it fires again",
                hook.name()
            )
        });
        told.extend(silent);
        Some(told)
    }

    /// Tracks until the agent stops; then nothing stays armed. Looks for processes every
    /// `interval`, or less often.
    pub fn run(&self, stop: &StopSignal, clock: &LoopClock, interval: Duration) {
        match &self.means {
            Ok(means) => manager::run(self, means, stop, clock, interval),
            // The log has the reason; the thread stays, so that nobody takes it for dead.
            Err(why) => {
                self.ledger().cannot(why.reason());
                while clock.sleep(stop, Duration::from_secs(3600)) {}
            }
        }
    }

    fn ledger(&self) -> MutexGuard<'_, TrackingLedger> {
        // A poisoned lock is taken: counts are whole at any moment.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Events of one process held from one round to the next, at most: 128 MiB.
const EVENTS: usize = 1 << 20;

/// Begins to read the kernel's events. Without them pages are compared all the same, but causes
/// stay unknown.
fn hub(self_test: Duration) -> Option<EventHub> {
    match EventHub::with_self_test(
        EventProbes::attach(&events::EventOptions::default()),
        EVENTS,
        self_test,
    ) {
        Ok(hub) => {
            for not in hub.seen().told() {
                tracing::info!("explaining: not seen: {not}");
            }
            Some(hub)
        }
        Err(error) => {
            tracing::error!("no causes are explained: cannot read the kernel's events: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_makes_nobody_wait_unasked() {
        let unasked = |strategy| unasked(strategy, String::new(), &KernelBehaviour::default());
        assert!(unasked(StrategyName::NoneIsClean).is_ok());
        let refused = unasked(StrategyName::Sync).err().map(|why| why.to_string());
        assert!(refused.is_some_and(|text| text.contains("--track-strategy sync")));
        // Without asynchronous mode it waits, too.
        let refused = unasked(StrategyName::Prefault);
        assert!(matches!(refused, Err(NoTrackingMeans::Waits { .. })));
        let refused = unasked(StrategyName::Hash);
        assert!(matches!(refused, Err(NoTrackingMeans::ReadsContent { .. })));
    }
}
