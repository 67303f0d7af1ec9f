//! One process, explained round by round.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::against::Against;
use super::history::{History, Index, Scan};
use super::images::{Images, Look};
use super::join::{Join, why_unseen};
use super::model::{
    ExplainFindings, ExplainOptions, ExplainedRound, PageSampling, PlaceId, UnknownReason,
};
use super::source::{EventHub, Source};
use super::start::{against, how, sampling, watch};
use super::story::Teller;
use super::symbols::Symbols;
use pages::inject::{self, FrozenProcess, ProcessLife};
use pages::strategy::StrategyFacts;
use pages::track::{
    PageExtent, SessionEvent, TrackError, TrackHeader, TrackRound, TrackSession, TrackStep,
};

/// What a round came to.
#[derive(Debug)]
pub enum ExplainStep {
    /// A round, complete.
    Round(Box<ExplainedRound>),
    /// The process has ended.
    Exited,
}

/// A process that is explained. Dropping it disarms everything; so does the kernel if this process is killed.
pub struct Explainer {
    pid: u32,
    session: TrackSession,
    scans: bool,
    /// The kernel arms anonymous memory that is not there.
    anonymous_markers: bool,
    executed: u64,
    /// Rounds that came before the first that counts.
    settled: u64,
    /// What happened to the process in them.
    untold: Vec<SessionEvent>,
    /// Pages of the last round that were written again before they could be read.
    busy: u64,
    images: Images,
    source: Option<Source>,
    symbols: Symbols,
    history: History,
    /// Events that were lost so far.
    lost: u64,
    /// Whether findings grow.
    keeps: bool,
    against: Option<Against>,
    freezes: bool,
    /// The last round gave all memory back.
    gave_back: bool,
    teller: Option<Teller>,
    findings: ExplainFindings,
}

impl Explainer {
    /// Attaches to a process and arms everything; returns round 0 too, which nothing explains.
    ///
    /// # Errors
    /// Whatever stands against tracking it; the process goes on as before then. Without events it is explained all the
    /// same, its causes unknown.
    pub fn begin(
        pid: u32,
        facts: StrategyFacts,
        events: Option<&EventHub>,
        options: ExplainOptions,
    ) -> Result<(Self, TrackRound), TrackError> {
        let kernel = TrackError::kernel(pid);
        let scans = facts.behaviour.written.is_some();
        let anonymous_markers = facts.behaviour.anonymous_markers;
        // Before the first page is armed.
        let (source, seen) = watch(events, pid);
        let began = now();
        let against = options
            .against
            .map(|name| against(name, pid, &facts))
            .transpose()?;
        let (strategy, reason) = how(pid, &facts, options.track.strategy)?;
        let track = pages::track::TrackOptions {
            strategy: Some(strategy),
            ..options.track
        };
        let (session, first) = TrackSession::begin(pid, facts, track)?;
        let header = TrackHeader {
            reason,
            ..session.header().clone()
        };
        let all = PageSampling { one_of: 1 };
        let mut images = Images::open(pid, scans, all).map_err(kernel)?;
        let sampling = sampling(&mut images, &first, options.content_limit).map_err(kernel)?;
        images.sample(sampling);
        let mut symbols = Symbols::new();
        // Only findings have names of code.
        if options.findings {
            symbols.watch(pid);
        }
        let findings = ExplainFindings::new(header, seen, sampling);
        let mut explainer = Self {
            pid,
            executed: session.executed(),
            settled: 0,
            untold: Vec::new(),
            busy: 0,
            session,
            scans,
            anonymous_markers,
            images,
            source,
            symbols,
            history: History::default(),
            lost: 0,
            keeps: options.findings,
            against,
            freezes: options.freeze,
            gave_back: false,
            teller: options.page.map(|page| Teller::new(page, began)),
            findings,
        };
        // One that has ended is told by the next step.
        unless_gone(explainer.explain(first.clone(), began, None))?;
        explainer.settle()?;
        Ok((explainer, first))
    }

    /// The first look reads all memory, and takes long: looks again at what was written meanwhile, before anything
    /// counts.
    fn settle(&mut self) -> Result<(), TrackError> {
        const AT_MOST: u64 = 3;
        while self.busy != 0 && self.settled < AT_MOST {
            let frozen = self.freeze();
            let began = now();
            let TrackStep::Round(mut round) = self.session.step()? else {
                break;
            };
            self.settled += 1;
            round.number = 0;
            self.untold.append(&mut round.events);
            unless_gone(self.explain(round, began, frozen))?;
        }
        Ok(())
    }

