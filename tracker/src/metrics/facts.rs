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
