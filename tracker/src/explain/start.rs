//! What explaining a process begins with: how it is tracked, what is seen of it, how much of it is looked at.

use super::against::Against;
use super::images::Images;
use super::model::{CauseSight, PageSampling};
use super::source::{EventHub, Source};
use pages::strategy::{self, StrategyFacts, StrategyMeans, StrategyName, UffdScope};
use pages::track::{TrackError, TrackRound};
use uffd::PAGE_SIZE;

/// The strategy, and why: one that arms pages, since content is compared in any case. Chosen before the process is
/// touched: should that not give us what the strategy needs, it is an error rather than another strategy.
pub fn how(
    pid: u32,
    facts: &StrategyFacts,
    asked: Option<StrategyName>,
) -> Result<(StrategyName, String), TrackError> {
    let means = StrategyMeans::from_outside(facts);
    let (name, reason) = match asked {
        Some(name) => (name, "asked for".to_owned()),
        None => {
            let choice = strategy::auto(&strategy::verdicts(facts, means))
                .map_err(|reason| TrackError::None { pid, reason })?;
            (choice.strategy, choice.reason())
        }
    };
    if name.needs_descriptor() {
        return Ok((name, reason));
    }
    Err(TrackError::ArmsNothing {
        pid,
        strategy: name,
        reason,
    })
}

/// The second strategy, if it works here.
pub fn against(name: StrategyName, pid: u32, facts: &StrategyFacts) -> Result<Against, TrackError> {
    let means = StrategyMeans {
        in_process: false,
        descriptor: UffdScope::None,
    };
    let verdict = strategy::verdict(name, facts, means);
    if !verdict.works {
        return Err(TrackError::Refused {
            pid,
            strategy: name,
            reason: verdict.reason,
        });
    }
    Against::start(name, pid, facts).map_err(|source| TrackError::Start { pid, source })
}

/// The source of a process's events, and what can be seen.
pub fn watch(events: Option<&EventHub>, pid: u32) -> (Option<Source>, CauseSight) {
    let nothing = |why: String| {
        let seen = CauseSight {
            complete: false,
            not: vec![why],
        };
        (None, seen)
    };
    let Some(events) = events else {
        return nothing("no cause: the kernel's events were not asked for".to_owned());
    };
    match events.watch(pid) {
        Ok(source) => (Some(source), events.seen().clone()),
        Err(error) => nothing(format!(
            "no cause: process {pid} cannot be watched: {error}"
        )),
    }
}

/// As much as the limit allows.
pub fn sampling(
    images: &mut Images,
    first: &TrackRound,
    limit: u64,
) -> Result<PageSampling, uffd::UffdError> {
    let ranges = first
        .mappings
        .iter()
        .map(|row| row.mapping.start..row.mapping.end);
    let there = images.there(ranges)?;
    Ok(PageSampling {
        one_of: there.div_ceil(limit.max(PAGE_SIZE)).max(1),
    })
}
