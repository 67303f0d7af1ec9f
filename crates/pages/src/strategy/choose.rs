//! From facts to a verdict on each strategy, and to the one that `auto` takes: pure functions.

use serde::Serialize;
use uffd::Backing;

use super::StrategyName;
use super::facts::StrategyFacts;
use super::start::can_scan;
use super::trial::{ExtraReports, StrategyOutcome};

/// What kind of userfaultfd of the target there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UffdScope {
    /// None can be had.
    None,
    /// One that handles faults of user code only: a fault of the kernel fails with EFAULT.
    UserModeOnly,
    /// One that handles every fault.
    Full,
}

/// From where a process is to be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrategyMeans {
    /// By itself.
    pub in_process: bool,
    /// Through which userfaultfd.
    pub descriptor: UffdScope,
}

impl StrategyMeans {
    /// From another process, through a userfaultfd that may do there what one of ours may.
    #[must_use]
    pub const fn from_outside(facts: &StrategyFacts) -> Self {
        let descriptor = if facts.kernel_faults {
            UffdScope::Full
        } else {
            UffdScope::UserModeOnly
        };
        Self {
            in_process: false,
            descriptor,
        }
    }
}

/// Whether a strategy can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrategyVerdict {
    /// The strategy.
    pub strategy: StrategyName,
    /// Whether it works for some kind of memory.
    pub works: bool,
    /// For which, and with what reservations; or why not.
    pub reason: String,
    /// The kinds of memory it works for.
    pub backings: Vec<&'static str>,
}

/// What `auto` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrategyChoice {
    /// The strategy.
    pub strategy: StrategyName,
    /// Why it, and why none that would have been preferred.
    pub reason: String,
}

/// The verdict on every strategy, in the order of preference.
#[must_use]
pub fn verdicts(facts: &StrategyFacts, means: StrategyMeans) -> Vec<StrategyVerdict> {
    StrategyName::ALL
        .map(|name| verdict(name, facts, means))
        .to_vec()
}

/// The verdict on one.
#[must_use]
pub fn verdict(
    strategy: StrategyName,
    facts: &StrategyFacts,
    means: StrategyMeans,
) -> StrategyVerdict {
    let tried = SortedTrials::of(strategy, facts);
    let (works, reason) = match refusal(strategy, facts, means) {
        Some(reason) => (false, reason),
        None => (!tried.works.is_empty(), tried.describe()),
    };
    let backings = tried.works.iter().map(|(backing, _)| backing.as_str());
    StrategyVerdict {
        strategy,
        works,
        reason,
        backings: if works {
            backings.collect()
        } else {
            Vec::new()
        },
    }
}

/// The best strategy that works for anonymous memory. Never `soft-dirty`, whose bits may be somebody else's, and never
/// `mprotect`, which breaks system calls.
///
/// # Errors
/// If there is none: why.
pub fn auto(verdicts: &[StrategyVerdict]) -> Result<StrategyChoice, String> {
    let candidates = verdicts
        .iter()
        .filter(|v| !matches!(v.strategy, StrategyName::SoftDirty | StrategyName::Mprotect));
    let mut passed_over = Vec::new();
    for candidate in candidates {
        let strategy = candidate.strategy;
        if candidate.works && candidate.backings.contains(&Backing::Anon.as_str()) {
            passed_over.insert(0, strategy.merit().to_owned());
            return Ok(StrategyChoice {
                strategy,
                reason: passed_over.join("; "),
            });
        }
        passed_over.push(format!("not {strategy}: {}", candidate.reason));
    }
    Err(passed_over.join("; "))
}

