//! The reports of a tracker that is there already, in memory that belongs to its userfaultfd.
//!
//! Nothing is armed, disarmed or taken over. A look at the pages sees which are armed; what was
//! armed and is not any more has been written, and is reported to its tracker; when it is armed
//! again, its content is compared with what it was when it was armed before.
//!
//! ```text
//! memory    what belongs to others (smaps), and a look at it (pagemap, content)
//!   epoch   what becomes of a page between two looks (pure)
//! answers   verdict and cause, with the kernel's events (pure)
//!   rounds  where calls of their tracker are seen: its rounds between two looks (pure)
//! ```

mod answers;
mod calls;
mod epoch;
mod gathered;
mod memory;
mod rounds;
mod store;
mod touched;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pages::inject::{ProcessLife, ProcessLifeline};
use pages::strategy::StrategyFacts;
use pages::track::{
    MappingRound, PageExtent, SessionEvent, TrackError, TrackHeader, TrackRound, TrackedMapping,
    TrackedPages, UffdHolder,
};
use tracker_ebpf::EventKind;
use uffd::{PAGE_SIZE, UffdError, UffdFeatures, unless_gone, unless_unseen};

use super::audit::TheirLook;
use super::books::{ExplainBooks, ImageCost};
use super::content::PageLook;
use super::evidence::{EventEvidence, FreshEvents};
use super::explainer::{ExplainStep, as_tracked, cannot_read_events};
use super::history::{RunningScan, overlaps_any};
use super::join::{append, why_unseen};
use super::model::{
    AuditSight, ByMapping, ExplainFindings, ExplainOptions, ExplainedRound, ReportOwner,
    ReportedPages, RoundDelay, RoundKind, SightGap, TrackerCall, UnknownReason, WatchedEvent,
};
use super::source::{EventHub, EventSource};
use super::story::StoryTeller;
use super::symbols::CodeSymbols;
use answers::{CountedDuring, LookFacts, LookJoin, OpenReport, OpenReports, answers_of_gone};
use calls::ArmingCalls;
use gathered::{GatheredSince, PartAnswers};
use memory::{GoneMapping, LookedMapping, LookedPart, ObservedMemory};
use touched::{PagesByAddress, UnreadPages};

/// After catching up, so many times as long as that took passes before the next time.
const REST: u32 = 4;

/// A process whose own tracker, or that of others, is explained. It is never touched.
pub struct TrackerObserver {
    lifeline: ProcessLifeline,
    content_limit: u64,
    memory: ObservedMemory,
    evidence: EventEvidence<EventSource>,
    open: OpenReports,
    counted: CountedDuring,
    books: ExplainBooks,
    began: Instant,
    last: Instant,
    /// When the look before the last one began (CLOCK_MONOTONIC, in nanoseconds).
    past: u64,
    /// Whether every call of trackers is seen.
    sees_calls: bool,
    calls: ArmingCalls,
    /// Calls that were lost until now.
    lost_calls: u64,
    gathered: GatheredSince,
    /// What we track ourselves, as of the last look, by address.
    ours: Vec<Range<u64>>,
    /// What was armed, and not looked at since.
    unread: UnreadPages,
    /// Looks so far. The first explains nothing.
    number: u64,
    /// Whether anything was ever observed.
    has_any: bool,
    events: Vec<SessionEvent>,
    /// The features of every userfaultfd that the process holds, if they are the same.
    features: Option<UffdFeatures>,
}

