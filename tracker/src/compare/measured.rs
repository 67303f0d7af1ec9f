//! What one run measured, as its process tells it. Numbers only: no sentence is derived from them
//! here.

use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "run")]
pub(crate) enum RunOutcome {
    /// With all its numbers.
    Measured(RunMeasurement),
    /// Without: why.
    NotMeasured(String),
}

impl RunOutcome {
    /// Whether there are no numbers.
    pub(crate) const fn is_refused(&self) -> bool {
        matches!(self, Self::NotMeasured(_))
    }

    /// Why there are no numbers.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Measured(_) => None,
            Self::NotMeasured(why) => Some(why),
        }
    }

    /// The numbers, if there are some.
    pub(super) const fn measured(&self) -> Option<&RunMeasurement> {
        match self {
            Self::Measured(run) => Some(run),
            Self::NotMeasured(_) => None,
        }
    }
}

/// The numbers of one run. Times are in nanoseconds, sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunMeasurement {
    /// Page tables of all levels of the process (`VmPTE`) before it was armed.
    pub tables_before: u64,
    /// The same after it was armed.
    pub tables_armed: u64,
    /// The same after the last phase.
    pub tables_end: u64,
    /// Memory of the process that is there after the last phase: anonymous, shmem and hugetlb.
    pub resident: u64,
    /// What the process that tracks took for it (`RssAnon`).
    pub tracker: u64,
    /// Registering and arming; 0 untracked.
    pub arm: u64,
    /// Each phase.
    pub phases: Vec<PhaseMeasurement>,
    /// Rounds in which nothing had happened; none untracked.
    pub clean: Vec<u64>,
}

/// One phase of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseMeasurement {
    /// Faults of the process that needed no disk.
    pub faults: u64,
    /// How long each step took.
    pub steps: Vec<u64>,
    /// How long the round after it took, if one was made.
    pub round: Option<u64>,
    /// Pages that really changed.
    pub changed: u64,
    /// Pages reported.
    pub reported: u64,
    /// Of these, pages that did not change: false positives.
    pub false_positives: u64,
    /// Pages that changed and were not reported: false negatives.
    pub false_negatives: u64,
    /// Pages of 4 KiB that the round after it reported since events were lost that would tell.
    #[serde(default)]
    pub in_doubt: u64,
}

impl RunMeasurement {
    /// How long all steps took.
    pub(super) fn work(&self) -> u64 {
        self.phases.iter().flat_map(|phase| &phase.steps).sum()
    }

    /// A count summed up over all phases.
    pub(super) fn total(&self, of: fn(&PhaseMeasurement) -> u64) -> u64 {
        self.phases.iter().map(of).sum()
    }
}
