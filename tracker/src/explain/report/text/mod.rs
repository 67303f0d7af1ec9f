//! The report for a terminal or a pipe, at most 100 columns wide: first the answer, then what to
//! do, then what it rests on.

mod lists;
mod places;
mod stack;
mod tables;

use super::headline::headline;
use super::story::story;
use super::{ExplainReport, ExplainReports, remarks};
use crate::print::words::number;
use crate::print::wrap::wrapped;

/// The whole report.
pub(super) fn text(report: &ExplainReport<'_>) -> String {
    let sections = [
        head(report),
        answer(report),
        tables::matrix(report),
        tables::missed(report),
        places::writers(report),
        lists::audit(report),
        lists::against(report),
        places::stacks(report),
        lists::what_to_do(report),
        tables::vmas(report),
        lists::unknown(report),
        lists::costs(report),
        lists::sight(report),
    ];
    let told: Vec<_> = sections.into_iter().filter(|s| !s.is_empty()).collect();
    told.join("\n")
}

/// The whole report of each tracker, and the story of a page if one was asked for.
pub(crate) fn with_stories(reports: &ExplainReports<'_>) -> String {
    let told = reports.iter().map(|report| {
        let title = match reports.title(report) {
            "" => String::new(),
            title => format!("== {title} ==\n\n"),
        };
        let story = story(report.findings).map(|story| format!("\n{story}"));
        title + &text(report) + &story.unwrap_or_default()
    });
    told.collect::<Vec<_>>().join("\n")
}

/// Who was explained, how, for how long, and how much of it is seen.
fn head(report: &ExplainReport<'_>) -> String {
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

fn answer(report: &ExplainReport<'_>) -> String {
    let sentences = headline(report);
    sentences
        .iter()
        .map(|sentence| wrapped(">> ", 3, sentence))
        .collect()
}

/// A count in a table; 0 is no news.
fn count(pages: u64) -> String {
    if pages == 0 {
        "-".to_owned()
    } else {
        number(pages)
    }
}