impl TrackerObserver {
    /// Begins to observe a process: what belongs to others by then, and from then on.
    ///
    /// # Errors
    /// If we may not look at it, or it is gone.
    pub fn begin(
        pid: u32,
        facts: &StrategyFacts,
        events: Option<&EventHub>,
        options: &ExplainOptions,
    ) -> Result<Self, TrackError> {
        let kernel = TrackError::kernel(pid);
        let (mut source, seen) = super::begin::watch(events, pid);
        if let Some(source) = &mut source {
            source.listen().map_err(|error| cannot_listen(pid, error))?;
        }
        let sight = match (events, &source) {
            (Some(events), Some(_)) => events.calls_seen().clone(),
            _ => AuditSight::Gaps(seen.told()),
        };
        let scan = RunningScan::begin();
        let lifeline = ProcessLifeline::open(pid).map_err(kernel)?;
        let scans = facts.behaviour.written.is_some();
        let sees_calls = sight == AuditSight::Complete && seen.is_complete();
        let memory = ObservedMemory::open(pid, scans).map_err(kernel)?;
        let header = header(pid, options).map_err(kernel)?;
        let findings = ExplainFindings {
            owner: ReportOwner::Theirs,
            ..ExplainFindings::new(header, seen, memory.sampling())
        };
        let symbols = options.findings.clone();
        let symbols = symbols.map(|namer| CodeSymbols::watch(pid, namer));
        let teller = options.page.map(|page| StoryTeller::new(page, scan.began));
        let now = Instant::now();
        Ok(Self {
            lifeline,
            content_limit: options.content_limit,
            memory,
            evidence: EventEvidence::new(source),
            open: OpenReports::new(),
            counted: CountedDuring::new(),
            books: ExplainBooks::new(pid, findings, symbols, teller, None)
                .with_audit(sight, facts.behaviour.soft_dirty),
            began: now,
            last: now,
            past: scan.began,
            sees_calls,
            calls: ArmingCalls::default(),
            lost_calls: 0,
            gathered: GatheredSince::default(),
            ours: Vec::new(),
            unread: UnreadPages::default(),
            number: 0,
            has_any: false,
            events: Vec::new(),
            features: None,
        })
    }

    /// Who is observed.
    #[must_use]
    pub const fn header(&self) -> &TrackHeader {
        self.books.header()
    }

    /// Everything until now.
    #[must_use]
    pub const fn findings(&self) -> &ExplainFindings {
        self.books.findings()
    }

    /// Whether any memory of the process belonged to others until now.
    #[must_use]
    pub const fn has_any(&self) -> bool {
        self.has_any
    }

    /// Readable when the process has ended.
    #[must_use]
    pub const fn lifeline(&self) -> &ProcessLifeline {
        &self.lifeline
    }

    /// Tells how late the look was that was explained last.
    pub fn delayed(&mut self, delay: RoundDelay) {
        self.books.delayed(delay);
    }

    /// Looks at what belongs to others, and not to `ours`, which is by address; the first look has
    /// the number 0 and explains nothing.
    ///
    /// # Errors
    /// If the kernel refuses something that is not the process's end.
    pub fn step(&mut self, ours: &[Range<u64>]) -> Result<ExplainStep, TrackError> {
        let pid = self.lifeline.pid();
        let round = match self.lifeline.life().map_err(TrackError::kernel(pid))? {
            ProcessLife::Ended => {
                self.end_early();
                None
            }
            ProcessLife::Same => unless_gone(self.look(ours)).map_err(TrackError::kernel(pid))?,
            ProcessLife::Replaced => {
                let began = self.begin_again().and_then(|()| self.look(ours));
                unless_gone(began).map_err(TrackError::kernel(pid))?
            }
        };
        Ok(round.map_or(ExplainStep::Exited, |round| {
            ExplainStep::Round(Box::new(round))
        }))
    }

