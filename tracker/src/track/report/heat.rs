//! The heat map as numbers: which share of which addresses was written when.
//!
//! Columns are rounds, or several rounds in a row; bands are areas, or what of them is shown; a band has one or more bins of
//! addresses. What is drawn from it, and how large, is not decided here: [`Room`] says how much there is.

use std::ops::Range;
use std::time::Duration;

use super::totals::rate;
use super::{Area, Report};
use uffd::PAGE_SIZE;

/// How much a drawing has room for.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The most columns.
    pub columns: usize,
    /// The most bands; those with the fewest pages written are folded.
    pub bands: usize,
    /// The least bins of a band.
    pub least: usize,
    /// Bins to share out beyond that, by the square root of pages: a small mapping stays visible beside a large one.
    pub spare: usize,
}

/// Cells of bands by columns. What a cell holds is up to who fills it.
#[derive(Clone, Debug)]
pub struct HeatMap<C = Cell> {
    /// By time.
    pub columns: Vec<Column>,
    /// So many rounds are a column.
    pub together: usize,
    /// By address.
    pub bands: Vec<Band<C>>,
    /// Mappings never seen to be written, in number and pages.
    pub never: (usize, u64),
    /// Mappings written but folded, because others were written more, in number and pages written.
    pub fewer: (usize, u64),
}

/// One or more rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// Since the first arming.
    pub from: Duration,
    /// Since the first arming.
    pub until: Duration,
    /// Pages written a second.
    pub rate: f64,
}

/// An area in the picture.
#[derive(Clone, Debug)]
pub struct Band<C = Cell> {
    /// What it shows.
    pub area: Area,
    /// Its height: so many bins of a page or more fit.
    pub height: usize,
    /// Its cells, row by row from the lowest address, each row as long as there are columns.
    pub cells: Vec<C>,
    /// How many bins it has; at most one for each page.
    pub bins: usize,
    /// What lies between the band before and this.
    pub before: Before,
}

/// What is not drawn before a band.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Whether there are addresses between.
    pub gap: bool,
    /// Mappings that are folded there.
    pub folded: usize,
}

/// Pages times rounds of one bin in one column.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cell {
    /// Mapped.
    pub mapped: f64,
    /// Written.
    pub written: f64,
    /// Unknown.
    pub unknown: f64,
}

impl Cell {
    /// The share of its pages that is written in a round; `None`: it was never mapped.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        let pages = self.mapped.max(self.written).max(self.unknown);
        (pages > 0.0).then(|| self.written / pages)
    }
}

impl HeatMap {
    /// Sorts what was written into cells.
    #[must_use]
    pub fn new(report: &Report<'_>, room: Room) -> Self {
        let mut map = Self::empty(report, room);
        for (i, round) in report.recorded.iter().enumerate() {
            for told in &round.mappings {
                let mapping = &told.mapping;
                map.fill(i, &(mapping.start..mapping.end), |cell, pages| {
                    cell.mapped += pages;
                });
                for extent in &told.written {
                    map.fill(i, &extent.range, |cell, pages| {
                        if extent.unknown {
                            cell.unknown += pages;
                        } else {
                            cell.written += pages;
                        }
                    });
                }
            }
        }
        map
    }
}

impl<C: Clone + Default> HeatMap<C> {
    /// With nothing in its cells.
    #[must_use]
    pub fn empty(report: &Report<'_>, room: Room) -> Self {
        let together = report.rounds.len().div_ceil(room.columns.max(1)).max(1);
        let columns = columns(report, together);
        let mut bands = choose(&report.areas, room);
        for band in &mut bands {
            band.cells = vec![C::default(); band.bins * columns.len()];
        }
        let shown = |area: &&Area| bands.iter().any(|band| band.area.range == area.range);
        let fewer: Vec<_> = report
            .areas
            .iter()
            .filter(|area| area.is_written() && !shown(area))
            .collect();
        let never: Vec<_> = report
            .areas
            .iter()
            .filter(|area| !area.is_written())
            .collect();
        let never = (never.len(), sum(never.iter().map(|area| area.tracked)));
        let fewer = (fewer.len(), sum(fewer.iter().map(|area| area.written)));
        Self {
            columns,
            together,
            bands,
            never,
            fewer,
        }
    }

