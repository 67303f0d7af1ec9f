//! What the agent says about itself: the part of a scrape that does not come from the model.

use std::time::Duration;

use crate::model::sample::Usage;
pub use crate::model::signal::{Availability, Exactness, Signal};

/// State of the agent itself. The agent keeps one up to date and hands it to
/// [`super::Exporter::set_facts`].
#[derive(Clone, Debug, Default)]
pub struct AgentFacts {
    /// What was built.
    pub build: BuildInfo,
    /// Level reached: one of [`LEVELS`]; empty before the probes were tried.
    pub level: String,
    /// Every hook known, attached or not.
    pub hooks: Vec<HookFacts>,
    /// Maps with a capacity, besides the record tables (`vma_records`, `mm_records`), which come
    /// with each snapshot.
    pub maps: Vec<(String, Usage)>,
    /// The last run of each collector (`discovery`, `snapshot`, `scan`, ...).
    pub collectors: Vec<CollectorFacts>,
    /// What can be counted here.
    pub availability: Availability,
    /// What is tracked; none without `--track`.
    pub track: Option<TrackFacts>,
}

/// What the processes that the agent tracks came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrackFacts {
    /// Share of one core that all of it may take.
    pub budget: f64,
    /// One row for each process, by pid, no pid twice.
    pub processes: Vec<TrackRow>,
    /// How many processes that match are in which state.
    pub states: Vec<(&'static str, usize)>,
    /// How often a process could not be tracked, by reason.
    pub failures: Vec<(&'static str, u64)>,
    /// Pages of 4 KiB that all processes wrote since the agent started, each once for each round.
    pub written: u64,
    /// CPU time since the agent started, by what it went into.
    pub cpu: Vec<(&'static str, Duration)>,
}

/// One process that is, or a while ago was, tracked. Pages are of 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackRow {
    /// Process id.
    pub pid: u32,
    /// Its name when it was attached to.
    pub comm: Vec<u8>,
    /// How it is tracked.
    pub strategy: String,
    /// Whether it still is.
    pub live: bool,
    /// Rounds.
    pub rounds: u64,
    /// Pages written, each once for each round.
    pub written: u64,
    /// Pages that were there before they were armed.
    pub unknown: u64,
    /// Pages unmapped from one round to the next.
    pub vanished: u64,
    /// Pages tracked in the last round.
    pub tracked: u64,
    /// From the last round to the next.
    pub interval: Duration,
    /// CPU time of attaching and of all rounds.
    pub cpu: Duration,
    /// What explaining it came to.
    pub explained: Option<ExplainRow>,
}

/// What explaining a process came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplainRow {
    /// Reported pages by verdict and cause.
    pub reported: Vec<(&'static str, &'static str, u64)>,
    /// Pages that changed and were not reported.
    pub missed: u64,
    /// Clean pages that were compared.
    pub verified: u64,
    /// Events of the kernel that were lost.
    pub lost: u64,
    /// One page of so many is compared.
    pub one_of: u64,
}

/// The levels, best first.
pub const LEVELS: [&str; 3] = ["full", "partial", "observe"];

/// What was built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildInfo {
    /// Version of the package.
    pub version: String,
    /// Commit it was built from, with `-dirty` if the sources differ from it; `unknown` outside git.
    pub revision: String,
    /// Compiler, as `rustc --version` prints it.
    pub rustc: String,
    /// Release of the running kernel (`uname -r`).
    pub kernel: String,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookFacts {
    /// Its name, as in docs/hooks.md.
    pub hook: String,
    /// The mechanism that was chosen (`fentry`, `kprobe`, ...), or `none`.
    pub mechanism: String,
    /// Whether it is attached.
    pub attached: bool,
    /// Events the kernel did not hand to it (`recursion_misses` of the program's fdinfo).
    pub missed: Option<u64>,
}

/// The last run of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorFacts {
    /// Its name.
    pub collector: String,
    /// How long it took.
    pub duration: Duration,
    /// Whether it did all it set out to do.
    pub success: bool,
}
