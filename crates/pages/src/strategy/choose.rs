//! From facts to a verdict on each strategy, and to the one that `auto` takes: pure functions.

use serde::Serialize;
use uffd::Backing;

use super::Name;
use super::facts::Facts;
use super::start::can_scan;
use super::trial::{Outcome, Seen};

/// What kind of userfaultfd of the target there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// None can be had.
    None,
    /// One that handles faults of user code only: a fault of the kernel fails with EFAULT.
    UserModeOnly,
    /// One that handles every fault.
    Full,
}

/// From where a process is to be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// By itself.
    pub in_process: bool,
    /// Through which userfaultfd.
    pub descriptor: Descriptor,
}

impl Means {
    /// From another process, through a userfaultfd that may do there what one of ours may.
    #[must_use]
    pub const fn from_outside(facts: &Facts) -> Self {
        let descriptor = if facts.kernel_faults {
            Descriptor::Full
        } else {
            Descriptor::UserModeOnly
        };
        Self {
            in_process: false,
            descriptor,
        }
    }
}

/// Whether a strategy can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The strategy.
    pub strategy: Name,
    /// Whether it works for some kind of memory.
    pub works: bool,
    /// For which, and with what reservations; or why not.
    pub reason: String,
    /// The kinds of memory it works for.
    pub backings: Vec<&'static str>,
}

/// What `auto` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// The strategy.
    pub strategy: Name,
    /// Why it, and why none that would have been preferred.
    pub reason: String,
}

/// The verdict on every strategy, in the order of preference.
#[must_use]
pub fn verdicts(facts: &Facts, means: Means) -> Vec<Verdict> {
    Name::ALL.map(|name| verdict(name, facts, means)).to_vec()
}

