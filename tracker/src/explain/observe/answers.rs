//! From what looks see, and what the kernel tells, to answers: pure.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use pages::track::TrackedMapping;
use uffd::{Backing, PAGE_SIZE};

use super::calls::ArmingCalls;
use super::epoch::{PageEpoch, PageNews};
use super::memory::{GoneMapping, LookedMapping, LookedPage, WriteAnswer};
use super::rounds::{self, PageHappening, PageLooks, PageRounds, TheirReport};
use crate::explain::candidates::{ChangedPage, candidates};
use crate::explain::content::{PageImage, PageLook, verdict};
use crate::explain::history::{EventIndex, PageDisarming, PageQuery};
use crate::explain::join::{ZapReports, append};
use crate::explain::model::{
    MissedPages, PlaceId, ReportAnswer, ReportCause, ReportVerdict, ReportedPages, UnknownReason,
};

/// What took the protection off a page that its tracker has not armed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenReport {
    cause: ReportCause,
    cause_unknown: Option<UnknownReason>,
    place: Option<PlaceId>,
    thread: Option<(u32, Arc<str>)>,
    told: ToldTracker,
}

/// Whether the tracker of a page that is not armed any more is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ToldTracker {
    /// It was, or will be by its next scan.
    Yes,
    /// If it arms the page again: nobody has seen it armed.
    IfArmedAgain,
    /// It may have taken the protection off itself.
    Perhaps,
    /// It has taken the protection off itself.
    No,
}

/// Pages that are not armed any more, by address.
pub(super) type OpenReports = BTreeMap<u64, OpenReport>;

/// Pages of which an event has counted that came while they were looked at, and when the last of
/// these came: the next look is not to count it again.
pub(super) type CountedDuring = BTreeMap<u64, u64>;

/// What is the same for all pages of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LookFacts {
    /// Its number.
    pub round: u64,
    /// Whether everything that takes protection off is told, and was.
    pub all_told: bool,
    /// Why nothing may have been told.
    pub why_unseen: UnknownReason,
    /// Whether every call of trackers is seen, and was, beside that.
    pub calls_told: bool,
}

/// The answers of a look.
pub(super) struct LookJoin<'a, 'b> {
    pub index: &'a mut EventIndex<'b>,
    pub open: &'a mut OpenReports,
    pub counted: &'a mut CountedDuring,
    pub calls: &'a ArmingCalls,
    pub facts: LookFacts,
}

/// What is said of a mapping at a look.
#[derive(Debug, Default)]
pub(super) struct LookAnswers {
    pub reported: Vec<ReportedPages>,
    pub missed: Vec<MissedPages>,
    /// Pages whose image is of an epoch that is over.
    pub outdated: Vec<u64>,
    /// Pages that came to be there, and nobody had armed them.
    pub unprotected: Vec<Range<u64>>,
}

impl LookJoin<'_, '_> {
    /// What is said of a mapping.
    pub(super) fn answers(&mut self, looked: &LookedMapping) -> LookAnswers {
        let mut answers = LookAnswers::default();
        for page in &looked.news {
            self.page(looked, page, &mut answers);
        }
        answers
    }

    fn page(&mut self, looked: &LookedMapping, seen: &LookedPage, answers: &mut LookAnswers) {
        let mapping = &looked.mapping;
        let facts = self.facts;
        if facts.all_told
            && facts.calls_told
            && let Some((rounds, disarmings)) = self.rounds(looked, seen)
        {
            return self.by_calls(mapping, seen, (&rounds, &disarmings), answers);
        }
        match seen.news {
            PageNews::None | PageNews::Same => (),
            PageNews::Disarmed | PageNews::NeverArmed | PageNews::NotArmedBefore => {
                let report = self.open_report(looked, seen);
                if report.cause == ReportCause::NeverArmed {
                    answers.unprotected.push(seen.page..seen.page + PAGE_SIZE);
                }
                self.open.insert(seen.page, report);
            }
            PageNews::Rearmed(before) => {
                let report = self.open.remove(&seen.page);
                let mut report = report.unwrap_or(OpenReport::BEFORE_LOOKING);
                if report.told == ToldTracker::No
                    && looked.answered == WriteAnswer::Kernel
                    && self.is_told_again(seen)
                {
                    report = OpenReport::TOLD_AFTER_RELEASE;
                }
                if report.told != ToldTracker::No {
                    let answer = report.answer(seen.page, before, seen.look, mapping.backing);
                    append(&mut answers.reported, answer);
                }
            }
            PageNews::Between(before) => self.between(looked, seen, before, answers),
        }
    }