    /// Readable when their tracker has registered memory or armed pages, whose content
    /// [`Self::catch_up`] should read before they are written again. Nothing where its calls are not
    /// seen.
    #[must_use]
    pub fn arming(&self) -> Option<BorrowedFd<'_>> {
        self.evidence.feed().and_then(EventSource::arming)
    }

    /// Looks at what their tracker has armed since the last look. What is found out counts in the
    /// next round.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn catch_up(&mut self) -> Result<(), TrackError> {
        let pid = self.lifeline.pid();
        let is_same = self.lifeline.life().map_err(TrackError::kernel(pid))? == ProcessLife::Same;
        if !is_same || self.number == 0 {
            // The next step finds everything that there is.
            if let Some(source) = self.evidence.feed() {
                source.hush();
            }
            return Ok(());
        }
        let began = Instant::now();
        let looked = unless_gone(self.look_at_armed());
        if let Some(source) = self.evidence.feed() {
            source.rest(began.elapsed() * REST);
        }
        looked.map_err(TrackError::kernel(pid))?;
        Ok(())
    }

    /// Ends looking: what was told to its tracker and is not armed again counts with its content of
    /// now.
    pub fn close(&mut self) {
        let perhaps = self.open.values().filter(|it| it.is_told_perhaps());
        let perhaps = perhaps.count() as u64;
        let last = self.last_reports();
        self.books.add_last(&last, perhaps);
    }

    /// Ends it after [`Self::close`]: code gets its names.
    #[must_use]
    pub fn end(mut self) -> ExplainFindings {
        self.books.name(self.evidence.feed());
        self.books.end()
    }

    /// What was found out since the last look, when there will be no other look at the same memory.
    fn end_early(&mut self) {
        let answers = std::mem::take(&mut self.gathered.answers);
        self.books.add_late(&answers.reported, &answers.missed);
        self.audit(&TheirLook {
            mappings: self.memory.made_of(),
            features: self.features,
            ..TheirLook::default()
        });
    }

    /// After exec: nothing of before is there any more.
    fn begin_again(&mut self) -> Result<(), UffdError> {
        let pid = self.lifeline.pid();
        self.end_early();
        self.lifeline = ProcessLifeline::open(pid)?;
        self.memory.begin_again()?;
        self.open.clear();
        self.counted.clear();
        self.calls = ArmingCalls::default();
        self.gathered = GatheredSince::default();
        self.unread = UnreadPages::default();
        self.books.begin_again();
        if let Err(error) = self.evidence.begin_again() {
            let error = error.to_string();
            self.books.lose_sight(SightGap::NotWatchedAgain { error });
        }
        let comm = unless_unseen(uffd::comm(pid))?.unwrap_or_default();
        self.events.push(SessionEvent::Executed {
            comm: String::from_utf8_lossy(&comm).into_owned(),
            stopped: Duration::ZERO,
        });
        Ok(())
    }

    fn look(&mut self, ours: &[Range<u64>]) -> Result<ExplainedRound, UffdError> {
        let (began, scan) = (Instant::now(), RunningScan::begin());
        let ours_before = std::mem::replace(&mut self.ours, ours.to_vec());
        let first_told = self.gather()?;
        let gone = self.discover()?;
        let touched = PagesByAddress::of(self.evidence.touched());
        let looked = self.memory.look(LookedPart::Everything, &touched)?;
        let scan = scan.finish();
        self.unread = UnreadPages::default();
        let calls_told = self.gather()? && first_told;
        self.armed_meanwhile();
        let fresh = std::mem::take(&mut self.gathered.fresh);
        self.forget_others(&ours_before);
        let round = self.round(began, &looked);
        let kind = RoundKind::of(&round);
        let facts = self.facts((round.number, kind), fresh, calls_told);
        let mut explained = as_tracked(round, fresh);
        let mut answers = std::mem::take(&mut self.gathered.answers);
        answers.add(self.answers_of_gone(gone)?);
        let mut index = self.evidence.index(scan);
        let mut join = LookJoin {
            index: &mut index,
            open: &mut self.open,
            counted: &mut self.counted,
            calls: &self.calls,
            facts,
        };
        answers.add(answers_of(&mut join, &looked, &mut self.memory));
        let their_look = answers.enter(&mut explained, self.memory.made_of(), self.features);
        let events = index.events();
        self.books.tell(&explained, events, scan, kind);
        // Who is told by a message has the page armed until the answer to it, however long that
        // takes: its event waits.
        let memory = &self.memory;
        index.settle_unless(self.past, |page| {
            memory.is_answered_by_tracker(page) && memory.is_armed(page)
        });
        self.calls.forget(self.past);
        let past = self.past;
        self.counted.retain(|_, time| *time >= past);
        self.past = scan.began;
        self.audit(&their_look);
        explained.took = began.elapsed();
        self.enter(&explained, kind);
        Ok(explained)
    }

    /// Forgets what is told of other memory: what we track, now or before, and what has belonged to
    /// others and does not any more, without having been looked at. Writes to that are counted.
    fn forget_others(&mut self, ours_before: &[Range<u64>]) {
        let ranges = self.memory.ranges();
        if !self.sees_calls {
            self.evidence.keep(&ranges, u64::MAX);
            return;
        }
        // What is registered since smaps was read will be found.
        let others = self.evidence.keep(&ranges, self.memory.known());
        let is_theirs = |event: &&WatchedEvent| {
            let ours = [ours_before, &self.ours];
            !ours.iter().any(|ours| overlaps_any(ours, &event.range))
        };
        let armed = others.iter().filter(|event| event.kind == EventKind::Fault);
        let pages = armed.filter(is_theirs).map(|event| event.range.start);
        let pages: BTreeSet<u64> = pages.collect();
        self.books.never_observed(pages.len() as u64);
    }

    /// Learns what belongs to others now; returns what did and does not any more.
    fn discover(&mut self) -> Result<Vec<GoneMapping>, UffdError> {
        let before = self.memory.ranges();
        let mut gone = self.memory.discover(&self.ours)?;
        if self.memory.ranges() != before {
            self.features = features_of(self.lifeline.pid());
        }
        self.follow(&mut gone);
        if !self.has_any && !self.memory.ranges().is_empty() {
            self.has_any = true;
            let sampling = self.memory.sample(self.content_limit)?;
            self.books.found(sampling, holder(self.lifeline.pid()));
        }
        Ok(gone)
    }

    /// What has moved and is still registered (UFFD_FEATURE_EVENT_REMAP) is known where it is now.
    fn follow(&mut self, gone: &mut [GoneMapping]) {
        if gone.is_empty() {
            return;
        }
        for moved in self.evidence.moves() {
            if self.memory.mapping_at(moved.to).is_none() {
                continue;
            }
            for (page, epoch) in gone.iter_mut().flat_map(|gone| gone.take(&moved.from)) {
                let Some(now) = moved.now(page) else {
                    continue;
                };
                self.memory.arrived(now, epoch);
                if let Some(report) = self.open.remove(&page) {
                    self.open.insert(now, report);
                }
            }
            self.evidence.follow(&moved);
        }
    }

    /// Reports of what is not observed any more.
    fn answers_of_gone(&mut self, gone: Vec<GoneMapping>) -> Result<PartAnswers, UffdError> {
        let mut answers = PartAnswers::default();
        if gone.is_empty() {
            return Ok(answers);
        }
        // pagemap has the same of what is not mapped as of what is not there.
        let mapped = mapped(self.lifeline.pid())?;
        for gone in gone {
            let memory = &mut self.memory;
            let now = |page| match overlaps_any(&mapped, &(page..page + PAGE_SIZE)) {
                true => memory.read_as_is(page).unwrap_or(PageLook::Unmapped),
                false => PageLook::Unmapped,
            };
            let reported = answers_of_gone(&gone, &mut self.open, now);
            push(&mut answers.reported, &gone.mapping, reported);
        }
        Ok(answers)
    }

    /// Looks at the pages that calls have armed since the last look.
    fn look_at_armed(&mut self) -> Result<(), UffdError> {
        let scan = RunningScan::begin();
        let first_told = self.gather()?;
        let gone = self.discover()?;
        let gone = self.answers_of_gone(gone)?;
        self.gathered.answers.add(gone);
        let armed = std::mem::take(&mut self.unread);
        let touched = PagesByAddress::of(self.evidence.touched());
        let looked = self.memory.look(armed.part(), &touched)?;
        let scan = scan.finish();
        let calls_told = self.gather()? && first_told;
        self.armed_meanwhile();
        // They count in the next round.
        let round = (self.number, RoundKind::Counted);
        let facts = self.facts(round, self.gathered.fresh, calls_told);
        let mut index = self.evidence.index(scan);
        let mut join = LookJoin {
            index: &mut index,
            open: &mut self.open,
            counted: &mut self.counted,
            calls: &self.calls,
            facts,
        };
        let answers = answers_of(&mut join, &looked, &mut self.memory);
        index.settle_part();
        self.gathered.answers.add(answers);
        Ok(())
    }

    /// What is armed while pages are looked at may have been looked at before.
    fn armed_meanwhile(&self) {
        if !self.unread.is_empty()
            && let Some(source) = self.evidence.feed()
        {
            source.ring_again();
        }
    }

    /// Takes everything that is told until now; whether no call was lost.
    fn gather(&mut self) -> Result<bool, UffdError> {
        let pid = self.lifeline.pid();
        let gathered = self.evidence.gather();
        let fresh = gathered.map_err(|error| cannot_read_events(pid, error))?;
        let events = self.evidence.newest(fresh);
        let other_memory =
            |event: &WatchedEvent| matches!(event.kind, EventKind::Move | EventKind::Unregister);
        if events.iter().any(other_memory) {
            self.memory.hurry();
        }
        if self.books.audits() {
            self.gathered.events.extend(events.iter().cloned());
        }
        self.gathered.fresh.add(fresh);
        let calls = self.evidence.feed().map(EventSource::take_calls);
        let (calls, lost) = calls.unwrap_or_default();
        if self.sees_calls {
            self.calls.add(&calls);
            let filled = calls.iter().filter_map(calls::filled).collect();
            self.evidence.add(filled);
        }
        if calls.iter().any(|call| call.registers().is_some()) {
            self.memory.hurry();
        }
        let armed = calls.iter().filter_map(TrackerCall::armed);
        armed.for_each(|range| self.unread.add(&range));
        self.gathered.calls.extend(calls);
        let none_lost = lost == self.lost_calls;
        self.lost_calls = lost;
        if !none_lost {
            // It may have armed anything, or registered more.
            self.unread.add_all();
            self.memory.hurry();
        }
        Ok(none_lost)
    }

    /// What holds for all pages of a look.
    fn facts(
        &self,
        (round, kind): (u64, RoundKind),
        fresh: FreshEvents,
        calls_told: bool,
    ) -> LookFacts {
        let seen = &self.books.findings().seen;
        LookFacts {
            round,
            all_told: seen.is_complete() && fresh.dropped == 0,
            calls_told: self.sees_calls && calls_told,
            why_unseen: match why_unseen(seen, fresh.dropped, 0) {
                // An event before the first look was told to nobody.
                UnknownReason::BitLost if kind == RoundKind::Settling => {
                    UnknownReason::BeforeLooking
                }
                reason => reason,
            },
        }
    }

    /// Looks at what the tracker did since.
    fn audit(&mut self, look: &TheirLook) {
        let calls = std::mem::take(&mut self.gathered.calls);
        let events = std::mem::take(&mut self.gathered.events);
        self.books.audit((calls, self.lost_calls), &events, look);
    }

    /// Enters a look into the books, if it counts.
    fn enter(&mut self, explained: &ExplainedRound, kind: RoundKind) {
        if kind == RoundKind::Counted {
            let cost = ImageCost {
                hashed: self.memory.hashed(),
                memory: self.memory.memory(),
            };
            let memory = &self.memory;
            self.books
                .add_with(explained, cost, self.evidence.feed(), |mapping| {
                    memory.flags(mapping)
                });
        }
    }

    /// A look as a round.
    fn round(&mut self, began: Instant, looked: &[LookedMapping]) -> TrackRound {
        let round = TrackRound {
            number: self.number,
            at: began - self.began,
            lasted: began - self.last,
            took: began.elapsed(),
            mappings: looked.iter().map(row).collect(),
            events: std::mem::take(&mut self.events),
            ..TrackRound::default()
        };
        self.last = began;
        self.number += 1;
        round
    }

    /// Reports of pages that are not armed again by the end, with their content of now.
    fn last_reports(&mut self) -> ByMapping<ReportedPages> {
        let mut reported: ByMapping<ReportedPages> = Vec::new();
        let open = std::mem::take(&mut self.open).into_iter();
        for (page, report) in open.filter(|(_, report)| OpenReport::is_told(report)) {
            let Some(mapping) = self.memory.mapping_at(page) else {
                continue;
            };
            let Some(before) = self.memory.image_of_written(page) else {
                continue;
            };
            let now = self.memory.read_as_is(page);
            let now = now.unwrap_or(PageLook::Unmapped);
            let answer = report.answer(page, before, now, mapping.backing);
            match reported.last_mut() {
                Some((last, answers)) if Arc::ptr_eq(last, &mapping) => append(answers, answer),
                _ => reported.push((mapping, vec![answer])),
            }
        }
        reported
    }
}

