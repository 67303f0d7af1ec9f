//! What stands around the numbers: how it was tracked, what it cost, what could not be seen.

use pages::inject::InjectNote;
use std::fmt::Write as _;

use uffd::PAGE_SIZE;

use super::writers::TopWriters;
use super::{ExplainReport, headline};
use crate::explain::{
    AuditFindings, AuditSight, ExplainFindings, FrozenTime, NamingCost, ReportOwner, advice,
};
use crate::print::clock::{of_the_time, rfc3339, spoken};
use crate::print::words::{count, counted, number, plural, printable, size};

/// The process and its arguments.
pub(super) fn who(report: &ExplainReport<'_>) -> (String, String) {
    let header = &report.findings.header;
    (
        printable(&header.comm),
        printable(&header.command.join(" ")),
    )
}

/// How it was tracked or observed, and for how long.
pub(super) fn how(report: &ExplainReport<'_>) -> String {
    let header = &report.findings.header;
    if report.findings.owner == ReportOwner::Theirs {
        let why = match header.reason.as_str() {
            "" => String::new(),
            reason => format!(" ({})", printable(reason)),
        };
        return format!(
            "observed{why}, {} in {}, one every {}",
            count(report.findings.rounds.len(), "look"),
            spoken(report.lasted),
            spoken(header.interval),
        ) + &left_out(report.findings.left_out());
    }
    // Why this one: with a strategy without faults nothing below is known.
    let why = match header.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({})", printable(reason)),
    };
    format!(
        "strategy {}{why}, {} in {}, one every {}",
        printable(&header.strategy),
        count(report.findings.rounds.len(), "round"),
        spoken(report.lasted),
        spoken(header.interval),
    ) + &left_out(report.findings.left_out())
}

/// Rounds that there are not.
fn left_out(rounds: u64) -> String {
    if rounds == 0 {
        return String::new();
    }
    let verb = if rounds == 1 { "was" } else { "were" };
    let rounds = number(rounds);
    format!("; {rounds} more {verb} left out, since the one before took longer than that")
}

/// When it began, and on which kernel and with which tracker.
pub(super) fn versions(report: &ExplainReport<'_>) -> String {
    let header = &report.findings.header;
    let began = rfc3339(header.began).unwrap_or_else(|| "before 1970".to_owned());
    format!(
        "began {began}, kernel {}, tracker {}",
        printable(&header.kernel),
        printable(&header.tracker),
    )
}

/// How much is seen of causes and contents.
pub(super) fn seen(report: &ExplainReport<'_>) -> String {
    let findings = report.findings;
    let causes = if findings.seen.is_complete() {
        "every hook that tells causes is attached".to_owned()
    } else {
        let gaps = count(findings.seen.told().len(), "gap");
        format!("not all causes can be seen ({gaps} below)")
    };
    let held = match findings.owner {
        ReportOwner::Ours => "tracked",
        ReportOwner::Theirs => "observed",
    };
    let compared = match findings.sampling.one_of {
        0 | 1 => format!("the content of all {held} pages is compared"),
        of => format!("the content of one {held} page of {of} is compared"),
    };
    match findings.not_looked_at.total() {
        0 => format!("{causes}; {compared}"),
        pages => {
            let verb = if pages == 1 { "is" } else { "are" };
            format!(
                "{causes}; {compared}; {} other page{} {verb} not looked at (by reason below)",
                number(pages),
                plural(pages)
            )
        }
    }
}

/// What was compared and is the same; nothing if nothing was compared.
pub(super) fn verified(report: &ExplainReport<'_>) -> Option<String> {
    let findings = report.findings;
    let rest = match findings.not_looked_at.total() {
        0 => String::new(),
        pages => format!("; {} not looked at", of_pages(pages)),
    };
    (findings.verified != 0).then(|| {
        format!(
            "No false negative among the {} clean page{} that were compared{rest}.",
            number(findings.verified),
            plural(findings.verified)
        )
    })
}

fn of_pages(pages: u64) -> String {
    let verb = if pages == 1 { "was" } else { "were" };
    format!("{} page{} {verb}", number(pages), plural(pages))
}

/// What stands in the place of code that is not known: what it was reported for.
pub(super) fn nowhere(top: &TopWriters<'_, '_>) -> String {
    let causes: Vec<_> = top.nowhere_causes().iter().map(|c| c.as_str()).collect();
    format!("no code is known ({})", causes.join(", "))
}

/// What it took: memory, time, events.
pub(super) fn costs(report: &ExplainReport<'_>) -> Vec<String> {
    let findings = report.findings;
    let pages = |bytes: u64| bytes as f64 / PAGE_SIZE as f64;
    let mut memory = format!(
        "memory for images of pages: {}",
        size(pages(findings.memory))
    );
    if findings.tracked > 0 {
        let gib = findings.tracked as f64 / (1 << 18) as f64;
        let each = size(pages(findings.memory) / gib);
        let _ = write!(memory, ", {each} for each GiB tracked");
    }
    let rounds = u32::try_from(findings.rounds.len().max(1)).unwrap_or(u32::MAX);
    let time = format!(
        "reading and hashing {} took {}, {} a round, {}",
        size(pages(findings.hashed)),
        spoken(findings.took),
        spoken(findings.took / rounds),
        of_the_time(findings.took, report.lasted)
    );
    let events = format!(
        "events of the kernel: {} read, {} dropped",
        number(findings.events),
        number(findings.dropped)
    );
    let mut costs = vec![memory, time, naming(findings.naming), events];
    let FrozenTime { whole, longest } = findings.frozen;
    if !whole.is_zero() {
        costs.push(format!(
            "the process stood still for {} in all, for {} at most",
            spoken(whole),
            spoken(longest)
        ));
    }
    costs.extend(findings.interrupted.iter().map(|(call, &threads)| {
        let call = call.clone();
        InjectNote::Interrupted { threads, call }.to_string()
    }));
    costs
}