    /// What their tracker did with a page since the last look; `None` if no event tells anything.
    fn rounds(
        &mut self,
        looked: &LookedMapping,
        seen: &LookedPage,
    ) -> Option<(PageRounds, Vec<PageDisarming>)> {
        let query = query(&looked.mapping, seen.page);
        let disarmings = self.index.disarmings_of(&query);
        if disarmings.is_empty() {
            return None;
        }
        let (happened, used) = self.happened(looked.answered, seen, &disarmings);
        let looks = PageLooks {
            before: seen.before,
            armed_now: seen.armed,
            answered: looked.answered,
        };
        let rounds = rounds::rounds(looks, &happened)?;
        // Whoever still waits for an answer is told of later.
        let told = rounds.reports.iter().filter_map(|report| report.event);
        let last = told.chain(rounds.open).max();
        let used: Vec<_> = used.into_iter().filter(|it| Some(*it) <= last).collect();
        used.iter().for_each(|event| self.index.serve(*event));
        let counted = disarmings.iter().filter(|it| used.contains(&it.event));
        let during = counted.filter(|it| it.time >= seen.now.began);
        match during.map(|it| it.time).max() {
            Some(time) => _ = self.counted.insert(seen.page, time),
            None => _ = self.counted.remove(&seen.page),
        }
        Some((rounds, disarmings))
    }

    /// What happened to a page between the last look and this one, by time, and which events that
    /// are.
    fn happened(
        &self,
        answered: WriteAnswer,
        seen: &LookedPage,
        disarmings: &[PageDisarming],
    ) -> (Vec<PageHappening>, Vec<usize>) {
        let calls: Vec<_> = self.calls.of_page(seen.page).collect();
        let is_during = |time: u64| time >= seen.now.began;
        // What comes while an armed page is looked at comes after it has been seen armed, unless it
        // is armed again meanwhile.
        let rearmed_during = |time: u64| {
            let mut calls = calls.iter().filter(|call| call.arms);
            calls.any(|call| call.ended >= time && call.began <= seen.now.ended)
        };
        let mut happened: Vec<(u64, PageHappening)> = Vec::new();
        let mut used = Vec::new();
        let counted = self.counted.get(&seen.page).copied().unwrap_or(0);
        for disarming in disarmings {
            let was_seen = match seen.before {
                // Whoever waits for an answer waits however many looks there are.
                PageEpoch::Armed(_) if answered == WriteAnswer::Tracker && disarming.of_armed => {
                    false
                }
                PageEpoch::Armed(_) => disarming.time < seen.last.began,
                _ => disarming.time <= seen.last.ended && !disarming.of_armed,
            };
            let comes_later =
                seen.armed && is_during(disarming.time) && !rearmed_during(disarming.time);
            let was_known = was_seen || disarming.time <= counted;
            if !was_known && !comes_later {
                used.push(disarming.event);
                let happening = PageHappening::Disarmed {
                    event: disarming.event,
                    of_armed: disarming.of_armed,
                };
                happened.push((disarming.time, happening));
            }
        }
        for call in calls.iter().filter(|call| call.ended > seen.last.began) {
            let happening = match (call.arms, call.fills) {
                (true, false) => PageHappening::Armed,
                (true, true) => PageHappening::FilledArmed,
                (false, _) => PageHappening::Resolved,
            };
            happened.push((call.ended, happening));
        }
        happened.sort_by_key(|(time, _)| *time);
        let happened = happened.into_iter().map(|(_, happening)| happening);
        (happened.collect(), used)
    }

