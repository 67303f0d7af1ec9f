//! The rows that one scrape shows.

use std::time::Duration;

use super::tracked::TrackedRow;
use crate::model::{SeriesView, VmaLabel};
use crate::probes::{CountAvailability, HookMechanism, ProbeLevel};

/// Everything that one scrape shows.
#[derive(Clone, Debug)]
pub struct ScrapeRows {
    /// What was counted.
    pub counted: SeriesView,
    /// What names a VMA.
    pub vma_label: VmaLabel,
    /// What the agent says about itself.
    pub agent: AgentFacts,
    /// What the agent itself uses.
    pub usage: AgentUsage,
    /// What came of tracking; `None` without `--track`.
    pub tracking: Option<TrackingRows>,
}

/// What the agent says about itself.
#[derive(Clone, Debug)]
pub struct AgentFacts {
    /// What was built.
    pub build: BuildInfo,
    /// The level reached.
    pub level: ProbeLevel,
    /// Whether `/readyz` says ready; `None` if nobody has decided.
    pub ready: Option<bool>,
    /// Every known hook, attached or not.
    pub hooks: Vec<HookRow>,
    /// The last run of each collector, none twice.
    pub collectors: Vec<CollectorRun>,
    /// What can be counted here.
    pub availability: CountAvailability,
    /// How many processes the last discovery saw.
    pub sight: ProcessSight,
    /// When the last self-test of the hooks ended.
    pub proved_unix_seconds: Option<f64>,
    /// VMAs whose pages have not been counted to their end; `None` if nothing is scanned.
    pub late_vmas: Option<u64>,
    /// How many log lines were not written, by reason.
    pub log_lines_lost: Vec<(&'static str, u64)>,
}

/// What was built, and the kernel it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the package.
    pub version: String,
    /// Commit it was built from, with `-dirty` if the sources differ from it; `unknown` outside
    /// git.
    pub revision: String,
    /// Compiler, as `rustc --version` prints it.
    pub rustc: String,
    /// Release of the running kernel (`uname -r`).
    pub kernel: String,
}

/// One hook and how it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookRow {
    /// Its name, as in docs/hooks.md.
    pub hook: &'static str,
    /// The mechanism it is attached by; `None` if it is not attached.
    pub mechanism: Option<HookMechanism>,
    /// Whether it fires; `None` if it is not attached or nobody knows.
    pub firing: Option<bool>,
    /// Events the kernel did not hand to it (`recursion_misses` of the program, `missed` of its link), if known.
    pub missed: Option<u64>,
}

/// The last run of a collector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CollectorRun {
    /// Its name: the value of the label.
    pub collector: &'static str,
    /// How long it took.
    pub duration: Duration,
    /// Whether it did all it set out to do.
    pub success: bool,
    /// When it ended, in seconds since the Unix epoch.
    pub completed_unix_seconds: f64,
}

/// How many processes the last discovery saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSight {
    /// Those that it saw; `None` before the first one.
    pub seen: Option<usize>,
    /// Those that could not be looked at, or not in all, by reason.
    pub refused: Vec<(&'static str, usize)>,
}

/// What the agent itself uses; `None` for what is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AgentUsage {
    /// User and system time in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
    /// Virtual memory in bytes.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Soft limit of open file descriptors; also `None` if unlimited.
    pub max_fds: Option<u64>,
    /// How many threads it has.
    pub threads: Option<u64>,
    /// Start in seconds since the Unix epoch.
    pub start_unix_seconds: Option<f64>,
}

/// What came of tracking processes. Words are values of labels.
#[derive(Clone, Debug, Default)]
pub struct TrackingRows {
    /// Share of one core that all of it may take.
    pub budget: f64,
    /// The tracked processes by pid, no pid twice.
    pub processes: Vec<TrackedRow>,
    /// How many of the processes that match are in which state.
    pub states: Vec<(&'static str, usize)>,
    /// How often a process could not be tracked, by reason.
    pub failures: Vec<(&'static str, u64)>,
    /// Pages of 4 KiB that all processes wrote since the agent started, each once for each round.
    pub written: u64,
    /// CPU time since the agent started, by what it went into.
    pub cpu: Vec<(&'static str, Duration)>,
}