    /// Who is explained.
    #[must_use]
    pub const fn header(&self) -> &TrackHeader {
        &self.findings.header
    }

    /// Everything until now.
    #[must_use]
    pub const fn findings(&self) -> &ExplainFindings {
        &self.findings
    }

    /// Readable when the process has ended.
    #[must_use]
    pub fn lifeline(&self) -> &pages::inject::ProcessLifeline {
        self.session.lifeline()
    }

    /// Makes a round and explains it.
    ///
    /// # Errors
    /// If the kernel refuses something that is not the process's end.
    pub fn step(&mut self) -> Result<ExplainStep, TrackError> {
        let frozen = self.freeze();
        let began = now();
        match self.session.step()? {
            TrackStep::Exited => Ok(ExplainStep::Exited),
            TrackStep::Round(mut round) => {
                round.number -= self.settled;
                round.events.splice(0..0, self.untold.drain(..));
                let explained = unless_gone(self.explain(round, began, frozen))?;
                Ok(explained.map_or(ExplainStep::Exited, |round| {
                    ExplainStep::Round(Box::new(round))
                }))
            }
        }
    }

    /// Ends it: everything is disarmed and nobody waits.
    ///
    /// # Errors
    /// If the kernel refuses to disarm something.
    pub fn end(mut self) -> Result<ExplainFindings, TrackError> {
        self.findings.story = self.teller.take().map(Teller::end);
        self.findings.against = self.against.take().map(Against::end);
        self.session.end()?;
        Ok(self.findings)
    }

    /// Stops the process if it is to stand still. One that cannot be stopped at the moment, or has executed another
    /// program, which is attached to first, runs on in this round.
    fn freeze(&self) -> Option<FrozenProcess> {
        let lives = || matches!(self.session.lifeline().life(), Ok(ProcessLife::Same));
        if !self.freezes || !lives() {
            return None;
        }
        match inject::freeze(self.pid, LONGEST_FREEZE) {
            Ok(frozen) if lives() => Some(frozen),
            Ok(_) => None,
            Err(error) => {
                tracing::debug!("process {} runs on: {error}", self.pid);
                None
            }
        }
    }

    /// What a round reports, explained.
    fn explain(
        &mut self,
        round: TrackRound,
        scan_began: u64,
        frozen: Option<FrozenProcess>,
    ) -> Result<ExplainedRound, TrackError> {
        let pid = self.pid;
        let kernel = TrackError::kernel(pid);
        let started = Instant::now();
        let scan = Scan {
            began: scan_began,
            ended: now(),
        };
        if self.session.executed() != self.executed {
            self.begin_again()?;
        }
        let (events, lost) = match &self.source {
            None => (Vec::new(), 0),
            Some(source) => source.take().map_err(|error| {
                kernel(uffd::UffdError::system(
                    "cannot read the events of",
                    format!("process {pid}"),
                    error,
                ))
            })?,
        };
        let (number, dropped) = (events.len() as u64, lost.saturating_sub(self.lost));
        self.lost = lost;
        let is_first = round.number == 0;
        self.history.add(events);
        let mut index = self.history.index(scan);
        let armed: Vec<_> = self.session.fresh().to_vec();
        let moved = relocate(&mut self.images, &mut index, &armed);
        let mut join = Join {
            index: &mut index,
            why_unseen: why_unseen(&self.findings.seen, dropped),
            strategy_arms_all: self.session.strategy().watches_absent(),
            anonymous_markers: self.anonymous_markers,
            moved,
            was_given_back: std::mem::replace(&mut self.gave_back, self.session.gave_back()),
            reported: Vec::new(),
            missed: Vec::new(),
            verified: 0,
        };
        let mut explained = ExplainedRound {
            reported: Vec::new(),
            missed: Vec::new(),
            verified: 0,
            events: number,
            dropped,
            took: Duration::ZERO,
            stood_still: None,
            round,
        };
        let mut busy = 0;
        // What was written may be written again at any moment: first.
        for row in &explained.round.mappings {
            let mapping = &row.mapping;
            let each = |extent: &PageExtent, page, before, look| {
                busy += u64::from(look == Look::Not(UnknownReason::WrittenAgain));
                if !is_first {
                    join.report(mapping, page, before, look, extent);
                }
            };
            self.images.look(&row.written, each).map_err(kernel)?;
            let reported = std::mem::take(&mut join.reported);
            if !reported.is_empty() {
                explained.reported.push((Arc::clone(mapping), reported));
            }
        }
        if let Some(frozen) = frozen {
            let stood = frozen.release();
            explained.stood_still = Some(stood);
            let (whole, longest) = self.findings.frozen;
            self.findings.frozen = (whole + stood, longest.max(stood));
        }
        for row in &explained.round.mappings {
            let mapping = &row.mapping;
            let each = |page, before, look| {
                if !is_first {
                    join.verify(mapping, page, before, look);
                }
            };
            let images = &mut self.images;
            images.verify(mapping, &row.written, each).map_err(kernel)?;
            let missed = std::mem::take(&mut join.missed);
            if !missed.is_empty() {
                explained.missed.push((Arc::clone(mapping), missed));
            }
        }
        self.busy = busy;
        explained.verified = join.verified;
        if let Some(against) = &mut self.against {
            against.round(&explained, &armed).map_err(kernel)?;
        }
        if let Some(teller) = &mut self.teller {
            teller.round(&explained, index.events(), scan, is_first);
        }
        index.settle();
        let mut tracked: Vec<Range<u64>> = explained
            .round
            .mappings
            .iter()
            .filter(|row| row.pages.tracked != 0)
            .map(|row| row.mapping.start..row.mapping.end)
            .collect();
        tracked.sort_by_key(|range| range.start);
        self.images.keep(&tracked);
        explained.took = started.elapsed();
        if !is_first && self.keeps {
            self.add(&explained);
        }
        Ok(explained)
    }

