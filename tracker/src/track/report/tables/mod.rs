//! The report as text: what was tracked, totals, mappings, rounds.

mod mappings;
mod rounds;
mod shared;
mod totals;

use super::counts::WINDOW;
use crate::print::words::{number, size};
pub(crate) use mappings::mappings;
pub(crate) use rounds::rounds;
pub(crate) use shared::shared;
pub(crate) use totals::totals;

/// What the columns are, for whoever sees them first.
pub(crate) fn legend() -> String {
    format!(
        "Pages are units of 4 KiB. DIFFERENT pages were written up to there, LAST {WINDOW} in the \
         last {WINDOW} rounds, HOT in every round.\nROUNDS: with a page written / there.\n"
    )
}

fn pages(pages: u64) -> String {
    format!("{} pages ({})", number(pages), size(pages as f64))
}

fn speed(rate: f64) -> String {
    format!("{} pages/s ({} MiB/s)", number(rate as u64), mib(rate))
}

/// MiB of so many pages.
fn mib(pages: f64) -> String {
    let mib = pages / 256.0;
    if mib < 9.95 {
        format!("{mib:.1}")
    } else {
        number(mib as u64)
    }
}
