//! The strategies in `tracker check`: which can track another process here, and which `auto` takes.

use std::fmt::{self, Formatter};
use std::fs::File;

use serde::Serialize;

use pages::strategy::{
    NoStrategy, StrategyChoice, StrategyFacts, StrategyMeans, StrategyTrial, StrategyVerdict, auto,
    gather_observed, verdicts,
};

use crate::probes::fault_time::FaultTimeProbes;

/// What is known about the strategies.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum StrategyReport {
    /// Each was tried.
    Tried {
        /// What `--strategy auto` takes; absent if nothing works.
        auto: Option<StrategyChoice>,
        /// Why nothing works.
        #[serde(skip_serializing_if = "Option::is_none")]
        none: Option<NoStrategy>,
        /// The verdict on each, in the order of preference.
        verdicts: Vec<StrategyVerdict>,
        /// What each did with each kind of memory.
        trials: Vec<StrategyTrial>,
    },
    /// They could not be tried.
    Unknown {
        /// Why not.
        error: String,
    },
}

impl StrategyReport {
    /// Tries them, as if a userfaultfd of the target may do what one of ours may.
    pub(crate) fn find() -> Self {
        const PAGEMAP: &str = "/proc/self/pagemap";
        if let Err(error) = File::open(PAGEMAP) {
            let error = format!("cannot open {PAGEMAP}: {error}");
            return Self::Unknown { error };
        }
        match gather_observed(false, Some(FaultTimeProbes::shared())) {
            Ok(facts) => Self::of(facts),
            Err(error) => Self::Unknown {
                error: error.to_string(),
            },
        }
    }

    fn of(facts: StrategyFacts) -> Self {
        let means = StrategyMeans::from_outside(&facts);
        let verdicts = verdicts(&facts, means);
        let (auto, none) = match auto(&verdicts, None) {
            Ok(choice) => (Some(choice), None),
            Err(none) => (None, Some(none)),
        };
        Self::Tried {
            auto,
            none,
            verdicts,
            trials: facts.trials,
        }
    }
}

impl fmt::Display for StrategyReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (auto, none, verdicts) = match self {
            Self::Unknown { error } => {
                return writeln!(f, "\nstrategies could not be tried: {error}");
            }
            Self::Tried {
                auto,
                none,
                verdicts,
                ..
            } => (auto, none, verdicts),
        };
        match auto {
            Some(choice) => {
                let (strategy, reason) = (choice.strategy, choice.reason());
                writeln!(f, "\nstrategies; auto takes {strategy}: {reason}")?;
            }
            None => {
                let why = none.as_ref().map(ToString::to_string).unwrap_or_default();
                writeln!(f, "\nstrategies; auto finds none: {why}")?;
            }
        }
        for verdict in verdicts {
            let refused = if verdict.works { "" } else { "refused: " };
            writeln!(f, "  {:16}  {refused}{}", verdict.strategy, verdict.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pages::strategy::{
        ExtraReports, KernelNeed, StrategyName, StrategyRefusal, TrialSummary, VerdictReason,
    };
    use uffd::Backing;

    #[test]
    fn verdicts_and_the_choice_are_told() {
        let no_scan = StrategyRefusal::Kernel(KernelNeed::PagemapScan);
        let refused = StrategyVerdict {
            strategy: StrategyName::Markers,
            works: false,
            reason: VerdictReason::Refused(no_scan),
            backings: Vec::new(),
        };
        let zaps = ExtraReports {
            first_reads: false,
            zaps: true,
        };
        let works = StrategyVerdict {
            strategy: StrategyName::Sync,
            works: true,
            reason: VerdictReason::Tried(TrialSummary {
                works: vec![(Backing::Anon, zaps)],
                ..TrialSummary::default()
            }),
            backings: vec![Backing::Anon],
        };
        let strategies = StrategyReport::Tried {
            auto: Some(StrategyChoice {
                strategy: StrategyName::Sync,
                passed_over: vec![refused.clone()],
                sparse: None,
            }),
            none: None,
            verdicts: vec![refused, works],
            trials: Vec::new(),
        };
        let expected = "
strategies; auto takes sync: exact, with a message for each first write; not markers: \
            this kernel has no PAGEMAP_SCAN (6.7)
  markers           refused: this kernel has no PAGEMAP_SCAN (6.7)
  sync              works for anon
";
        assert_eq!(strategies.to_string(), expected);
    }
}
