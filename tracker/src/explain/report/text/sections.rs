//! Parts of the report. One about which there is nothing to tell is empty.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::stack::stack;
use super::wrap::{WIDTH, wrapped};
use crate::explain::report::spots::Spot;
use crate::explain::report::{Report, flags, remarks};
use crate::explain::{Reason, Verdict, advice as means};
use crate::model::words::backing;
use crate::track::report::table::Table;
use crate::track::report::words::{elided, number, printable, share, size};
use crate::uffd::pages_in;

/// Code locations told.
const SPOTS: usize = 10;
/// VMAs told.
const VMAS: usize = 12;
/// Ranges of missed pages told.
const MISSED: usize = 10;
/// Where what belongs to a line begins.
const INDENT: usize = 6;

/// Pages by cause and verdict.
pub fn matrix(report: &Report<'_>) -> String {
    let pages = &report.pages;
    let all = pages.all();
    if all == 0 {
        return String::new();
    }
    let mut heads = vec!["CAUSE".to_owned()];
    heads.extend(Verdict::ALL.iter().map(|v| v.as_str().to_uppercase()));
    heads.extend(["PAGES".to_owned(), "SHARE".to_owned()]);
    let mut table = Table::new(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for cause in pages.causes() {
        let counts = Verdict::ALL.iter().map(|v| count(pages.at(cause, *v)));
        let sum = pages.cause(cause);
        table.row(
            [cause.to_string()]
                .into_iter()
                .chain(counts)
                .chain([number(sum), share(sum, all)]),
        );
    }
    let counts = Verdict::ALL.iter().map(|v| number(pages.verdict(*v)));
    table.row(
        ["all".to_owned()]
            .into_iter()
            .chain(counts)
            .chain([number(all), String::new()]),
    );
    let shares = Verdict::ALL.iter().map(|v| share(pages.verdict(*v), all));
    table.row([String::new()].into_iter().chain(shares));
    let mut text = table.text();
    text += "Pages are units of 4 KiB, each as often as it was reported.\n";
    for cause in pages.causes() {
        text += &wrapped(&format!("  {cause}: "), INDENT, means::cause(cause));
    }
    text
}

fn count(pages: u64) -> String {
    if pages == 0 {
        "-".to_owned()
    } else {
        number(pages)
    }
}

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
        text += &elided_end(&line);
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

/// A line that is too long loses its end, where names are.
fn elided_end(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

/// VMAs: those with most unchanged pages first.
pub fn vmas(report: &Report<'_>) -> String {
    if report.vmas.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        "START",
        "SIZE",
        "BACKING",
        "REPORTED",
        "UNCHANGED",
        "SHARE",
        "MISSED",
        "NAME",
    ]);
    for (vma, pages) in report.vmas.iter().take(VMAS) {
        let mapping = &vma.mapping;
        let unchanged = pages.verdict(Verdict::Unchanged);
        let name = if mapping.name.is_empty() {
            "[anon]"
        } else {
            &mapping.name
        };
        table.row([
            format!("{:#x}", mapping.start),
            size(pages_in(&(mapping.start..mapping.end)) as f64),
            backing(mapping.backing).to_owned(),
            number(pages.all()),
            count(unchanged),
            share(unchanged, pages.compared()),
            count(vma.missed),
            elided(&printable(name), 34),
        ]);
    }
    let mut text =
        "Mappings, by unchanged pages (SHARE is of the pages that were compared):\n".to_owned();
    let mut lines = table.lines().into_iter();
    text.extend(
        lines
            .next()
            .into_iter()
            .flat_map(|head| [head, "\n".to_owned()]),
    );
    for (line, (vma, _)) in lines.zip(&report.vmas) {
        let _ = writeln!(text, "{}", elided_end(&line));
        text += &vm_flags(&vma.flags);
    }
    if report.vmas.len() > VMAS {
        let rest = report.vmas.iter().skip(VMAS).map(|(_, pages)| pages.all());
        let pages = rest.fold(0, u64::saturating_add);
        let _ = writeln!(
            text,
            "and {} more with {} reported pages",
            report.vmas.len() - VMAS,
            number(pages)
        );
    }
    text
}

fn vm_flags(all: &str) -> String {
    if all.trim().is_empty() {
        return String::new();
    }
    let telling = flags::telling(all);
    let told: Vec<_> = telling
        .iter()
        .map(|(flag, what)| format!("{flag} {what}"))
        .collect();
    let tail = if told.is_empty() {
        String::new()
    } else {
        format!(" ({})", told.join("; "))
    };
    let line = format!("VmFlags {}{tail}", printable(all.trim()));
    wrapped(&" ".repeat(INDENT), INDENT + 2, &line)
}

/// What changed behind the protection.
pub fn missed(report: &Report<'_>) -> String {
    let verified = report.findings.verified;
    if report.missed.is_empty() {
        return if verified == 0 {
            String::new()
        } else {
            format!(
                "No false negative: all of {} clean pages that were compared are the same.\n",
                number(verified)
            )
        };
    }
    let mut text = format!(
        "Changed and not reported: {} of {} clean pages that were compared\n",
        number(report.missed_pages),
        number(verified)
    );
    let mut table = Table::new(&["FIRST", "PAGES", "ZERO NOW", "PERHAPS BY", "NAME"]);
    for group in report.missed.iter().take(MISSED) {
        let candidates: Vec<_> = group.candidates.iter().map(|c| c.as_str()).collect();
        let name = if group.mapping.name.is_empty() {
            "[anon]"
        } else {
            &group.mapping.name
        };
        table.row([
            format!("{:#x}", group.first),
            number(group.pages),
            count(group.zeroed),
            candidates.join(", "),
            elided(&printable(name), 34),
        ]);
    }
    for line in table.lines() {
        let _ = writeln!(text, "{}", elided_end(&line));
    }
    if report.missed.len() > MISSED {
        let _ = writeln!(text, "and {} more mappings", report.missed.len() - MISSED);
    }
    let mut candidates: Vec<_> = report
        .missed
        .iter()
        .flat_map(|group| group.candidates)
        .collect();
    candidates.sort_unstable();
    candidates.dedup();
    for candidate in candidates {
        text += &wrapped(
            &format!("  {candidate}: "),
            INDENT,
            means::candidate(*candidate),
        );
    }
    text
}

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
            &format!("  {cause} ({} pages): ", number(pages)),
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
