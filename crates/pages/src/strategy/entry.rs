//! What is always true of a strategy: each file has it in one const.
#![forbid(unsafe_code)]

use uffd::KernelBehaviour;

use super::start::StrategyStart;

/// One entry of the catalogue.
#[derive(Debug)]
pub(super) struct StrategyEntry {
    /// As it is written in flags, reports and JSON.
    pub name: &'static str,
    /// Why one would take it, in a few words.
    pub(crate) merit: &'static str,
    /// What the kernel must have; the first that is missing is the reason of a refusal.
    pub(crate) needs: &'static [KernelNeed],
    /// Whether faults of the target wait for us.
    pub(crate) waits: TargetWait,
    /// What becomes of pages that are not there when they are armed.
    pub(crate) absent: AbsentPages,
    /// It compares content, and so reads all memory in each round.
    pub reads_content: bool,
    /// It asks an observer of the kernel's page faults.
    pub(crate) observed: bool,
    /// Whether `auto` may take it.
    pub(crate) auto: bool,
    /// What it does to others who watch the process.
    pub(crate) caveat: Option<&'static str>,
    /// What was proposed and never built, which it stands for, and how that would differ.
    pub(crate) stands_for: Option<&'static str>,
    /// How it starts, and so from where it works.
    pub start: StrategyStart,
}

/// A feature that some kernels lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelNeed {
    /// `UFFD_FEATURE_WP_ASYNC`.
    #[error("this kernel has no asynchronous mode (UFFD_FEATURE_WP_ASYNC, 6.7)")]
    AsyncFaults,
    /// `PAGEMAP_SCAN`.
    #[error("this kernel has no PAGEMAP_SCAN (6.7)")]
    PagemapScan,
    /// `CONFIG_MEM_SOFT_DIRTY`.
    #[error(
        "this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY), though clear_refs succeeds"
    )]
    SoftDirtyBits,
}

impl KernelNeed {
    /// Whether this kernel has it.
    pub(super) const fn is_met(self, kernel: &KernelBehaviour) -> bool {
        match self {
            Self::AsyncFaults => kernel.features.is_async(),
            Self::PagemapScan => kernel.written.is_some(),
            Self::SoftDirtyBits => kernel.soft_dirty,
        }
    }
}

/// Whether a fault of the target waits for our answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetWait {
    /// The kernel resolves faults itself, or there are none.
    Never,
    /// Each fault is a message to us.
    Always,
    /// Only where the kernel cannot resolve faults itself and scan.
    WithoutScan,
}

/// What becomes of pages that are not there when an area is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AbsentPages {
    /// Each takes memory from then on: a page table entry of the target, or a hash here.
    Paid,
    /// They cost nothing, and their first access is seen.
    Caught,
    /// They are left alone, and appear unarmed.
    Ignored,
}
