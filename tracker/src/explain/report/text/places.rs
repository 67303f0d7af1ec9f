//! Code locations, with threads and stacks.

use std::fmt::Write as _;

use super::count;
use super::stack::stack;
use super::wrap::{INDENT, cut, wrapped};
use crate::explain::Verdict;
use crate::explain::report::Report;
use crate::explain::report::spots::Spot;
use crate::track::report::table::Table;
use crate::track::report::words::number;

/// Code locations told.
const SPOTS: usize = 10;

/// Code locations: those that leave content as it is first.
pub fn spots(report: &Report<'_>) -> String {
    let (title, shown) = report.worst();
    if shown.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["UNCHANGED", "CHANGED", "OTHER", "CAUSE", "WHERE"]);
    for spot in shown.iter().take(SPOTS) {
        table.row(spot_line(spot));
    }
    let mut text = format!("{title}:\n");
    let mut lines = table.lines().into_iter();
    text.extend(
        lines
            .next()
            .into_iter()
            .flat_map(|head| [head, "\n".to_owned()]),
    );
    for (line, spot) in lines.zip(&shown) {
        text += &cut(&line);
        text.push('\n');
        text += &below(spot);
    }
    if shown.len() > SPOTS {
        let rest = shown.iter().skip(SPOTS).map(|spot| spot.pages.all());
        let pages = rest.fold(0, u64::saturating_add);
        let _ = writeln!(
            text,
            "and {} more places with {} pages",
            shown.len() - SPOTS,
            number(pages)
        );
    }
    text
}

fn spot_line(spot: &Spot<'_>) -> [String; 5] {
    let (unchanged, changed) = (spot.unchanged(), spot.pages.verdict(Verdict::Changed));
    let other = spot
        .pages
        .all()
        .saturating_sub(unchanged)
        .saturating_sub(changed);
    [
        count(unchanged),
        count(changed),
        count(other),
        spot.cause.to_string(),
        spot.location.to_string(),
    ]
}

/// The threads and the stack.
fn below(spot: &Spot<'_>) -> String {
    const NAMES: usize = 4;
    let mut text = String::new();
    if !spot.threads.is_empty() {
        let mut names: Vec<_> = spot
            .threads
            .iter()
            .take(NAMES)
            .map(String::as_str)
            .collect();
        let rest = format!("{} more", spot.threads.len().saturating_sub(NAMES));
        if spot.threads.len() > NAMES {
            names.push(&rest);
        }
        text += &wrapped(
            &format!("{}threads ", " ".repeat(INDENT)),
            INDENT,
            &names.join(", "),
        );
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
