//! The report for a terminal or a pipe, at most 100 columns wide: first the answer, then what to do, then what it rests on.

mod lists;
mod places;
mod stack;
mod tables;
mod wrap;

pub use wrap::wrapped;

use super::headline::headline;
use super::{Report, remarks};
use crate::track::report::words::number;

/// All of it.
#[must_use]
pub fn text(report: &Report<'_>) -> String {
    let sections = [
        head(report),
        answer(report),
        tables::matrix(report),
        tables::missed(report),
        lists::against(report),
        places::spots(report),
        lists::advice(report),
        tables::vmas(report),
        lists::unknown(report),
        lists::costs(report),
        lists::sight(report),
    ];
    let told: Vec<_> = sections.into_iter().filter(|s| !s.is_empty()).collect();
    told.join("\n")
}

/// Who, how, how long, how much is seen.
fn head(report: &Report<'_>) -> String {
    let (comm, command) = remarks::who(report);
    let pid = report.findings.header.pid;
    let lines = [
        format!("{comm} (pid {pid})  {command}"),
        remarks::how(report),
        remarks::versions(report),
        remarks::seen(report),
    ];
    lines.iter().map(|line| wrapped("", 4, line)).collect()
}

fn answer(report: &Report<'_>) -> String {
    let sentences = headline(report);
    sentences
        .iter()
        .map(|sentence| wrapped(">> ", 3, sentence))
        .collect()
}

/// A number in a table; none is no news.
fn count(pages: u64) -> String {
    if pages == 0 {
        "-".to_owned()
    } else {
        number(pages)
    }
}
