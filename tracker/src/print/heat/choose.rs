//! Which spans become bands, and how high they are.

use std::cmp::Reverse;

use super::band::{edges, unit};
use super::{HeatArea, HeatBand, HeatRoom, SkippedBefore};

/// The bands, by address, with no cells yet.
pub(super) fn bands<C>(areas: &[HeatArea], room: HeatRoom) -> Vec<HeatBand<C>> {
    let mut chosen: Vec<(usize, &HeatArea)> = areas
        .iter()
        .enumerate()
        .filter(|(_, area)| area.is_touched)
        .collect();
    chosen.sort_by_key(|(_, area)| Reverse((area.pages, area.unknown)));
    chosen.truncate(room.bands);
    chosen.sort_unstable_by_key(|(i, _)| *i);
    let root = |area: &HeatArea| (area.span.pages() as f64).sqrt();
    let all: f64 = chosen.iter().map(|(_, area)| root(area)).sum();
    let mut bands = Vec::new();
    let mut last: Option<(usize, &HeatArea)> = None;
    for (i, area) in chosen {
        let extra = root(area) / all * room.spare as f64;
        let height = room.least + extra as usize;
        let units = (area.span.range.end - area.span.range.start) / unit(area);
        let bins = height.min(units.try_into().unwrap_or(usize::MAX)).max(1);
        let end = last.map(|(_, area)| area.span.range.end);
        bands.push(HeatBand {
            area: area.clone(),
            height,
            cells: Vec::new(),
            bins,
            edges: edges(area, bins),
            before: SkippedBefore {
                gap: end.is_some_and(|end| end < area.span.range.start),
                folded: i - last.map_or(0, |(last, _)| last + 1),
            },
        });
        last = Some((i, area));
    }
    bands
}
