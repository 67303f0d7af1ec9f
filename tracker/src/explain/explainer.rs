//! One process, explained round by round.

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use pages::inject::{FrozenProcess, ProcessLife, ProcessLifeline};
use pages::strategy::StrategyFacts;
use pages::track::{
    TrackError, TrackHeader, TrackRound, TrackSession, TrackStep, UntrackedMapping,
};
use uffd::UffdError;

use super::aliases::AliasBook;
use super::begin::begin;
use super::books::{ExplainBooks, ImageCost};
use super::content::PageImages;
use super::evidence::{EventEvidence, FreshEvents};
use super::freezing::FreezeMode;
use super::history::{RunningScan, ScanSpan};
use super::join::{AbsentArming, AnswerJoin, JoinFacts, MemoryBefore, ZapReports, why_unseen};
use super::model::{
    ExplainFindings, ExplainOptions, ExplainedRound, RoundDelay, RoundKind, SightGap,
};
use super::passes::{missed_pass, reported_pass};
use super::settling::SettlingRounds;
use super::source::{EventHub, EventSource};

/// What a round came to.
#[derive(Debug)]
pub enum ExplainStep {
    /// A round, complete.
    Round(Box<ExplainedRound>),
    /// The process has ended.
    Exited,
}

/// A process that is explained. Dropping it disarms everything; so does the kernel if this process
/// is killed.
pub struct Explainer {
    pub(super) session: TrackSession,
    pub(super) content: PageImages,
    pub(super) evidence: EventEvidence<EventSource>,
    pub(super) absent: AbsentArming,
    pub(super) zaps: ZapReports,
    pub(super) freezing: FreezeMode,
    pub(super) settling: SettlingRounds,
    pub(super) aliases: AliasBook,
    pub(super) last: LastRound,
    pub(super) books: ExplainBooks,
}

/// What the next round has to know of the last one.
#[derive(Debug)]
pub(super) struct LastRound {
    /// Programs that the process has executed by then.
    pub executed: u64,
    pub memory: MemoryBefore,
}

impl Explainer {
    /// Attaches to a process and arms everything; returns round 0 too, which nothing explains.
    ///
    /// # Errors
    /// Whatever stands against tracking it; the process goes on as before then. Without events it
    /// is explained all the same, its causes unknown.
    pub fn begin(
        pid: u32,
        facts: StrategyFacts,
        events: Option<&EventHub>,
        options: ExplainOptions,
    ) -> Result<(Self, TrackRound), TrackError> {
        let (mut explainer, first, scan) = begin(pid, facts, events, options)?;
        // The next step tells if it has ended.
        unless_gone(explainer.explain(first.clone(), scan.finish(), None))?;
        explainer.settle()?;
        Ok((explainer, first))
    }

    /// Makes rounds until the pages that were written during the first look have been read.
    fn settle(&mut self) -> Result<(), TrackError> {
        while self.settling.goes_on() {
            let (frozen, scan) = (self.freeze(), RunningScan::begin());
            let TrackStep::Round(mut round) = self.session.step()? else {
                break;
            };
            self.settling.take(&mut round);
            unless_gone(self.explain(round, scan.finish(), frozen))?;
        }
        Ok(())
    }

    /// Who is explained.
    #[must_use]
    pub const fn header(&self) -> &TrackHeader {
        self.books.header()
    }

    /// Everything until now.
    #[must_use]
    pub const fn findings(&self) -> &ExplainFindings {
        self.books.findings()
    }

    /// Readable when the process has ended.
    #[must_use]
    pub fn lifeline(&self) -> &ProcessLifeline {
        self.session.lifeline()
    }

    /// What was not looked at in the last round, mapping by mapping.
    #[must_use]
    pub fn untracked(&self) -> &[UntrackedMapping] {
        self.session.untracked()
    }

    /// From now on leaves memory to another tracker, once it was seen to belong to one: see
    /// [`TrackSession::leave_others`].
    pub const fn leave_others(&mut self) {
        self.session.leave_others();
    }

