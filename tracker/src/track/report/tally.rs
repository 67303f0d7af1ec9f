//! Which pages were written and which are unknown, and how often.

use std::ops::Range;

use pages::track::PageExtent;
use uffd::{PAGE_SIZE, pages_in};

use super::counts::AddressCounts;

/// How often each page was written, and how often it was unknown.
#[derive(Clone, Debug, Default)]
pub(super) struct PageTally {
    written: AddressCounts,
    unknown: AddressCounts,
}

/// Different pages of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DifferentPages {
    /// Written.
    pub set: u64,
    /// Written in every round in which they could be.
    pub hot: u64,
    /// Written in one round only.
    pub once: u64,
    /// Pages of which nobody knows, and which were never seen to be written.
    pub unknown: u64,
}

impl PageTally {
    /// Begins the next round.
    pub(super) fn begin_round(&mut self) {
        self.written.begin_round();
        self.unknown.begin_round();
    }

    /// Counts what a round tells of an extent, at these addresses.
    pub(super) fn add(&mut self, extent: &PageExtent, at: &Range<u64>) {
        if extent.unknown {
            self.unknown.add(at);
        } else {
            self.written.add(at);
        }
    }

    /// Different pages written so far.
    pub(super) fn set(&self) -> u64 {
        self.written.covered() / PAGE_SIZE
    }

    /// Different pages written in the sliding window.
    pub(super) fn window(&self) -> u64 {
        self.written.covered_lately() / PAGE_SIZE
    }

    /// Bytes of memory that this takes.
    pub(super) fn held(&self) -> u64 {
        self.written.held() + self.unknown.held()
    }

    /// The pages of a range, which could be written in so many rounds.
    pub(super) fn within(&self, range: &Range<u64>, rounds: u64) -> DifferentPages {
        let mut pages = DifferentPages::default();
        for (part, times) in self.written.within(range) {
            let count = pages_in(&part);
            pages.set += count;
            if times == 1 {
                pages.once += count;
            }
            if rounds > 1 && u64::from(times) >= rounds {
                pages.hot += count;
            }
        }
        for (part, _) in self.unknown.within(range) {
            let seen = self.written.within(&part);
            let seen: u64 = seen.map(|(range, _)| range.end - range.start).sum();
            pages.unknown += (part.end - part.start - seen) / PAGE_SIZE;
        }
        pages
    }
}

impl DifferentPages {
    /// Both together, where they have no page in common.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            set: self.set.saturating_add(other.set),
            hot: self.hot.saturating_add(other.hot),
            once: self.once.saturating_add(other.once),
            unknown: self.unknown.saturating_add(other.unknown),
        }
    }
}
