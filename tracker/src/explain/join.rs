//! Content and events, joined to answers, page by page: pure.

use std::ops::Range;
use std::sync::Arc;

use pages::strategy::StrategyName;
use pages::track::{PageExtent, TrackedMapping};
use tracker_ebpf::EventKind;
use uffd::{Backing, PAGE_SIZE};

use super::aliases::AliasBook;
use super::candidates::{ChangedPage, candidates};
use super::content::{PageImage, SeenPage, verdict};
use super::history::{EventIndex, PageQuery};
use super::model::{
    CauseSight, EventMeaning, MissedPages, ReportAnswer, ReportCause, ReportVerdict, ReportedPages,
    UnknownReason, WatchedEvent,
};

/// What is the same for all pages of a round.
pub(super) struct JoinFacts {
    /// Its number.
    pub round: u64,
    /// Why a cause may have stayed unseen.
    pub why_unseen: UnknownReason,
    pub absent: AbsentArming,
    pub zaps: ZapReports,
    /// Pages that were brought here with their image.
    pub moved: Vec<Range<u64>>,
    /// What the round before left armed.
    pub memory: MemoryBefore,
}

/// Whether pages that are not there are armed, so that a first write to one is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AbsentArming {
    Armed,
    /// Armed in all memory that is not anonymous.
    ArmedOfFiles,
    NotArmed,
}

impl AbsentArming {
    /// By a strategy that arms them, or not, on a kernel that can arm those of anonymous memory, or
    /// not.
    pub(super) const fn of(arms_absent: bool, anonymous_markers: bool) -> Self {
        match (arms_absent, anonymous_markers) {
            (false, _) => Self::NotArmed,
            (true, true) => Self::Armed,
            (true, false) => Self::ArmedOfFiles,
        }
    }

    fn are_armed(self, backing: Backing) -> bool {
        match self {
            Self::Armed => true,
            Self::ArmedOfFiles => backing != Backing::Anon,
            Self::NotArmed => false,
        }
    }
}

/// Which memory counts as written when it is taken out of its page tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZapReports {
    /// Other memory keeps markers.
    OfAnonymous,
    /// It is observed when it happens.
    OfPrivate,
}

impl ZapReports {
    pub(super) const fn by(strategy: StrategyName) -> Self {
        if strategy.is_observed() {
            Self::OfPrivate
        } else {
            Self::OfAnonymous
        }
    }

    pub(super) fn are_of(self, mapping: &TrackedMapping) -> bool {
        let observed = self == Self::OfPrivate && mapping.shared.is_none();
        observed || mapping.backing == Backing::Anon
    }
}

/// What became of the memory of a process at the end of a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum MemoryBefore {
    #[default]
    Kept,
    /// It was given back, for a userfaultfd of the process's own.
    GivenBack,
}

/// The answers of one round.
pub(super) struct AnswerJoin<'a, 'b> {
    index: &'a mut EventIndex<'b>,
    aliases: &'a mut AliasBook,
    facts: JoinFacts,
    /// Answers of the mapping at hand.
    reported: Vec<ReportedPages>,
    /// What changed in it and was not reported.
    missed: Vec<MissedPages>,
    /// Clean pages compared in all mappings.
    verified: u64,
}

impl<'a, 'b> AnswerJoin<'a, 'b> {
    pub(super) fn new(
        index: &'a mut EventIndex<'b>,
        aliases: &'a mut AliasBook,
        facts: JoinFacts,
    ) -> Self {
        Self {
            index,
            aliases,
            facts,
            reported: Vec::new(),
            missed: Vec::new(),
            verified: 0,
        }
    }

    /// The answers of a mapping, which is complete.
    pub(super) fn take_reported(&mut self) -> Vec<ReportedPages> {
        std::mem::take(&mut self.reported)
    }

    /// What changed without a report in a mapping, which is complete.
    pub(super) fn take_missed(&mut self) -> Vec<MissedPages> {
        std::mem::take(&mut self.missed)
    }

    /// Clean pages that were compared.
    pub(super) const fn verified(&self) -> u64 {
        self.verified
    }

