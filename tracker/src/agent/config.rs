//! What the agent was asked to do, validated by the command line.

use super::tracking::Selector;
use crate::model::Limits;
use crate::probes::ProbeLevel;
use pages::strategy::StrategyName;
use std::time::Duration;

/// Everything but the hooks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to try to bind, `ADDR:PORT`; the first that works is served.
    pub listen: Vec<String>,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Least level at which the agent is ready.
    pub require_level: ProbeLevel,
    /// Bounds of the series.
    pub limits: Limits,
    /// How often, and at what cost.
    pub pace: Pace,
    /// Which processes to track, if any.
    pub track: Option<TrackConfig>,
}

/// Which processes are tracked, and how.
#[derive(Clone, Debug)]
pub struct TrackConfig {
    /// Chosen by any of these, or by those of `explain`.
    pub selectors: Vec<Selector>,
    /// Chosen by any of these to be explained, too.
    pub explain: Vec<Selector>,
    /// Content read and hashed in a round of a process that is explained, at most, in bytes.
    pub content_limit: u64,
    /// From one round to the next, if the budget allows.
    pub interval: Duration,
    /// Share of one core for all of it: more than 0, at most 1.
    pub budget: f64,
    /// How; none: the best that works.
    pub strategy: Option<StrategyName>,
    /// Processes at a time.
    pub most: usize,
    /// From a refusal to the next try; doubles with each.
    pub retry: Duration,
    /// How long the counts of a process stay after it ended or was let go.
    pub linger: Duration,
}

/// How often the agent works, and at what cost.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one reading of the counters to the next.
    pub collect: Duration,
    /// From one discovery to the next, at least.
    pub discover: Duration,
    /// From one scan of all VMAs to the next, at least.
    pub scan: Duration,
    /// Share of one core for the scan: 0 to 1; 0 scans nothing.
    pub budget: f64,
}
