//! The table of rounds, and what happened to the process in them.

use std::fmt::Write as _;
use std::time::Duration;

use super::mib;
use crate::print::clock::spoken;
use crate::print::heat::rate;
use crate::print::table::TableHead::Right;
use crate::print::table::TextTable;
use crate::print::words::{number, printable};
use crate::track::report::RecordingReport;
use crate::track::report::counts::WINDOW;
use crate::track::report::rounds::RoundCounts;

/// Lines of the table; more rounds than that share lines.
const LINES: usize = 30;

/// Rounds, several to a line if there are many, and what happened to the process.
pub(crate) fn rounds(report: &RecordingReport<'_>) -> String {
    let together = report.rounds.len().div_ceil(LINES).max(1);
    let window = format!("LAST {WINDOW}");
    let mut table = TextTable::new(&[
        Right("ROUND"),
        Right("AT"),
        Right("WRITTEN"),
        Right("UNKNOWN"),
        Right("ZAPPED"),
        Right("PAGES/S"),
        Right("MIB/S"),
        Right("DIFFERENT"),
        Right(&window),
        Right("TOOK"),
    ]);
    for group in report.rounds.chunks(together) {
        if let (Some(first), Some(last)) = (group.first(), group.last()) {
            table.row(round_line(first, last, group));
        }
    }
    let mut text = table.text();
    for round in &report.events {
        for event in &round.events {
            let (number, at) = (round.number, spoken(round.at));
            let _ = writeln!(
                text,
                "round {number}, {at}: {}",
                printable(&event.to_string())
            );
        }
    }
    text
}

fn round_line(first: &RoundCounts, last: &RoundCounts, group: &[RoundCounts]) -> [String; 10] {
    let sum = |of: fn(&RoundCounts) -> u64| group.iter().map(of).fold(0, u64::saturating_add);
    let time = |of: fn(&RoundCounts) -> Duration| {
        let times = group.iter().map(of);
        times.fold(Duration::ZERO, Duration::saturating_add)
    };
    let zapped = group.iter().filter_map(|r| r.zapped);
    let zapped = zapped.reduce(u64::saturating_add);
    let written = sum(|r| r.written);
    let rate = rate(written, time(|r| r.lasted));
    let name = if group.len() == 1 {
        first.number.to_string()
    } else {
        format!("{}-{}", first.number, last.number)
    };
    [
        name,
        spoken(last.at),
        number(written),
        number(sum(|r| r.unknown)),
        zapped.map_or("-".to_owned(), number),
        number(rate as u64),
        mib(rate),
        number(last.set),
        number(last.window),
        spoken(time(|r| r.took)),
    ]
}