    /// The reports of a page, as calls of its tracker and events tell them.
    fn by_calls(
        &mut self,
        mapping: &TrackedMapping,
        seen: &LookedPage,
        (rounds, disarmings): (&PageRounds, &[PageDisarming]),
        answers: &mut LookAnswers,
    ) {
        let of_event = |index: &EventIndex<'_>, event| OpenReport::of(index, disarmings, event);
        let before = match seen.before {
            PageEpoch::Armed(image) | PageEpoch::Written(image) => image,
            PageEpoch::Unseen | PageEpoch::Unarmed => PageImage::None,
        };
        for report in &rounds.reports {
            let open = match report.event {
                Some(event) => of_event(self.index, event),
                None => self.open.remove(&seen.page),
            };
            let open = open.unwrap_or(OpenReport::BEFORE_LOOKING);
            if open.told == ToldTracker::No {
                continue;
            }
            let mut answer = open.answer(seen.page, before, seen.look, mapping.backing);
            if let Some(reason) = why_not_compared(report, seen.look) {
                answer.why.verdict = ReportVerdict::Unknown;
                answer.verdict_unknown = Some(reason);
            }
            append(&mut answers.reported, answer);
        }
        let open = rounds.open;
        if let Some(report) = open.and_then(|event| of_event(self.index, event)) {
            self.open.insert(seen.page, report);
        } else if rounds.released {
            self.open.insert(seen.page, OpenReport::RELEASED);
        }
        let is_unread = seen.armed && matches!(seen.look, PageLook::Not(_) | PageLook::Unmapped);
        if !rounds.same_epoch && (open.is_some() || is_unread) {
            answers.outdated.push(seen.page);
        }
    }

    /// What has taken the protection off a page since the last look.
    fn open_report(&mut self, looked: &LookedMapping, seen: &LookedPage) -> OpenReport {
        if seen.news == PageNews::NotArmedBefore {
            return OpenReport::BEFORE_LOOKING;
        }
        let was_armed = seen.news == PageNews::Disarmed;
        if was_armed && self.is_released(seen) {
            return OpenReport::RELEASED;
        }
        let told = self.index.cause(&query(&looked.mapping, seen.page));
        if let Some((cause, event)) = told {
            return OpenReport {
                cause,
                cause_unknown: None,
                place: event.place,
                thread: Some((event.tid, Arc::clone(&event.comm))),
                told: match was_armed {
                    true => ToldTracker::Yes,
                    false => ToldTracker::IfArmedAgain,
                },
            };
        }
        let (cause, cause_unknown) = match (was_armed, self.facts.all_told) {
            (false, true) => (ReportCause::NeverArmed, None),
            // It may have been armed and written since the last look.
            (false, false) => (ReportCause::Unknown, Some(UnknownReason::BeforeLooking)),
            (true, _) => (ReportCause::Unknown, Some(self.facts.why_unseen)),
        };
        OpenReport {
            cause,
            cause_unknown,
            place: None,
            thread: None,
            told: match (was_armed, looked.answered, self.facts.all_told) {
                // Without protection no message is sent.
                (false, WriteAnswer::Tracker, true) => ToldTracker::No,
                (false, ..) => ToldTracker::IfArmedAgain,
                (true, WriteAnswer::Kernel, _) => ToldTracker::Yes,
                (true, WriteAnswer::Tracker, false) => ToldTracker::Perhaps,
                (true, WriteAnswer::Tracker, true) => ToldTracker::No,
            },
        }
    }

