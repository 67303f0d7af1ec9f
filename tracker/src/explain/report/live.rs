//! A line for each round, while it goes on.

use super::matrix::Matrix;
use crate::explain::{RoundLine, Verdict};
use crate::track::report::words::{number, printable};

/// Rounds after which the names of the columns are printed again.
pub const REPEAT: u64 = 20;

/// The names of the columns.
#[must_use]
pub fn head() -> String {
    format!(
        "{:>6} {:>9} {:>10} {:>10} {:>10} {:>9} {:>9} {:>8}  {}\n",
        "ROUND", "AT", "REPORTED", "CHANGED", "UNCHANGED", "ZEROED", "UNKNOWN", "MISSED", "MOST BY"
    )
}

/// A round, and what happened to the process before it.
#[must_use]
pub fn line(round: &RoundLine) -> String {
    let pages = Matrix::new(&round.tally);
    let of = |verdict| number(pages.verdict(verdict));
    let unknown = pages
        .verdict(Verdict::Unknown)
        .saturating_add(pages.verdict(Verdict::Gone));
    let most = pages
        .causes()
        .into_iter()
        .max_by_key(|cause| pages.cause(*cause));
    let events = round
        .events
        .iter()
        .map(|event| format!("     * {}\n", printable(&event.to_string())));
    let line = format!(
        "{:>6} {:>8.2}s {:>10} {:>10} {:>10} {:>9} {:>9} {:>8}  {}\n",
        round.number,
        round.at.as_secs_f64(),
        number(pages.all()),
        of(Verdict::Changed),
        of(Verdict::Unchanged),
        of(Verdict::Zeroed),
        number(unknown),
        number(round.missed),
        most.map_or("-", |cause| cause.as_str())
    );
    events.chain([line]).collect()
}