/// Who is observed, and since when.
fn header(pid: u32, options: &ExplainOptions) -> Result<TrackHeader, UffdError> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let command = unless_unseen(uffd::arguments(pid))?.unwrap_or_default();
    Ok(TrackHeader {
        pid,
        comm: text(uffd::comm(pid)?),
        command: command.into_iter().map(text).collect(),
        strategy: ReportOwner::Theirs.to_string(),
        reason: String::new(),
        interval: options.track.interval,
        began: SystemTime::now(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        tracker: options.track.tracker.to_owned(),
        stopped: None,
        notes: Vec::new(),
    })
}

/// What is said of a look.
fn answers_of(
    join: &mut LookJoin<'_, '_>,
    looked: &[LookedMapping],
    memory: &mut ObservedMemory,
) -> PartAnswers {
    let mut all = PartAnswers::default();
    for looked in looked {
        let answers = join.answers(looked);
        let outdated = answers.outdated.into_iter();
        outdated.for_each(|page| memory.forget_image(page));
        all.verified += looked.same;
        all.only_read.extend(looked.only_read.iter().cloned());
        all.unprotected.extend(answers.unprotected);
        push(&mut all.reported, &looked.mapping, answers.reported);
        push(&mut all.missed, &looked.mapping, answers.missed);
    }
    all
}

