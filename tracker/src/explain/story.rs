//! The story of one page: everything that happened to it, by time.

use std::time::Duration;

use tracker_ebpf::EventKind;
use uffd::PAGE_SIZE;

use super::history::ScanSpan;
use super::model::{
    EventMeaning, ExplainedRound, MissedPages, PageStory, PlaceId, ReportCause, ReportedPages,
    RoundKind, StoryLine, WatchedEvent,
};

/// Keeps the story of a page.
pub(super) struct StoryTeller {
    story: PageStory,
    began: u64,
    /// When the last event that was told happened.
    told: u64,
}

impl StoryTeller {
    /// Of the page around an address.
    pub(super) const fn new(address: u64, began: u64) -> Self {
        Self {
            story: PageStory {
                page: address & !(PAGE_SIZE - 1),
                lines: Vec::new(),
            },
            began,
            told: 0,
        }
    }

    /// Adds a round.
    pub(super) fn round(
        &mut self,
        explained: &ExplainedRound,
        events: &[WatchedEvent],
        scan: ScanSpan,
        kind: RoundKind,
    ) {
        let (page, told) = (self.story.page, self.told);
        let new = |event: &&WatchedEvent| event.is_about(page) && event.time > told;
        for event in events.iter().filter(new) {
            let what = format!(
                "{}, by thread {} ({}) of process {}",
                words(event),
                event.tid,
                event.comm,
                event.tgid
            );
            self.tell(event.time, what, event.place);
        }
        if let Some(last) = events.last() {
            self.told = self.told.max(last.time);
        }
        let name = whereabouts(explained, page);
        let what = match kind {
            RoundKind::Settling => format!("armed, {name}"),
            RoundKind::Counted => {
                let number = explained.round.number;
                format!("round {number}: {}, {name}", answer(explained, page))
            }
        };
        self.tell(scan.ended, what, None);
    }

    /// The places that it names.
    pub(super) fn places(&self) -> impl Iterator<Item = PlaceId> {
        self.story.lines.iter().filter_map(|line| line.place)
    }

    /// The whole story.
    pub(super) fn end(self) -> PageStory {
        let mut story = self.story;
        story.lines.sort_by_key(|line| line.at);
        story
    }

    fn tell(&mut self, time: u64, what: String, place: Option<PlaceId>) {
        let at = Duration::from_nanos(time.saturating_sub(self.began));
        self.story.lines.push(StoryLine { at, what, place });
    }
}

/// Where a page is.
fn whereabouts(explained: &ExplainedRound, page: u64) -> String {
    let mut rows = explained.round.mappings.iter();
    let row = rows
        .find(|row| row.pages.tracked != 0 && (row.mapping.start..row.mapping.end).contains(&page));
    match row {
        None => "not part of a tracked mapping".to_owned(),
        Some(row) if row.mapping.name.is_empty() => {
            format!("in anonymous memory at {:#x}", row.mapping.start)
        }
        Some(row) => format!("in {}", row.mapping.name),
    }
}

/// What a round says of a page.
fn answer(explained: &ExplainedRound, page: u64) -> String {
    let mut reported = explained.reported.iter().flat_map(|(_, pages)| pages);
    if let Some(pages) = reported.find(|pages| pages.range.contains(&page)) {
        return reported_as(pages);
    }
    let mut missed = explained.missed.iter().flat_map(|(_, pages)| pages);
    if let Some(pages) = missed.find(|pages| pages.range.contains(&page)) {
        return missed_as(pages);
    }
    // Only where pages are observed is one written, and not reported in the same round.
    let mut written = explained.round.mappings.iter().flat_map(|row| &row.written);
    match written.find(|extent| extent.range.contains(&page)) {
        Some(_) => "written, and not armed again".to_owned(),
        None => "clean".to_owned(),
    }
}

fn reported_as(pages: &ReportedPages) -> String {
    let reasons = [pages.verdict_unknown, pages.cause_unknown].into_iter();
    let reasons: Vec<_> = reasons.flatten().map(|reason| reason.as_str()).collect();
    let reasons = match reasons.as_slice() {
        [] => String::new(),
        reasons => format!(" ({})", reasons.join(", ")),
    };
    let (verdict, cause) = (pages.why.verdict, pages.why.cause);
    format!("reported: {verdict}, {cause}{reasons}; armed again")
}

fn missed_as(pages: &MissedPages) -> String {
    let candidates: Vec<_> = pages.candidates.iter().map(|c| c.as_str()).collect();
    let candidates = candidates.join(", ");
    format!("clean, but its content has changed; candidates: {candidates}")
}

/// What an event is, in words.
fn words(event: &WatchedEvent) -> String {
    let cause = match event.meaning {
        EventMeaning::Disarms(cause)
        | EventMeaning::DisarmsUnit(cause)
        | EventMeaning::DisarmsSome(cause)
        | EventMeaning::DisarmsAnonymous(cause) => Some(cause),
        EventMeaning::Tells => None,
    };
    match event.kind {
        EventKind::Fault | EventKind::HardwareFault => match cause {
            Some(ReportCause::UserStore) => "stored to".to_owned(),
            Some(ReportCause::KernelCopy) => "written by a system call".to_owned(),
            _ => "written or pinned by the kernel".to_owned(),
        },
        EventKind::HugeSplit => format!(
            "its huge page lost its protection by an access at {:#x}",
            event.address
        ),
        EventKind::Zap | EventKind::Zapped => format!(
            "emptied with {:#x}-{:#x}",
            event.range.start, event.range.end
        ),
        EventKind::Free => format!(
            "given up with {:#x}-{:#x} (MADV_FREE)",
            event.range.start, event.range.end
        ),
        EventKind::Reclaim => "reclaimed".to_owned(),
        EventKind::Ksm => "merged by KSM".to_owned(),
        EventKind::Guard => "guard page installed or removed".to_owned(),
        EventKind::Move | EventKind::UffdMove => format!(
            "moved with others from {:#x} to {:#x}",
            event.address, event.range.start
        ),
        EventKind::Fork => "copied by fork".to_owned(),
        EventKind::Unregister => "unregistered".to_owned(),
        EventKind::Syscall => format!(
            "subject of a system call on {:#x}-{:#x}",
            event.range.start, event.range.end
        ),
    }
}
