//! Pages by cause and verdict.

use std::cmp::Reverse;

use crate::explain::{AnswerTally, ReportAnswer, ReportCause, ReportVerdict};

/// A tally that can be asked for its sums. Somebody else may have counted: sums saturate.
#[derive(Clone, Debug, Default)]
pub(super) struct AnswerMatrix(AnswerTally);

impl AnswerMatrix {
    pub(super) fn new(tally: &AnswerTally) -> Self {
        Self(tally.clone())
    }

    /// Adds pages.
    pub(super) fn add(&mut self, why: ReportAnswer, pages: u64) {
        let count = self.0.entry(why).or_default();
        *count = count.saturating_add(pages);
    }

    /// Pages with this cause and verdict.
    pub(super) fn at(&self, cause: ReportCause, verdict: ReportVerdict) -> u64 {
        self.0
            .get(&ReportAnswer { verdict, cause })
            .copied()
            .unwrap_or(0)
    }

    pub(super) fn all(&self) -> u64 {
        self.sum(|_| true)
    }

    /// Pages with a cause.
    pub(super) fn cause(&self, cause: ReportCause) -> u64 {
        self.sum(|why| why.cause == cause)
    }

    /// Pages with a verdict.
    pub(super) fn verdict(&self, verdict: ReportVerdict) -> u64 {
        self.sum(|why| why.verdict == verdict)
    }

    /// Pages whose content is known, before and after.
    pub(super) fn compared(&self) -> u64 {
        self.sum(|why| {
            matches!(
                why.verdict,
                ReportVerdict::Changed | ReportVerdict::Unchanged | ReportVerdict::Zeroed
            )
        })
    }

    /// The causes there are: those with most unchanged pages first, then those with most pages,
    /// and the unknown last.
    pub(super) fn causes(&self) -> Vec<ReportCause> {
        let mut causes: Vec<_> = ReportCause::ALL
            .iter()
            .copied()
            .filter(|c| self.cause(*c) > 0)
            .collect();
        causes.sort_by_key(|c| {
            let unchanged = self.at(*c, ReportVerdict::Unchanged);
            (
                *c == ReportCause::Unknown,
                Reverse((unchanged, self.cause(*c))),
            )
        });
        causes
    }

    /// The counts that are not 0.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ReportAnswer, u64)> {
        self.0
            .iter()
            .map(|(why, pages)| (*why, *pages))
            .filter(|(_, pages)| *pages > 0)
    }

    fn sum(&self, of: impl Fn(&ReportAnswer) -> bool) -> u64 {
        self.iter()
            .filter(|(why, _)| of(why))
            .fold(0, |sum, (_, pages)| sum.saturating_add(pages))
    }
}
