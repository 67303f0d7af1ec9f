//! Pages by cause and verdict.

use std::cmp::Reverse;

use crate::explain::{Cause, Tally, Verdict, Why};

/// A tally that can be asked for its sums. It holds what somebody counted: sums saturate.
#[derive(Clone, Debug, Default)]
pub struct Matrix(Tally);

impl Matrix {
    /// Of a tally.
    pub fn new(tally: &Tally) -> Self {
        Self(tally.clone())
    }

    /// Counts more.
    pub fn add(&mut self, why: Why, pages: u64) {
        let count = self.0.entry(why).or_default();
        *count = count.saturating_add(pages);
    }

    /// Pages with this cause and verdict.
    pub fn at(&self, cause: Cause, verdict: Verdict) -> u64 {
        self.0.get(&Why { verdict, cause }).copied().unwrap_or(0)
    }

    /// All pages.
    pub fn all(&self) -> u64 {
        self.sum(|_| true)
    }

    /// Pages with a cause.
    pub fn cause(&self, cause: Cause) -> u64 {
        self.sum(|why| why.cause == cause)
    }

    /// Pages with a verdict.
    pub fn verdict(&self, verdict: Verdict) -> u64 {
        self.sum(|why| why.verdict == verdict)
    }

    /// Pages whose content is known, before and after.
    pub fn compared(&self) -> u64 {
        self.sum(|why| {
            matches!(
                why.verdict,
                Verdict::Changed | Verdict::Unchanged | Verdict::Zeroed
            )
        })
    }

    /// The causes there are: those with most unchanged pages first, then those with most pages, the unknown last.
    pub fn causes(&self) -> Vec<Cause> {
        let mut causes: Vec<_> = Cause::ALL
            .iter()
            .copied()
            .filter(|c| self.cause(*c) > 0)
            .collect();
        causes.sort_by_key(|c| {
            let unchanged = self.at(*c, Verdict::Unchanged);
            (*c == Cause::Unknown, Reverse((unchanged, self.cause(*c))))
        });
        causes
    }

    /// The counts that are not 0.
    pub fn iter(&self) -> impl Iterator<Item = (Why, u64)> {
        self.0
            .iter()
            .map(|(why, pages)| (*why, *pages))
            .filter(|(_, pages)| *pages > 0)
    }

    fn sum(&self, of: impl Fn(&Why) -> bool) -> u64 {
        self.iter()
            .filter(|(why, _)| of(why))
            .fold(0, |sum, (_, pages)| sum.saturating_add(pages))
    }
}
