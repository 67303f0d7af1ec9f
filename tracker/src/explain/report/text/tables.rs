//! Tables of what was reported, and of what was not.

use std::fmt::Write as _;

use uffd::pages_in;

use super::count;
use crate::explain::report::{ExplainReport, flags, name_of, remarks};
use crate::explain::{ReportVerdict, advice};
use crate::print::table::TableHead::{Left, Right};
use crate::print::table::TextTable;
use crate::print::words::{elided, number, printable, share, size};
use crate::print::wrap::{INDENT, cut, wrapped};

/// VMAs in the table.
const VMAS: usize = 12;
/// Ranges of missed pages shown.
const MISSED: usize = 10;
/// Characters of a mapping's name.
const NAME: usize = 34;

/// Pages by cause and verdict.
pub(super) fn matrix(report: &ExplainReport<'_>) -> String {
    let pages = &report.pages;
    let all = pages.all();
    if all == 0 {
        return String::new();
    }
    let names: Vec<_> = ReportVerdict::ALL
        .iter()
        .map(|verdict| verdict.as_str().to_uppercase())
        .collect();
    let mut heads = vec![Left("CAUSE")];
    heads.extend(names.iter().map(|name| Right(name)));
    heads.extend([Right("PAGES"), Right("SHARE")]);
    let mut table = TextTable::new(&heads);
    let mut row = |name: String, counts: &dyn Fn(ReportVerdict) -> String, sums: [String; 2]| {
        let counts = ReportVerdict::ALL.iter().map(|verdict| counts(*verdict));
        table.row([name].into_iter().chain(counts).chain(sums));
    };
    for cause in pages.causes() {
        let sum = pages.cause(cause);
        let sums = [number(sum), share(sum, all)];
        row(cause.to_string(), &|v| count(pages.at(cause, v)), sums);
    }
    let sums = [number(all), String::new()];
    row("all".to_owned(), &|v| number(pages.verdict(v)), sums);
    let none = [String::new(), String::new()];
    row(String::new(), &|v| share(pages.verdict(v), all), none);
    let mut text = table.text();
    text += "Pages are units of 4 KiB, each as often as it was reported.\n";
    for cause in pages.causes() {
        text += &wrapped(&format!("  {cause}: "), INDENT, advice::cause(cause));
    }
    text
}

/// VMAs: those with most unchanged pages first.
pub(super) fn vmas(report: &ExplainReport<'_>) -> String {
    if report.vmas.is_empty() {
        return String::new();
    }
    let mut table = TextTable::new(&[
        Right("START"),
        Right("SIZE"),
        Right("BACKING"),
        Right("REPORTED"),
        Right("UNCHANGED"),
        Right("SHARE"),
        Right("MISSED"),
        Left("NAME"),
    ]);
    for (vma, pages) in report.vmas.iter().take(VMAS) {
        let mapping = &vma.mapping;
        let unchanged = pages.verdict(ReportVerdict::Unchanged);
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
    text.extend(lines.next().map(|head| head + "\n"));
    for (line, (vma, _)) in lines.zip(&report.vmas) {
        let _ = writeln!(text, "{}", cut(&line));
        text += &vm_flags(&vma.flags);
    }
    if report.vmas.len() > VMAS {
        let rest = report.vmas.iter().skip(VMAS).map(|(_, pages)| pages.all());
        let pages = rest.fold(0, u64::saturating_add);
        let (more, pages) = (report.vmas.len() - VMAS, number(pages));
        let _ = writeln!(text, "and {more} more with {pages} reported pages");
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
pub(super) fn missed(report: &ExplainReport<'_>) -> String {
    let verified = number(report.findings.verified);
    if report.missed.is_empty() {
        let told = remarks::verified(report);
        return told.map_or_else(String::new, |told| wrapped("", 0, &told));
    }
    let mut text = format!(
        "Changed and not reported: {} of {verified} clean pages that were compared\n",
        number(report.missed_pages)
    );
    for line in missed_table(report).lines() {
        let _ = writeln!(text, "{}", cut(&line));
    }
    if report.missed.len() > MISSED {
        let _ = writeln!(text, "and {} more mappings", report.missed.len() - MISSED);
    }
    for candidate in report.candidates() {
        let first = format!("  {candidate}: ");
        text += &wrapped(&first, INDENT, advice::candidate(candidate));
    }
    text
}

fn missed_table(report: &ExplainReport<'_>) -> TextTable {
    let mut table = TextTable::new(&[
        Right("FIRST"),
        Right("PAGES"),
        Right("ZERO NOW"),
        Right("ROUND"),
        Left("PERHAPS BY"),
        Left("NAME"),
    ]);
    for group in report.missed.iter().take(MISSED) {
        let candidates: Vec<_> = group.candidates.iter().map(|c| c.as_str()).collect();
        table.row([
            format!("{:#x}", group.first),
            number(group.pages),
            count(group.zeroed),
            group.rounds(),
            candidates.join(", "),
            elided(&name_of(group.mapping), NAME),
        ]);
    }
    table
}
