//! From facts to a verdict on each strategy: pure functions.
#![forbid(unsafe_code)]

use std::fmt;

use serde::{Serialize, Serializer};
use uffd::Backing;

use super::StrategyName;
use super::entry::KernelNeed;
use super::facts::StrategyFacts;
use super::trial::{ExtraReports, StrategyOutcome, TrialFailure, UntriedReason};

/// Which userfaultfd of the target can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UffdScope {
    /// None.
    None,
    /// One that handles faults of user code only; a fault of the kernel fails with EFAULT.
    UserModeOnly,
    /// One that handles every fault.
    Full,
}

/// From where a process is tracked, and through what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrategyMeans {
    /// The process tracks itself.
    pub in_process: bool,
    /// Its userfaultfd.
    pub descriptor: UffdScope,
}

impl StrategyMeans {
    /// From another process, if a userfaultfd of the target may do what one of ours may.
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
    /// For which kinds, and with what reservations; or why not.
    pub reason: VerdictReason,
    /// The kinds of memory it works for.
    #[serde(serialize_with = "words")]
    pub backings: Vec<Backing>,
}

/// Why a strategy can be used, or cannot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerdictReason {
    /// It cannot, whatever its trials say.
    #[error(transparent)]
    Refused(#[from] StrategyRefusal),
    /// As its trials say.
    #[error("{0}")]
    Tried(TrialSummary),
}

/// Why a strategy cannot be used, whatever its trials say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategyRefusal {
    /// The strategy is not for other processes.
    #[error("only in the process itself, by its own SIGSEGV handler")]
    OwnProcessOnly,
    /// The kernel lacks something.
    #[error(transparent)]
    Kernel(#[from] KernelNeed),
    /// No userfaultfd of the process can be had.
    #[error("it needs a userfaultfd of the process, and none can be had")]
    NoDescriptor,
    /// Nobody sees page faults.
    #[error(
        "it needs eBPF programs that see page faults, which are attached only where this strategy \
         is asked for, or memory is sparse"
    )]
    NoObserver,
    /// System calls of the process would fail on armed pages.
    #[error(
        "it needs a userfaultfd that handles faults of the kernel (root, CAP_SYS_PTRACE or \
         vm.unprivileged_userfaultfd=1): without, a read(2) into an armed page fails with EFAULT"
    )]
    UserModeOnly,
}

/// The verdict on every strategy, in the order of preference.
#[must_use]
pub fn verdicts(facts: &StrategyFacts, means: StrategyMeans) -> Vec<StrategyVerdict> {
    StrategyName::ALL
        .map(|name| verdict(name, facts, means))
        .to_vec()
}

/// The verdict on one strategy.
#[must_use]
pub fn verdict(
    strategy: StrategyName,
    facts: &StrategyFacts,
    means: StrategyMeans,
) -> StrategyVerdict {
    let (reason, backings) = match refusal(strategy, facts, means) {
        Some(refusal) => (VerdictReason::Refused(refusal), Vec::new()),
        None => {
            let tried = TrialSummary::of(strategy, facts);
            let backings = tried.works.iter().map(|(backing, _)| *backing).collect();
            (VerdictReason::Tried(tried), backings)
        }
    };
    StrategyVerdict {
        strategy,
        works: !backings.is_empty(),
        reason,
        backings,
    }
}

fn refusal(
    strategy: StrategyName,
    facts: &StrategyFacts,
    means: StrategyMeans,
) -> Option<StrategyRefusal> {
    let kernel = &facts.behaviour;
    if strategy.is_in_process() && !means.in_process {
        return Some(StrategyRefusal::OwnProcessOnly);
    }
    let needs = strategy.entry().needs;
    if let Some(missing) = needs.iter().find(|need| !need.is_met(kernel)) {
        return Some(StrategyRefusal::Kernel(*missing));
    }
    if strategy.is_observed() && facts.observer.is_none() {
        return Some(StrategyRefusal::NoObserver);
    }
    if strategy.needs_descriptor() && means.descriptor == UffdScope::None {
        return Some(StrategyRefusal::NoDescriptor);
    }
    let fails = strategy.waits(kernel) && means.descriptor != UffdScope::Full;
    fails.then_some(StrategyRefusal::UserModeOnly)
}

/// The trials of one strategy, sorted by result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrialSummary {
    /// The kinds of memory it works for, and what else it reported of them.
    pub works: Vec<(Backing, ExtraReports)>,
    /// Those it does not work for, and why.
    pub fails: Vec<(Backing, TrialFailure)>,
    /// Those it could not be tried on, and why.
    pub untried: Vec<(Backing, UntriedReason)>,
}

impl TrialSummary {
    fn of(strategy: StrategyName, facts: &StrategyFacts) -> Self {
        let mut summary = Self::default();
        for trial in facts.trials.iter().filter(|it| it.strategy == strategy) {
            let backing = trial.backing;
            match trial.outcome.clone() {
                StrategyOutcome::Works(extra) => summary.works.push((backing, extra)),
                StrategyOutcome::Fails(why) => summary.fails.push((backing, why)),
                StrategyOutcome::Untried(why) => summary.untried.push((backing, why)),
            }
        }
        summary
    }

    /// The wanted ones of the kinds of memory it works for.
    fn list(&self, wanted: fn(ExtraReports, Backing) -> bool) -> String {
        let chosen = self.works.iter().filter(|(it, extra)| wanted(*extra, *it));
        let words: Vec<_> = chosen.map(|(backing, _)| backing.as_str()).collect();
        words.join(", ")
    }
}

impl fmt::Display for TrialSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Emptied shmem keeps its content: no miss.
        let misses = |extra: ExtraReports, it| !extra.zaps && it != Backing::Shmem;
        let lists = [
            ("works for", self.list(|_, _| true)),
            (
                "reports first reads of",
                self.list(|extra, _| extra.first_reads),
            ),
            ("misses zaps of", self.list(misses)),
        ];
        let works = lists.iter().filter(|(_, backings)| !backings.is_empty());
        let mut parts: Vec<_> = works.map(|(what, of)| format!("{what} {of}")).collect();
        let mut fails: Vec<(&TrialFailure, Vec<&str>)> = Vec::new();
        for (backing, why) in &self.fails {
            match fails.iter_mut().find(|(known, _)| *known == why) {
                Some((_, backings)) => backings.push(backing.as_str()),
                None => fails.push((why, vec![backing.as_str()])),
            }
        }
        let not = |(why, backings): (_, Vec<&str>)| format!("not {}: {why}", backings.join(", "));
        parts.extend(fails.into_iter().map(not));
        for (backing, why) in &self.untried {
            parts.push(format!("{} untried: {why}", backing.as_str()));
        }
        f.write_str(&parts.join("; "))
    }
}

impl Serialize for VerdictReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn words<S: Serializer>(backings: &[Backing], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(backings.iter().map(|backing| backing.as_str()))
}
