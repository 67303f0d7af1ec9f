//! What explaining a process begins with: how it is tracked, what is seen of it, how much of it is
//! looked at.

use pages::strategy::{self, StrategyFacts, StrategyMeans, StrategyName, UffdScope};
use pages::track::{self, TrackError, TrackHeader, TrackOptions, TrackRound, TrackSession};

use super::aliases::AliasBook;
use super::books::ExplainBooks;
use super::content::PageImages;
use super::evidence::EventEvidence;
use super::explainer::{Explainer, LastRound};
use super::freezing::FreezeMode;
use super::history::RunningScan;
use super::join::{AbsentArming, MemoryBefore, ZapReports};
use super::model::{CauseSight, ExplainFindings, ExplainOptions, SightGap};
use super::second::SecondStrategy;
use super::settling::SettlingRounds;
use super::source::{EventHub, EventSource};
use super::story::StoryTeller;
use super::symbols::CodeSymbols;

/// Attaches to a process and arms everything; returns round 0 and its scan, which runs on.
pub(super) fn begin(
    pid: u32,
    facts: StrategyFacts,
    events: Option<&EventHub>,
    options: ExplainOptions,
) -> Result<(Explainer, TrackRound, RunningScan), TrackError> {
    let kernel = TrackError::kernel(pid);
    let scans = facts.behaviour.written.is_some();
    let anonymous_markers = facts.behaviour.anonymous_markers;
    // Before the first page is armed.
    let (source, seen) = watch(events, pid);
    let scan = RunningScan::begin();
    let second = options.against.map(|name| second(name, pid, &facts));
    let second = second.transpose()?;
    let (strategy, reason) = how(pid, &facts, options.track.strategy)?;
    let freezing = FreezeMode::of(options.freeze, &options.track.inject);
    let track = TrackOptions {
        strategy: Some(strategy),
        ..options.track
    };
    let (session, first) = TrackSession::begin(pid, facts, track)?;
    let header = TrackHeader {
        reason,
        ..session.header().clone()
    };
    let mut content = PageImages::open(pid, scans).map_err(kernel)?;
    let sampling = content.sample(&first, options.content_limit);
    let findings = ExplainFindings::new(header, seen, sampling.map_err(kernel)?);
    let namer = options.findings;
    let symbols = namer.map(|namer| CodeSymbols::watch(pid, namer));
    let teller = options.page.map(|page| StoryTeller::new(page, scan.began));
    let explainer = Explainer {
        last: LastRound {
            executed: session.executed(),
            memory: MemoryBefore::default(),
        },
        session,
        content,
        evidence: EventEvidence::new(source),
        absent: AbsentArming::of(strategy.arms_absent(), anonymous_markers),
        zaps: ZapReports::by(strategy),
        freezing,
        settling: SettlingRounds::default(),
        aliases: AliasBook::default(),
        books: ExplainBooks::new(pid, findings, symbols, teller, second),
    };
    Ok((explainer, first, scan))
}

/// The strategy, and why: one that arms pages, since content is compared in any case. It is chosen
/// before the process is touched: if that does not give us what the strategy needs, it is an error
/// and no reason for another strategy.
fn how(
    pid: u32,
    facts: &StrategyFacts,
    asked: Option<StrategyName>,
) -> Result<(StrategyName, String), TrackError> {
    let means = StrategyMeans::from_outside(facts);
    let (name, reason) = match asked {
        Some(name) => (name, "asked for".to_owned()),
        None => {
            let shape = track::deciding_shape(pid, facts)?;
            let choice = strategy::auto(&strategy::verdicts(facts, means), shape)
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
fn second(
    name: StrategyName,
    pid: u32,
    facts: &StrategyFacts,
) -> Result<SecondStrategy, TrackError> {
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
    SecondStrategy::start(name, pid, facts).map_err(|source| TrackError::Start { pid, source })
}

/// The source of a process's events, and what can be seen.
pub(super) fn watch(events: Option<&EventHub>, pid: u32) -> (Option<EventSource>, CauseSight) {
    let nothing = |gap| (None, CauseSight::new(vec![gap]));
    let Some(events) = events else {
        return nothing(SightGap::NotAsked);
    };
    match events.watch(pid) {
        Ok(source) => (Some(source), events.seen().clone()),
        Err(error) => {
            let error = error.to_string();
            nothing(SightGap::NotWatched { pid, error })
        }
    }
}