    /// A page that was armed at two looks and changed in between: reported and armed again, if
    /// anything has taken its protection off, or missed.
    fn between(
        &mut self,
        looked: &LookedMapping,
        seen: &LookedPage,
        before: PageImage,
        answers: &mut LookAnswers,
    ) {
        let mapping = &looked.mapping;
        let query = query(mapping, seen.page);
        let disarmings = self.index.disarmings(&query);
        // Their tracker may have put content where nothing was, and armed it, which is no write.
        let may_be_filled = before == PageImage::Hole && !self.facts.calls_told;
        if disarmings == 0 && self.facts.all_told && !may_be_filled {
            // Nobody is told of what is written while its tracker has it released.
            if !self.is_filled(seen) && !self.is_released(seen) {
                self.missed(mapping, seen, before, answers);
            }
            return;
        }
        let report = self.open_report(
            looked,
            &LookedPage {
                news: PageNews::Disarmed,
                ..*seen
            },
        );
        if report.told == ToldTracker::No {
            return;
        }
        let mut answer = report.answer(seen.page, before, seen.look, mapping.backing);
        // Of several epochs nobody knows the contents between them.
        if disarmings != 1 || !self.facts.all_told {
            answer.why.verdict = ReportVerdict::Unknown;
            answer.verdict_unknown = Some(UnknownReason::BetweenLooks);
        }
        for _ in 0..disarmings.max(1) {
            append(&mut answers.reported, answer.clone());
        }
    }

    /// Whether their tracker has taken the page's protection off by itself since the last look, and
    /// no event came first.
    fn is_released(&self, seen: &LookedPage) -> bool {
        let mut calls = self.calls.of_page(seen.page);
        let since = seen.last.began..=seen.now.ended;
        let released = calls.any(|call| !call.arms && !call.fills && since.contains(&call.ended));
        released && self.facts.all_told && self.facts.calls_told
    }

    /// Whether a call that armed the page since the last look has told that it was not.
    fn is_told_again(&self, seen: &LookedPage) -> bool {
        let mut calls = self.calls.of_page(seen.page);
        let since = seen.last.began..=seen.now.ended;
        calls.any(|call| call.arms && call.tells && since.contains(&call.ended))
    }

    /// Whether their tracker has filled and armed the page since the last look.
    fn is_filled(&self, seen: &LookedPage) -> bool {
        let mut calls = self.calls.of_page(seen.page);
        let since = seen.last.began..=seen.now.ended;
        calls.any(|call| call.fills && call.arms && since.contains(&call.ended))
    }

    fn missed(
        &self,
        mapping: &TrackedMapping,
        seen: &LookedPage,
        before: PageImage,
        answers: &mut LookAnswers,
    ) {
        let zeroed = match verdict(before, seen.look, mapping.backing).0 {
            ReportVerdict::Changed => false,
            ReportVerdict::Zeroed => true,
            _ => return,
        };
        let zapped = false;
        let missed = MissedPages {
            round: self.facts.round,
            range: seen.page..seen.page + PAGE_SIZE,
            zeroed,
            candidates: candidates(mapping, ChangedPage { zeroed, zapped }),
        };
        match answers.missed.last_mut() {
            Some(last) if last.range.end == seen.page && last.is_as(&missed) => {
                last.range.end += PAGE_SIZE;
            }
            _ => answers.missed.push(missed),
        }
    }
}

impl OpenReport {
    /// Of a page that was not armed when it was looked at first.
    const BEFORE_LOOKING: Self = Self {
        cause: ReportCause::Unknown,
        cause_unknown: Some(UnknownReason::BeforeLooking),
        place: None,
        thread: None,
        told: ToldTracker::IfArmedAgain,
    };

    /// Of a page whose protection its tracker took off by itself.
    const RELEASED: Self = Self {
        told: ToldTracker::No,
        ..Self::BEFORE_LOOKING
    };

    /// Of one of these that a scan found and armed again.
    const TOLD_AFTER_RELEASE: Self = Self {
        cause_unknown: Some(UnknownReason::MaybeReleased),
        told: ToldTracker::Yes,
        ..Self::BEFORE_LOOKING
    };

    /// Of a page whose protection an event took off, which is one of these.
    fn of(index: &EventIndex<'_>, disarmings: &[PageDisarming], number: usize) -> Option<Self> {
        let cause = disarmings.iter().find(|it| it.event == number)?.cause;
        let event = index.event(number);
        Some(Self {
            cause,
            cause_unknown: None,
            place: event.place,
            thread: Some((event.tid, Arc::clone(&event.comm))),
            told: ToldTracker::Yes,
        })
    }

