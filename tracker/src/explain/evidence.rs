//! The kernel's events of one process, as evidence for its rounds.

use std::io;
use std::ops::Range;

use super::history::{EventHistory, EventIndex, MovedPages, ScanSpan};
use super::model::WatchedEvent;

/// Where events come from.
pub(super) trait EventFeed {
    /// Events since the last time, and how many were lost since the programs were attached.
    fn take(&self) -> io::Result<(Vec<WatchedEvent>, u64)>;

    /// The process has executed another program.
    fn begin_again(&mut self) -> io::Result<()>;
}

/// What can be told of causes; nothing without a feed.
pub(super) struct EventEvidence<F> {
    feed: Option<F>,
    history: EventHistory,
    /// Events that were lost so far.
    lost: u64,
}

/// What came in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FreshEvents {
    pub read: u64,
    pub dropped: u64,
}

impl FreshEvents {
    /// Adds what came after it.
    pub(super) const fn add(&mut self, later: Self) {
        self.read += later.read;
        self.dropped += later.dropped;
    }
}

impl<F: EventFeed> EventEvidence<F> {
    pub(super) fn new(feed: Option<F>) -> Self {
        Self {
            feed,
            history: EventHistory::default(),
            lost: 0,
        }
    }

    pub(super) fn feed(&self) -> Option<&F> {
        self.feed.as_ref()
    }

    /// Takes all events until now into the history.
    pub(super) fn gather(&mut self) -> io::Result<FreshEvents> {
        let (events, lost) = match &self.feed {
            None => (Vec::new(), 0),
            Some(feed) => feed.take()?,
        };
        let fresh = FreshEvents {
            read: events.len() as u64,
            dropped: lost.saturating_sub(self.lost),
        };
        self.lost = lost;
        self.history.add(events);
        Ok(fresh)
    }

    /// Forgets events up to a time that are about none of these ranges, which are disjoint and by
    /// address; returns them.
    pub(super) fn keep(&mut self, ranges: &[Range<u64>], until: u64) -> Vec<WatchedEvent> {
        self.history.keep(ranges, until)
    }

    /// Adds what calls tell.
    pub(super) fn add(&mut self, events: Vec<WatchedEvent>) {
        self.history.add(events);
    }

    /// What mremap(2) has moved, by time.
    pub(super) fn moves(&self) -> Vec<MovedPages> {
        self.history.moves()
    }

    /// Pages have moved with their protection.
    pub(super) fn follow(&mut self, moved: &MovedPages) {
        self.history.follow(moved);
    }

    /// Ranges that events tell of which no round has settled.
    pub(super) fn touched(&self) -> impl Iterator<Item = Range<u64>> {
        self.history.touched()
    }

    /// What came when events were gathered last.
    pub(super) fn newest(&self, fresh: FreshEvents) -> &[WatchedEvent] {
        self.history.newest(fresh.read)
    }

    /// The events by page, for the reports of a scan.
    pub(super) fn index(&mut self, scan: ScanSpan) -> EventIndex<'_> {
        self.history.index(scan)
    }

    /// After exec: the events are of another address space.
    pub(super) fn begin_again(&mut self) -> io::Result<()> {
        self.history.clear();
        self.feed.as_mut().map_or(Ok(()), EventFeed::begin_again)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::cell::Cell;

    use super::*;
    use crate::explain::model::{EventMeaning, ReportCause};
    use crate::explain::sample::{event, scan};

    /// Gives one event each time, and loses as many as it says.
    struct FakeFeed {
        lost: Cell<u64>,
    }

    impl EventFeed for FakeFeed {
        fn take(&self) -> io::Result<(Vec<WatchedEvent>, u64)> {
            let stores = EventMeaning::Disarms(ReportCause::UserStore);
            Ok((vec![event(1, 0x1000..0x2000, 0, stores)], self.lost.get()))
        }

        fn begin_again(&mut self) -> io::Result<()> {
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
    }

    #[test]
    fn what_was_lost_counts_in_the_round_in_which_it_was() {
        let feed = FakeFeed { lost: Cell::new(5) };
        let mut evidence = EventEvidence::new(Some(feed));
        let fresh = |read, dropped| FreshEvents { read, dropped };
        assert_eq!(evidence.gather().unwrap(), fresh(1, 5));
        assert_eq!(evidence.gather().unwrap(), fresh(1, 0));
        evidence.feed().unwrap().lost.set(7);
        assert_eq!(evidence.gather().unwrap(), fresh(1, 2));
        assert_eq!(evidence.index(scan()).events().len(), 3);
    }

    #[test]
    fn another_program_has_no_history_even_if_it_cannot_be_watched() {
        let feed = FakeFeed { lost: Cell::new(0) };
        let mut evidence = EventEvidence::new(Some(feed));
        evidence.gather().unwrap();
        assert!(evidence.begin_again().is_err());
        assert!(evidence.index(scan()).events().is_empty());
    }

    #[test]
    fn without_a_feed_there_is_nothing() {
        let mut evidence = EventEvidence::<FakeFeed>::new(None);
        let nothing = FreshEvents {
            read: 0,
            dropped: 0,
        };
        assert_eq!(evidence.gather().unwrap(), nothing);
        assert!(evidence.begin_again().is_ok());
    }
}