    /// Adds the pages of a range, in the round with that index, to the cells it touches.
    pub fn fill(&mut self, round: usize, range: &Range<u64>, add: impl Fn(&mut C, f64)) {
        let (width, column) = (self.columns.len(), round / self.together.max(1));
        let after = self
            .bands
            .partition_point(|band| band.area.range.start <= range.start);
        let Some(band) = after.checked_sub(1).and_then(|i| self.bands.get_mut(i)) else {
            return;
        };
        let (start, end) = (range.start, range.end.min(band.area.range.end));
        if start >= end {
            return;
        }
        let first = band.bin(start);
        for bin in first..=band.bin(end - 1).max(first) {
            let of = band.addresses(bin);
            let bytes = end.min(of.end).saturating_sub(start.max(of.start));
            if let Some(cell) = band.cells.get_mut(bin * width + column) {
                add(cell, bytes as f64 / PAGE_SIZE as f64);
            }
        }
    }
}

impl<C> Band<C> {
    /// The addresses of a bin.
    #[must_use]
    pub fn addresses(&self, bin: usize) -> Range<u64> {
        let (start, bytes, unit) = (self.area.range.start, self.bytes(), unit(&self.area));
        let edge = |bin: usize| {
            let pages = u128::from(bytes / unit) * bin as u128 / self.bins.max(1) as u128;
            start.saturating_add((pages as u64).saturating_mul(unit))
        };
        let end = if bin + 1 >= self.bins {
            self.area.range.end
        } else {
            edge(bin + 1)
        };
        edge(bin)..end
    }

    fn bytes(&self) -> u64 {
        self.area.range.end - self.area.range.start
    }

    /// The bin of an address in it.
    fn bin(&self, address: u64) -> usize {
        let offset = u128::from(address - self.area.range.start);
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
}

/// What a bin has a whole number of: pages, huge ones where the area has such.
fn unit(area: &Area) -> u64 {
    let whole = |size: &u64| *size > 0 && (area.range.end - area.range.start).is_multiple_of(*size);
    Some(area.page_size).filter(whole).unwrap_or(PAGE_SIZE)
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// Edges in time: each column begins where the one before ended, whatever the recording says.
fn columns(report: &Report<'_>, together: usize) -> Vec<Column> {
    let mut from = report
        .rounds
        .first()
        .map_or(Duration::ZERO, |r| r.at.saturating_sub(r.lasted));
    let column = |group: &[super::RoundCounts]| {
        let at = group
            .iter()
            .map(|r| r.at)
            .max()
            .unwrap_or_default()
            .max(from);
        let open = group
            .iter()
            .map(|r| r.lasted)
            .fold(Duration::ZERO, Duration::saturating_add);
        let column = Column {
            from,
            until: at,
            rate: rate(sum(group.iter().map(|r| r.written)), open),
        };
        from = at;
        column
    };
    report.rounds.chunks(together).map(column).collect()
}

/// Which areas become bands, and how high.
fn choose<C>(areas: &[Area], room: Room) -> Vec<Band<C>> {
    let mut order: Vec<usize> = (0..areas.len())
        .filter(|i| areas.get(*i).is_some_and(Area::is_written))
        .collect();
    let weight = |i: &usize| areas.get(*i).map(|area| (area.written, area.unknown));
    order.sort_by_key(|i| std::cmp::Reverse(weight(i)));
    order.truncate(room.bands);
    order.sort_unstable();
    let roots = order
        .iter()
        .filter_map(|i| areas.get(*i))
        .map(|area| (area.pages() as f64).sqrt());
    let all: f64 = roots.sum();
    let mut bands = Vec::new();
    let mut last: Option<usize> = None;
    for i in order {
        let Some(area) = areas.get(i) else { continue };
        let extra = (area.pages() as f64).sqrt() / all * room.spare as f64;
        let height = room.least + extra as usize;
        let units = (area.range.end - area.range.start) / unit(area);
        let bins = height.min(units.try_into().unwrap_or(usize::MAX)).max(1);
        let end = last
            .and_then(|last| areas.get(last))
            .map(|area| area.range.end);
        let before = Before {
            gap: end.is_some_and(|end| end < area.range.start),
            folded: i - last.map_or(0, |last| last + 1),
        };
        bands.push(Band {
            area: area.clone(),
            height,
            cells: Vec::new(),
            bins,
            before,
        });
        last = Some(i);
    }
    bands
}
