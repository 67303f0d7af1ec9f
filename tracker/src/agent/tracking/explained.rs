//! What explaining a process came to, in numbers.

use crate::explain::{AnswerTally, ByMapping, ExplainedRound, MissedPages, PageSampling};
use crate::metrics::{ExplainedTotals, ObservedTotals};
use uffd::pages_in;

/// The totals of one round: of our tracking, if there is any, and of what belongs to another
/// tracker.
pub fn of_round(
    ours: Option<&ExplainedRound>,
    theirs: Option<&ExplainedRound>,
    sampling: PageSampling,
) -> ExplainedTotals {
    let mut totals = ExplainedTotals {
        one_of: sampling.one_of,
        observed: theirs.map(observed),
        ..ExplainedTotals::default()
    };
    if let Some(round) = ours {
        totals.reported = tally(round);
        totals.missed = missed(&round.missed);
        totals.verified = round.verified;
    }
    // Both read the same events.
    totals.lost = ours.or(theirs).map_or(0, |round| round.dropped);
    totals
}

fn observed(round: &ExplainedRound) -> ObservedTotals {
    ObservedTotals {
        reported: tally(round),
        missed: missed(&round.missed),
        verified: round.verified,
    }
}

fn tally(round: &ExplainedRound) -> AnswerTally {
    let mut tally = AnswerTally::new();
    for pages in round.reported.iter().flat_map(|(_, pages)| pages) {
        *tally.entry(pages.why).or_default() += pages.pages();
    }
    tally
}

fn missed(missed: &ByMapping<MissedPages>) -> u64 {
    let missed = missed.iter().flat_map(|(_, pages)| pages);
    missed.map(|pages| pages_in(&pages.range)).sum()
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
        observed,
    } = round;
    add_tally(&mut totals.reported, reported);
    totals.missed += missed;
    totals.verified += verified;
    totals.lost += lost;
    totals.one_of = *one_of;
    if let Some(ObservedTotals {
        reported,
        missed,
        verified,
    }) = observed
    {
        let observed = totals.observed.get_or_insert_default();
        add_tally(&mut observed.reported, reported);
        observed.missed += missed;
        observed.verified += verified;
    }
}

fn add_tally(sum: &mut AnswerTally, tally: &AnswerTally) {
    for (why, pages) in tally {
        *sum.entry(*why).or_default() += pages;
    }
}
