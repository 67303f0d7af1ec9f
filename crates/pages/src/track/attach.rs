//! From a process to a strategy that tracks it: a userfaultfd where one helps, and the best way that works.

use std::time::Duration;

use super::{TrackError, TrackNote};
use crate::inject::{self, InjectError, ProcessLifeline};
use crate::strategy::{
    self, StrategyFacts, StrategyMeans, StrategyName, StrategyTarget, TrackingStrategy, UffdScope,
};
use uffd::Userfaultfd;

/// How to track.
#[derive(Clone, Debug)]
pub struct TrackOptions {
    /// Which strategy; none: the best that works.
    pub strategy: Option<StrategyName>,
    /// Tell zaps and huge pages too, where that can be told; a round is 20 times slower then.
    pub detailed: bool,
    /// Bytes of the largest mapping that is tracked by a strategy that takes memory for every page of it, there or not.
    pub max_mapping: u64,
    /// Time between two rounds: told in the header, kept by the caller.
    pub interval: Duration,
    /// Name and version of the program that tracks, for the header.
    pub tracker: &'static str,
    /// How to get a userfaultfd.
    pub inject: inject::InjectOptions,
}

/// 256 MiB of page tables: a sanitizer's shadow or a heap that is only reserved is larger.
pub const MAX_MAPPING: u64 = 128 << 30;

/// A strategy that has no area yet.
pub(super) struct AttachedProcess {
    /// It.
    pub strategy: Box<dyn TrackingStrategy>,
    /// Whether the process lives.
    pub lifeline: ProcessLifeline,
    /// Why this strategy.
    pub reason: String,
    /// For how long the process stood still.
    pub stopped: Option<Duration>,
    /// What its owner might notice.
    pub notes: Vec<TrackNote>,
}

/// Attaches to a process.
pub(super) fn attach(
    pid: u32,
    facts: &StrategyFacts,
    options: &TrackOptions,
) -> Result<AttachedProcess, TrackError> {
    let wants_descriptor = options.strategy.is_none_or(StrategyName::needs_descriptor);
    let injected = if wants_descriptor {
        inject::userfaultfd(pid, &options.inject).map(Some)
    } else {
        Ok(None)
    };
    let injected = match (injected, options.strategy) {
        (Err(error), None) if may_do_without(&error) => Err(error),
        (result, _) => Ok(result?),
    };
    let (injected, refused) = match injected {
        Ok(injected) => (injected, None),
        Err(error) => (None, Some(error)),
    };
    let means = StrategyMeans {
        in_process: false,
        descriptor: injected.as_ref().map_or(UffdScope::None, |injected| {
            if injected.user_mode_only {
                UffdScope::UserModeOnly
            } else {
                UffdScope::Full
            }
        }),
    };
    let (name, reason) = choose(pid, facts, means, options.strategy, refused)?;
    let mut notes = Vec::new();
    let (mut uffd, mut stopped, mut lifeline) = (None::<Userfaultfd>, None, None);
    if let Some(injected) = injected {
        stopped = Some(injected.stopped);
        notes = injected
            .notes
            .into_iter()
            .map(TrackNote::Injected)
            .collect();
        lifeline = Some(injected.target);
        // What the strategy does not use is closed: a userfaultfd without a feature harms nobody.
        uffd = name.needs_descriptor().then_some(injected.uffd);
    }
    let lifeline = match lifeline {
        Some(lifeline) => lifeline,
        None => ProcessLifeline::open(pid).map_err(TrackError::kernel(pid))?,
    };
    let target = StrategyTarget {
        pid,
        uffd,
        behaviour: facts.behaviour,
        detailed: options.detailed,
    };
    let strategy =
        strategy::start(name, target).map_err(|source| TrackError::Start { pid, source })?;
    Ok(AttachedProcess {
        strategy,
        lifeline,
        reason,
        stopped,
        notes,
    })
}

/// Whether a strategy that needs no userfaultfd may stand in: not if there is nothing to track.
fn may_do_without(error: &InjectError) -> bool {
    !matches!(
        error,
        InjectError::Gone(_)
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
    let choice = strategy::auto(&strategy::verdicts(facts, means));
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
