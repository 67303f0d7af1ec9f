//! What the agent was asked to do, validated by the command line.

use super::http::{AllowedHost, ListenPlaces};
use super::tracking::ProcessSelector;
use crate::model::{SeriesLimits, VmaLabel};
use crate::probes::ProbeLevel;
use pages::strategy::StrategyName;
use std::path::PathBuf;
use std::time::Duration;

/// Everything but the hooks.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Where to serve.
    pub listen: ListenPlaces,
    /// The file with TLS and passwords.
    pub web: Option<PathBuf>,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// What names a VMA; no address is shown without [`VmaLabel::Address`].
    pub vma_label: VmaLabel,
    /// Whether names of processes and paths are kept out of what is served.
    pub redact: bool,
    /// Names under which requests may ask for the agent, besides those of the machine.
    pub allowed_hosts: Vec<AllowedHost>,
    /// Least level at which the agent is ready.
    pub require_level: ProbeLevel,
    /// Bounds of the series.
    pub limits: SeriesLimits,
    /// How often the agent works, and at what cost.
    pub pace: AgentPace,
    /// Which processes to track, if any.
    pub track: Option<TrackingConfig>,
}

/// Which processes are tracked, and how.
#[derive(Clone, Debug)]
pub struct TrackingConfig {
    /// Any of these, or of those in `explain`, selects a process.
    pub selectors: Vec<ProcessSelector>,
    /// Any of these selects a process to be explained, too.
    pub explain: Vec<ProcessSelector>,
    /// Bytes of content to read and hash in a round of an explained process, at most.
    pub content_limit: u64,
    /// From one round to the next, if the budget allows.
    pub interval: Duration,
    /// Share of one core for all of it: more than 0, at most 1.
    pub budget: f64,
    /// The strategy; `None`: the best that works.
    pub strategy: Option<StrategyName>,
    /// How many processes to track at a time.
    pub most: usize,
    /// From a refusal to the next try; doubles with each.
    pub retry: Duration,
    /// How long the counts of a process stay after it ended or was let go.
    pub linger: Duration,
    /// From one self-test of the hooks that tell causes to the next.
    pub self_test: Duration,
}

/// How often the agent works, and at what cost.
#[derive(Clone, Copy, Debug)]
pub struct AgentPace {
    /// From one reading of the counters to the next.
    pub collect: Duration,
    /// From one discovery to the next, at least.
    pub discover: Duration,
    /// Share of one core for it, as long as 30 s are enough between two of them.
    pub discover_budget: f64,
    /// From one self-test of the hooks to the next.
    pub self_test: Duration,
    /// From one scan of all VMAs to the next, at least.
    pub scan: Duration,
    /// Share of one core for the scan: 0 to 1; 0 scans nothing.
    pub budget: f64,
}