    /// Adds a round to the findings.
    fn add(&mut self, explained: &ExplainedRound) {
        let pid = self.pid;
        // Read once, and only if there is a mapping that has none yet.
        let flags = LazyCell::new(|| vm_flags(pid));
        self.findings.add(explained, |mapping| {
            flags.get(&mapping.start).cloned().unwrap_or_default()
        });
        self.findings.hashed = self.images.hashed;
        self.findings.memory = self.findings.memory.max(self.images.memory());
        let told = self.teller.iter().flat_map(Teller::places);
        let wanted: BTreeSet<PlaceId> = self.findings.places.keys().copied().chain(told).collect();
        if let Some(source) = &self.source {
            let (symbols, stacks) = (&mut self.symbols, &mut self.findings.stacks);
            source
                .places(|places| places.symbolise(pid, symbols, |id| wanted.contains(&id), stacks));
        }
    }

    /// After exec.
    fn begin_again(&mut self) -> Result<(), TrackError> {
        let pid = self.pid;
        self.executed = self.session.executed();
        self.history.clear();
        self.symbols.forget(pid);
        if self.keeps {
            self.symbols.watch(pid);
        }
        let images = Images::open(pid, self.scans, self.findings.sampling);
        let hashed = self.images.hashed;
        self.images = images.map_err(TrackError::kernel(pid))?;
        self.images.hashed = hashed;
        if let Some(source) = &mut self.source
            && let Err(error) = source.again()
        {
            self.findings.seen.complete = false;
            let text = format!("no causes after it has executed another program: {error}");
            self.findings.seen.not.push(text);
        }
        Ok(())
    }
}

/// `None` if the process has ended meanwhile.
fn unless_gone(
    result: Result<ExplainedRound, TrackError>,
) -> Result<Option<ExplainedRound>, TrackError> {
    match result {
        Err(error) if error.is_gone() => Ok(None),
        result => result.map(Some),
    }
}

/// For how long stopping all threads may take.
const LONGEST_FREEZE: Duration = Duration::from_millis(250);

/// Takes images along where pages were moved, and forgets those of what was mapped anew. Returns where to.
fn relocate(images: &mut Images, index: &mut Index<'_>, fresh: &[Range<u64>]) -> Vec<Range<u64>> {
    let overlaps = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
    let moves = index.take_moves(|to| fresh.iter().any(|fresh| overlaps(fresh, to)));
    let taken: Vec<_> = moves
        .into_iter()
        .map(|(to, from)| {
            let length = to.end - to.start;
            (images.within(&(from..from.saturating_add(length))), to)
        })
        .collect();
    for range in fresh {
        images.forget(range);
    }
    for (pages, to) in &taken {
        for (distance, image) in pages {
            images.set(to.start + distance, *image);
        }
    }
    taken.into_iter().map(|(_, to)| to).collect()
}

/// `VmFlags` of every mapping, by start. What cannot be read is not told.
fn vm_flags(pid: u32) -> HashMap<u64, String> {
    let Ok(vmas) = uffd::smaps(pid) else {
        return HashMap::new();
    };
    let vmas = vmas.map_while(Result::ok);
    vmas.map(|vma| (vma.start, vma.flags.text())).collect()
}

/// CLOCK_MONOTONIC in nanoseconds, as the kernel's events have it.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
