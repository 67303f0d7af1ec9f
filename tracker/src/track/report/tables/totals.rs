//! What was tracked, how, and the totals.

use std::fmt::Write as _;

use super::{pages, speed};
use crate::print::clock::{rfc3339, spoken};
use crate::print::heat::rate;
use crate::print::words::{count, counted, number, printable, share};
use crate::track::json::end_name;
use crate::track::report::RecordingReport;

/// A line of the totals: what it is about, and what there is to say.
type TotalsLine = (&'static str, String);

/// What was tracked, how, and the totals.
pub(crate) fn totals(report: &RecordingReport<'_>) -> String {
    let notes = report.header.notes.iter();
    let notes = counted(notes.map(|note| printable(&note.to_string())));
    let notes = notes.into_iter().map(|note| ("note", note));
    let mut text = String::new();
    for (key, value) in head(report).into_iter().chain(sums(report)).chain(notes) {
        let _ = writeln!(text, "{key:11} {value}");
    }
    text
}

/// Who was tracked, and how.
fn head(report: &RecordingReport<'_>) -> [TotalsLine; 3] {
    let header = &report.header;
    let (comm, command) = (printable(&header.comm), header.command.join(" "));
    let what = format!("{comm} (pid {})  {}", header.pid, printable(&command));
    let began = rfc3339(header.began).unwrap_or_else(|| "before 1970".to_owned());
    let versions = format!(
        "{began}, kernel {}, tracker {}",
        printable(&header.kernel),
        printable(&header.tracker)
    );
    let strategy = format!("{}: {}", header.strategy, header.reason);
    [
        ("process", what),
        ("began", versions),
        ("strategy", printable(&strategy)),
    ]
}

/// What came of it.
fn sums(report: &RecordingReport<'_>) -> Vec<TotalsLine> {
    let totals = &report.totals;
    let rounds = format!(
        "{}, one every {}, {} in all",
        number(totals.rounds),
        spoken(report.header.interval),
        spoken(totals.lasted)
    );
    let part = share(totals.pages.set, totals.tracked);
    let set = format!("{}, {part} of the tracked", pages(totals.pages.set));
    let mut lines = vec![
        ("rounds", rounds),
        ("written", written(report)),
        ("  different", set),
    ];
    if totals.rounds > 1 {
        let (hot, once) = (pages(totals.pages.hot), pages(totals.pages.once));
        lines.push(("  always", format!("{hot} in every round")));
        lines.push(("  once", format!("{once} in one round only")));
    }
    if totals.pages.unknown > 0 {
        let text = "there before they were armed, never seen to be written: to be taken as written";
        lines.push((
            "unknown",
            format!("{}: {text}", pages(totals.pages.unknown)),
        ));
    }
    if let Some(zapped) = totals.zapped.filter(|zapped| *zapped > 0) {
        let text = format!("{} of the written were emptied", pages(zapped));
        lines.push(("zapped", text));
    }
    let (most, areas) = (pages(totals.tracked), count(report.areas.len(), "mapping"));
    lines.push(("tracked", format!("{most} at most, in {areas}")));
    lines.extend(limits(report));
    lines.push(("cost", cost(report)));
    lines.push(("ended", ended(report)));
    lines
}

/// What the numbers say nothing of.
fn limits(report: &RecordingReport<'_>) -> Vec<TotalsLine> {
    let totals = &report.totals;
    let mut lines = Vec::new();
    if totals.shared > 0 {
        let (most, files) = (pages(totals.shared), count(report.files.len(), "file"));
        let others = "what others wrote to it is seen by `hash` only";
        lines.push(("  shared", format!("{most} at most, of {files}: {others}")));
    }
    if totals.not_looked_at.total() > 0 {
        let text = "nobody knows whether it was written; for each reason the most in one round";
        lines.push(("not seen", text.to_owned()));
        let reasons = totals.not_looked_at.iter();
        lines.extend(reasons.map(|(reason, count)| {
            let text = format!("{} {}", pages(count), reason.about());
            ("", text)
        }));
    }
    lines
}

fn written(report: &RecordingReport<'_>) -> String {
    let totals = &report.totals;
    let mean = rate(totals.written, totals.open);
    let mut text = format!("{}, {}", pages(totals.written), speed(mean));
    if let Some((round, rate)) = totals.busiest.filter(|_| totals.rounds > 1) {
        let _ = write!(text, " on average, {} in round {round}", speed(rate as f64));
    }
    text
}

fn cost(report: &RecordingReport<'_>) -> String {
    let totals = &report.totals;
    let mean = totals
        .took
        .checked_div(totals.rounds.try_into().unwrap_or(u32::MAX))
        .unwrap_or_default();
    let mut text = format!(
        "reading and arming took {}, {} a round",
        spoken(totals.took),
        spoken(mean)
    );
    if let Some(stopped) = report.header.stopped {
        let _ = write!(text, "; stopped for {} to attach", spoken(stopped));
    }
    text
}

fn ended(report: &RecordingReport<'_>) -> String {
    let Some(ending) = &report.ending else {
        return "nobody knows: the recording is damaged".to_owned();
    };
    let Some(summary) = ending.summary() else {
        return ending.remark().unwrap_or_default();
    };
    match summary.status {
        Some(status) => format!("{}, with status {status}", end_name(summary.end)),
        None => end_name(summary.end).to_owned(),
    }
}
