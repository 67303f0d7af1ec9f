//! A span in the heat map, divided into bins of addresses.

use std::ops::Range;

use uffd::PAGE_SIZE;

use super::HeatArea;

/// A span in the picture.
#[derive(Clone, Debug)]
pub(crate) struct HeatBand<C> {
    pub area: HeatArea,
    /// Its height, in bins of the room.
    pub height: usize,
    /// Its cells, row by row from the lowest address, each row as long as there are columns.
    pub cells: Vec<C>,
    /// How many bins it has; at most one for each page.
    pub bins: usize,
    /// What lies between the band before and this one.
    pub before: SkippedBefore,
}

/// What is not drawn before a band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SkippedBefore {
    /// Whether there are addresses between.
    pub gap: bool,
    /// Spans that are folded there.
    pub folded: usize,
}

impl<C> HeatBand<C> {
    /// The addresses of a bin.
    pub(super) fn addresses(&self, bin: usize) -> Range<u64> {
        let (start, bytes, unit) = (self.area.span.range.start, self.bytes(), unit(&self.area));
        let edge = |bin: usize| {
            let pages = u128::from(bytes / unit) * bin as u128 / self.bins.max(1) as u128;
            start.saturating_add((pages as u64).saturating_mul(unit))
        };
        let end = if bin + 1 >= self.bins {
            self.area.span.range.end
        } else {
            edge(bin + 1)
        };
        edge(bin)..end
    }

    /// The bin of one of its addresses.
    pub(super) fn bin(&self, address: u64) -> usize {
        let offset = u128::from(address - self.area.span.range.start);
        let mut bin = (offset * self.bins as u128 / u128::from(self.bytes().max(1))) as usize;
        // Edges are rounded to pages.
        while bin > 0 && address < self.addresses(bin).start {
            bin -= 1;
        }
        while bin + 1 < self.bins && address >= self.addresses(bin).end {
            bin += 1;
        }
        bin
    }

    fn bytes(&self) -> u64 {
        self.area.span.range.end - self.area.span.range.start
    }
}

/// What a bin has a whole number of: pages, huge ones where the span has such.
pub(super) fn unit(area: &HeatArea) -> u64 {
    let bytes = area.span.range.end - area.span.range.start;
    let whole = |size: &u64| *size > 0 && bytes.is_multiple_of(*size);
    Some(area.span.page_size).filter(whole).unwrap_or(PAGE_SIZE)
}
