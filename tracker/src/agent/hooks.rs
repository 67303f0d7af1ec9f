//! What the probes layer hands to the agent: counters, discovery, and a report of every hook.

use super::discovery::Discover;
use crate::metrics::Availability;
use crate::model::sample::{CounterSource, Snapshot};
use serde::Serialize;
use std::any::Any;
use std::fmt;

/// How much can be seen here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// No function hook is possible: tracepoints, iterators, `PAGEMAP_SCAN`, smaps.
    Observe,
    /// Some hook is absent or estimated.
    Partial,
    /// Every hook is exact.
    Full,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observe => "observe",
            Self::Partial => "partial",
            Self::Full => "full",
        })
    }
}

/// One hook: what became of it and why.
#[derive(Clone, Debug, Serialize)]
pub struct HookReport {
    /// Its name, as `--no-hook` takes it.
    pub name: String,
    /// What it sees, in words.
    pub subject: String,
    /// The mechanism chosen; `None`: absent.
    pub mechanism: Option<String>,
    /// Whether it counts to the unit.
    pub exact: bool,
    /// Why this mechanism, or why none.
    pub reason: String,
    /// Metric families that need it.
    pub families: Vec<String>,
    /// Events the kernel did not hand to it, if known.
    pub missed: Option<u64>,
}

/// A capability that would let the agent see more.
#[derive(Clone, Debug, Serialize)]
pub struct MissingCapability {
    /// `CAP_...`.
    pub name: String,
    /// What it would give.
    pub gives: String,
}

/// Everything `tracker check`, `/status` and the log say about what can be seen here.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The level.
    pub level: Level,
    /// Why not a higher one, or that it is the highest.
    pub reason: String,
    /// Every hook.
    pub hooks: Vec<HookReport>,
    /// What this process lacks.
    pub missing_capabilities: Vec<MissingCapability>,
    /// What a person can do to see more; empty if nothing.
    pub advice: Vec<String>,
}

/// The probes as the agent uses them. Dropping it detaches everything.
pub struct Probes {
    /// The counters.
    pub source: Box<dyn CounterSource>,
    /// Discovery by a BPF iterator, where one could be loaded.
    pub discover: Option<Box<dyn Discover>>,
    /// What became of each hook.
    pub report: Report,
    /// What can be counted.
    pub availability: Availability,
    /// Reads the events that each hook missed, by its name.
    pub missed: Box<dyn Fn() -> Vec<(String, u64)> + Send>,
    /// What must live as long as the programs stay attached.
    pub attached: Box<dyn Any + Send>,
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
