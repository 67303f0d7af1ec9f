//! Code locations, with threads and stacks.

use std::fmt::Write as _;

use super::count;
use super::stack::stack;
use crate::explain::report::ExplainReport;
use crate::explain::report::matrix::AnswerMatrix;
use crate::explain::report::remarks::nowhere;
use crate::explain::report::spots::CodeSpot;
use crate::explain::report::writers::{StackList, WriterCounts};
use crate::print::table::TableHead::{Left, Right};
use crate::print::table::TextTable;
use crate::print::words::{number, share};
use crate::print::wrap::{INDENT, cut, wrapped};

/// Code locations shown.
const SPOTS: usize = 10;

/// Code locations by reported pages: all rows add up to the reported pages.
pub(super) fn writers(report: &ExplainReport<'_>) -> String {
    let top = report.writers();
    let (shown, rest) = top.split(SPOTS);
    if shown.is_empty() {
        return String::new();
    }
    let mut table = TextTable::new(&[
        Right("PAGES"),
        Right("SHARE"),
        Right("CHANGED"),
        Right("UNCHANGED"),
        Right("OTHER"),
        Left("CAUSE"),
        Left("WHERE"),
    ]);
    let mut row = |pages: &AnswerMatrix, cause: String, place: String| {
        let counts = WriterCounts::of(pages);
        table.row([
            number(counts.all),
            share(counts.all, top.all),
            count(counts.changed),
            count(counts.unchanged),
            count(counts.other),
            cause,
            place,
        ]);
    };
    for spot in shown {
        row(
            &spot.pages,
            spot.cause.to_string(),
            spot.location.to_string(),
        );
    }
    if rest.all() > 0 {
        let more = top.spots.len().saturating_sub(shown.len());
        row(&rest, String::new(), format!("{more} more places"));
    }
    if top.nowhere.all() > 0 {
        row(&top.nowhere, String::new(), nowhere(&top));
    }
    let lines = table.lines();
    let lines = lines.iter().map(|line| cut(line) + "\n");
    "Top writers, by reported pages:\n".to_owned() + &lines.collect::<String>()
}

/// Code locations with stacks: those that leave content as it is first.
pub(super) fn stacks(report: &ExplainReport<'_>) -> String {
    let lists = report.stacks(SPOTS);
    let texts: Vec<_> = lists.iter().map(stack_list).collect();
    texts.join("\n")
}

fn stack_list(list: &StackList<'_, '_>) -> String {
    let mut table = TextTable::new(&[
        Right("UNCHANGED"),
        Right("CHANGED"),
        Right("OTHER"),
        Left("CAUSE"),
        Left("WHERE"),
    ]);
    for spot in &list.shown {
        table.row(spot_line(spot));
    }
    let mut text = format!("{}:\n", list.title);
    let mut lines = table.lines().into_iter();
    text.extend(lines.next().map(|head| head + "\n"));
    for (line, spot) in lines.zip(&list.shown) {
        text += &cut(&line);
        text.push('\n');
        text += &below(spot);
    }
    if list.others > 0 {
        let (more, pages) = (list.others, number(list.other_pages));
        let _ = writeln!(text, "and {more} more places with {pages} pages");
    }
    text
}

fn spot_line(spot: &CodeSpot<'_>) -> [String; 5] {
    let counts = WriterCounts::of(&spot.pages);
    [
        count(counts.unchanged),
        count(counts.changed),
        count(counts.other),
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
    match spot.others() {
        0 => text,
        1 => text + "      and 1 other stack to here\n",
        others => text + &format!("      and {others} other stacks to here\n"),
    }
}
