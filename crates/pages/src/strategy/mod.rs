//! Ways to track which pages of a process are written: one trait, one file per strategy.
//!
//! A strategy works from outside: through a userfaultfd of the target's address space (made there,
//! or duplicated out of it), through `/proc/PID/pagemap`, `clear_refs` and `/proc/PID/mem`.
//! Only `mprotect` runs in the process itself. docs/strategies.md says what each reports too much,
//! and what it misses.
//!
//! A strategy is a file with its `ENTRY` (what is always true of it, and how it starts) and a row
//! of the list below. Whoever decides asks the entry, never for a name.
//!
//! ```text
//! facts (trials on scratch mappings) --> verdict, choose (pure): what works, what auto takes
//!                                            |
//! start --> arm each area, end_round --> [ round of each area, end_round ]* --> release
//! ```

use uffd::UffdError;

#[macro_use]
mod catalogue;

mod area;
mod choose;
mod collect;
mod entry;
mod facts;
mod fault_time;
mod handler;
mod hash;
mod limit;
mod markers;
#[allow(unsafe_code, reason = "fills missing pages of the target")]
mod missing_zeropage;
#[allow(
    unsafe_code,
    reason = "handles a signal, and protects memory of this process"
)]
mod mprotect;
mod none_is_clean;
mod observer;
mod page_ranges;
mod prefault;
mod registered;
mod shape;
mod soft_dirty;
mod sparse;
mod start;
mod sync;
#[allow(unsafe_code, reason = "has memory of this process tracked")]
mod trial;
mod verdict;
mod zero_page;

catalogue! {
    Markers: markers,
    Sync: sync,
    Prefault: prefault,
    MissingZeropage: missing_zeropage,
    NoneIsClean: none_is_clean,
    FaultTime: fault_time,
    Hash: hash,
    SoftDirty: soft_dirty,
    Mprotect: mprotect,
}

pub(crate) use area::without;
pub use area::{AreaStats, TrackedArea, WrittenRun};
pub use catalogue::UnknownStrategy;
pub use choose::{NoStrategy, StrategyChoice, auto};
pub use entry::KernelNeed;
pub use facts::{StrategyFacts, gather, gather_observed};
pub use limit::StrategyLimit;
pub use mprotect::MprotectStrategy;
pub use observer::{FaultTimeBits, FaultTimeObserver, NotObserved};
pub use registered::EmergencyRelease;
pub use shape::MemoryShape;
pub use start::{StartError, StrategyTarget, start};
pub use trial::{ExtraReports, StrategyOutcome, StrategyTrial, TrialFailure, UntriedReason};
pub use verdict::{
    StrategyMeans, StrategyRefusal, StrategyVerdict, TrialSummary, UffdScope, VerdictReason,
    verdict, verdicts,
};

/// One way to track writes.
///
/// The caller arms every area and ends the round; from then on each round asks every area and ends.
/// What is written after a page was armed is reported by a later round; no write falls between two
/// rounds, except with `soft-dirty`. [`UffdError::Gone`]: the process is gone, or executes another
/// program. Dropping a strategy releases it.
pub trait TrackingStrategy: Send {
    /// Which strategy this is.
    fn name(&self) -> StrategyName;

    /// Begins to track an area.
    ///
    /// # Errors
    /// EBUSY: it is registered with another userfaultfd. EINVAL: this kernel cannot track memory of
    /// this kind. [`UffdError::Gone`].
    fn arm(&mut self, area: &TrackedArea) -> Result<(), UffdError>;

    /// Begins to track an area of private memory that nobody may write at the moment, as
    /// [`Self::arm`] does. What is not there costs nothing.
    ///
    /// # Errors
    /// As of [`Self::arm`].
    fn arm_sparse(&mut self, area: &TrackedArea) -> Result<(), UffdError> {
        self.arm(area)
    }

    /// Whether memory that nobody may write at the moment can be tracked without harm to the
    /// process.
    fn tracks_unwritable(&self) -> bool {
        true
    }

    /// Appends what was written in an area since the last round, in order of addresses, and arms it
    /// again. What has been unmapped meanwhile is counted, and is no error.
    ///
    /// # Errors
    /// If the kernel refuses. [`UffdError::Gone`].
    fn round(
        &mut self,
        area: &TrackedArea,
        written: &mut Vec<WrittenRun>,
    ) -> Result<AreaStats, UffdError>;

    /// Ends a round, after every area was asked.
    ///
    /// # Errors
    /// If the kernel refuses. [`UffdError::Gone`].
    fn end_round(&mut self) -> Result<(), UffdError> {
        Ok(())
    }

    /// Draws the borders of areas anew, where the process has split, joined or unmapped some: `new`
    /// takes the place of `old` and covers nothing that `old` did not. No page is armed or
    /// disarmed.
    fn redraw(&mut self, _old: &[TrackedArea], _new: &[TrackedArea]) {}

    /// Stops tracking an area, and disarms it. One that is unmapped already is no error.
    ///
    /// # Errors
    /// If the kernel refuses to disarm it.
    fn forget(&mut self, area: &TrackedArea) -> Result<(), UffdError>;

    /// What lets go of every area at once, whatever this strategy is doing meanwhile: for a thread
    /// that watches over the process. `None`: it registers nothing.
    fn emergency_release(&self) -> Option<EmergencyRelease> {
        None
    }

    /// Stops tracking every area: nothing stays armed and nobody waits.
    ///
    /// # Errors
    /// If the kernel refuses to disarm something; the rest is disarmed.
    fn release(self: Box<Self>) -> Result<(), UffdError>;
}
