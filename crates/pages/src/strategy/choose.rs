//! From verdicts to the strategy that `auto` takes: pure functions.
#![forbid(unsafe_code)]

use serde::ser::{Serialize, SerializeStruct as _, Serializer};
use uffd::Backing;

use super::StrategyName;
use super::shape::MemoryShape;
use super::verdict::StrategyVerdict;

/// The strategy that `auto` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrategyChoice {
    /// Which one.
    pub strategy: StrategyName,
    /// Those that come before it and do not work.
    pub passed_over: Vec<StrategyVerdict>,
    /// The memory for which it is better than those that are usually taken.
    pub sparse: Option<MemoryShape>,
}

/// None of the strategies that `auto` may take works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", joined(Vec::new(), .passed_over))]
pub struct NoStrategy {
    /// What stands against each.
    pub passed_over: Vec<StrategyVerdict>,
}

impl StrategyChoice {
    /// Why this one, and why none that comes before it.
    #[must_use]
    pub fn reason(&self) -> String {
        let merit = std::iter::once(self.strategy.merit().to_owned());
        let sparse = self.sparse.map(|shape| shape.to_string());
        joined(merit.chain(sparse).collect(), &self.passed_over)
    }
}

fn joined(mut parts: Vec<String>, passed_over: &[StrategyVerdict]) -> String {
    let not = |verdict: &StrategyVerdict| format!("not {}: {}", verdict.strategy, verdict.reason);
    parts.extend(passed_over.iter().map(not));
    parts.join("; ")
}

/// The best strategy that works for anonymous memory, of those that may be taken unasked; for
/// memory that is known to be sparse, one that observes page faults, if it works.
///
/// # Errors
/// If there is none: what stands against each.
pub fn auto(
    verdicts: &[StrategyVerdict],
    shape: Option<MemoryShape>,
) -> Result<StrategyChoice, NoStrategy> {
    let sparse = shape.filter(MemoryShape::is_sparse);
    let observed = verdicts.iter().filter(|v| v.strategy.is_observed());
    let observed = observed.filter(|_| sparse.is_some());
    let unasked = verdicts.iter().filter(|v| v.strategy.is_auto());
    let mut passed_over = Vec::new();
    for candidate in observed.chain(unasked) {
        if candidate.works && candidate.backings.contains(&Backing::Anon) {
            let strategy = candidate.strategy;
            return Ok(StrategyChoice {
                strategy,
                passed_over,
                sparse: sparse.filter(|_| strategy.is_observed()),
            });
        }
        passed_over.push(candidate.clone());
    }
    Err(NoStrategy { passed_over })
}

