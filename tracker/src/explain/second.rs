//! A second strategy on the same rounds (`--against`), and where the two disagree.
//!
//! `hash` is at hand in any case: a reported page that did not change is not reported by content,
//! and a page that changed and is missed is. `soft-dirty` is read after each round, and its bits
//! are cleared then: what is written between the two readings, the one tells in this round and the
//! other in the next.

use std::collections::BTreeSet;
use std::ops::Range;

use pages::strategy::{
    StartError, StrategyFacts, StrategyName, StrategyTarget, TrackedArea, TrackingStrategy, start,
};
use uffd::{PAGE_SIZE, UffdError, pages_in};

use super::model::{AgainstFindings, ExplainedRound, ReportVerdict, ReportedPages, SecondOnly};

/// Strategies that can run beside one that arms.
pub fn second_strategies() -> impl Iterator<Item = StrategyName> {
    StrategyName::outside().filter(|name| !name.needs_descriptor())
}

/// The second strategy, and what came of it.
pub(super) struct SecondStrategy {
    reading: SecondReading,
    book: SecondBook,
}

/// How the second strategy tells what was written.
enum SecondReading {
    /// It is read after each round.
    Pages(Box<dyn TrackingStrategy>),
    /// It is the comparison of content itself.
    Content,
}

/// What was counted: pure.
struct SecondBook {
    /// Pages that only the second one reported in the last round: our next one may.
    early: BTreeSet<u64>,
    findings: AgainstFindings,
}

impl SecondStrategy {
    /// Starts it on a process.
    ///
    /// # Errors
    /// If the kernel cannot do it; ask [`pages::strategy::verdict`] first.
    pub(super) fn start(
        name: StrategyName,
        pid: u32,
        facts: &StrategyFacts,
    ) -> Result<Self, StartError> {
        let target = StrategyTarget {
            observer: None,
            pid,
            uffd: None,
            behaviour: facts.behaviour,
            detailed: false,
        };
        let reading = if name.reads_content() {
            SecondReading::Content
        } else {
            SecondReading::Pages(start(name, target)?)
        };
        Ok(Self {
            reading,
            book: SecondBook::new(name),
        })
    }

    /// Compares a round; `fresh` is what was mapped anew. What was reported before round 1 counts
    /// for neither.
    pub(super) fn round(
        &mut self,
        round: &ExplainedRound,
        fresh: &[Range<u64>],
    ) -> Result<(), UffdError> {
        let SecondReading::Pages(strategy) = &mut self.reading else {
            self.book.by_content(round);
            return Ok(());
        };
        let mut theirs = Vec::new();
        for row in &round.round.mappings {
            let mapping = &row.mapping;
            let area = TrackedArea {
                range: mapping.start..mapping.end,
                backing: mapping.backing,
                page_size: mapping.page_size,
                shared: mapping.shared.is_some(),
            };
            strategy.round(&area, &mut theirs)?;
        }
        strategy.end_round()?;
        if round.round.number != 0 {
            let theirs = theirs.into_iter().flat_map(|it| addresses(it.range));
            self.book.by_pages(round, fresh, &theirs.collect());
        }
        Ok(())
    }

    /// What came of it.
    pub(super) fn end(self) -> AgainstFindings {
        self.book.end()
    }
}

impl SecondBook {
    fn new(name: StrategyName) -> Self {
        Self {
            early: BTreeSet::new(),
            findings: AgainstFindings::new(name),
        }
    }

    /// Counts a round by the pages that the second strategy reports.
    fn by_pages(&mut self, round: &ExplainedRound, fresh: &[Range<u64>], theirs: &BTreeSet<u64>) {
        let early = std::mem::take(&mut self.early);
        let mut ours = BTreeSet::new();
        for reported in all(round) {
            for page in addresses(reported.range.clone()) {
                ours.insert(page);
                if theirs.contains(&page) {
                    self.findings.both += 1;
                } else if early.contains(&page) {
                    self.findings.there(SecondOnly::NextRound, 1);
                } else {
                    *self.findings.only_here.entry(reported.why).or_default() += 1;
                }
            }
        }
        // Those of the last round that ours has not told in this one either.
        let left = early.difference(&ours).count() as u64;
        self.findings.there(SecondOnly::Unexplained, left);
        let missed: Vec<_> = round.missed.iter().flat_map(|(_, missed)| missed).collect();
        for page in theirs.difference(&ours) {
            if fresh.iter().any(|range| range.contains(page)) {
                self.findings.there(SecondOnly::NewMapping, 1);
            } else if missed.iter().any(|missed| missed.range.contains(page)) {
                self.findings.there(SecondOnly::Changed, 1);
            } else {
                self.early.insert(*page);
            }
        }
    }

