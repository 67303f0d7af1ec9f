//! The kernel's events about pages.

use std::ops::Range;
use std::sync::Arc;

use tracker_ebpf::EventKind;

use super::{PlaceId, ReportCause};

/// An event about pages of the process, its stack interned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WatchedEvent {
    /// CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
    pub range: Range<u64>,
    /// A second address: what was accessed, or where the pages came from.
    pub address: u64,
    /// What happened, as the kernel told it.
    pub kind: EventKind,
    pub meaning: EventMeaning,
    pub tgid: u32,
    pub tid: u32,
    /// The thread's name.
    pub comm: Arc<str>,
    pub place: Option<PlaceId>,
}

impl WatchedEvent {
    /// Whether it is about the page at an address.
    pub(crate) fn is_about(&self, page: u64) -> bool {
        self.range.contains(&page) || self.left().is_some_and(|left| left.contains(&page))
    }

    /// Whether it empties a range that may be unmapped, or whose markers go too.
    pub(crate) fn drops_markers(&self) -> bool {
        self.meaning == EventMeaning::Disarms(ReportCause::Zap)
    }

    /// Where pages were moved from. If that is still mapped (`MREMAP_DONTUNMAP`, `UFFDIO_MOVE`),
    /// nothing is there then.
    pub(crate) fn left(&self) -> Option<Range<u64>> {
        let length = self.range.end - self.range.start;
        let is_move = self.meaning == EventMeaning::Disarms(ReportCause::Move);
        is_move.then(|| self.address..self.address.saturating_add(length))
    }
}

/// What an event means for the pages it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum EventMeaning {
    /// It takes the protection off, for that reason.
    Disarms(ReportCause),
    /// A huge page lost its bits; a store, with that cause, accessed the page at the event's
    /// `address`.
    DisarmsUnit(ReportCause),
    /// As `Disarms`, for anonymous memory only: in other memory the bit survives as a marker.
    DisarmsAnonymous(ReportCause),
    /// It disarms some of its pages, and nothing tells which: it counts for those of which nothing
    /// else is told.
    DisarmsSome(ReportCause),
    /// It takes no protection off; a page's story tells it.
    Tells,
}
