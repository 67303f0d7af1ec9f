//! From a process to a strategy that tracks it: a userfaultfd where one helps, and the best
//! strategy that works.

use std::time::Duration;

use uffd::Userfaultfd;

use super::{TrackError, TrackNote, deciding_shape};
use crate::inject::{self, InjectError, InjectedUffd, ProcessLifeline, UffdGuard};
use crate::strategy::{
    self, StrategyFacts, StrategyMeans, StrategyName, StrategyTarget, TrackingStrategy, UffdScope,
};

/// How to track.
#[derive(Clone, Debug)]
pub struct TrackOptions {
    /// Which strategy. `None`: the best that works.
    pub strategy: Option<StrategyName>,
    /// Whether to tell zaps and huge pages, where that is possible; a round is 20 times slower
    /// then.
    pub detailed: bool,
    /// The most bytes of a mapping, for strategies that take memory for each of its pages, there or
    /// not.
    pub max_mapping: u64,
    /// Time between two rounds: the header tells it, the caller keeps it.
    pub interval: Duration,
    /// Name and version of the program that tracks, for the header.
    pub tracker: &'static str,
    /// How to get a userfaultfd.
    pub inject: inject::InjectOptions,
}

/// The default of [`TrackOptions::max_mapping`], which takes 256 MiB of page tables. A sanitizer's
/// shadow is larger, and so is a heap that is only reserved.
pub const MAX_MAPPING: u64 = 128 << 30;

/// A process with a strategy that has no area yet.
pub(super) struct AttachedProcess {
    pub strategy: Box<dyn TrackingStrategy>,
    pub lifeline: ProcessLifeline,
    /// Lets go of it if it would wait for us.
    pub guard: Option<UffdGuard>,
    /// Why this strategy.
    pub reason: String,
    /// For how long one of its threads stood still, or all.
    pub stopped: Option<Duration>,
    /// What its owner might notice.
    pub notes: Vec<TrackNote>,
    /// The strategy stands in for a better one, until the process can be stopped.
    pub stands_in: bool,
}

/// How often to try what stands in the way for a moment only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttachTries {
    /// There are rounds, and the next one tries again.
    Once,
    /// Nothing is tracked yet.
    Several,
}

impl AttachTries {
    /// Each waits for a moment in which the process can be stopped.
    const fn number(self) -> usize {
        match self {
            Self::Once => 1,
            Self::Several => 3,
        }
    }
}

/// Attaches to a process.
pub(super) fn attach(
    pid: u32,
    facts: &StrategyFacts,
    options: &TrackOptions,
    tries: AttachTries,
) -> Result<AttachedProcess, TrackError> {
    uffd::check_pid_namespace(pid)?;
    let (injected, refused) = patiently(tries, || inject(pid, options))?;
    let stands_in = refused.as_ref().is_some_and(InjectError::may_pass);
    let means = StrategyMeans {
        in_process: false,
        descriptor: injected.as_ref().map_or(UffdScope::None, scope),
    };
    let (name, reason) = choose(pid, facts, means, options.strategy, refused)?;
    let mut attached = InjectionParts::default();
    if let Some(injected) = injected {
        attached.stopped = Some(injected.stopped);
        let notes = injected.notes.into_iter();
        attached.notes = notes.map(TrackNote::Injected).collect();
        attached.lifeline = Some(injected.target);
        // What the strategy does not use is closed: a userfaultfd without features harms nobody.
        attached.uffd = name.needs_descriptor().then_some(injected.uffd);
    }
    let guard = guard(pid, name, facts, &attached, options)?;
    let lifeline = match attached.lifeline {
        Some(lifeline) => lifeline,
        None => ProcessLifeline::open(pid).map_err(TrackError::kernel(pid))?,
    };
    let target = StrategyTarget {
        pid,
        uffd: attached.uffd,
        behaviour: facts.behaviour,
        observer: facts.observer.clone(),
        detailed: options.detailed,
    };
    attached.notes.extend(huge_pages(pid, name));
    let strategy =
        strategy::start(name, target).map_err(|source| TrackError::Start { pid, source })?;
    Ok(AttachedProcess {
        strategy,
        lifeline,
        guard,
        reason,
        stopped: attached.stopped,
        notes: attached.notes,
        stands_in,
    })
}

/// Tries again what stands in the way for a moment only, whether another strategy may stand in or
/// not. What stood in the way first is the reason: later it may be that the helper still waits for
/// the thread that it asked to stop.
fn patiently(
    tries: AttachTries,
    inject: impl Fn() -> Result<InjectionOutcome, TrackError>,
) -> Result<InjectionOutcome, TrackError> {
    let may_pass = |outcome: &Result<InjectionOutcome, TrackError>| match outcome {
        Ok((_, refused)) => refused.as_ref().is_some_and(InjectError::may_pass),
        Err(error) => error.may_pass(),
    };
    let first = inject();
    if !may_pass(&first) {
        return first;
    }
    for _ in 1..tries.number() {
        let next = inject();
        if !may_pass(&next) {
            return next;
        }
    }
    first
}

