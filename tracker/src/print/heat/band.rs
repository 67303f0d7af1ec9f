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
    /// The first address of each bin.
    pub(super) edges: Vec<u64>,
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
        let whole = &self.area.span.range;
        let edge = |bin: usize| self.edges.get(bin).copied();
        edge(bin).unwrap_or(whole.end)..edge(bin + 1).unwrap_or(whole.end)
    }

    /// The bin of one of its addresses.
    pub(super) fn bin(&self, address: u64) -> usize {
        let after = self.edges.partition_point(|edge| *edge <= address);
        after.saturating_sub(1)
    }
}

/// Where so many bins of an area begin. Edges are rounded to pages.
pub(super) fn edges(area: &HeatArea, bins: usize) -> Vec<u64> {
    let (start, unit) = (area.span.range.start, unit(area));
    let units = (area.span.range.end - start) / unit;
    let edge = |bin: usize| {
        let pages = u128::from(units) * bin as u128 / bins.max(1) as u128;
        start.saturating_add((pages as u64).saturating_mul(unit))
    };
    (0..bins).map(edge).collect()
}

/// What a bin has a whole number of: pages, huge ones where the span has such.
pub(super) fn unit(area: &HeatArea) -> u64 {
    let bytes = area.span.range.end - area.span.range.start;
    let whole = |size: &u64| *size > 0 && bytes.is_multiple_of(*size);
    Some(area.span.page_size).filter(whole).unwrap_or(PAGE_SIZE)
}