/// Why a strategy cannot be used whatever the trials say.
fn refusal(strategy: StrategyName, facts: &StrategyFacts, means: StrategyMeans) -> Option<String> {
    let kernel = &facts.behaviour;
    let waits = match strategy {
        StrategyName::Sync | StrategyName::MissingZeropage => true,
        StrategyName::Prefault => !can_scan(kernel),
        _ => false,
    };
    let asynchronous = matches!(
        strategy,
        StrategyName::Markers | StrategyName::NoneIsClean | StrategyName::MissingZeropage
    );
    let reason = if strategy == StrategyName::Mprotect && !means.in_process {
        "only in the process itself, by its own SIGSEGV handler"
    } else if asynchronous && !kernel.features.is_async() {
        "this kernel has no asynchronous mode (UFFD_FEATURE_WP_ASYNC, 6.7)"
    } else if asynchronous && !can_scan(kernel) {
        "this kernel has no PAGEMAP_SCAN (6.7)"
    } else if strategy == StrategyName::SoftDirty && !kernel.soft_dirty {
        "this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY), though clear_refs succeeds"
    } else if strategy.needs_descriptor() && means.descriptor == UffdScope::None {
        "it needs a userfaultfd of the process, and none can be had"
    } else if waits && means.descriptor != UffdScope::Full {
        "it needs a userfaultfd that handles faults of the kernel (root, CAP_SYS_PTRACE or \
         vm.unprivileged_userfaultfd=1): without, a read(2) into an armed page fails with EFAULT"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// The trials of one strategy, sorted.
struct SortedTrials<'a> {
    works: Vec<(Backing, ExtraReports)>,
    fails: Vec<(Backing, &'a str)>,
    untried: Vec<(Backing, &'a str)>,
}

impl<'a> SortedTrials<'a> {
    fn of(strategy: StrategyName, facts: &'a StrategyFacts) -> Self {
        let (mut works, mut fails, mut untried) = (Vec::new(), Vec::new(), Vec::new());
        for trial in facts
            .trials
            .iter()
            .filter(|trial| trial.strategy == strategy)
        {
            match &trial.outcome {
                StrategyOutcome::Works(seen) => works.push((trial.backing, *seen)),
                StrategyOutcome::Fails(why) => fails.push((trial.backing, &**why)),
                StrategyOutcome::Untried(why) => untried.push((trial.backing, &**why)),
            }
        }
        Self {
            works,
            fails,
            untried,
        }
    }

    fn describe(&self) -> String {
        let mut parts = Vec::new();
        let list = |wanted: fn(&ExtraReports, Backing) -> bool| {
            let chosen = self
                .works
                .iter()
                .filter(|(backing, seen)| wanted(seen, *backing));
            chosen
                .map(|(backing, _)| backing.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut add = |what: &str, backings: String| {
            if !backings.is_empty() {
                parts.push(format!("{what} {backings}"));
            }
        };
        add("works for", list(|_, _| true));
        add("reports first reads of", list(|seen, _| seen.first_reads));
        // Shmem that is emptied keeps its content.
        add(
            "misses zaps of",
            list(|seen, backing| !seen.zaps && backing != Backing::Shmem),
        );
        for (backing, why) in &self.fails {
            parts.push(format!("not {}: {why}", backing.as_str()));
        }
        for (backing, why) in &self.untried {
            parts.push(format!("{} untried: {why}", backing.as_str()));
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::trial::StrategyTrial;
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
        auto(&verdicts(facts, means)).unwrap()
    }

    #[test]
    fn the_best_that_works_is_taken_with_its_reason() {
        let choice = chosen(&modern(), OUTSIDE);
        assert_eq!(choice.strategy, StrategyName::Markers);
        assert_eq!(choice.reason, StrategyName::Markers.merit());
    }

    #[test]
    fn without_the_asynchronous_mode_it_is_sync_and_says_why() {
        let choice = chosen(&old(), OUTSIDE);
        assert_eq!(choice.strategy, StrategyName::Sync);
        assert!(
            choice
                .reason
                .contains("not markers: this kernel has no asynchronous")
        );
    }

    #[test]
    fn waiting_strategies_are_refused_where_a_read_would_fail() {
        let user = StrategyMeans {
            descriptor: UffdScope::UserModeOnly,
            ..OUTSIDE
        };
        for name in [StrategyName::Sync, StrategyName::MissingZeropage] {
            let verdict = verdict(name, &modern(), user);
            assert!(
                !verdict.works && verdict.reason.contains("EFAULT"),
                "{verdict:?}"
            );
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
        let error = auto(&verdicts(&facts, none)).unwrap_err();
        assert!(error.contains("not hash"), "{error}");
        facts.behaviour.soft_dirty = false;
        let verdict = verdict(StrategyName::SoftDirty, &facts, none);
        assert!(verdict.reason.contains("clear_refs succeeds"));
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
        facts.trials[0].outcome = StrategyOutcome::Fails("misses the first write to a page".into());
        let choice = chosen(&facts, OUTSIDE);
        assert_eq!(choice.strategy, StrategyName::Sync);
        assert!(choice.reason.contains("misses the first write"));
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
                StrategyOutcome::Untried("the pool is empty".into()),
            ),
        ];
        let verdict = verdict(StrategyName::NoneIsClean, &facts, OUTSIDE);
        let expected = "works for anon, shmem; reports first reads of shmem; misses zaps of anon; \
                        hugetlb untried: the pool is empty";
        assert_eq!(verdict.reason, expected);
        assert_eq!(verdict.backings, ["anon", "shmem"]);
    }
}