/// Whoever lets go of the process while we stand still, if it would wait for us.
fn guard(
    pid: u32,
    name: StrategyName,
    facts: &StrategyFacts,
    attached: &InjectionParts,
    options: &TrackOptions,
) -> Result<Option<UffdGuard>, InjectError> {
    let waited_for = attached.uffd.as_ref();
    let waited_for = waited_for.filter(|_| name.waits(&facts.behaviour));
    waited_for
        .map(|uffd| UffdGuard::set(pid, uffd, &options.inject))
        .transpose()
}

/// What tracking will do to huge pages, where the kernel has any.
fn huge_pages(pid: u32, name: StrategyName) -> Option<TrackNote> {
    const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    if !name.needs_descriptor() {
        return None;
    }
    // Where they cannot be counted, what follows says why in better words.
    let Ok(bytes) = uffd::anon_huge_bytes(pid) else {
        return None;
    };
    // A kernel without huge pages has no such file. Whatever it says, MADV_COLLAPSE makes some.
    std::path::Path::new(ENABLED)
        .exists()
        .then_some(TrackNote::HugePages {
            mib: bytes >> 20,
            armed_first: name.arms_absent(),
        })
}

/// What an injection gives; nothing of it without one.
#[derive(Default)]
struct InjectionParts {
    uffd: Option<Userfaultfd>,
    lifeline: Option<ProcessLifeline>,
    stopped: Option<Duration>,
    notes: Vec<TrackNote>,
}

/// A userfaultfd, or why there is none; neither if none was asked for.
type InjectionOutcome = (Option<InjectedUffd>, Option<InjectError>);

/// A userfaultfd of the process, where one may help; or why there is none, if others may stand in.
fn inject(pid: u32, options: &TrackOptions) -> Result<InjectionOutcome, TrackError> {
    if !options.strategy.is_none_or(StrategyName::needs_descriptor) {
        return Ok((None, None));
    }
    match inject::userfaultfd(pid, &options.inject) {
        Ok(injected) => Ok((Some(injected), None)),
        Err(error) if options.strategy.is_none() && may_do_without(&error) => {
            Ok((None, Some(error)))
        }
        Err(error) => Err(error.into()),
    }
}

const fn scope(injected: &InjectedUffd) -> UffdScope {
    if injected.user_mode_only {
        UffdScope::UserModeOnly
    } else {
        UffdScope::Full
    }
}

/// Whether a strategy that needs no userfaultfd may stand in: not where nothing could be tracked.
fn may_do_without(error: &InjectError) -> bool {
    !matches!(
        error,
        InjectError::Gone(_)
            | InjectError::OtherNamespace(_)
            | InjectError::Thread { .. }
            | InjectError::Ourselves { .. }
            | InjectError::KernelThread { .. }
            | InjectError::Zombie { .. }
            | InjectError::NoLeader { .. }
            | InjectError::Privilege { .. }
    )
}

/// The strategy, and why.
fn choose(
    pid: u32,
    facts: &StrategyFacts,
    means: StrategyMeans,
    asked: Option<StrategyName>,
    refused: Option<InjectError>,
) -> Result<(StrategyName, String), TrackError> {
    if let Some(strategy) = asked {
        let verdict = strategy::verdict(strategy, facts, means);
        return if verdict.works {
            Ok((strategy, "asked for".to_owned()))
        } else {
            let reason = verdict.reason;
            Err(TrackError::Refused {
                pid,
                strategy,
                reason,
            })
        };
    }
    let choice = strategy::auto(
        &strategy::verdicts(facts, means),
        deciding_shape(pid, facts)?,
    );
    match (choice, refused) {
        (Ok(choice), None) => Ok((choice.strategy, choice.reason())),
        // The others differ only in what they do with a userfaultfd.
        (Ok(choice), Some(why)) => Ok((
            choice.strategy,
            format!("{}; no other: {why}", choice.strategy.merit()),
        )),
        (Err(_), Some(why)) => Err(why.into()),
        (Err(reason), None) => Err(TrackError::None { pid, reason }),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often is tried what fails so.
    fn tried(
        tries: AttachTries,
        fails: impl Fn() -> Result<InjectionOutcome, TrackError>,
    ) -> usize {
        let count = Cell::new(0);
        let outcome = patiently(tries, || {
            count.set(count.get() + 1);
            fails()
        });
        assert!(!matches!(outcome, Ok((None, None))));
        count.get()
    }

    #[test]
    fn what_passes_is_tried_again_whoever_asked_for_what() {
        let frozen = || InjectError::Frozen { pid: 7 };
        let starved = || InjectError::Starved {
            pid: 7,
            tid: 8,
            waited_ms: 2000,
        };
        let asked = || Err(frozen().into());
        assert_eq!(tried(AttachTries::Several, asked), 3);
        assert_eq!(
            tried(AttachTries::Several, || Ok((None, Some(starved())))),
            3
        );
        // The round that follows tries again.
        assert_eq!(tried(AttachTries::Once, asked), 1);
        assert_eq!(
            tried(AttachTries::Several, || Err(
                InjectError::Architecture.into()
            )),
            1
        );
    }
}