    /// Whether its tracker was told, perhaps, or will be, whatever it does next.
    pub(super) const fn is_told(&self) -> bool {
        matches!(self.told, ToldTracker::Yes | ToldTracker::Perhaps)
    }

    /// Whether nobody knows if its tracker was told, unless it arms the page again.
    pub(super) fn is_told_perhaps(&self) -> bool {
        let unseen = self.cause_unknown == Some(UnknownReason::BeforeLooking);
        unseen && self.told == ToldTracker::IfArmedAgain
    }

    /// The report, with its verdict.
    pub(super) fn answer(
        self,
        page: u64,
        before: PageImage,
        now: PageLook,
        backing: Backing,
    ) -> ReportedPages {
        let (verdict, verdict_unknown) = match self.told {
            ToldTracker::Perhaps => (ReportVerdict::Unknown, Some(UnknownReason::MaybeReleased)),
            _ => verdict(before, now, backing),
        };
        ReportedPages {
            range: page..page + PAGE_SIZE,
            why: ReportAnswer {
                verdict,
                cause: self.cause,
            },
            verdict_unknown,
            cause_unknown: self.cause_unknown,
            place: self.place,
            thread: self.thread,
        }
    }
}

/// Reports of what is not observed any more: unmapped, or unregistered. `now` looks at a page.
pub(super) fn answers_of_gone(
    gone: &GoneMapping,
    open: &mut OpenReports,
    mut now: impl FnMut(u64) -> PageLook,
) -> Vec<ReportedPages> {
    let mut reported = Vec::new();
    for (page, epoch) in &gone.known {
        let report = open.remove(page).filter(OpenReport::is_told);
        if let (PageEpoch::Written(before), Some(report)) = (*epoch, report) {
            let answer = report.answer(*page, before, now(*page), gone.mapping.backing);
            append(&mut reported, answer);
        }
    }
    reported
}

/// Why nobody can compare the contents of a report's epoch, if that is so.
const fn why_not_compared(report: &TheirReport, look: PageLook) -> Option<UnknownReason> {
    match look {
        PageLook::Not(UnknownReason::NotSampled) => None,
        _ if !report.end_seen => Some(UnknownReason::WrittenAgain),
        _ if !report.begin_seen => Some(UnknownReason::ShortRound),
        _ => None,
    }
}