    /// Counts a round by what its content says.
    fn by_content(&mut self, round: &ExplainedRound) {
        for reported in all(round) {
            let pages = reported.pages();
            match reported.why.verdict {
                ReportVerdict::Changed | ReportVerdict::Zeroed => self.findings.both += pages,
                // Content tells nothing of it.
                ReportVerdict::Unknown => (),
                ReportVerdict::Unchanged | ReportVerdict::Gone => {
                    *self.findings.only_here.entry(reported.why).or_default() += pages;
                }
            }
        }
        let missed = round.missed.iter().flat_map(|(_, missed)| missed);
        let missed = missed.map(|missed| pages_in(&missed.range)).sum();
        self.findings.there(SecondOnly::Changed, missed);
    }

    fn end(mut self) -> AgainstFindings {
        // Nobody knows what the next round would have told.
        let left = self.early.len() as u64;
        self.findings.there(SecondOnly::NextRound, left);
        self.findings
    }
}

fn addresses(range: Range<u64>) -> impl Iterator<Item = u64> {
    range.step_by(PAGE_SIZE as usize)
}

fn all(round: &ExplainedRound) -> impl Iterator<Item = &ReportedPages> {
    round.reported.iter().flat_map(|(_, pages)| pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::sample::explained;

    /// Pages by their distance from the first that the made-up round reports.
    fn pages(round: &ExplainedRound, numbers: &[u64]) -> BTreeSet<u64> {
        let start = round.reported[0].1[0].range.start;
        numbers.iter().map(|n| start + n * PAGE_SIZE).collect()
    }

    fn only_there(findings: &AgainstFindings) -> Vec<(SecondOnly, u64)> {
        let all = findings.only_there.iter();
        all.map(|(why, pages)| (*why, *pages)).collect()
    }

    #[test]
    fn what_only_the_second_tells_has_a_reason() {
        // It reports pages 0 to 3, and page 9 changed without a report.
        let round = explained(1);
        let mut book = SecondBook::new(StrategyName::SoftDirty);
        let new = round.reported[0].1[0].range.start + 12 * PAGE_SIZE;
        let fresh = new..new + PAGE_SIZE;
        book.by_pages(
            &round,
            std::slice::from_ref(&fresh),
            &pages(&round, &[0, 1, 9, 12, 14, 15]),
        );
        let findings = &book.findings;
        assert_eq!(findings.both, 2);
        assert_eq!(findings.only_here.values().sum::<u64>(), 2);
        let told = [(SecondOnly::NewMapping, 1), (SecondOnly::Changed, 1)];
        assert_eq!(only_there(findings), told);
        assert_eq!(book.early, pages(&round, &[14, 15]));
    }

    #[test]
    fn what_is_early_may_be_told_by_the_next_round() {
        let round = explained(1);
        let mut book = SecondBook::new(StrategyName::SoftDirty);
        let empty = ExplainedRound {
            reported: Vec::new(),
            missed: Vec::new(),
            ..round.clone()
        };
        book.by_pages(&empty, &[], &pages(&round, &[0, 14]));
        book.by_pages(&round, &[], &pages(&round, &[1, 15]));
        let told = [(SecondOnly::NextRound, 1), (SecondOnly::Unexplained, 1)];
        assert_eq!(only_there(&book.findings), told);
        let told = [(SecondOnly::NextRound, 2), (SecondOnly::Unexplained, 1)];
        assert_eq!(only_there(&book.end()), told);
    }

    #[test]
    fn content_agrees_with_what_changed() {
        let mut book = SecondBook::new(StrategyName::Hash);
        book.by_content(&explained(1));
        let findings = book.end();
        assert_eq!(findings.both, 2);
        assert_eq!(findings.only_here.values().sum::<u64>(), 2);
        assert_eq!(only_there(&findings), [(SecondOnly::Changed, 1)]);
    }
}