    /// Answers for a page that is reported.
    pub(super) fn report(&mut self, mapping: &TrackedMapping, extent: &PageExtent, seen: SeenPage) {
        let page = seen.address;
        let is_moved = self.facts.moved.iter().any(|range| range.contains(&page));
        let before = match seen.before {
            // It was armed for the first time, with something there.
            PageImage::Hole if extent.unknown && !is_moved => PageImage::None,
            before => before,
        };
        let (verdict, verdict_unknown) = verdict(before, seen.look, mapping.backing);
        let mut answer = ReportedPages {
            range: page..page + PAGE_SIZE,
            why: ReportAnswer {
                verdict,
                cause: ReportCause::Unknown,
            },
            verdict_unknown,
            cause_unknown: None,
            place: None,
            thread: None,
        };
        if extent.unknown {
            // The kernel was not asked about it before.
            answer.why.cause = self.arrival(page, is_moved);
        } else {
            let absent = self.facts.absent;
            let was_armed = before != PageImage::Hole || absent.are_armed(mapping.backing);
            self.find_cause(&mut answer, mapping, extent, was_armed);
        }
        append(&mut self.reported, answer);
    }

    /// Finds what took the protection off a page that was tracked.
    fn find_cause(
        &mut self,
        answer: &mut ReportedPages,
        mapping: &TrackedMapping,
        extent: &PageExtent,
        was_armed: bool,
    ) {
        let query = PageQuery {
            address: answer.range.start,
            unit: extent.unit.max(mapping.page_size),
            zaps_count: self.facts.zaps.are_of(mapping),
        };
        if let Some((cause, event)) = self.index.cause(&query) {
            // A write is seen in hugetlb memory that is not armed, too.
            answer.why.cause = if was_armed || !cause.is_write() {
                cause
            } else {
                ReportCause::NeverArmed
            };
            answer.place = event.place;
            answer.thread = Some((event.tid, Arc::clone(&event.comm)));
        } else if was_armed || self.facts.why_unseen == UnknownReason::InDoubt {
            answer.cause_unknown = Some(self.facts.why_unseen);
        } else {
            answer.why.cause = ReportCause::NeverArmed;
        }
    }

    /// Why something is there that was not tracked before.
    fn arrival(&self, page: u64, is_moved: bool) -> ReportCause {
        let by = |cause| {
            let disarms = EventMeaning::Disarms(cause);
            self.index.tells(page, |event| event.meaning == disarms)
        };
        if is_moved || by(ReportCause::Move) {
            ReportCause::Move
        } else if self.facts.memory == MemoryBefore::GivenBack || by(ReportCause::Unregister) {
            ReportCause::Unregister
        } else {
            ReportCause::NeverArmed
        }
    }

    /// Compares a page that is reported clean.
    pub(super) fn verify(&mut self, mapping: &TrackedMapping, seen: SeenPage) {
        let (verdict, _) = verdict(seen.before, seen.look, mapping.backing);
        let zeroed = match verdict {
            ReportVerdict::Unknown | ReportVerdict::Gone => return,
            ReportVerdict::Unchanged => {
                self.verified += 1;
                return;
            }
            ReportVerdict::Changed => false,
            ReportVerdict::Zeroed => true,
        };
        let page = ChangedPage {
            zeroed,
            zapped: zeroed && self.index.came_to(seen.address, is_zap),
        };
        let missed = MissedPages {
            round: self.facts.round,
            range: seen.address..seen.address + PAGE_SIZE,
            zeroed,
            candidates: candidates(mapping, page),
        };
        if !self.aliases.is_missed(mapping, &missed) {
            return;
        }
        self.verified += 1;
        match self.missed.last_mut() {
            Some(last) if last.range.end == seen.address && last.is_as(&missed) => {
                last.range.end += PAGE_SIZE;
            }
            _ => self.missed.push(missed),
        }
    }
}

/// Appends a page, joined to the last one if the answer is the same.
pub(super) fn append(reported: &mut Vec<ReportedPages>, page: ReportedPages) {
    match reported.last_mut() {
        Some(last) if last.range.end == page.range.start && last.is_as(&page) => {
            last.range.end = page.range.end;
        }
        _ => reported.push(page),
    }
}

/// Whether an event tells that pages were taken out of the page tables, and not that the kernel was
/// short of memory.
fn is_zap(event: &WatchedEvent) -> bool {
    use EventMeaning::{Disarms, DisarmsAnonymous};
    let zaps = [
        Disarms(ReportCause::Zap),
        DisarmsAnonymous(ReportCause::Zap),
    ];
    event.kind != EventKind::Reclaim && zaps.contains(&event.meaning)
}

