//! Code locations, with threads and stacks.

use std::fmt::Write as _;

use super::count;
use super::stack::stack;
use crate::explain::ReportVerdict;
use crate::explain::report::ExplainReport;
use crate::explain::report::spots::CodeSpot;
use crate::print::table::TableHead::{Left, Right};
use crate::print::table::TextTable;
use crate::print::words::number;
use crate::print::wrap::{INDENT, cut, wrapped};

/// Code locations shown.
const SPOTS: usize = 10;

/// Code locations: those that leave content as it is first.
pub(super) fn spots(report: &ExplainReport<'_>) -> String {
    let (title, shown) = report.worst();
    if shown.is_empty() {
        return String::new();
    }
    let mut table = TextTable::new(&[
        Right("UNCHANGED"),
        Right("CHANGED"),
        Right("OTHER"),
        Left("CAUSE"),
        Left("WHERE"),
    ]);
    for spot in shown.iter().take(SPOTS) {
        table.row(spot_line(spot));
    }
    let mut text = format!("{title}:\n");
    let mut lines = table.lines().into_iter();
    text.extend(lines.next().map(|head| head + "\n"));
    for (line, spot) in lines.zip(&shown) {
        text += &cut(&line);
        text.push('\n');
        text += &below(spot);
    }
    if shown.len() > SPOTS {
        let rest = shown.iter().skip(SPOTS).map(|spot| spot.pages.all());
        let pages = rest.fold(0, u64::saturating_add);
        let (more, pages) = (shown.len() - SPOTS, number(pages));
        let _ = writeln!(text, "and {more} more places with {pages} pages");
    }
    text
}

fn spot_line(spot: &CodeSpot<'_>) -> [String; 5] {
    let (unchanged, changed) = (spot.unchanged(), spot.pages.verdict(ReportVerdict::Changed));
    let other = spot.pages.all().saturating_sub(unchanged);
    let other = other.saturating_sub(changed);
    [
        count(unchanged),
        count(changed),
        count(other),
        spot.cause.to_string(),
        spot.location.to_string(),
    ]
}

/// The threads and the stack.
fn below(spot: &CodeSpot<'_>) -> String {
    const NAMES: usize = 4;
    let mut text = String::new();
    if !spot.threads.is_empty() {
        let mut names: Vec<_> = spot.threads.iter().take(NAMES).cloned().collect();
        if let Some(rest) = spot
            .threads
            .len()
            .checked_sub(NAMES)
            .filter(|rest| *rest > 0)
        {
            names.push(format!("{rest} more"));
        }
        let first = format!("{}threads ", " ".repeat(INDENT));
        text += &wrapped(&first, INDENT, &names.join(", "));
    }
    if let Some(place) = spot.place {
        text += &stack(place, INDENT);
    }
    match spot.others {
        0 => text,
        1 => text + "      and 1 other stack to here\n",
        others => text + &format!("      and {others} other stacks to here\n"),
    }
}
