//! What the agent was asked to do, validated by the command line.

use crate::model::Limits;
use crate::probes::Level;
use std::time::Duration;

/// Everything but the hooks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses to try to bind, `ADDR:PORT`; the first that works is served.
    pub listen: Vec<String>,
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Least level at which the agent is ready.
    pub require_level: Level,
    /// Bounds of the series.
    pub limits: Limits,
    /// How often, and at what cost.
    pub pace: Pace,
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
