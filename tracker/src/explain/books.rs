//! The books that are kept of rounds: findings, names of code, a page's story, a second strategy.

use pages::inject::InjectNote;
use std::cell::LazyCell;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::time::{Duration, Instant};

use pages::track::{TrackHeader, TrackedMapping};
use uffd::UffdError;

use super::audit::{TheirLook, TrackerAudit};
use super::history::ScanSpan;
use super::model::{
    AuditSight, ByMapping, ExplainFindings, ExplainedRound, MissedPages, PageSampling, PlaceId,
    ReportedPages, RoundDelay, RoundKind, SightGap, TrackerCall, WatchedEvent,
};
use super::places::{PlaceInterner, named};
use super::second::SecondStrategy;
use super::source::EventSource;
use super::story::StoryTeller;
use super::symbols::CodeSymbols;

/// All books of one process.
pub(super) struct ExplainBooks {
    pid: u32,
    findings: ExplainFindings,
    /// Names for code. Only findings have any: without it they do not grow.
    symbols: Option<CodeSymbols>,
    teller: Option<StoryTeller>,
    second: Option<SecondStrategy>,
    /// Only findings have any.
    audit: Option<TrackerAudit>,
}

/// What images cost until now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageCost {
    /// Bytes that were read and hashed.
    pub hashed: u64,
    /// Bytes that images take.
    pub memory: u64,
}

impl ExplainBooks {
    pub(super) fn new(
        pid: u32,
        findings: ExplainFindings,
        symbols: Option<CodeSymbols>,
        teller: Option<StoryTeller>,
        second: Option<SecondStrategy>,
    ) -> Self {
        Self {
            pid,
            findings,
            symbols,
            teller,
            second,
            audit: None,
        }
    }

    pub(super) const fn header(&self) -> &TrackHeader {
        &self.findings.header
    }

    pub(super) const fn findings(&self) -> &ExplainFindings {
        &self.findings
    }

    /// Tells how late the newest round was made.
    pub(super) fn delayed(&mut self, delay: RoundDelay) {
        if let Some(round) = self.findings.rounds.last_mut() {
            round.delay = delay;
        }
    }

    /// The process stood still for so long.
    pub(super) fn stood_still(&mut self, stood: Duration) {
        self.findings.frozen.add(stood);
    }

    /// What standing still did to calls.
    pub(super) fn interrupted(&mut self, notes: &[InjectNote]) {
        for note in notes {
            if let InjectNote::Interrupted { threads, call } = note {
                *self.findings.interrupted.entry(call.clone()).or_default() += threads;
            }
        }
    }

    /// Compares a round with the second strategy; `armed` is what was armed for the first time.
    pub(super) fn compare(
        &mut self,
        round: &ExplainedRound,
        armed: &[Range<u64>],
    ) -> Result<(), UffdError> {
        match &mut self.second {
            Some(second) => second.round(round, armed),
            None => Ok(()),
        }
    }

    /// Goes on with the story of the page.
    pub(super) fn tell(
        &mut self,
        round: &ExplainedRound,
        events: &[WatchedEvent],
        scan: ScanSpan,
        kind: RoundKind,
    ) {
        if let Some(teller) = &mut self.teller {
            teller.round(round, events, scan, kind);
        }
    }

    /// Audits the tracker that is there already, too, if findings grow.
    pub(super) fn with_audit(mut self, sight: AuditSight, has_soft_dirty: bool) -> Self {
        let audit = || TrackerAudit::new(sight, has_soft_dirty);
        self.audit = self.symbols.is_some().then(audit);
        self
    }

    /// Whether they are.
    pub(super) const fn audits(&self) -> bool {
        self.audit.is_some()
    }

    /// Goes on with the audit: with the calls of the tracker, how many of them were lost until now,
    /// the events of a round, and what a look found of its memory.
    pub(super) fn audit(
        &mut self,
        calls: (Vec<TrackerCall>, u64),
        events: &[WatchedEvent],
        look: &TheirLook,
    ) {
        if let Some(audit) = &mut self.audit {
            audit.round(calls, events, look);
        }
    }

    /// Adds a round that counts to the findings, if they grow.
    pub(super) fn add(
        &mut self,
        round: &ExplainedRound,
        cost: ImageCost,
        source: Option<&EventSource>,
    ) {
        let pid = self.pid;
        // Read once, and only if there is a mapping that has none yet.
        let flags = LazyCell::new(|| vm_flags(pid));
        self.add_with(round, cost, source, |mapping| {
            flags.get(&mapping.start).cloned().unwrap_or_default()
        });
    }

    /// The same, where `flags` tells the `VmFlags` of a mapping.
    pub(super) fn add_with(
        &mut self,
        round: &ExplainedRound,
        cost: ImageCost,
        source: Option<&EventSource>,
        flags: impl Fn(&TrackedMapping) -> String,
    ) {
        let Some(symbols) = &mut self.symbols else {
            return;
        };
        self.findings.add(round, flags);
        self.findings.hashed = cost.hashed;
        self.findings.memory = self.findings.memory.max(cost.memory);
        let started = Instant::now();
        if let Some(fresh) = source.and_then(|source| source.places(PlaceInterner::take_fresh)) {
            symbols.see(fresh);
        }
        self.findings.naming.during += started.elapsed();
    }

    /// Memory of others has been found for the first time: so much of it is compared, and `holder`
    /// has it.
    pub(super) fn found(&mut self, sampling: PageSampling, holder: String) {
        self.findings.sampling = sampling;
        self.findings.header.reason = holder;
    }