fn query(mapping: &TrackedMapping, address: u64) -> PageQuery {
    PageQuery {
        address,
        unit: mapping.page_size,
        zaps_count: ZapReports::OfAnonymous.are_of(mapping),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::history::{EventHistory, ScanSpan};
    use uffd::UffdFeatures;

    use crate::explain::model::{CallArguments, CallerThread, EventMeaning, TrackerCall};
    use crate::explain::sample::{event, mapping_of, scan};

    const START: u64 = 0x10_0000;
    const A: PageImage = PageImage::Content(7);
    const STORED: EventMeaning = EventMeaning::Disarms(ReportCause::UserStore);

    fn seen(page: u64, news: PageNews, look: PageLook) -> LookedPage {
        let before = match news {
            PageNews::Rearmed(before) => PageEpoch::Written(before),
            PageNews::NeverArmed => PageEpoch::Unseen,
            PageNews::NotArmedBefore => PageEpoch::Unarmed,
            PageNews::Between(before) => PageEpoch::Armed(before),
            PageNews::None | PageNews::Same | PageNews::Disarmed => PageEpoch::Armed(A),
        };
        let armed = matches!(
            news,
            PageNews::Rearmed(_) | PageNews::Between(_) | PageNews::Same
        );
        LookedPage {
            page: START + page * PAGE_SIZE,
            news,
            look,
            before,
            armed,
            last: ScanSpan { began: 0, ended: 1 },
            now: scan(),
        }
    }

    /// The answers of a look at these pages, with stores to pages of these numbers before it.
    fn look(
        open: &mut OpenReports,
        stored: &[u64],
        all_told: bool,
        news: Vec<LookedPage>,
    ) -> LookAnswers {
        look_with(open, stored, all_told, news, None)
    }

    /// The same where calls are seen, these.
    fn look_with(
        open: &mut OpenReports,
        stored: &[u64],
        all_told: bool,
        news: Vec<LookedPage>,
        seen_calls: Option<&[TrackerCall]>,
    ) -> LookAnswers {
        let mut calls = ArmingCalls::default();
        calls.add(seen_calls.unwrap_or_default());
        let mut history = EventHistory::default();
        let events = stored.iter().map(|page| {
            let start = START + page * PAGE_SIZE;
            event(50, start..start + PAGE_SIZE, 0, STORED)
        });
        history.add(events.collect());
        let mut index = history.index(scan());
        let mut join = LookJoin {
            index: &mut index,
            open,
            counted: &mut CountedDuring::new(),
            calls: &calls,
            facts: LookFacts {
                round: 3,
                all_told,
                why_unseen: UnknownReason::NotSeen,
                calls_told: seen_calls.is_some(),
            },
        };
        join.answers(&LookedMapping {
            answered: WriteAnswer::Kernel,
            mapping: Arc::new(mapping_of(START..START + 16 * PAGE_SIZE, Backing::Anon)),
            news,
            armed: 0,
            same: 0,
            written: Vec::new(),
            only_read: Vec::new(),
        })
    }

    fn told(answers: &LookAnswers) -> Vec<(u64, ReportVerdict, ReportCause)> {
        let all = answers.reported.iter();
        all.map(|it| (it.pages(), it.why.verdict, it.why.cause))
            .collect()
    }

    const AGAIN: PageLook = PageLook::Not(UnknownReason::WrittenAgain);

    #[test]
    fn a_report_has_the_cause_of_the_look_that_saw_it_and_the_content_of_the_next_arming() {
        let mut open = OpenReports::new();
        let news = (0..2).map(|page| seen(page, PageNews::Disarmed, AGAIN));
        let first = look(&mut open, &[0, 1], true, news.collect());
        assert!(first.reported.is_empty());
        let same = seen(0, PageNews::Rearmed(A), PageLook::Content(7));
        let other = seen(1, PageNews::Rearmed(A), PageLook::Content(8));
        let second = look(&mut open, &[], true, vec![same, other]);
        let store = ReportCause::UserStore;
        assert_eq!(
            told(&second),
            [
                (1, ReportVerdict::Unchanged, store),
                (1, ReportVerdict::Changed, store)
            ]
        );
        assert!(open.is_empty());
    }

    fn their_call(what: CallArguments) -> TrackerCall {
        TrackerCall {
            began: 40,
            ended: 41,
            what,
            outcome: Ok(0),
            features: UffdFeatures::WP_ASYNC,
            caller: CallerThread {
                tgid: 1,
                tid: 1,
                comm: "tracker".into(),
            },
            cpu: 0,
            place: None,
        }
    }

    #[test]
    fn a_range_that_is_emptied_while_it_is_looked_at_counts_once() {
        let during = scan().began + 1;
        let range = START..START + 2 * PAGE_SIZE;
        let mut arms = their_call(CallArguments::Arm(range.clone()));
        (arms.began, arms.ended) = (during + 1, during + 2);
        let mut calls = ArmingCalls::default();
        calls.add(&[arms]);
        let (mut open, mut counted) = (OpenReports::new(), CountedDuring::new());
        let mut reports = |last: ScanSpan, now: ScanSpan| {
            let mut history = EventHistory::default();
            history.add(vec![event(during, range.clone(), 0, STORED)]);
            let mut index = history.index(now);
            let mut join = LookJoin {
                index: &mut index,
                open: &mut open,
                counted: &mut counted,
                calls: &calls,
                facts: LookFacts {
                    round: 3,
                    all_told: true,
                    why_unseen: UnknownReason::NotSeen,
                    calls_told: true,
                },
            };
            let page = LookedPage {
                last,
                now,
                ..seen(0, PageNews::Same, PageLook::Content(7))
            };
            let answers = join.answers(&LookedMapping {
                answered: WriteAnswer::Kernel,
                mapping: Arc::new(mapping_of(range.clone(), Backing::Anon)),
                news: vec![page],
                armed: 0,
                same: 0,
                written: Vec::new(),
                only_read: Vec::new(),
            });
            answers
                .reported
                .iter()
                .map(ReportedPages::pages)
                .sum::<u64>()
        };
        let first = ScanSpan { began: 0, ended: 1 };
        let next = ScanSpan {
            began: scan().ended + 10,
            ended: scan().ended + 20,
        };
        assert_eq!(reports(first, scan()), 1);
        assert_eq!(reports(scan(), next), 0);
    }

    #[test]
    fn nobody_is_told_of_what_is_written_while_its_tracker_has_it_released() {
        let all = START..START + 16 * PAGE_SIZE;
        let (off, on) = (
            their_call(CallArguments::Resolve(all.clone())),
            their_call(CallArguments::Arm(all)),
        );
        let mut open = OpenReports::new();
        let changed = || vec![seen(0, PageNews::Between(A), PageLook::Content(8))];
        let between = |open: &mut OpenReports, calls: &[TrackerCall]| {
            let answers = look_with(open, &[], true, changed(), Some(calls));
            (answers.reported.len(), answers.missed.len())
        };
        assert_eq!(between(&mut open, &[off.clone(), on.clone()]), (0, 0));
        assert_eq!(between(&mut open, std::slice::from_ref(&on)), (0, 1));
        // Over two looks.
        let gone = vec![seen(0, PageNews::Disarmed, AGAIN)];
        look_with(&mut open, &[], true, gone, Some(&[off]));
        let again = vec![seen(0, PageNews::Rearmed(A), PageLook::Content(8))];
        let answers = look_with(&mut open, &[], true, again, Some(&[on]));
        assert_eq!(told(&answers), []);
    }

    #[test]
    fn an_epoch_between_two_looks_is_known_if_the_kernel_tells_of_one() {
        let news = |page| vec![seen(page, PageNews::Between(A), PageLook::Content(8))];
        let answers =
            |stored: &[u64], all_told| look(&mut OpenReports::new(), stored, all_told, news(0));
        let (store, unknown) = (ReportCause::UserStore, ReportVerdict::Unknown);
        let once = answers(&[0], true);
        assert_eq!(told(&once), [(1, ReportVerdict::Changed, store)]);
        let twice = answers(&[0, 0], true);
        assert_eq!(told(&twice), [(1, unknown, store), (1, unknown, store)]);
        // Nothing took its protection off: it changed behind it.
        let never = answers(&[], true);
        assert_eq!((never.reported.len(), never.missed.len()), (0, 1));
        let nobody_knows = answers(&[], false);
        assert_eq!(told(&nobody_knows), [(1, unknown, ReportCause::Unknown)]);
        let reason = nobody_knows
            .reported
            .first()
            .and_then(|it| it.verdict_unknown);
        assert_eq!(reason, Some(UnknownReason::BetweenLooks));
        assert!(nobody_knows.missed.is_empty());
    }

    #[test]
    fn what_is_unmapped_is_gone_if_it_was_told() {
        let mut open = OpenReports::new();
        let news = vec![
            seen(0, PageNews::Disarmed, AGAIN),
            seen(1, PageNews::NeverArmed, AGAIN),
        ];
        look(&mut open, &[0], true, news);
        let mapping = mapping_of(START..START + 16 * PAGE_SIZE, Backing::Anon);
        let known = [0, 1].map(|page| (START + page * PAGE_SIZE, PageEpoch::Written(A)));
        let gone = GoneMapping {
            mapping: Arc::new(mapping),
            known: known.to_vec(),
        };
        let gone = answers_of_gone(&gone, &mut open, |_| PageLook::Unmapped);
        let gone: Vec<_> = gone.iter().map(|it| (it.pages(), it.why.verdict)).collect();
        assert_eq!(gone, [(1, ReportVerdict::Gone)]);
        assert!(open.is_empty());
    }
}
