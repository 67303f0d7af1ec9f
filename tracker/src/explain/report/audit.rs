//! What the process's own tracker does wrong, in sentences.

use std::time::Duration;

use super::ExplainReport;
use super::faults::faults;
use super::location::CodeLocation;
use crate::explain::{AuditFinding, AuditFindings, AuditKind, AuditSight, CallerThread, PlaceId};
use crate::print::clock::spoken;
use crate::print::words::{count, number, plural, printable, size};

/// Threads that are told of.
const THREADS: usize = 10;
/// Ranges that are told of a finding.
const RANGES: usize = 3;

/// What is said of the process's own tracker: first in one sentence. Nothing if it has none.
pub(super) fn audit(report: &ExplainReport<'_>) -> Option<(String, Vec<String>)> {
    let audit = report.findings.audit.as_ref()?;
    let mut lines = Vec::new();
    if let AuditSight::Gaps(gaps) = &audit.sight {
        let gaps: Vec<_> = gaps.iter().map(|gap| printable(gap)).collect();
        let gaps = gaps.join("; ");
        lines.push(format!("its calls, or some of them, are not seen: {gaps}"));
    }
    if audit.dropped > 0 {
        let dropped = number(audit.dropped);
        lines.push(format!(
            "calls that were lost: {dropped}; there may be more than is told here"
        ));
    }
    let found = faults(report.findings);
    lines.extend(found.iter().map(|found| finding(report, found)));
    lines.extend(looked_for(audit));
    lines.extend(waits(audit));
    lines.extend(cleared(audit));
    Some((head(audit, found.len()), lines))
}

fn head(audit: &AuditFindings, found: usize) -> String {
    let calls = format!("{} call{}", number(audit.calls), plural(audit.calls));
    let all_seen = audit.sight == AuditSight::Complete;
    match found {
        0 if !all_seen && audit.calls == 0 => {
            "The process's own tracker: what it does wrong is not known".to_owned()
        }
        0 => format!("The process's own tracker: nothing found in {calls}"),
        found => format!(
            "The process's own tracker: {} in {calls}",
            count(found, "finding")
        ),
    }
}

/// What it is, where, and what to do.
fn finding(report: &ExplainReport<'_>, found: &AuditFinding) -> String {
    let kind = found.kind;
    let mut text = format!(
        "{kind} ({} time{}): {}. {} page{}: {}",
        number(found.times),
        plural(found.times),
        kind.fault(),
        number(found.pages),
        plural(found.pages),
        kind.pages(),
        kind = kind.as_str(),
    );
    if let Some((first, rest)) = found.ranges.split_first().filter(|_| found.pages > 0) {
        let ranges = std::iter::once(first).chain(rest.iter().take(RANGES - 1));
        let ranges: Vec<_> = ranges
            .map(|it| format!("{:#x}-{:#x}", it.start, it.end))
            .collect();
        let more = if found.ranges.len() > RANGES {
            ", ..."
        } else {
            ""
        };
        text += &format!(" ({}{more})", ranges.join(", "));
    }
    text += &format!(".{}{}{}", tables(found), stood_open(found), took(found));
    let place = |id: Option<PlaceId>| {
        let stack = report.findings.stacks.get(&id?)?;
        Some(CodeLocation::new(stack).to_string())
    };
    match (place(found.place), &found.caller) {
        (Some(place), Some(caller)) => {
            text += &format!(" The call is at {place}, in {}.", thread(caller));
        }
        (Some(place), None) => text += &format!(" It happens at {place}."),
        (None, Some(caller)) => text += &format!(" The call is by {}.", thread(caller)),
        (None, None) => (),
    }
    if let Some(place) = place(found.earlier) {
        text += &format!(" It was read at {place}.");
    }
    format!("{text} What to do: {}.", kind.advice())
}

fn tables(found: &AuditFinding) -> String {
    match found.tables {
        0 => String::new(),
        tables => format!(" {} of page tables map nothing else.", size(tables as f64)),
    }
}

fn stood_open(found: &AuditFinding) -> String {
    if found.open == 0 {
        return String::new();
    }
    let (open, s) = (number(found.open), plural(found.open));
    format!(
        " {open} other page{s}: written before, and open in between; whether written again, nobody \
         knows."
    )
}

fn took(found: &AuditFinding) -> String {
    let (whole, longest) = (spoken(found.took), spoken(found.longest));
    match found.kind {
        _ if found.took == Duration::ZERO => String::new(),
        AuditKind::ReadThenArm => format!(" The time in between: {longest} at most."),
        _ => format!(" That took {whole} in all, {longest} at most."),
    }
}

/// A thread: whose names are, nobody knows.
fn thread(caller: &CallerThread) -> String {
    let CallerThread { tgid, tid, comm } = caller;
    let comm = printable(comm);
    if tgid == tid {
        format!("{comm} (process {tgid})")
    } else {
        format!("{comm} (thread {tid} of process {tgid})")
    }
}

/// What else was looked for, and not found; nothing where no call is seen.
fn looked_for(audit: &AuditFindings) -> Option<String> {
    let all_seen = audit.sight == AuditSight::Complete;
    let seen = if all_seen { "" } else { " in what is seen" };
    if !all_seen && audit.calls == 0 {
        return None;
    }
    let found = |kind: AuditKind| audit.found.iter().any(|found| found.kind == kind);
    let named = |kinds: &mut dyn Iterator<Item = AuditKind>| {
        let kinds: Vec<_> = kinds.filter(|kind| !found(*kind)).collect();
        kinds.into_iter().map(AuditKind::as_str).collect::<Vec<_>>()
    };
    let others = named(&mut audit.looked_for()).join(", ");
    let mut text = format!("looked for, and not found{seen}: {others}");
    let not = named(&mut audit.not_looked_for()).join(", ");
    if !not.is_empty() {
        text += &format!(
            ". Not looked for in memory that was registered before looking began, since the \
             features of its userfaultfd are not known: {not}"
        );
    }
    Some(text)
}

/// Who cleared soft-dirty bits.
fn cleared(audit: &AuditFindings) -> Vec<String> {
    let mut lines: Vec<_> = audit
        .cleared
        .iter()
        .take(THREADS)
        .map(|(caller, times)| {
            format!(
                "{} cleared soft-dirty bits {} time{}: what such a tracker is told is not judged \
                 here",
                thread(caller),
                number(*times),
                plural(*times)
            )
        })
        .collect();
    let rest = audit.cleared.len().saturating_sub(THREADS);
    if rest > 0 {
        lines.push(format!("{} cleared them, too", count(rest, "other thread")));
    }
    lines
}

/// Who waited for a handler, and who answered.
fn waits(audit: &AuditFindings) -> Vec<String> {
    let waits = audit.waits.iter().take(THREADS).map(|waits| {
        format!(
            "{} waited {} time{} for a handler, {} in all, {} at most (for page {:#x})",
            thread(&waits.caller),
            number(waits.times),
            plural(waits.times),
            spoken(waits.whole),
            spoken(waits.longest),
            waits.page
        )
    });
    let mut lines: Vec<_> = waits.collect();
    let rest = audit.waits.len().saturating_sub(THREADS);
    if rest > 0 {
        lines.push(format!("{} waited less", count(rest, "other thread")));
    }
    lines.extend(
        audit
            .answers
            .iter()
            .take(THREADS)
            .map(|((caller, cpu), times)| {
                let (times, s) = (number(*times), plural(*times));
                format!("{} disarmed {times} time{s} on CPU {cpu}", thread(caller))
            }),
    );
    lines
}