impl Serialize for NoStrategy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for StrategyChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut choice = serializer.serialize_struct("StrategyChoice", 2)?;
        choice.serialize_field("strategy", &self.strategy)?;
        choice.serialize_field("reason", &self.reason())?;
        choice.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::entry::KernelNeed;
    use super::super::facts::StrategyFacts;
    use super::super::trial::{
        ExtraReports, StrategyOutcome, StrategyTrial, TrialFailure, UntriedReason,
    };
    use super::super::verdict::{
        StrategyMeans, StrategyRefusal, UffdScope, VerdictReason, verdict, verdicts,
    };
    use super::*;
    use uffd::{KernelBehaviour, UffdFeatures, WrittenMeaning};

    const OUTSIDE: StrategyMeans = StrategyMeans {
        in_process: false,
        descriptor: UffdScope::Full,
    };

    fn modern() -> StrategyFacts {
        let trial = |strategy| StrategyTrial {
            strategy,
            backing: Backing::Anon,
            outcome: StrategyOutcome::Works(ExtraReports {
                first_reads: false,
                zaps: true,
            }),
        };
        StrategyFacts {
            behaviour: KernelBehaviour {
                features: UffdFeatures::WP_ASYNC,
                written: Some(WrittenMeaning::Fixed),
                anonymous_markers: true,
                soft_dirty: true,
                ..KernelBehaviour::default()
            },
            kernel_faults: true,
            observer: None,
            trials: StrategyName::ALL.map(trial).to_vec(),
        }
    }

    /// 6.1: the asynchronous ones fail in their trials too.
    fn old() -> StrategyFacts {
        let mut facts = modern();
        facts.behaviour = KernelBehaviour {
            soft_dirty: true,
            ..KernelBehaviour::default()
        };
        facts
    }

    fn chosen(facts: &StrategyFacts, means: StrategyMeans) -> StrategyChoice {
        auto(&verdicts(facts, means), None).unwrap()
    }

    #[test]
    fn the_best_that_works_is_taken_with_its_reason() {
        let choice = chosen(&modern(), OUTSIDE);
        assert_eq!(choice.strategy, StrategyName::Markers);
        assert_eq!(choice.reason(), StrategyName::Markers.merit());
    }

    #[test]
    fn without_the_asynchronous_mode_it_is_sync_and_says_why() {
        let choice = chosen(&old(), OUTSIDE);
        assert_eq!(choice.strategy, StrategyName::Sync);
        assert!(
            choice
                .reason()
                .contains("not markers: this kernel has no asynchronous")
        );
    }

    #[test]
    fn without_an_observer_fault_time_is_refused_in_words() {
        let verdict = verdict(StrategyName::FaultTime, &modern(), OUTSIDE);
        assert!(!verdict.works);
        let reason = verdict.reason.to_string();
        assert!(
            reason.contains("eBPF programs that see page faults"),
            "{reason}"
        );
    }

    #[test]
    fn sparse_memory_is_tracked_at_fault_time_where_that_works() {
        let sparse = Some(MemoryShape {
            absent: 64 << 30,
            present: 1 << 30,
            unobserved: 0,
        });
        let verdict_on = |strategy, works| StrategyVerdict {
            strategy,
            works,
            reason: VerdictReason::Refused(StrategyRefusal::NoObserver),
            backings: Backing::ALL.into_iter().filter(|_| works).collect(),
        };
        let on = |works| {
            let (markers, fault_time) = (StrategyName::Markers, StrategyName::FaultTime);
            [verdict_on(markers, true), verdict_on(fault_time, works)]
        };
        let choice = auto(&on(true), sparse).unwrap();
        assert_eq!(choice.strategy, StrategyName::FaultTime);
        let reason = choice.reason();
        assert!(reason.contains("take 128 MiB of page tables"), "{reason}");
        let choice = auto(&on(false), sparse).unwrap();
        assert_eq!(choice.strategy, StrategyName::Markers);
        let reason = choice.reason();
        assert!(reason.contains("not fault-time: it needs"), "{reason}");
        for shape in [None, Some(MemoryShape::default())] {
            let choice = auto(&on(true), shape).unwrap();
            assert_eq!(choice.reason(), StrategyName::Markers.merit());
        }
    }

    #[test]
    fn the_same_reason_is_told_once() {
        let mut facts = modern();
        let name = StrategyName::Markers;
        facts.trials = [Backing::Anon, Backing::File]
            .map(|backing| StrategyTrial {
                strategy: name,
                backing,
                outcome: StrategyOutcome::Fails(TrialFailure::ReportsAlone),
            })
            .to_vec();
        let reason = verdict(name, &facts, OUTSIDE).reason.to_string();
        let told = "not anon, file: reports a page that was left alone";
        assert_eq!(reason, told);
    }

    #[test]
    fn waiting_strategies_are_refused_where_a_read_would_fail() {
        let user = StrategyMeans {
            descriptor: UffdScope::UserModeOnly,
            ..OUTSIDE
        };
        for name in [StrategyName::Sync, StrategyName::MissingZeropage] {
            let verdict = verdict(name, &modern(), user);
            let refused = VerdictReason::Refused(StrategyRefusal::UserModeOnly);
            assert!(!verdict.works && verdict.reason == refused, "{verdict:?}");
            assert!(verdict.reason.to_string().contains("EFAULT"));
        }
        assert!(
            verdict(StrategyName::Prefault, &modern(), user).works,
            "asynchronous"
        );
        assert!(
            !verdict(StrategyName::Prefault, &old(), user).works,
            "it waits"
        );
        assert_eq!(chosen(&modern(), user).strategy, StrategyName::Markers);
        assert_eq!(chosen(&old(), user).strategy, StrategyName::Hash);
    }

    #[test]
    fn soft_dirty_is_never_chosen() {
        let mut facts = modern();
        facts
            .trials
            .retain(|trial| trial.strategy == StrategyName::SoftDirty);
        let none = StrategyMeans {
            descriptor: UffdScope::None,
            ..OUTSIDE
        };
        assert!(verdict(StrategyName::SoftDirty, &facts, none).works);
        let error = auto(&verdicts(&facts, none), None).unwrap_err();
        assert!(error.to_string().contains("not hash"), "{error}");
        facts.behaviour.soft_dirty = false;
        let verdict = verdict(StrategyName::SoftDirty, &facts, none);
        let missing = StrategyRefusal::Kernel(KernelNeed::SoftDirtyBits);
        assert_eq!(verdict.reason, VerdictReason::Refused(missing));
        assert!(verdict.reason.to_string().contains("clear_refs succeeds"));
    }

    #[test]
    fn mprotect_is_for_the_process_itself() {
        let inside = StrategyMeans {
            in_process: true,
            ..OUTSIDE
        };
        assert!(verdict(StrategyName::Mprotect, &modern(), inside).works);
        assert!(!verdict(StrategyName::Mprotect, &modern(), OUTSIDE).works);
    }

    /// A kernel that has everything and whose reports are wrong: the two traps.
    #[test]
    fn a_trial_that_fails_refuses_whatever_the_kernel_offers() {
        let mut facts = modern();
        facts.trials[0].outcome = StrategyOutcome::Fails(TrialFailure::MissesFirstWrite);
        let choice = chosen(&facts, OUTSIDE);
        assert_eq!(choice.strategy, StrategyName::Sync);
        assert!(choice.reason().contains("misses the first write"));
    }

    #[test]
    fn reservations_are_told_by_kind_of_memory() {
        let mut facts = modern();
        let seen = |first_reads, zaps| StrategyOutcome::Works(ExtraReports { first_reads, zaps });
        let trial = |backing, outcome| StrategyTrial {
            strategy: StrategyName::NoneIsClean,
            backing,
            outcome,
        };
        facts.trials = vec![
            trial(Backing::Anon, seen(false, false)),
            trial(Backing::Shmem, seen(true, false)),
            trial(
                Backing::Hugetlb,
                StrategyOutcome::Untried(UntriedReason::NoMemory("the pool is empty".into())),
            ),
        ];
        let verdict = verdict(StrategyName::NoneIsClean, &facts, OUTSIDE);
        let expected = "works for anon, shmem; reports first reads of shmem; misses zaps of anon; \
                        hugetlb untried: the pool is empty";
        assert_eq!(verdict.reason.to_string(), expected);
        assert_eq!(verdict.backings, [Backing::Anon, Backing::Shmem]);
        let json = serde_json::to_value(&verdict).unwrap();
        assert_eq!(json["backings"], serde_json::json!(["anon", "shmem"]));
        assert_eq!(json["reason"], expected);
    }
}
