//! The report as text: what was tracked, totals, mappings, rounds.

use std::fmt::Write as _;
use std::time::Duration;

use super::rounds::WINDOW;
use super::table::Table;
use super::totals::rate;
use super::words::{number, printable, share, size};
use super::{Area, Report, RoundCounts};
use crate::track::clock::{rfc3339, spoken};
use crate::track::json::end_name;

/// Mappings in the table; the rest is summed up.
const MAPPINGS: usize = 25;
/// Lines of the table of rounds; more rounds than that share lines.
const LINES: usize = 30;

/// What was tracked, how, and the totals.
#[must_use]
pub fn totals(report: &Report<'_>) -> String {
    let (header, totals) = (report.header, &report.totals);
    let mut lines: Vec<(&str, String)> = Vec::new();
    let command = header.command.join(" ");
    let what = format!(
        "{} (pid {})  {}",
        printable(&header.comm),
        header.pid,
        printable(&command)
    );
    lines.push(("process", what));
    let began = rfc3339(header.began).unwrap_or_else(|| "before 1970".to_owned());
    let versions = format!(
        "{began}, kernel {}, tracker {}",
        printable(&header.kernel),
        printable(&header.tracker)
    );
    lines.push(("began", versions));
    lines.push((
        "strategy",
        printable(&format!("{}: {}", header.strategy, header.reason)),
    ));
    let rounds = format!(
        "{}, one every {}, {} in all",
        number(totals.rounds),
        spoken(header.interval),
        spoken(totals.lasted)
    );
    lines.push(("rounds", rounds));
    lines.push(("written", written(report)));
    let set = format!(
        "{}, {} of the tracked",
        pages(totals.set),
        share(totals.set, totals.tracked)
    );
    lines.push(("  different", set));
    if totals.rounds > 1 {
        lines.push(("  always", format!("{} in every round", pages(totals.hot))));
        lines.push((
            "  once",
            format!("{} in one round only", pages(totals.once)),
        ));
    }
    if totals.unknown > 0 {
        let text = "there before they were armed, never seen to be written: to be taken as written";
        lines.push(("unknown", format!("{}: {text}", pages(totals.unknown))));
    }
    if let Some(zapped) = totals.zapped.filter(|zapped| *zapped > 0) {
        lines.push((
            "zapped",
            format!("{} of the written were emptied", pages(zapped)),
        ));
    }
    lines.push((
        "tracked",
        format!(
            "{} at most, in {}",
            pages(totals.tracked),
            count(report.areas.len(), "mapping")
        ),
    ));
    lines.push(("cost", cost(report)));
    lines.push(("ended", ended(report)));
    for note in &header.notes {
        lines.push(("note", printable(&note.to_string())));
    }
    lines
        .into_iter()
        .fold(String::new(), |mut text, (key, value)| {
            let _ = writeln!(text, "{key:11} {value}");
            text
        })
}

fn written(report: &Report<'_>) -> String {
    let totals = &report.totals;
    let mean = rate(totals.written, totals.open);
    let mut text = format!("{}, {}", pages(totals.written), speed(mean));
    if let Some((round, rate)) = totals.busiest.filter(|_| totals.rounds > 1) {
        let _ = write!(text, " on average, {} in round {round}", speed(rate as f64));
    }
    text
}

fn cost(report: &Report<'_>) -> String {
    let totals = &report.totals;
    let mean = totals
        .took
        .checked_div(totals.rounds.try_into().unwrap_or(u32::MAX))
        .unwrap_or_default();
    let mut text = format!(
        "reading and arming took {}, {} a round",
        spoken(totals.took),
        spoken(mean)
    );
    if let Some(stopped) = report.header.stopped {
        let _ = write!(text, "; the process stood still for {}", spoken(stopped));
    }
    text
}

fn ended(report: &Report<'_>) -> String {
    let Some(ending) = report.ending else {
        return "nobody knows: the recording is damaged".to_owned();
    };
    let Some(summary) = ending.summary() else {
        return ending.remark().unwrap_or_default();
    };
    match summary.status {
        Some(status) => format!("{}, with status {status}", end_name(summary.end)),
        None => end_name(summary.end).to_owned(),
    }
}

