//! The report for a terminal or a pipe, at most 100 columns wide: first the answer, then what to do, then what it rests on.

mod sections;
mod stack;
mod wrap;

pub use wrap::wrapped;

use super::headline::headline;
use super::{Report, remarks};

/// All of it.
#[must_use]
pub fn text(report: &Report<'_>) -> String {
    let sections = [
        head(report),
        answer(report),
        sections::matrix(report),
        sections::missed(report),
        sections::spots(report),
        sections::advice(report),
        sections::vmas(report),
        sections::unknown(report),
        sections::costs(report),
        sections::sight(report),
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
