//! A line for each round, while explaining goes on.

use pages::track::TrackHeader;

use super::matrix::AnswerMatrix;
use crate::explain::{ExplainFindings, ReportOwner, ReportVerdict, RoundFindings};
use crate::print::words::{count, number, printable};

/// What goes on.
pub(crate) fn begin(header: &TrackHeader) -> String {
    format!(
        "Explaining process {} ({}); Ctrl-C ends it and prints the report.\n",
        header.pid,
        printable(&header.comm)
    )
}

/// Whose reports come from here on, and how.
pub(crate) fn owner(findings: &ExplainFindings) -> String {
    let (strategy, reason) = (&findings.header.strategy, &findings.header.reason);
    match findings.owner {
        ReportOwner::Ours => format!("ours: tracked with {}\n", printable(strategy)),
        ReportOwner::Theirs if reason.is_empty() => {
            "theirs: no memory belongs to a userfaultfd yet\n".to_owned()
        }
        ReportOwner::Theirs => format!("theirs: observed, {}\n", printable(reason)),
    }
}

/// The names of the columns.
pub(crate) fn head() -> String {
    format!(
        "{:<6} {:>6} {:>9} {:>10} {:>10} {:>10} {:>9} {:>9} {:>8}  {}\n",
        "OF",
        "ROUND",
        "AT",
        "REPORTED",
        "CHANGED",
        "UNCHANGED",
        "ZEROED",
        "UNKNOWN",
        "MISSED",
        "MOST BY"
    )
}

/// A round, and what happened to the process before it.
pub(crate) fn line(owner: ReportOwner, round: &RoundFindings) -> String {
    let pages = AnswerMatrix::new(&round.tally);
    let of = |verdict| number(pages.verdict(verdict));
    let unknown = pages
        .verdict(ReportVerdict::Unknown)
        .saturating_add(pages.verdict(ReportVerdict::Gone));
    let most = pages
        .causes()
        .into_iter()
        .max_by_key(|cause| pages.cause(*cause));
    let events = round
        .events
        .iter()
        .map(|event| format!("     * {}\n", printable(&event.to_string())));
    let left_out = match round.delay.left_out {
        0 => String::new(),
        rounds => format!(
            "     * {} left out: the one before took longer than the interval\n",
            count(usize::try_from(rounds).unwrap_or(usize::MAX), "round")
        ),
    };
    let line = format!(
        "{:<6} {:>6} {:>8.2}s {:>10} {:>10} {:>10} {:>9} {:>9} {:>8}  {}\n",
        owner,
        round.number,
        round.at.as_secs_f64(),
        number(pages.all()),
        of(ReportVerdict::Changed),
        of(ReportVerdict::Unchanged),
        of(ReportVerdict::Zeroed),
        number(unknown),
        number(round.missed),
        most.map_or("-", |cause| cause.as_str())
    );
    { events }.chain([left_out, line]).collect()
}