/// The features of every userfaultfd that a process holds, if they are the same. It may hold none:
/// then somebody else has the one that its memory belongs to.
fn features_of(pid: u32) -> Option<UffdFeatures> {
    let held = uffd::userfaultfds(pid).ok()?;
    let (first, rest) = held.split_first()?;
    let same = rest.iter().all(|it| it.features == first.features);
    same.then_some(first.features)
}

fn cannot_listen(pid: u32, error: io::Error) -> TrackError {
    let process = format!("process {pid}");
    let error = UffdError::system("cannot be told when pages are armed in", process, error);
    TrackError::kernel(pid)(error)
}

/// Whose userfaultfd it is, in words.
fn holder(pid: u32) -> String {
    let userfaultfd = "its memory belongs to a userfaultfd";
    match UffdHolder::of(pid) {
        Some(holder) => format!("{userfaultfd}, {holder}"),
        None => format!("{userfaultfd}; who holds it is not seen"),
    }
}

/// Where something is mapped, by address.
fn mapped(pid: u32) -> Result<Vec<Range<u64>>, UffdError> {
    let mut mapped = Vec::new();
    for vma in unless_unseen(uffd::maps(pid))?.into_iter().flatten() {
        let Some(vma) = unless_unseen(vma)? else {
            break;
        };
        mapped.push(vma.start..vma.end);
    }
    Ok(mapped)
}

/// A mapping of a look as a round tells it.
fn row(looked: &LookedMapping) -> MappingRound {
    let mut written: Vec<PageExtent> = Vec::new();
    for page in &looked.written {
        match written.last_mut() {
            Some(last) if last.range.end == *page => last.range.end += PAGE_SIZE,
            _ => written.push(PageExtent {
                range: *page..*page + PAGE_SIZE,
                unit: looked.mapping.page_size,
                unknown: false,
            }),
        }
    }
    MappingRound {
        mapping: Arc::clone(&looked.mapping),
        pages: TrackedPages {
            tracked: looked.pages(),
            armed: looked.armed,
            written: looked.written.len() as u64,
            ..TrackedPages::default()
        },
        written,
    }
}

fn push<T>(all: &mut ByMapping<T>, mapping: &Arc<TrackedMapping>, pages: Vec<T>) {
    if !pages.is_empty() {
        all.push((Arc::clone(mapping), pages));
    }
}
