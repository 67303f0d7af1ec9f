//! Which pages of a range are touched: pure.

use std::ops::Range;

/// In how many parts a range is cut.
const PARTS: u64 = 64;

/// Of some parts of a range: of each so many pages of 4 KiB, the first few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PagePattern {
    /// The parts, of 64.
    parts: (u64, u64),
    /// How many pages of each group.
    first: u64,
    /// How many pages a group has.
    of: u64,
}

impl PagePattern {
    /// Every page.
    pub(super) const ALL: Self = Self::parts(0, PARTS);

    /// Every page from one 64th of the range to another.
    pub(super) const fn parts(from: u64, to: u64) -> Self {
        Self {
            parts: (from, to),
            first: 1,
            of: 1,
        }
    }

    /// Only the first pages of each group.
    pub(super) const fn first(self, first: u64, of: u64) -> Self {
        Self { first, of, ..self }
    }

    /// The runs of pages of a range that has so many.
    pub(super) fn runs(self, total: u64) -> impl Iterator<Item = Range<u64>> + Clone {
        let at = |part: u64| total * part / PARTS;
        let (start, end) = (at(self.parts.0), at(self.parts.1));
        let step = usize::try_from(self.of).unwrap_or(usize::MAX);
        let run = move |page: u64| page..(page + self.first).min(end);
        // One run where every page is meant.
        let groups = (start..end).step_by(if self.first == self.of {
            (end - start).max(1) as usize
        } else {
            step
        });
        let whole = self.first == self.of;
        groups.map(move |page| if whole { page..end } else { run(page) })
    }

    /// Those pages, by their number in the range.
    pub(super) fn pages(self, total: u64) -> impl Iterator<Item = u64> + Clone {
        self.runs(total).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_within_their_parts() {
        let pages = |pattern: PagePattern| pattern.pages(128).collect::<Vec<_>>();
        assert_eq!(pages(PagePattern::ALL).len(), 128);
        assert_eq!(pages(PagePattern::parts(1, 2)), [2, 3]);
        assert_eq!(
            pages(PagePattern::ALL.first(2, 60)),
            [0, 1, 60, 61, 120, 121]
        );
        assert_eq!(pages(PagePattern::parts(63, 64).first(4, 8)), [126, 127]);
        assert_eq!(PagePattern::ALL.runs(128).count(), 1);
    }
}
