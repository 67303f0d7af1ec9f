//! What the strategies can do on this kernel, with this privilege: each is tried on each kind of
//! memory.
#![forbid(unsafe_code)]

use std::sync::Arc;

use serde::Serialize;
use uffd::{Backing, KernelBehaviour, Userfaultfd};

use super::StrategyName;
use super::observer::FaultTimeObserver;
use super::trial::{self, StrategyTrial};

/// What decides which strategies are refused.
#[derive(Clone, Debug, Serialize)]
pub struct StrategyFacts {
    /// What the kernel was seen to do.
    pub behaviour: KernelBehaviour,
    /// Whether a userfaultfd of this process may handle faults of the kernel too.
    pub kernel_faults: bool,
    /// Who sees page faults, for strategies that ask.
    #[serde(skip)]
    pub observer: Option<Arc<dyn FaultTimeObserver>>,
    /// Each strategy on each kind of memory.
    pub trials: Vec<StrategyTrial>,
}

/// Tries every strategy; those for the process itself only if `in_process`, since they leave a
/// signal handler behind. Takes some 100 ms, and clears this process's own soft-dirty bits.
///
/// # Errors
/// If the kernel has no userfaultfd at all, or `/proc` is not there.
pub fn gather(in_process: bool) -> Result<StrategyFacts, uffd::UffdError> {
    gather_observed(in_process, None)
}

/// As [`gather`], with somebody who sees page faults: without, strategies that ask are refused.
///
/// # Errors
/// As [`gather`].
pub fn gather_observed(
    in_process: bool,
    observer: Option<Arc<dyn FaultTimeObserver>>,
) -> Result<StrategyFacts, uffd::UffdError> {
    let behaviour = uffd::self_test()?;
    let each = |name| {
        let observer = observer.as_ref();
        Backing::ALL.map(|backing| trial::run(name, backing, &behaviour, observer))
    };
    let names = StrategyName::ALL
        .into_iter()
        .filter(|name| in_process || !name.is_in_process());
    let trials = names.flat_map(each).collect();
    Ok(StrategyFacts {
        behaviour,
        kernel_faults: Userfaultfd::open().is_ok(),
        observer,
        trials,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::trial::StrategyOutcome;
    use super::*;

    #[test]
    fn every_strategy_is_tried_and_those_that_need_nothing_work() {
        let facts = gather(true).unwrap();
        let all = StrategyName::ALL.len() * Backing::ALL.len();
        assert_eq!(facts.trials.len(), all);
        for trial in &facts.trials {
            let plain = matches!(trial.backing, Backing::Anon | Backing::Shmem);
            let entry = trial.strategy.entry();
            let needs_nothing = entry.needs.is_empty() && !trial.strategy.needs_descriptor();
            if plain && needs_nothing {
                assert!(
                    matches!(trial.outcome, StrategyOutcome::Works(_)),
                    "{trial:?}"
                );
            }
        }
    }
}
