//! What is told in sentences. A part about which there is nothing to tell is empty.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::wrap::{INDENT, wrapped};
use crate::explain::report::headline::plural;
use crate::explain::report::{Report, remarks};
use crate::explain::{Reason, advice as means};
use crate::track::report::words::number;

/// What is not known, and why.
pub fn unknown(report: &Report<'_>) -> String {
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

fn reasons_of(what: &str, reasons: &BTreeMap<Reason, u64>) -> String {
    let mut told: Vec<_> = reasons.iter().filter(|(_, pages)| **pages > 0).collect();
    told.sort_by_key(|(_, pages)| std::cmp::Reverse(**pages));
    let mut text = String::new();
    for (i, (reason, pages)) in told.iter().enumerate() {
        if i == 0 {
            let _ = writeln!(text, "Pages whose {what} is not known:");
        }
        let first = format!("{:>10}  {reason}: ", number(**pages));
        text += &wrapped(&first, 12, means::reason(**reason));
    }
    text
}

/// What to do.
pub fn advice(report: &Report<'_>) -> String {
    let told = report.advice();
    if told.is_empty() {
        return String::new();
    }
    let mut text = "What to do:\n".to_owned();
    for (cause, pages, advice) in told {
        text += &wrapped(
            &format!("  {cause} ({} page{}): ", number(pages), plural(pages)),
            INDENT,
            advice,
        );
    }
    text
}

/// Memory and time.
pub fn costs(report: &Report<'_>) -> String {
    let lines = remarks::costs(report);
    lines.iter().fold("Costs:\n".to_owned(), |text, line| {
        text + &wrapped("  ", INDENT, line)
    })
}

/// What could not be seen, and how sure a sample is.
pub fn sight(report: &Report<'_>) -> String {
    let lines = remarks::not_seen(report);
    if lines.is_empty() {
        return String::new();
    }
    let head = "What could not be seen:\n".to_owned();
    lines
        .iter()
        .fold(head, |text, line| text + &wrapped("  - ", 4, line))
}

/// Where a second strategy disagrees.
pub fn against(report: &Report<'_>) -> String {
    let lines = remarks::against(report);
    let Some((first, rest)) = lines.split_first() else {
        return String::new();
    };
    let head = wrapped("", 4, first);
    rest.iter()
        .fold(head, |text, line| text + &wrapped("  ", INDENT, line))
}
