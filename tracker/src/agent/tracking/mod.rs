//! Tracking chosen processes for as long as the agent runs (`--track`).
//!
//! ```text
//! thread track:  find (selectors) --> choose (pure) --> attach, one at a time / let go
//! thread track-PID, one each:  [ wait --> round (track::Session) --> ledger: counts, next interval (budget, pure) ]*
//! ledger --> show: /metrics, /status
//! ```
//!
//! Nothing of it runs in a scrape or a collection. What it takes of a core is bounded: rounds pay with the time until the
//! next one, looking and attaching with the time until the next look.

mod budget;
mod choose;
mod explanation;
mod find;
mod ledger;
mod manager;
mod refusal;
mod selector;
mod show;
mod worker;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use selector::Selector;

use super::config::TrackConfig;
use super::stop::Stop;
use crate::explain::{CauseSight, EventHub};
use crate::probes::events::{self, EventProbes};
use ledger::Ledger;
use pages::strategy::{self, StrategyFacts, StrategyMeans, StrategyName};

/// What the threads and the handlers share.
pub struct Tracking {
    config: TrackConfig,
    /// How to track, or why nothing can be.
    means: Result<How, String>,
    ledger: Mutex<Ledger>,
    /// The kernel's events, if processes are to be explained.
    hub: Option<EventHub>,
    started: Instant,
}

/// The strategy, and what the kernel can do.
#[derive(Clone, Debug)]
pub struct How {
    strategy: StrategyName,
    /// Why this one.
    reason: String,
    facts: StrategyFacts,
}

impl How {
    /// Tries out what the kernel can do, on memory of this process: before probes would count it.
    ///
    /// # Errors
    /// In words, if no process can be tracked here.
    pub fn find(asked: Option<StrategyName>) -> Result<Self, String> {
        let facts = strategy::gather(false).map_err(|error| error.to_string())?;
        let means = StrategyMeans::from_outside(&facts);
        let (strategy, reason) = match asked {
            Some(name) => (name, "asked for".to_owned()),
            None => {
                let choice = strategy::auto(&strategy::verdicts(&facts, means))
                    .map_err(|none| none.to_string())?;
                (choice.strategy, choice.reason())
            }
        };
        // For good, and unasked, an agent must not read all memory of a process in every round.
        if asked.is_none() && strategy.reads_content() {
            return Err(format!(
                "only `{strategy}` works here, which reads all memory in each round: \
                 ask for it with --track-strategy {strategy} ({reason})"
            ));
        }
        let verdict = strategy::verdict(strategy, &facts, means);
        if !verdict.works {
            return Err(format!(
                "the strategy {strategy} does not work here: {}",
                verdict.reason
            ));
        }
        Ok(Self {
            strategy,
            reason,
            facts,
        })
    }
}

impl Tracking {
    /// Nothing is tracked yet.
    pub fn new(config: TrackConfig, means: Result<How, String>) -> Self {
        match &means {
            Ok(how) => tracing::info!(strategy = how.strategy.as_str(), "tracking: {}", how.reason),
            Err(why) => tracing::error!("no process can be tracked: {why}"),
        }
        Self {
            ledger: Mutex::new(Ledger::new(config.interval, config.budget)),
            hub: (means.is_ok() && !config.explain.is_empty())
                .then(hub)
                .flatten(),
            config,
            means,
            started: Instant::now(),
        }
    }

    /// What can be seen of causes, if processes are to be explained.
    fn seen(&self) -> Option<&CauseSight> {
        self.hub.as_ref().map(EventHub::seen)
    }

    /// Tracks until the agent stops; then nothing stays armed. Looks for processes every `interval`, or less often.
    pub fn run(&self, stop: &Stop, interval: Duration) {
        match &self.means {
            Ok(how) => manager::run(self, how, stop, interval),
            // What cannot be done is said; the thread stays, so that nobody takes it for dead.
            Err(_) => while stop.sleep(Duration::from_secs(3600)) {},
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // A poisoned lock is taken: counts are whole at any moment.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Events of one process held from round to round, at most: 128 MiB.
const EVENTS: usize = 1 << 20;

/// Begins to read the kernel's events. Without them pages are compared all the same, and their causes unknown.
fn hub() -> Option<EventHub> {
    match EventHub::new(
        EventProbes::attach(&events::EventOptions::default()),
        EVENTS,
    ) {
        Ok(hub) => {
            for not in &hub.seen().not {
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
