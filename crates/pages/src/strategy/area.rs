//! What a strategy is given to track, and what it reports.
#![forbid(unsafe_code)]

use std::ops::Range;

use uffd::{Backing, pages_in};

/// A VMA, or an aligned part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedArea {
    /// Its addresses, aligned to its pages.
    pub range: Range<u64>,
    /// What its pages come from.
    pub backing: Backing,
    /// Bytes of one page: 4096, or that of hugetlb.
    pub page_size: u64,
    /// Whether other processes can map the same pages (`MAP_SHARED`).
    pub shared: bool,
}

impl TrackedArea {
    /// Whether another area has pages of the same kind.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let kind = |area: &Self| (area.backing, area.page_size, area.shared);
        kind(self) == kind(other)
    }

    /// A part of it.
    pub(crate) fn part(&self, range: &Range<u64>) -> Self {
        Self {
            range: range.clone(),
            ..self.clone()
        }
    }

    /// Its size in pages of 4 KiB.
    #[must_use]
    pub fn pages(&self) -> u64 {
        pages_in(&self.range)
    }

    /// The page, of its own size, that holds an address.
    pub(super) fn page_at(&self, address: u64) -> Range<u64> {
        let start = address / self.page_size * self.page_size;
        start..start + self.page_size
    }

    /// Its parts of at most `bytes`. Cuts fall where a page table ends, and a page of any size.
    pub(super) fn parts(&self, bytes: u64) -> impl Iterator<Item = Range<u64>> + use<> {
        let (end, step) = (self.range.end, bytes.max(self.page_size));
        let mut at = self.range.start;
        std::iter::from_fn(move || {
            let start = at;
            at = (start / step + 1).saturating_mul(step).min(end);
            (start < end).then_some(start..at)
        })
    }
}

/// Pages that a round reports, next to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenRun {
    /// Their addresses.
    pub range: Range<u64>,
    /// Bytes per report: 4 KiB, or a huge page of which nobody knows what in it was written.
    pub unit: u64,
}

/// What a round found in one area, in pages of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AreaStats {
    /// Pages tracked: the area without what has vanished.
    pub tracked: u64,
    /// Armed in this round, for the first time or again.
    pub armed: u64,
    /// Reported as written.
    pub written: u64,
    /// First accessed since the last round. `None`: the strategy cannot tell.
    pub touched: Option<u64>,
    /// Emptied since they were armed, as by `MADV_DONTNEED`; part of `written`. `None`: the
    /// strategy cannot tell.
    pub zapped: Option<u64>,
    /// Reported though nobody saw whether they were written, since what would tell was lost; part
    /// of `written`.
    pub in_doubt: u64,
    /// No longer there, or no longer registered.
    pub vanished: u64,
}

impl AreaStats {
    /// The area is there as a whole.
    pub(super) fn of(area: &TrackedArea) -> Self {
        Self {
            tracked: area.pages(),
            ..Self::default()
        }
    }

    /// Counts pages as vanished.
    pub(super) fn lose(&mut self, pages: u64) {
        self.vanished += pages;
        self.tracked = self.tracked.saturating_sub(pages);
    }
}

/// Appends a range, joined to the last one where they touch.
pub(super) fn append(written: &mut Vec<WrittenRun>, range: Range<u64>, unit: u64) {
    match written.last_mut() {
        Some(last) if last.range.end == range.start && last.unit == unit => {
            last.range.end = range.end;
        }
        _ => written.push(WrittenRun { range, unit }),
    }
}

/// What of `old` is not in `new`; both are disjoint and by address.
pub(crate) fn without(old: &[TrackedArea], new: &[TrackedArea]) -> Vec<Range<u64>> {
    let mut gone = Vec::new();
    for area in old {
        let mut at = area.range.start;
        let first = new.partition_point(|kept| kept.range.end <= at);
        for kept in &new[first..] {
            if kept.range.start >= area.range.end {
                break;
            }
            if at < kept.range.start {
                gone.push(at..kept.range.start);
            }
            at = at.max(kept.range.end);
        }
        if at < area.range.end {
            gone.push(at..area.range.end);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use uffd::PAGE_SIZE;

    use super::*;

    #[test]
    fn parts_end_at_multiples_and_cover_all() {
        let mut area = TrackedArea {
            range: 0x1000..0x50_0000,
            backing: Backing::Anon,
            page_size: PAGE_SIZE,
            shared: false,
        };
        let parts: Vec<_> = area.parts(0x20_0000).collect();
        let expected = [
            0x1000..0x20_0000,
            0x20_0000..0x40_0000,
            0x40_0000..0x50_0000,
        ];
        assert_eq!(parts, expected);
        area.page_size = 1 << 30;
        area.range = 1 << 30..3 << 30;
        assert_eq!(area.parts(0x20_0000).count(), 2, "no huge page is cut");
    }

    #[test]
    fn neighbours_of_one_unit_are_one_report() {
        let mut written = Vec::new();
        append(&mut written, 0x1000..0x2000, 4096);
        append(&mut written, 0x2000..0x3000, 4096);
        append(&mut written, 0x3000..0x20_3000, 1 << 21);
        append(&mut written, 0x30_0000..0x30_1000, 4096);
        assert_eq!(written.len(), 3);
        assert_eq!(written[0].range, 0x1000..0x3000);
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let area = |range: Range<u64>| TrackedArea {
            range,
            backing: Backing::Anon,
            page_size: 1,
            shared: false,
        };
        let old = [area(0..10), area(20..30)];
        let new = [area(2..4), area(6..25)];
        assert_eq!(without(&old, &new), [0..2, 4..6, 25..30]);
        assert_eq!(without(&old, &[]), [0..10, 20..30]);
        assert_eq!(without(&old, &old), []);
    }
}