fn naming(cost: NamingCost) -> String {
    format!(
        "naming code: {} address{} in {} took {} after the last round; holding the files took {} \
         in all rounds",
        number(cost.addresses),
        if cost.addresses == 1 { "" } else { "es" },
        count(usize::try_from(cost.modules).unwrap_or(usize::MAX), "file"),
        spoken(cost.after),
        spoken(cost.during)
    )
}

/// What could not be seen, and how sure a sample is.
pub(super) fn not_seen(report: &ExplainReport<'_>) -> Vec<String> {
    let findings = report.findings;
    let mut lines: Vec<String> = Vec::new();
    if let Some(interval) = headline::interval(report) {
        lines.push(format!(
            "the content of one page of {} was looked at, chosen by its address; the share of \
             unchanged pages is known as well as a sample tells ({interval}), if a page reported \
             twice tells as much as two pages",
            findings.sampling.one_of
        ));
    }
    if findings.owner == ReportOwner::Theirs {
        lines.extend(not_seen_of_others(report));
    }
    if findings.not_looked_at.total() != 0 {
        lines.push(format!(
            "not looked at, at most in one round: {}; whether they were written nobody knows",
            findings.not_looked_at
        ));
    }
    lines.extend(findings.seen.told().iter().map(|what| printable(what)));
    lines.extend(findings.unnamed.iter().map(|code| {
        let (module, why) = (printable(&code.module), printable(&code.why));
        format!("names of code in {module} are not known: {why}")
    }));
    let notes = findings.header.notes.iter();
    lines.extend(notes.map(|note| printable(&note.to_string())));
    counted(lines)
}

/// What a look does not see of a tracker that is there already.
fn not_seen_of_others(report: &ExplainReport<'_>) -> Vec<String> {
    let ExplainFindings {
        not_rearmed,
        perhaps_reported,
        never_observed,
        ..
    } = *report.findings;
    let mut lines = Vec::new();
    if !sees_rounds(report.findings) {
        lines.push(
            "calls of their tracker: a round of theirs is what two looks tell of it, so what was \
             reported and armed again between two looks with the same content is in no count"
                .to_owned(),
        );
    }
    let without = if sees_rounds(report.findings) {
        "trackers without a userfaultfd: of those that read soft-dirty bits only their writes to \
         clear_refs are seen, and of those that compare content nothing"
    } else {
        "trackers without a userfaultfd, which read soft-dirty bits or compare content: nothing in \
         smaps tells of them"
    };
    lines.push(without.to_owned());
    if not_rearmed != 0 {
        lines.push(format!(
            "{} reported page{} had not been armed again by the end: the content at the last look \
             was compared, and may have changed after that",
            number(not_rearmed),
            plural(not_rearmed)
        ));
    }
    if perhaps_reported != 0 {
        lines.push(format!(
            "{} page{} had no protection when looked at first, in memory that is armed, and had \
             not been armed again by the end: whether their tracker was told of them is not \
             known, and no count has them",
            number(perhaps_reported),
            plural(perhaps_reported)
        ));
    }
    if never_observed != 0 {
        lines.push(format!(
            "written in memory that was not registered any more at the next look: {} armed \
             page{}, which no count has",
            number(never_observed),
            plural(never_observed)
        ));
    }
    lines
}

/// Whether rounds of theirs are those of its calls.
fn sees_rounds(findings: &ExplainFindings) -> bool {
    let calls_seen = |audit: &AuditFindings| audit.sight == AuditSight::Complete;
    findings.seen.is_complete() && findings.audit.as_ref().is_some_and(calls_seen)
}

/// Where a second strategy disagrees: first the sums.
pub(super) fn against(report: &ExplainReport<'_>) -> Vec<String> {
    let Some(against) = &report.findings.against else {
        return Vec::new();
    };
    let (ours, theirs) = (&report.findings.header.strategy, against.strategy);
    let here: u64 = against.only_here.values().sum();
    let there: u64 = against.only_there.values().sum();
    let mut lines = vec![format!(
        "Against {theirs}: {} pages are reported by both, {} only by {ours}, {} only by {theirs}.",
        number(against.both),
        number(here),
        number(there)
    )];
    lines.extend(against.only_here.iter().map(|(why, pages)| {
        let pages = number(*pages);
        format!("only {ours}: {pages} {}, {}", why.verdict, why.cause)
    }));
    lines.extend(against.only_there.iter().map(|(why, pages)| {
        let reason = advice::second_only(*why);
        format!("only {theirs}: {} {reason}", number(*pages))
    }));
    lines
}