    /// Adds reports that are known when everything is over, and how many pages there are of which
    /// nobody knows whether they were.
    pub(super) fn add_last(&mut self, reported: &ByMapping<ReportedPages>, perhaps: u64) {
        if self.symbols.is_some() {
            self.findings.add_last(reported);
            self.findings.perhaps_reported = perhaps;
        }
    }

    /// What was found out after the last look, of a process that was gone before the next.
    pub(super) fn add_late(
        &mut self,
        reported: &ByMapping<ReportedPages>,
        missed: &ByMapping<MissedPages>,
    ) {
        if self.symbols.is_some() {
            self.findings.add_late(reported, missed);
        }
    }

    /// So many pages more were written in memory that was given up before the next look.
    pub(super) const fn never_observed(&mut self, pages: u64) {
        self.findings.never_observed += pages;
    }

    /// After exec: the same addresses are other code.
    pub(super) fn begin_again(&mut self) {
        if let Some(symbols) = &mut self.symbols {
            symbols.begin_again();
        }
        if let Some(audit) = &mut self.audit {
            audit.begin_again();
        }
    }

    /// Names the code of what was found. It reads what the process made, and takes its time: the
    /// process must be free by then.
    pub(super) fn name(&mut self, source: Option<&EventSource>) {
        let (Some(symbols), Some(source)) = (&mut self.symbols, source) else {
            return;
        };
        let started = Instant::now();
        let told = self.teller.iter().flat_map(StoryTeller::places);
        let audited = self.audit.iter().flat_map(TrackerAudit::places);
        let written = self.findings.places.keys().copied();
        let wanted: BTreeSet<PlaceId> = written.chain(told).chain(audited).collect();
        let taken = source.places(|places| places.take_wanted(|id| wanted.contains(&id)));
        let named = named(&taken.unwrap_or_default(), symbols);
        self.findings.stacks = named.places;
        self.findings.unnamed = named.unnamed;
        let naming = &mut self.findings.naming;
        (naming.addresses, naming.modules) = (named.addresses, named.modules);
        naming.after = started.elapsed();
    }

    /// From now on something is not seen.
    pub(super) fn lose_sight(&mut self, gap: SightGap) {
        self.findings.seen.lose(gap);
    }

    /// Everything that came of it.
    pub(super) fn end(mut self) -> ExplainFindings {
        self.findings.story = self.teller.map(StoryTeller::end);
        self.findings.audit = self.audit.and_then(TrackerAudit::end);
        self.findings.against = self.second.map(SecondStrategy::end);
        self.findings
    }
}

/// `VmFlags` of every mapping, by start. What cannot be read is not told.
fn vm_flags(pid: u32) -> HashMap<u64, String> {
    let Ok(vmas) = uffd::smaps(pid) else {
        return HashMap::new();
    };
    let vmas = vmas.map_while(Result::ok);
    vmas.map(|vma| (vma.start, vma.flags.text())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::explain::model::CauseSight;
    use crate::explain::sample::{explained, scan};
    use crate::explain::symbols::CodeNamer;
    use crate::track::sample::header;

    const COST: ImageCost = ImageCost {
        hashed: 7,
        memory: 4096,
    };

    fn books(symbols: Option<CodeSymbols>, teller: Option<StoryTeller>) -> ExplainBooks {
        let sampling = PageSampling { one_of: 1 };
        let findings = ExplainFindings::new(header("books"), CauseSight::default(), sampling);
        ExplainBooks::new(std::process::id(), findings, symbols, teller, None)
    }

    #[test]
    fn findings_grow_by_rounds_that_count() {
        let mut books = books(
            Some(CodeSymbols::watch(std::process::id(), CodeNamer::Here)),
            None,
        );
        let round = explained(1);
        books.add(&round, COST, None);
        let less = ImageCost { memory: 0, ..COST };
        books.add(&explained(2), less, None);
        let findings = books.end();
        let reported: u64 = round.reported[0].1.iter().map(|pages| pages.pages()).sum();
        assert_eq!(findings.tally.values().sum::<u64>(), 2 * reported);
        assert_eq!(findings.rounds.len(), 2);
        assert_eq!(findings.vmas.len(), 1);
        assert_eq!(findings.vmas[0].missed, 2);
        assert_eq!((findings.hashed, findings.memory), (7, 4096));
        assert_eq!(findings.events, 2 * round.events);
    }

    #[test]
    fn without_names_for_code_they_do_not_grow() {
        let mut books = books(None, None);
        books.add(&explained(1), COST, None);
        assert!(books.findings().rounds.is_empty() && books.findings().hashed == 0);
        books.stood_still(Duration::from_millis(3));
        books.stood_still(Duration::from_millis(2));
        let frozen = books.findings().frozen;
        assert_eq!(frozen.whole, Duration::from_millis(5));
        assert_eq!(frozen.longest, Duration::from_millis(3));
    }

    #[test]
    fn a_gap_stays() {
        let mut books = books(None, None);
        assert!(books.findings().seen.is_complete());
        let error = "gone".to_owned();
        books.lose_sight(SightGap::NotWatchedAgain { error });
        let told = books.end().seen.told();
        assert_eq!(
            told,
            ["no causes after it has executed another program: gone"]
        );
    }

    #[test]
    fn the_story_is_told_of_rounds_that_settle_too() {
        let round = explained(1);
        let page = round.reported[0].1[0].range.start;
        let mut books = books(None, Some(StoryTeller::new(page + 5, 0)));
        books.tell(&explained(0), &[], scan(), RoundKind::Settling);
        books.tell(&round, &[], scan(), RoundKind::Counted);
        let story = books.end().story.unwrap();
        let told: Vec<_> = story.lines.iter().map(|line| &*line.what).collect();
        assert!(told[0].starts_with("armed, in ") && told[1].starts_with("round 1: reported: "));
    }
}