/// Why nothing may have been seen of a cause, in a round that reports so many pages in doubt.
pub(super) fn why_unseen(seen: &CauseSight, dropped: u64, in_doubt: u64) -> UnknownReason {
    if in_doubt != 0 {
        UnknownReason::InDoubt
    } else if dropped != 0 {
        UnknownReason::EventsDropped
    } else if seen.is_complete() {
        UnknownReason::BitLost
    } else {
        UnknownReason::NotSeen
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use pages::track::SharedPlace;

    use crate::explain::content::{PageLook, hash};
    use crate::explain::history::EventHistory;
    use crate::explain::model::{MissCandidate, SightGap};
    use crate::explain::sample::{event, mapping_of, scan};

    const PAGE: u64 = PAGE_SIZE;
    const START: u64 = 0x10_0000;

    fn facts() -> JoinFacts {
        JoinFacts {
            round: 7,
            why_unseen: UnknownReason::BitLost,
            absent: AbsentArming::Armed,
            zaps: ZapReports::OfAnonymous,
            moved: Vec::new(),
            memory: MemoryBefore::Kept,
        }
    }

    fn seen(page: u64, before: PageImage, look: PageLook) -> SeenPage {
        SeenPage {
            address: START + page * PAGE,
            before,
            look,
        }
    }

    fn extent(unknown: bool) -> PageExtent {
        PageExtent {
            range: START..START + 16 * PAGE,
            unit: PAGE,
            unknown,
        }
    }

    /// The answers for these pages, with these events before the scan.
    fn answers(
        facts: JoinFacts,
        events: Vec<WatchedEvent>,
        unknown: bool,
        pages: &[SeenPage],
    ) -> Vec<ReportedPages> {
        let mut history = EventHistory::default();
        history.add(events);
        let mut index = history.index(scan());
        let mut aliases = AliasBook::default();
        let mut join = AnswerJoin::new(&mut index, &mut aliases, facts);
        let mapping = mapping_of(START..START + 16 * PAGE, Backing::Anon);
        for page in pages {
            join.report(&mapping, &extent(unknown), *page);
        }
        join.take_reported()
    }

    fn stored(page: u64) -> WatchedEvent {
        let at = START + page * PAGE;
        let stores = EventMeaning::Disarms(ReportCause::UserStore);
        event(1, at..at + PAGE, 0, stores)
    }

    #[test]
    fn neighbours_with_the_same_answer_are_one() {
        let (image, look) = (PageImage::Content(7), PageLook::Content(7));
        let pages = [0, 1, 2].map(|page| seen(page, image, look));
        let told = answers(facts(), vec![stored(0), stored(1)], false, &pages);
        assert_eq!(told.len(), 2);
        assert_eq!(told[0].range, START..START + 2 * PAGE);
        assert_eq!(told[0].why.cause, ReportCause::UserStore);
        assert_eq!(told[0].why.verdict, ReportVerdict::Unchanged);
        // Of the third nothing was seen, though everything can be.
        assert_eq!(told[1].cause_unknown, Some(UnknownReason::BitLost));
    }

    #[test]
    fn what_is_not_there_is_armed_or_never_was() {
        let first_write = [seen(0, PageImage::Hole, PageLook::Content(7))];
        let cause = |absent| {
            let facts = JoinFacts { absent, ..facts() };
            answers(facts, vec![stored(0)], false, &first_write)[0]
                .why
                .cause
        };
        assert_eq!(cause(AbsentArming::Armed), ReportCause::UserStore);
        for absent in [AbsentArming::ArmedOfFiles, AbsentArming::NotArmed] {
            assert_eq!(cause(absent), ReportCause::NeverArmed);
        }
        let of = AbsentArming::of;
        assert_eq!(of(false, true), AbsentArming::NotArmed);
        assert_eq!(of(true, false), AbsentArming::ArmedOfFiles);
        assert!(AbsentArming::ArmedOfFiles.are_armed(Backing::Shmem));
    }

    #[test]
    fn what_is_reported_in_doubt_has_no_cause_but_an_event() {
        let facts = || JoinFacts {
            absent: AbsentArming::NotArmed,
            why_unseen: UnknownReason::InDoubt,
            ..facts()
        };
        let pages = [
            seen(0, PageImage::Content(7), PageLook::Content(8)),
            seen(1, PageImage::Content(7), PageLook::Content(7)),
            seen(2, PageImage::Hole, PageLook::Hole),
        ];
        let told = answers(facts(), vec![stored(0)], false, &pages);
        assert_eq!(told[0].why.cause, ReportCause::UserStore);
        // Also of what was never there.
        assert_eq!(told[1].range, START + PAGE..START + 3 * PAGE);
        assert_eq!(told[1].why.cause, ReportCause::Unknown);
        assert_eq!(told[1].cause_unknown, Some(UnknownReason::InDoubt));
    }

    #[test]
    fn a_zap_counts_where_no_marker_is_left_or_it_is_observed() {
        let range = START..START + 16 * PAGE;
        let shared = SharedPlace {
            device: (0, 1),
            inode: 7,
            offset: 0,
        };
        let shmem = TrackedMapping {
            shared: Some(shared),
            ..mapping_of(range.clone(), Backing::Shmem)
        };
        let (anon, file) = (Backing::Anon, Backing::File);
        let [anon, file] = [anon, file].map(|backing| mapping_of(range.clone(), backing));
        let by = |strategy| {
            let zaps = ZapReports::by(strategy);
            [&anon, &file, &shmem].map(|mapping| zaps.are_of(mapping))
        };
        assert_eq!(by(StrategyName::Markers), [true, false, false]);
        assert_eq!(by(StrategyName::FaultTime), [true, true, false]);
    }

    #[test]
    fn what_arrives_says_where_from() {
        let here = [seen(0, PageImage::Hole, PageLook::Content(7))];
        let cause = |facts| {
            let told = answers(facts, Vec::new(), true, &here);
            (told[0].why.cause, told[0].why.verdict)
        };
        let (changed, unknown) = (ReportVerdict::Changed, ReportVerdict::Unknown);
        assert_eq!(cause(facts()), (ReportCause::NeverArmed, unknown));
        let given_back = JoinFacts {
            memory: MemoryBefore::GivenBack,
            ..facts()
        };
        assert_eq!(cause(given_back), (ReportCause::Unregister, unknown));
        let moved = JoinFacts {
            moved: std::iter::once(START..START + PAGE).collect(),
            ..facts()
        };
        // Its image came along: it was not there.
        assert_eq!(cause(moved), (ReportCause::Move, changed));
    }

    #[test]
    fn clean_pages_are_compared() {
        let mut history = EventHistory::default();
        let mut index = history.index(scan());
        let mut aliases = AliasBook::default();
        let mut join = AnswerJoin::new(&mut index, &mut aliases, facts());
        let mapping = mapping_of(START..START + 16 * PAGE, Backing::Shmem);
        let image = PageImage::Content(7);
        for (page, look) in [
            (0, PageLook::Content(7)),
            (1, PageLook::Content(8)),
            (2, PageLook::Content(9)),
            (3, PageLook::Not(UnknownReason::Swapped)),
        ] {
            join.verify(&mapping, seen(page, image, look));
        }
        assert_eq!(join.verified(), 3);
        let missed = join.take_missed();
        assert_eq!(missed.len(), 1);
        assert_eq!(missed[0].range, START + PAGE..START + 3 * PAGE);
        assert!(!missed[0].zeroed && join.take_missed().is_empty());
        assert_eq!(missed[0].round, 7);
    }

    #[test]
    fn an_event_makes_a_hole_likelier() {
        let zap = EventMeaning::DisarmsAnonymous(ReportCause::Zap);
        let mapping = TrackedMapping {
            shared: Some(SharedPlace {
                device: (0, 1),
                inode: 7,
                offset: 0,
            }),
            ..mapping_of(START..START + 16 * PAGE, Backing::Shmem)
        };
        let mut history = EventHistory::default();
        let (both, alone) = (START..START + 2 * PAGE, START + 2 * PAGE..START + 3 * PAGE);
        history.add([both, alone].map(|range| event(1, range, 0, zap)).into());
        let mut index = history.index(scan());
        let mut aliases = AliasBook::default();
        let mut join = AnswerJoin::new(&mut index, &mut aliases, facts());
        let zeroes = hash(&[0; PAGE as usize]);
        for page in 0..5 {
            let look = PageLook::Content(zeroes);
            join.verify(&mapping, seen(page, PageImage::Content(7), look));
        }
        let missed = join.take_missed();
        let first = missed
            .iter()
            .map(|pages| (pages.pages(), pages.candidates[0]));
        let expected = [
            (3, MissCandidate::HolePunch),
            (2, MissCandidate::SecondMapping),
        ];
        assert_eq!(first.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn why_nothing_was_seen_depends_on_what_can_be() {
        let (all, none) = (
            CauseSight::default(),
            CauseSight::new(vec![SightGap::NotAsked]),
        );
        assert_eq!(why_unseen(&all, 0, 0), UnknownReason::BitLost);
        assert_eq!(why_unseen(&none, 0, 0), UnknownReason::NotSeen);
        assert_eq!(why_unseen(&none, 1, 0), UnknownReason::EventsDropped);
        assert_eq!(why_unseen(&all, 1, 7), UnknownReason::InDoubt);
    }
}
