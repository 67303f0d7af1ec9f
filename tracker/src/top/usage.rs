//! Everything that the agent tells of processes that use uffd-wp: the answer of `/processes`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the agent serves it.
pub(crate) const PATH: &str = "/processes";

/// Counts by the values of two labels, as by `mode` and `entry`.
pub(crate) type CountsByTwo = BTreeMap<String, BTreeMap<String, u64>>;

/// What the processes of a node have counted since the agent started, and have now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeUsage {
    pub version: String,
    pub kernel: String,
    pub uptime_seconds: f64,
    /// What of the kernel is seen, and why not more.
    pub level: String,
    pub level_reason: String,
    pub ready: bool,
    pub ready_reason: String,
    /// Names of hooks that this kernel has a use for, and that are not at work.
    pub hooks_missing: Vec<String>,
    /// Sums of everything, whatever has exited meanwhile.
    pub node: CountedEvents,
    pub processes: Vec<ProcessUsage>,
    /// VMAs without a row of their own (`--max-processes`, `--max-vmas`, `--detail`).
    pub vmas_folded: u64,
}

/// What is counted of a VMA, or of several. `null`, or a label that is missing: not counted here,
/// which is not 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CountedEvents {
    /// By mode and entry.
    pub faults: Option<CountsByTwo>,
    /// By event.
    pub markers: Option<BTreeMap<String, u64>>,
    /// Page tables of 4 KiB, by level and cause, without those that are 0.
    pub page_tables_allocated: Option<CountsByTwo>,
}

/// A process that uses uffd-wp, or that is tracked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessUsage {
    pub pid: u32,
    /// Since boot, in nanoseconds: with the pid it tells which process this is.
    pub start_boottime_ns: u64,
    pub comm: String,
    pub cgroup: Option<String>,
    /// It has ended, and is shown for a while.
    pub exited: bool,
    /// `VmPTE`; `null`: it was not asked yet.
    pub page_table_bytes: Option<u64>,
    /// `null`, here and below: not counted here.
    pub page_tables_freed: Option<u64>,
    pub fault_wait_seconds: Option<f64>,
    /// All of it, also what VMAs that are gone have counted.
    pub counted: CountedEvents,
    pub vmas: Vec<VmaUsage>,
    /// Memory of its VMAs without a row of their own.
    pub other: MemoryNow,
    pub tracked: Option<TrackedUsage>,
}

/// A VMA that is registered for write-protection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct VmaUsage {
    /// Its number, or with `--vma-label address` its start: the label `vma`.
    pub vma: String,
    pub name: Option<String>,
    pub backing: String,
    /// Who resolves its faults: `async` the kernel, `sync` a handler; `null`: not known.
    pub mode: Option<String>,
    pub exited: bool,
    pub now: MemoryNow,
    pub counted: CountedEvents,
}

/// What there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct MemoryNow {
    pub bytes: u64,
    /// Pages of 4 KiB; `null`: no scan has finished.
    pub armed_pages: Option<u64>,
    /// Written, or never armed.
    pub written_pages: Option<u64>,
}

/// What the agent's own tracking of a process came to (`--track`, `--explain`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrackedUsage {
    pub strategy: String,
    pub rounds: u64,
    pub interval_seconds: f64,
    pub over_budget: bool,
    pub tracked_pages: u64,
    pub not_looked_at_pages: u64,
    /// Pages written, each once for each round.
    pub written_pages: u64,
    /// Reported pages by verdict and cause; `null`: it is not explained.
    pub reported: Option<CountsByTwo>,
    pub missed_pages: Option<u64>,
    /// The same of a tracker that is there already.
    pub observed: Option<CountsByTwo>,
}

impl CountedEvents {
    pub(crate) fn faults(&self) -> Option<u64> {
        self.faults.as_ref().map(sum_by_two)
    }

    pub(crate) fn page_tables(&self) -> Option<u64> {
        self.page_tables_allocated.as_ref().map(sum_by_two)
    }
}

impl MemoryNow {
    /// Of two parts. What one of them does not know is what the other one knows.
    pub(crate) fn with(self, more: Self) -> Self {
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (one, other) => one.or(other),
        };
        Self {
            bytes: self.bytes.saturating_add(more.bytes),
            armed_pages: sum(self.armed_pages, more.armed_pages),
            written_pages: sum(self.written_pages, more.written_pages),
        }
    }
}

impl ProcessUsage {
    /// All of its memory that is registered.
    pub(crate) fn memory(&self) -> MemoryNow {
        let live = self.vmas.iter().filter(|vma| !vma.exited);
        live.fold(self.other, |sum, vma| sum.with(vma.now))
    }
}

impl TrackedUsage {
    /// Pages reported that hold what they held before, and all that were compared; `None`: none was.
    pub(crate) fn unchanged(&self) -> Option<(u64, u64)> {
        let verdict = |name: &str| {
            let both = [&self.reported, &self.observed].into_iter().flatten();
            let causes = both.filter_map(|counts| counts.get(name));
            causes.flat_map(BTreeMap::values).sum::<u64>()
        };
        let unchanged = verdict("unchanged");
        let compared = unchanged + verdict("changed") + verdict("zeroed");
        (compared != 0).then_some((unchanged, compared))
    }
}

fn sum_by_two(counts: &CountsByTwo) -> u64 {
    let all = counts.values().flat_map(BTreeMap::values);
    all.fold(0, |sum, count| sum.saturating_add(*count))
}
