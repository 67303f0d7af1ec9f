//! A second strategy on the same rounds (`--against`), and where the two disagree.
//!
//! `hash` is at hand in any case: a reported page that did not change is not reported by content, and a page that
//! changed and is missed is. `soft-dirty` is read after each round, and its bits are cleared then: what is written
//! between the two readings the one tells in this round and the other in the next.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use super::model::{AgainstFindings, ExplainedRound, ReportVerdict, ReportedPages, SecondOnly};
use pages::strategy::{
    StartError, StrategyFacts, StrategyName, StrategyTarget, TrackedArea, TrackingStrategy, start,
};
use pages::track::TrackedMapping;
use uffd::PAGE_SIZE;

/// Strategies that can run beside one that arms.
pub fn second_strategies() -> impl Iterator<Item = StrategyName> {
    StrategyName::outside().filter(|name| !name.needs_descriptor())
}

/// The second strategy.
pub struct Against {
    /// None: by content.
    strategy: Option<Box<dyn TrackingStrategy>>,
    /// Pages that only the second one reported in the last round: our next one may.
    early: BTreeSet<u64>,
    findings: AgainstFindings,
}

impl Against {
    /// Starts it on a process.
    ///
    /// # Errors
    /// If the kernel cannot do it; ask [`pages::strategy::verdict`] first.
    pub fn start(name: StrategyName, pid: u32, facts: &StrategyFacts) -> Result<Self, StartError> {
        let target = StrategyTarget {
            pid,
            uffd: None,
            behaviour: facts.behaviour,
            detailed: false,
        };
        let by_content = name.reads_content();
        let strategy = (!by_content).then(|| start(name, target)).transpose()?;
        Ok(Self {
            strategy,
            early: BTreeSet::new(),
            findings: AgainstFindings::new(name),
        })
    }

    /// Compares a round; `fresh` is what was mapped anew. What was reported before round 1 counts for nobody.
    pub fn round(
        &mut self,
        round: &ExplainedRound,
        fresh: &[Range<u64>],
    ) -> Result<(), uffd::UffdError> {
        let Some(strategy) = &mut self.strategy else {
            self.by_content(round);
            return Ok(());
        };
        let mut theirs = Vec::new();
        for row in &round.round.mappings {
            let mapping = &row.mapping;
            let area = TrackedArea {
                range: mapping.start..mapping.end,
                backing: mapping.backing,
                page_size: mapping.page_size,
            };
            strategy.round(&area, &mut theirs)?;
        }
        strategy.end_round()?;
        if round.round.number == 0 {
            return Ok(());
        }
        let pages = |range: Range<u64>| range.step_by(PAGE_SIZE as usize);
        let theirs: BTreeSet<u64> = theirs.into_iter().flat_map(|it| pages(it.range)).collect();
        let early = std::mem::take(&mut self.early);
        let mut ours = BTreeSet::new();
        for (_, reported) in all(&round.reported) {
            for page in pages(reported.range.clone()) {
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
        Ok(())
    }

    /// Ends it.
    pub fn end(mut self) -> AgainstFindings {
        // Nobody knows what the next round would have told.
        let left = self.early.len() as u64;
        self.findings.there(SecondOnly::NextRound, left);
        self.findings
    }

    /// The second strategy is the comparison of content itself.
    fn by_content(&mut self, round: &ExplainedRound) {
        for (_, reported) in all(&round.reported) {
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
        let missed = missed.map(|missed| uffd::pages_in(&missed.range)).sum();
        self.findings.there(SecondOnly::Changed, missed);
    }
}

fn all(
    reported: &[(Arc<TrackedMapping>, Vec<ReportedPages>)],
) -> impl Iterator<Item = (&TrackedMapping, &ReportedPages)> {
    reported
        .iter()
        .flat_map(|(mapping, pages)| pages.iter().map(|pages| (&**mapping, pages)))
}