/// The verdict on one.
#[must_use]
pub fn verdict(strategy: Name, facts: &Facts, means: Means) -> Verdict {
    let tried = Tried::of(strategy, facts);
    let (works, reason) = match refusal(strategy, facts, means) {
        Some(reason) => (false, reason),
        None => (!tried.works.is_empty(), tried.describe()),
    };
    let backings = tried.works.iter().map(|(backing, _)| backing.as_str());
    Verdict {
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
pub fn auto(verdicts: &[Verdict]) -> Result<Choice, String> {
    let candidates = verdicts
        .iter()
        .filter(|v| !matches!(v.strategy, Name::SoftDirty | Name::Mprotect));
    let mut passed_over = Vec::new();
    for candidate in candidates {
        let strategy = candidate.strategy;
        if candidate.works && candidate.backings.contains(&Backing::Anon.as_str()) {
            passed_over.insert(0, strategy.merit().to_owned());
            return Ok(Choice {
                strategy,
                reason: passed_over.join("; "),
            });
        }
        passed_over.push(format!("not {strategy}: {}", candidate.reason));
    }
    Err(passed_over.join("; "))
}

/// Why a strategy cannot be used whatever the trials say.
fn refusal(strategy: Name, facts: &Facts, means: Means) -> Option<String> {
    let kernel = &facts.behaviour;
    let waits = match strategy {
        Name::Sync | Name::MissingZeropage => true,
        Name::Prefault => !can_scan(kernel),
        _ => false,
    };
    let asynchronous = matches!(
        strategy,
        Name::Markers | Name::NoneIsClean | Name::MissingZeropage
    );
    let reason = if strategy == Name::Mprotect && !means.in_process {
        "only in the process itself, by its own SIGSEGV handler"
    } else if asynchronous && !kernel.features.is_async() {
        "this kernel has no asynchronous mode (UFFD_FEATURE_WP_ASYNC, 6.7)"
    } else if asynchronous && !can_scan(kernel) {
        "this kernel has no PAGEMAP_SCAN (6.7)"
    } else if strategy == Name::SoftDirty && !kernel.soft_dirty {
        "this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY), though clear_refs succeeds"
    } else if strategy.needs_descriptor() && means.descriptor == Descriptor::None {
        "it needs a userfaultfd of the process, and none can be had"
    } else if waits && means.descriptor != Descriptor::Full {
        "it needs a userfaultfd that handles faults of the kernel (root, CAP_SYS_PTRACE or \
         vm.unprivileged_userfaultfd=1): without, a read(2) into an armed page fails with EFAULT"
    } else {
        return None;
    };
    Some(reason.to_owned())
}

/// The trials of one strategy, sorted.
struct Tried<'a> {
    works: Vec<(Backing, Seen)>,
    fails: Vec<(Backing, &'a str)>,
    untried: Vec<(Backing, &'a str)>,
}

impl<'a> Tried<'a> {
    fn of(strategy: Name, facts: &'a Facts) -> Self {
        let (mut works, mut fails, mut untried) = (Vec::new(), Vec::new(), Vec::new());
        for trial in facts
            .trials
            .iter()
            .filter(|trial| trial.strategy == strategy)
        {
            match &trial.outcome {
                Outcome::Works(seen) => works.push((trial.backing, *seen)),
                Outcome::Fails(why) => fails.push((trial.backing, &**why)),
                Outcome::Untried(why) => untried.push((trial.backing, &**why)),
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
        let list = |wanted: fn(&Seen, Backing) -> bool| {
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
    use super::super::trial::Trial;
    use super::*;
    use uffd::{Behaviour, Features, WrittenMeaning};

    const OUTSIDE: Means = Means {
        in_process: false,
        descriptor: Descriptor::Full,
    };

    fn modern() -> Facts {
        let trial = |strategy| Trial {
            strategy,
            backing: Backing::Anon,
            outcome: Outcome::Works(Seen {
                first_reads: false,
                zaps: true,
            }),
        };
        Facts {
            behaviour: Behaviour {
                features: Features::WP_ASYNC,
                written: Some(WrittenMeaning::Fixed),
                anonymous_markers: true,
                soft_dirty: true,
                ..Behaviour::default()
            },
            kernel_faults: true,
            trials: Name::ALL.map(trial).to_vec(),
        }
    }

    /// 6.1: the asynchronous ones fail in their trials too.
    fn old() -> Facts {
        let mut facts = modern();
        facts.behaviour = Behaviour {
            soft_dirty: true,
            ..Behaviour::default()
        };
        facts
    }

    fn chosen(facts: &Facts, means: Means) -> Choice {
        auto(&verdicts(facts, means)).unwrap()
    }

    #[test]
    fn the_best_that_works_is_taken_with_its_reason() {
        let choice = chosen(&modern(), OUTSIDE);
        assert_eq!(choice.strategy, Name::Markers);
        assert_eq!(choice.reason, Name::Markers.merit());
    }

    #[test]
    fn without_the_asynchronous_mode_it_is_sync_and_says_why() {
        let choice = chosen(&old(), OUTSIDE);
        assert_eq!(choice.strategy, Name::Sync);
        assert!(
            choice
                .reason
                .contains("not markers: this kernel has no asynchronous")
        );
    }

    #[test]
    fn waiting_strategies_are_refused_where_a_read_would_fail() {
        let user = Means {
            descriptor: Descriptor::UserModeOnly,
            ..OUTSIDE
        };
        for name in [Name::Sync, Name::MissingZeropage] {
            let verdict = verdict(name, &modern(), user);
            assert!(
                !verdict.works && verdict.reason.contains("EFAULT"),
                "{verdict:?}"
            );
        }
        assert!(
            verdict(Name::Prefault, &modern(), user).works,
            "asynchronous"
        );
        assert!(!verdict(Name::Prefault, &old(), user).works, "it waits");
        assert_eq!(chosen(&modern(), user).strategy, Name::Markers);
        assert_eq!(chosen(&old(), user).strategy, Name::Hash);
    }

    #[test]
    fn soft_dirty_is_never_chosen() {
        let mut facts = modern();
        facts
            .trials
            .retain(|trial| trial.strategy == Name::SoftDirty);
        let none = Means {
            descriptor: Descriptor::None,
            ..OUTSIDE
        };
        assert!(verdict(Name::SoftDirty, &facts, none).works);
        let error = auto(&verdicts(&facts, none)).unwrap_err();
        assert!(error.contains("not hash"), "{error}");
        facts.behaviour.soft_dirty = false;
        let verdict = verdict(Name::SoftDirty, &facts, none);
        assert!(verdict.reason.contains("clear_refs succeeds"));
    }

    #[test]
    fn mprotect_is_for_the_process_itself() {
        let inside = Means {
            in_process: true,
            ..OUTSIDE
        };
        assert!(verdict(Name::Mprotect, &modern(), inside).works);
        assert!(!verdict(Name::Mprotect, &modern(), OUTSIDE).works);
    }

    /// A kernel that has everything and whose reports are wrong: the two traps.
    #[test]
    fn a_trial_that_fails_refuses_whatever_the_kernel_offers() {
        let mut facts = modern();
        facts.trials[0].outcome = Outcome::Fails("misses the first write to a page".into());
        let choice = chosen(&facts, OUTSIDE);
        assert_eq!(choice.strategy, Name::Sync);
        assert!(choice.reason.contains("misses the first write"));
    }

    #[test]
    fn reservations_are_told_by_kind_of_memory() {
        let mut facts = modern();
        let seen = |first_reads, zaps| Outcome::Works(Seen { first_reads, zaps });
        let trial = |backing, outcome| Trial {
            strategy: Name::NoneIsClean,
            backing,
            outcome,
        };
        facts.trials = vec![
            trial(Backing::Anon, seen(false, false)),
            trial(Backing::Shmem, seen(true, false)),
            trial(
                Backing::Hugetlb,
                Outcome::Untried("the pool is empty".into()),
            ),
        ];
        let verdict = verdict(Name::NoneIsClean, &facts, OUTSIDE);
        let expected = "works for anon, shmem; reports first reads of shmem; misses zaps of anon; \
                        hugetlb untried: the pool is empty";
        assert_eq!(verdict.reason, expected);
        assert_eq!(verdict.backings, ["anon", "shmem"]);
    }
}
