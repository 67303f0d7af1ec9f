//! Content and events, joined to answers, page by page: pure.

use std::ops::Range;
use std::sync::Arc;

use uffd::Backing;

use super::candidates::candidates;
use super::history::{Index, Page};
use super::images::{Image, Look, verdict};
use super::model::{
    CauseSight, MissedPages, ReportAnswer, ReportCause, ReportVerdict, ReportedPages, UnknownReason,
};
use pages::track::{PageExtent, TrackedMapping};
use uffd::PAGE_SIZE;

/// The answers of one round.
pub struct Join<'a, 'b> {
    /// The kernel's events.
    pub index: &'a mut Index<'b>,
    /// Why a cause may have stayed unseen.
    pub why_unseen: UnknownReason,
    /// The strategy arms what is not there, too.
    pub strategy_arms_all: bool,
    /// The kernel does so for anonymous memory.
    pub anonymous_markers: bool,
    /// Pages that were brought here with their image.
    pub moved: Vec<Range<u64>>,
    /// The round before gave all memory back.
    pub was_given_back: bool,
    /// Answers of the mapping at hand.
    pub reported: Vec<ReportedPages>,
    /// What changed in it and was not reported.
    pub missed: Vec<MissedPages>,
    /// Clean pages compared in all mappings.
    pub verified: u64,
}

impl Join<'_, '_> {
    /// A page that is reported.
    pub fn report(
        &mut self,
        mapping: &TrackedMapping,
        page: u64,
        before: Image,
        look: Look,
        extent: &PageExtent,
    ) {
        let is_moved = self.moved.iter().any(|range| range.contains(&page));
        let before = match before {
            // What was armed for the first time, with something there.
            Image::Hole if extent.unknown && !is_moved => Image::None,
            before => before,
        };
        let (verdict, verdict_unknown) = verdict(before, look, mapping.backing);
        let facts = Page {
            address: page,
            unit: extent.unit.max(mapping.page_size),
            backing: mapping.backing,
        };
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
        let was_armed = before != Image::Hole || self.arms_holes(mapping);
        if extent.unknown {
            // The kernel was not asked about it before.
            answer.why.cause = self.arrival(page, is_moved);
        } else if let Some((cause, event)) = self.index.cause(&facts) {
            // A write is seen in hugetlb memory that is not armed, too.
            answer.why.cause = if was_armed || !cause.is_write() {
                cause
            } else {
                ReportCause::NeverArmed
            };
            answer.place = event.place;
            answer.thread = Some((event.tid, Arc::clone(&event.comm)));
        } else if was_armed {
            answer.cause_unknown = Some(self.why_unseen);
        } else {
            answer.why.cause = ReportCause::NeverArmed;
        }
        append(&mut self.reported, answer);
    }

    /// Whether what is not there is armed.
    fn arms_holes(&self, mapping: &TrackedMapping) -> bool {
        self.strategy_arms_all && (self.anonymous_markers || mapping.backing != Backing::Anon)
    }

    /// Why something is there that was not tracked before.
    fn arrival(&self, page: u64, is_moved: bool) -> ReportCause {
        use super::model::EventMeaning::Disarms;
        let by = |cause| {
            self.index
                .last(page, |event| event.meaning == Disarms(cause))
                .is_some()
        };
        if is_moved || by(ReportCause::Move) {
            ReportCause::Move
        } else if self.was_given_back || by(ReportCause::Unregister) {
            ReportCause::Unregister
        } else {
            ReportCause::NeverArmed
        }
    }

    /// A page that is reported clean.
    pub fn verify(&mut self, mapping: &TrackedMapping, page: u64, before: Image, look: Look) {
        let (verdict, _) = verdict(before, look, mapping.backing);
        if matches!(verdict, ReportVerdict::Unknown | ReportVerdict::Gone) {
            return;
        }
        self.verified += 1;
        if verdict == ReportVerdict::Unchanged {
            return;
        }
        let zeroed = verdict == ReportVerdict::Zeroed;
        match self.missed.last_mut() {
            Some(last) if last.range.end == page && last.zeroed == zeroed => {
                last.range.end += PAGE_SIZE;
            }
            _ => self.missed.push(MissedPages {
                range: page..page + PAGE_SIZE,
                zeroed,
                candidates: candidates(mapping, zeroed),
            }),
        }
    }
}

/// Appends a page, joined to the last one where the answer is the same.
fn append(reported: &mut Vec<ReportedPages>, page: ReportedPages) {
    if let Some(last) = reported.last_mut()
        && last.range.end == page.range.start
        && (ReportedPages {
            range: page.range.clone(),
            ..last.clone()
        }) == page
    {
        last.range.end = page.range.end;
    } else {
        reported.push(page);
    }
}

/// Why nothing may have been seen of a cause.
pub const fn why_unseen(seen: &CauseSight, dropped: u64) -> UnknownReason {
    if dropped != 0 {
        UnknownReason::EventsDropped
    } else if seen.complete {
        UnknownReason::BitLost
    } else {
        UnknownReason::NotSeen
    }
}
