//! How many series there may be, and how long they outlive their owner.

use std::time::Duration;

/// How deep the series go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeriesDetail {
    /// The node's totals only.
    Node,
    /// A row per process.
    Process,
    /// A row per VMA, too.
    Vma,
}

impl SeriesDetail {
    /// All depths, the shallowest first.
    pub const ALL: [Self; 3] = [Self::Node, Self::Process, Self::Vma];

    /// As on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Process => "process",
            Self::Vma => "vma",
        }
    }
}

/// What names a VMA where others read it (`--vma-label`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VmaLabel {
    /// A number that the agent gives it: tells nobody where its memory is.
    #[default]
    Number,
    /// Its first address, and in what is known of it its end, too.
    Address,
}

impl VmaLabel {
    /// As on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Address => "address",
        }
    }
}

/// Bounds of what is exported. The defaults keep a full agent near 10,000 series; docs/metrics.md
/// has the exact number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// How deep the series go (`--detail`).
    pub detail: SeriesDetail,
    /// Processes with rows of their own (`--max-processes`).
    pub max_processes: usize,
    /// VMAs with rows of their own, in each process (`--max-vmas`).
    pub max_vmas: usize,
    /// How long a series stays after its owner's exit (`--linger`).
    pub linger: Duration,
}

impl Default for SeriesLimits {
    fn default() -> Self {
        Self {
            detail: SeriesDetail::Vma,
            max_processes: 32,
            max_vmas: 16,
            linger: Duration::from_secs(120),
        }
    }
}

impl SeriesLimits {
    /// Processes that may have series at this depth.
    pub(super) const fn process_slots(&self) -> usize {
        match self.detail {
            SeriesDetail::Node => 0,
            SeriesDetail::Process | SeriesDetail::Vma => self.max_processes,
        }
    }

    /// VMAs per process that may have series at this depth.
    pub(super) const fn vma_slots(&self) -> usize {
        match self.detail {
            SeriesDetail::Node | SeriesDetail::Process => 0,
            SeriesDetail::Vma => self.max_vmas,
        }
    }
}
