//! What explaining a process came to, in numbers.

use crate::explain::{AnswerTally, ExplainedRound, PageSampling};
use uffd::pages_in;

/// What explaining a process came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Reported pages by verdict and cause.
    pub reported: AnswerTally,
    /// Pages that changed and were not reported.
    pub missed: u64,
    /// Clean pages that were compared.
    pub verified: u64,
    /// Events that were lost.
    pub lost: u64,
    /// One page of so many is compared.
    pub one_of: u64,
}

impl Explanation {
    /// Of one round.
    pub fn of(round: &ExplainedRound, sampling: PageSampling) -> Self {
        let mut sum = Self {
            verified: round.verified,
            lost: round.dropped,
            one_of: sampling.one_of,
            ..Self::default()
        };
        for pages in round.reported.iter().flat_map(|(_, pages)| pages) {
            *sum.reported.entry(pages.why).or_default() += pages.pages();
        }
        let missed = round.missed.iter().flat_map(|(_, pages)| pages);
        sum.missed = missed.map(|pages| pages_in(&pages.range)).sum();
        sum
    }

    /// Adds another round.
    pub fn add(&mut self, more: &Self) {
        for (why, pages) in &more.reported {
            *self.reported.entry(*why).or_default() += pages;
        }
        self.missed += more.missed;
        self.verified += more.verified;
        self.lost += more.lost;
        self.one_of = more.one_of;
    }
}
