//! Tables of what was reported, and of what was not.

use std::fmt::Write as _;

use super::count;
use super::wrap::{INDENT, cut, wrapped};
use crate::explain::report::{Report, flags, name_of};
use crate::explain::{Verdict, advice as means};
use crate::track::report::table::Table;
use crate::track::report::words::{elided, number, printable, share, size};
use uffd::pages_in;

/// VMAs told.
const VMAS: usize = 12;
/// Ranges of missed pages told.
const MISSED: usize = 10;
/// Characters of a mapping's name.
const NAME: usize = 34;

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
        table.row([
            format!("{:#x}", mapping.start),
            size(pages_in(&(mapping.start..mapping.end)) as f64),
            mapping.backing.as_str().to_owned(),
            number(pages.all()),
            count(unchanged),
            share(unchanged, pages.compared()),
            count(vma.missed),
            elided(&name_of(mapping), NAME),
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
        let _ = writeln!(text, "{}", cut(&line));
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
        table.row([
            format!("{:#x}", group.first),
            number(group.pages),
            count(group.zeroed),
            candidates.join(", "),
            elided(&name_of(group.mapping), NAME),
        ]);
    }
    for line in table.lines() {
        let _ = writeln!(text, "{}", cut(&line));
    }
    if report.missed.len() > MISSED {
        let _ = writeln!(text, "and {} more mappings", report.missed.len() - MISSED);
    }
    for candidate in report.candidates() {
        text += &wrapped(
            &format!("  {candidate}: "),
            INDENT,
            means::candidate(candidate),
        );
    }
    text
}
