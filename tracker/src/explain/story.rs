//! The story of one page: everything that happened to it, by time.

use std::time::Duration;

use tracker_ebpf::EventKind;

use super::history::Scan;
use super::model::{ExplainedRound, PageEvent, PageStory, PlaceId, StoryLine};
use uffd::PAGE_SIZE;

/// Keeps it.
pub struct Teller {
    story: PageStory,
    began: u64,
    /// When the last event that was told happened.
    told: u64,
}

impl Teller {
    /// Of the page around an address.
    pub const fn new(address: u64, began: u64) -> Self {
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
    pub fn round(
        &mut self,
        explained: &ExplainedRound,
        events: &[PageEvent],
        scan: Scan,
        is_first: bool,
    ) {
        let (page, told) = (self.story.page, self.told);
        for event in events
            .iter()
            .filter(|event| event.is_about(page) && event.time > told)
        {
            let what = format!(
                "{}, by thread {} ({}) of process {}",
                words(event),
                event.tid,
                event.comm,
                event.tgid
            );
            self.tell(event.time, what, event.place);
        }
        self.told = events
            .last()
            .map_or(self.told, |event| event.time.max(self.told));
        let mapping = explained.round.mappings.iter().find(|row| {
            row.pages.tracked != 0 && (row.mapping.start..row.mapping.end).contains(&page)
        });
        let name = match mapping {
            None => "not part of a tracked mapping".to_owned(),
            Some(row) if row.mapping.name.is_empty() => {
                format!("in anonymous memory at {:#x}", row.mapping.start)
            }
            Some(row) => format!("in {}", row.mapping.name),
        };
        let of = |ranges: &mut dyn Iterator<Item = String>| ranges.next();
        let reported = of(&mut explained
            .reported
            .iter()
            .flat_map(|(_, pages)| pages)
            .filter(|pages| pages.range.contains(&page))
            .map(|pages| {
                let reasons: Vec<_> = [pages.verdict_unknown, pages.cause_unknown]
                    .into_iter()
                    .flatten()
                    .map(|reason| reason.to_string())
                    .collect();
                let reasons = if reasons.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", reasons.join(", "))
                };
                format!(
                    "reported: {}, {}{reasons}; armed again",
                    pages.why.verdict, pages.why.cause
                )
            }));
        let missed = of(&mut explained
            .missed
            .iter()
            .flat_map(|(_, pages)| pages)
            .filter(|pages| pages.range.contains(&page))
            .map(|pages| {
                let candidates: Vec<_> = pages
                    .candidates
                    .iter()
                    .map(|candidate| candidate.as_str())
                    .collect();
                format!(
                    "clean, but its content has changed; candidates: {}",
                    candidates.join(", ")
                )
            }));
        let what = if is_first {
            format!("armed, {name}")
        } else {
            let answer = reported.or(missed).unwrap_or_else(|| "clean".to_owned());
            format!("round {}: {answer}, {name}", explained.round.number)
        };
        self.tell(scan.ended, what, None);
    }

    /// The places that it names.
    pub fn places(&self) -> impl Iterator<Item = PlaceId> {
        self.story.lines.iter().filter_map(|line| line.place)
    }

    /// The whole of it.
    pub fn end(self) -> PageStory {
        let mut story = self.story;
        story.lines.sort_by_key(|line| line.at);
        story
    }

    fn tell(&mut self, time: u64, what: String, place: Option<PlaceId>) {
        let at = Duration::from_nanos(time.saturating_sub(self.began));
        self.story.lines.push(StoryLine { at, what, place });
    }
}

/// What an event is, in words.
fn words(event: &PageEvent) -> String {
    use super::model::{EventMeaning, ReportCause};
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
