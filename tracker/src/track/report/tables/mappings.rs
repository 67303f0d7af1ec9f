//! Mappings, by pages written.

use std::cmp::Reverse;

use crate::print::table::TableHead::{Left, Right};
use crate::print::table::TextTable;
use crate::print::words::{count, number, printable, share, size};
use crate::track::report::RecordingReport;
use crate::track::report::areas::AreaCounts;

/// Mappings in the table; the rest is summed up.
const MAPPINGS: usize = 25;

/// Mappings by pages written.
pub(crate) fn mappings(report: &RecordingReport<'_>) -> String {
    let mut areas: Vec<&AreaCounts> = report
        .areas
        .iter()
        .filter(|area| area.is_written())
        .collect();
    // The sort is stable: by address where equal.
    areas.sort_by_key(|area| Reverse((area.written, area.pages.set, area.pages.unknown)));
    let mut table = TextTable::new(&[
        Right("START"),
        Right("SIZE"),
        Right("BACKING"),
        Right("WRITTEN"),
        Right("DIFFERENT"),
        Right("SHARE"),
        Right("HOT"),
        Right("ONCE"),
        Right("UNKNOWN"),
        Right("ZAPPED"),
        Right("ROUNDS"),
        Left("NAME"),
    ]);
    for area in areas.iter().take(MAPPINGS) {
        table.row([
            format!("{:#x}", area.span.range.start),
            size(area.span.pages() as f64),
            kind(area),
            number(area.written),
            number(area.pages.set),
            share(area.pages.set, area.span.pages()),
            number(area.pages.hot),
            number(area.pages.once),
            number(area.pages.unknown),
            area.zapped.map_or("-".to_owned(), number),
            format!("{}/{}", area.rounds_written, area.rounds),
            printable(&area.span.name()),
        ]);
    }
    table.text() + &rest(areas.get(MAPPINGS..).unwrap_or_default()) + &never(report)
}

/// Those that have no row.
fn rest(areas: &[&AreaCounts]) -> String {
    let written = areas.iter().map(|area| area.written);
    let pages = number(written.fold(0, u64::saturating_add));
    match areas.len() {
        0 => String::new(),
        more => format!("and {more} more with {pages} pages written\n"),
    }
}

fn never(report: &RecordingReport<'_>) -> String {
    let never = report.areas.iter().filter(|area| !area.is_written());
    let tracked = never.clone().map(|area| area.tracked);
    let size = size(tracked.fold(0, u64::saturating_add) as f64);
    match never.count() {
        0 => String::new(),
        mappings => format!(
            "{} never seen to be written, {size}\n",
            count(mappings, "mapping")
        ),
    }
}

fn kind(area: &AreaCounts) -> String {
    let backing = area.span.backing.as_str();
    match area.span.huge_pages() {
        None => backing.to_owned(),
        Some(size) => format!("{backing} {}", size.replace(' ', "")),
    }
}
