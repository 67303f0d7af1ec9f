//! Which pages to look at, beside those that look otherwise than before: pure.

use std::ops::Range;

use rangemap::RangeSet;
use uffd::{PAGE_SIZE, PMD_SIZE};

use super::memory::LookedPart;

/// Which pages, by address.
#[derive(Default)]
pub(super) struct PagesByAddress(RangeSet<u64>);

impl PagesByAddress {
    /// The pages that these ranges touch.
    pub(super) fn of(ranges: impl Iterator<Item = Range<u64>>) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.add(&range);
        }
        set
    }

    /// Adds the pages that a range touches.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let start = range.start & !(PAGE_SIZE - 1);
        let end = range.end.div_ceil(PAGE_SIZE);
        self.0.insert(start..end.saturating_mul(PAGE_SIZE));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them lies in a range.
    pub(super) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.0.overlaps(range)
    }

    /// Whether any of them lies in the chunk of that number.
    pub(super) fn has_chunk(&self, number: u64) -> bool {
        let start = number * PMD_SIZE;
        self.overlaps(&(start..start + PMD_SIZE))
    }
}

/// What a tracker has armed and nobody has looked at since.
#[derive(Default)]
pub(super) struct UnreadPages {
    pages: PagesByAddress,
    /// It may be anything: a call was lost.
    all: bool,
}

impl UnreadPages {
    /// Adds the pages that a range touches.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        self.pages.add(range);
    }

    /// From now on it may be any page.
    pub(super) const fn add_all(&mut self) {
        self.all = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.is_empty() && !self.all
    }

    /// What is to be looked at.
    pub(super) const fn part(&self) -> LookedPart<'_> {
        if self.all {
            LookedPart::Everything
        } else {
            LookedPart::Around(&self.pages)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_ends_in_a_page_touches_it() {
        let set = PagesByAddress::of(std::iter::once(PAGE_SIZE + 5..PAGE_SIZE + 6));
        assert!(set.overlaps(&(PAGE_SIZE..2 * PAGE_SIZE)));
        assert!(!set.overlaps(&(2 * PAGE_SIZE..3 * PAGE_SIZE)));
        assert!(!set.overlaps(&(0..PAGE_SIZE)));
        assert!(set.has_chunk(0) && !set.has_chunk(1));
    }

    #[test]
    fn after_a_call_that_was_lost_everything_is_unread() {
        let mut unread = UnreadPages::default();
        assert!(unread.is_empty());
        unread.add(&(0..PAGE_SIZE));
        assert!(matches!(unread.part(), LookedPart::Around(_)));
        unread.add_all();
        assert!(matches!(unread.part(), LookedPart::Everything));
        let mut lost = UnreadPages::default();
        lost.add_all();
        assert!(!lost.is_empty());
    }
}