/// Mappings by pages written.
#[must_use]
pub fn mappings(report: &Report<'_>) -> String {
    let mut areas: Vec<&Area> = report
        .areas
        .iter()
        .filter(|area| area.is_written())
        .collect();
    // By address where equal, as the sort is stable.
    areas.sort_by_key(|area| std::cmp::Reverse((area.written, area.set, area.unknown)));
    let heads = [
        "START",
        "SIZE",
        "BACKING",
        "WRITTEN",
        "DIFFERENT",
        "SHARE",
        "HOT",
        "ONCE",
        "UNKNOWN",
        "ZAPPED",
        "ROUNDS",
        "NAME",
    ];
    let mut table = Table::new(&heads);
    for area in areas.iter().take(MAPPINGS) {
        table.row([
            format!("{:#x}", area.range.start),
            size(area.pages() as f64),
            page_kind(area),
            number(area.written),
            number(area.set),
            share(area.set, area.pages()),
            number(area.hot),
            number(area.once),
            number(area.unknown),
            area.zapped.map_or("-".to_owned(), number),
            format!("{}/{}", area.rounds_written, area.rounds),
            printable(&area.name()),
        ]);
    }
    let mut text = table.text();
    if let Some(rest) = areas.get(MAPPINGS..).filter(|rest| !rest.is_empty()) {
        let written = rest
            .iter()
            .map(|area| area.written)
            .fold(0, u64::saturating_add);
        let _ = writeln!(
            text,
            "and {} more with {} pages written",
            rest.len(),
            number(written)
        );
    }
    let never: Vec<_> = report
        .areas
        .iter()
        .filter(|area| !area.is_written())
        .collect();
    if !never.is_empty() {
        let pages = never
            .iter()
            .map(|area| area.tracked)
            .fold(0, u64::saturating_add);
        let _ = writeln!(
            text,
            "{} never seen to be written, {}",
            count(never.len(), "mapping"),
            size(pages as f64)
        );
    }
    text
}

fn page_kind(area: &Area) -> String {
    let backing = area.backing.as_str();
    if area.page_size == uffd::PAGE_SIZE {
        return backing.to_owned();
    }
    format!(
        "{backing} {}",
        size(area.page_size as f64 / uffd::PAGE_SIZE as f64).replace(' ', "")
    )
}

/// Rounds, several to a line if there are many; what happened to the process.
#[must_use]
pub fn rounds(report: &Report<'_>) -> String {
    let together = report.rounds.len().div_ceil(LINES).max(1);
    let window = format!("LAST {WINDOW}");
    let heads = [
        "ROUND",
        "AT",
        "WRITTEN",
        "UNKNOWN",
        "ZAPPED",
        "PAGES/S",
        "MIB/S",
        "DIFFERENT",
        &window,
        "TOOK",
    ];
    let mut table = Table::new(&heads);
    for group in report.rounds.chunks(together) {
        if let (Some(first), Some(last)) = (group.first(), group.last()) {
            table.row(round_line(first, last, group));
        }
    }
    let mut text = table.text();
    for round in report.recorded {
        for event in &round.events {
            let _ = writeln!(
                text,
                "round {}, {}: {}",
                round.number,
                spoken(round.at),
                printable(&event.to_string())
            );
        }
    }
    text
}

fn round_line(first: &RoundCounts, last: &RoundCounts, group: &[RoundCounts]) -> [String; 10] {
    let sum = |of: fn(&RoundCounts) -> u64| group.iter().map(of).fold(0, u64::saturating_add);
    let time = |of: fn(&RoundCounts) -> Duration| {
        group
            .iter()
            .map(of)
            .fold(Duration::ZERO, Duration::saturating_add)
    };
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
        group
            .iter()
            .filter_map(|r| r.zapped)
            .reduce(u64::saturating_add)
            .map_or("-".to_owned(), number),
        number(rate as u64),
        mib(rate),
        number(last.set),
        number(last.window),
        spoken(time(|r| r.took)),
    ]
}

/// What the columns are, for whoever sees them first.
#[must_use]
pub fn legend() -> String {
    format!(
        "Pages are units of 4 KiB. DIFFERENT pages were written up to there, LAST {WINDOW} in the last {WINDOW} rounds, \
         HOT in every round.\nROUNDS: with a page written / there.\n"
    )
}

fn pages(pages: u64) -> String {
    format!("{} pages ({})", number(pages), size(pages as f64))
}

fn speed(rate: f64) -> String {
    format!("{} pages/s ({} MiB/s)", number(rate as u64), mib(rate))
}

/// MiB of so many pages.
fn mib(pages: f64) -> String {
    let mib = pages / 256.0;
    if mib < 9.95 {
        format!("{mib:.1}")
    } else {
        number(mib as u64)
    }
}

/// `1 mapping`, `2 mappings`.
pub fn count(count: usize, what: &str) -> String {
    format!(
        "{} {what}{}",
        number(count as u64),
        if count == 1 { "" } else { "s" }
    )
}
