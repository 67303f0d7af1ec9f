//! What the strategies can do on this kernel and with this privilege: every one is tried on every kind of memory.

use serde::Serialize;
use uffd::Backing;

use super::StrategyName;
use super::trial::{self, StrategyTrial};
use uffd::{KernelBehaviour, Userfaultfd};

/// The facts that decide which strategies are refused.
#[derive(Clone, Debug, Serialize)]
pub struct StrategyFacts {
    /// What the kernel was seen to do.
    pub behaviour: KernelBehaviour,
    /// A userfaultfd of this process may handle faults of the kernel too.
    pub kernel_faults: bool,
    /// Every strategy on every kind of memory.
    pub trials: Vec<StrategyTrial>,
}

/// Tries everything; what works in the process itself only for who tracks itself: `mprotect` installs a SIGSEGV handler. Takes some 100 ms, leaves
/// nothing else behind, and clears this process's own soft-dirty bits.
///
/// # Errors
/// If the kernel has no userfaultfd at all, or `/proc` is not there.
pub fn gather(in_process: bool) -> Result<StrategyFacts, uffd::UffdError> {
    let behaviour = uffd::self_test()?;
    let each = |name| Backing::ALL.map(|backing| trial::run(name, backing, &behaviour));
    let names = StrategyName::ALL
        .into_iter()
        .filter(|name| in_process || !name.is_in_process());
    Ok(StrategyFacts {
        behaviour,
        kernel_faults: Userfaultfd::open().is_ok(),
        trials: names.flat_map(each).collect(),
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
        assert_eq!(facts.trials.len(), 32);
        for trial in &facts.trials {
            let plain = matches!(trial.backing, Backing::Anon | Backing::Shmem);
            if plain && matches!(trial.strategy, StrategyName::Hash | StrategyName::Mprotect) {
                assert!(
                    matches!(trial.outcome, StrategyOutcome::Works(_)),
                    "{trial:?}"
                );
            }
        }
    }
}
