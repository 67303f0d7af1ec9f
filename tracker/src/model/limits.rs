//! How many series there may be, and how long they outlive their owner.

use std::time::Duration;

/// How deep the series go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// Only the node's totals.
    Node,
    /// One row per process.
    Process,
    /// One row per VMA, too.
    Vma,
}

impl Detail {
    /// All depths, from the least to the most.
    pub const ALL: [Self; 3] = [Self::Node, Self::Process, Self::Vma];

    /// The word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Process => "process",
            Self::Vma => "vma",
        }
    }
}

/// Bounds of what is exported (design: "bounds without lies"). The defaults keep a full agent near
/// 10,000 series; docs/metrics.md has the measured number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Depth (`--detail`).
    pub detail: Detail,
    /// Processes with rows of their own (`--max-processes`).
    pub max_processes: usize,
    /// VMAs with rows of their own, in each process (`--max-vmas`).
    pub max_vmas: usize,
    /// How long a series stays after its owner's exit (`--linger`).
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            detail: Detail::Vma,
            max_processes: 32,
            max_vmas: 16,
            linger: Duration::from_secs(120),
        }
    }
}

impl Limits {
    /// Processes that may have series at this depth.
    pub(super) const fn process_slots(&self) -> usize {
        match self.detail {
            Detail::Node => 0,
            Detail::Process | Detail::Vma => self.max_processes,
        }
    }

    /// VMAs per process that may have series at this depth.
    pub(super) const fn vma_slots(&self) -> usize {
        match self.detail {
            Detail::Node | Detail::Process => 0,
            Detail::Vma => self.max_vmas,
        }
    }
}
