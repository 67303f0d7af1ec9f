//! Parts of the report in sentences. A part with nothing to tell is empty.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::explain::report::{ExplainReport, audit, remarks};
use crate::explain::{UnknownReason, advice};
use crate::print::words::{number, plural};
use crate::print::wrap::{INDENT, wrapped};

/// What is not known, and why.
pub(super) fn unknown(report: &ExplainReport<'_>) -> String {
    let findings = report.findings;
    let parts = [
        ("verdict", &findings.verdict_unknown),
        ("cause", &findings.cause_unknown),
    ];
    parts
        .iter()
        .map(|(what, reasons)| reasons_of(what, reasons))
        .collect()
}

fn reasons_of(what: &str, reasons: &BTreeMap<UnknownReason, u64>) -> String {
    let mut told: Vec<_> = reasons.iter().filter(|(_, pages)| **pages > 0).collect();
    told.sort_by_key(|(_, pages)| Reverse(**pages));
    let mut text = String::new();
    for (i, (reason, pages)) in told.iter().enumerate() {
        if i == 0 {
            let _ = writeln!(text, "Pages whose {what} is not known:");
        }
        let first = format!("{:>10}  {reason}: ", number(**pages));
        text += &wrapped(&first, 12, advice::reason(**reason));
    }
    text
}

/// What to do, cause by cause.
pub(super) fn what_to_do(report: &ExplainReport<'_>) -> String {
    let told = report.advice();
    if told.is_empty() {
        return String::new();
    }
    let mut text = "What to do:\n".to_owned();
    for (cause, pages, advice) in told {
        let first = format!("  {cause} ({} page{}): ", number(pages), plural(pages));
        text += &wrapped(&first, INDENT, advice.text());
    }
    text
}

/// What it took.
pub(super) fn costs(report: &ExplainReport<'_>) -> String {
    let lines = remarks::costs(report);
    lines.iter().fold("Costs:\n".to_owned(), |text, line| {
        text + &wrapped("  ", INDENT, line)
    })
}

/// What could not be seen, and how sure a sample is.
pub(super) fn sight(report: &ExplainReport<'_>) -> String {
    let lines = remarks::not_seen(report);
    if lines.is_empty() {
        return String::new();
    }
    let head = "What could not be seen:\n".to_owned();
    lines
        .iter()
        .fold(head, |text, line| text + &wrapped("  - ", 4, line))
}

/// What the process's own tracker does wrong.
pub(super) fn audit(report: &ExplainReport<'_>) -> String {
    let Some((head, lines)) = audit::audit(report) else {
        return String::new();
    };
    let head = wrapped("", 4, &(head + ":"));
    lines
        .iter()
        .fold(head, |text, line| text + &wrapped("  - ", 4, line))
}

/// Where a second strategy disagrees.
pub(super) fn against(report: &ExplainReport<'_>) -> String {
    let lines = remarks::against(report);
    let Some((first, rest)) = lines.split_first() else {
        return String::new();
    };
    let head = wrapped("", 4, first);
    rest.iter()
        .fold(head, |text, line| text + &wrapped("  ", INDENT, line))
}