    /// Readable once a round is wanted before it is due ([`TrackSession::early`]).
    #[must_use]
    pub fn early(&self) -> Option<BorrowedFd<'_>> {
        self.session.early()
    }

    /// Tells how late the round was made that was explained last.
    pub fn delayed(&mut self, delay: RoundDelay) {
        self.books.delayed(delay);
    }

    /// Makes a round and explains it.
    ///
    /// # Errors
    /// If the kernel refuses something that is not the process's end.
    pub fn step(&mut self) -> Result<ExplainStep, TrackError> {
        let (frozen, scan) = (self.freeze(), RunningScan::begin());
        let TrackStep::Round(mut round) = self.session.step()? else {
            return Ok(ExplainStep::Exited);
        };
        self.settling.number(&mut round);
        let explained = unless_gone(self.explain(round, scan.finish(), frozen))?;
        Ok(explained.map_or(ExplainStep::Exited, |round| {
            ExplainStep::Round(Box::new(round))
        }))
    }

    /// Ends it: everything is disarmed and nobody waits. Then code gets its names.
    ///
    /// # Errors
    /// If the kernel refuses to disarm something.
    pub fn end(mut self) -> Result<ExplainFindings, TrackError> {
        self.session.end()?;
        self.books.name(self.evidence.feed());
        Ok(self.books.end())
    }

    fn freeze(&mut self) -> Option<FrozenProcess> {
        let lifeline = self.session.lifeline();
        let is_same = || matches!(lifeline.life(), Ok(ProcessLife::Same));
        let outcome = self.freezing.freeze(self.session.header().pid, is_same);
        self.books.interrupted(&outcome.notes);
        outcome.frozen
    }

    /// What a round reports, explained. The order matters: the kernel's events until now, the
    /// content of what is reported, which may be written again at any moment, the end of standing
    /// still, and then the content of what is not reported.
    fn explain(
        &mut self,
        round: TrackRound,
        scan: ScanSpan,
        frozen: Option<FrozenProcess>,
    ) -> Result<ExplainedRound, TrackError> {
        let pid = self.session.header().pid;
        let kernel = TrackError::kernel(pid);
        let started = Instant::now();
        if self.session.executed() != self.last.executed {
            self.begin_again().map_err(kernel)?;
        }
        let gathered = self.evidence.gather();
        let fresh = gathered.map_err(|error| kernel(cannot_read_events(pid, error)))?;
        let kind = RoundKind::of(&round);
        let armed = self.session.fresh().to_vec();
        let mut index = self.evidence.index(scan);
        let moves = index.take_moves(|to| armed.iter().any(|fresh| overlaps(fresh, to)));
        let anew = [&armed[..], self.session.gone()].concat();
        self.content.store().relocate(&moves, &anew);
        let facts = JoinFacts {
            round: round.number,
            why_unseen: why_unseen(&self.books.findings().seen, fresh.dropped, round.in_doubt()),
            absent: self.absent,
            zaps: self.zaps,
            moved: moves.into_iter().map(|(to, _)| to).collect(),
            memory: self.last.memory_before(&self.session),
        };
        let mut explained = as_tracked(round, fresh);
        self.aliases.begin(&explained.round);
        let mut join = AnswerJoin::new(&mut index, &mut self.aliases, facts);
        let content = &mut self.content;
        let pass = reported_pass(content, &explained.round, kind, &mut join).map_err(kernel)?;
        explained.reported = pass.reported;
        if let Some(frozen) = frozen {
            explained.stood_still = frozen.release();
        }
        if let Some(stood) = explained.stood_still {
            self.books.stood_still(stood);
        }
        let missed = missed_pass(content, &explained.round, kind, &mut join);
        explained.missed = missed.map_err(kernel)?;
        explained.verified = join.verified();
        explained.late(self.aliases.missed_earlier());
        self.settling.read(pass.busy);
        self.books.compare(&explained, &armed).map_err(kernel)?;
        self.books.tell(&explained, index.events(), scan, kind);
        index.settle();
        self.content.end_round(&explained.round);
        explained.took = started.elapsed();
        self.close(&explained, kind);
        Ok(explained)
    }

    /// Enters a round into the books, if it counts.
    fn close(&mut self, explained: &ExplainedRound, kind: RoundKind) {
        if kind == RoundKind::Counted {
            let cost = ImageCost {
                hashed: self.content.hashed(),
                memory: self.content.memory(),
            };
            self.books.add(explained, cost, self.evidence.feed());
        }
    }

    /// After exec: nothing of before is there any more.
    fn begin_again(&mut self) -> Result<(), UffdError> {
        self.last.executed = self.session.executed();
        self.aliases = AliasBook::default();
        self.books.begin_again();
        self.content.begin_again()?;
        if let Err(error) = self.evidence.begin_again() {
            let error = error.to_string();
            self.books.lose_sight(SightGap::NotWatchedAgain { error });
        }
        Ok(())
    }
}

impl LastRound {
    /// What the last round left of memory; remembers what this one leaves.
    fn memory_before(&mut self, session: &TrackSession) -> MemoryBefore {
        let now = if session.gave_back() {
            MemoryBefore::GivenBack
        } else {
            MemoryBefore::Kept
        };
        std::mem::replace(&mut self.memory, now)
    }
}

/// A round that nothing is said of yet.
pub(super) fn as_tracked(round: TrackRound, fresh: FreshEvents) -> ExplainedRound {
    ExplainedRound {
        reported: Vec::new(),
        missed: Vec::new(),
        verified: 0,
        events: fresh.read,
        dropped: fresh.dropped,
        took: Duration::ZERO,
        stood_still: None,
        round,
    }
}

pub(super) fn cannot_read_events(pid: u32, error: io::Error) -> UffdError {
    UffdError::system("cannot read the events of", format!("process {pid}"), error)
}

fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
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
