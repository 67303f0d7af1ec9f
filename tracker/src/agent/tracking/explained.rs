//! What explaining a process came to, in numbers.

use crate::explain::{ExplainedRound, PageSampling};
use crate::metrics::ExplainedTotals;
use uffd::pages_in;

/// The totals of one round.
pub fn of_round(round: &ExplainedRound, sampling: PageSampling) -> ExplainedTotals {
    let mut totals = ExplainedTotals {
        verified: round.verified,
        lost: round.dropped,
        one_of: sampling.one_of,
        ..ExplainedTotals::default()
    };
    for pages in round.reported.iter().flat_map(|(_, pages)| pages) {
        *totals.reported.entry(pages.why).or_default() += pages.pages();
    }
    let missed = round.missed.iter().flat_map(|(_, pages)| pages);
    totals.missed = missed.map(|pages| pages_in(&pages.range)).sum();
    totals
}

/// Adds another round; the sampling is that of the last one.
pub fn add(totals: &mut ExplainedTotals, round: &ExplainedTotals) {
    // Destructured, so that a new number does not compile until it is added.
    let ExplainedTotals {
        reported,
        missed,
        verified,
        lost,
        one_of,
    } = round;
    for (why, pages) in reported {
        *totals.reported.entry(*why).or_default() += pages;
    }
    totals.missed += missed;
    totals.verified += verified;
    totals.lost += lost;
    totals.one_of = *one_of;
}
