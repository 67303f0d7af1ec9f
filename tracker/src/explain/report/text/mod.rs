//! The report for a terminal or a pipe, at most 100 columns wide: first the answer, then what to do, then what it rests on.

mod sections;
mod stack;
mod wrap;

pub use wrap::wrapped;

use super::Report;
use super::headline::headline;
use crate::track::clock::{rfc3339, spoken};
use crate::track::report::tables::count;
use crate::track::report::words::printable;

/// All of it.
#[must_use]
pub fn text(report: &Report<'_>) -> String {
    let sections = [
        head(report),
        answer(report),
        sections::matrix(report),
        sections::missed(report),
        sections::against(report),
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

/// Who, how, how long.
fn head(report: &Report<'_>) -> String {
    let header = &report.findings.header;
    let command = printable(&header.command.join(" "));
    let mut text = wrapped(
        "",
        4,
        &format!(
            "{} (pid {})  {command}",
            printable(&header.comm),
            header.pid
        ),
    );
    let began = rfc3339(header.began).unwrap_or_else(|| "before 1970".to_owned());
    let how = format!(
        "strategy {}, {} in {}, one every {}",
        printable(&header.strategy),
        count(report.findings.rounds.len(), "round"),
        spoken(report.lasted),
        spoken(header.interval),
    );
    text += &wrapped("", 4, &how);
    let versions = format!(
        "began {began}, kernel {}, tracker {}",
        printable(&header.kernel),
        printable(&header.tracker),
    );
    text += &wrapped("", 4, &versions);
    text += &wrapped("", 4, &sight(report));
    text
}

/// How much is seen of causes and contents.
fn sight(report: &Report<'_>) -> String {
    let findings = report.findings;
    let causes = if findings.seen.complete {
        "all causes can be seen".to_owned()
    } else {
        format!(
            "not all causes can be seen ({} below)",
            count(findings.seen.not.len(), "gap")
        )
    };
    match findings.sampling.one_of {
        0 | 1 => format!("{causes}; the content of all pages is compared"),
        of => format!("{causes}; the content of one page of {of} is compared"),
    }
}

fn answer(report: &Report<'_>) -> String {
    let sentences = headline(report);
    sentences
        .iter()
        .map(|sentence| wrapped(">> ", 3, sentence))
        .collect()
}
