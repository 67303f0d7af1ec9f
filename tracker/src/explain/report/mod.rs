//! What explaining found, for people and programs: pure over [`ExplainFindings`].
//!
//! [`ExplainReport`] counts and sorts; `text`, `html`, `json`, `live` and `picture` show it. Names,
//! paths and symbols come from the process: they are made printable where they are counted, and
//! escaped where they are shown.

mod audit;
mod audit_json;
mod faults;
mod flags;
mod headline;
pub(crate) mod html;
mod interval;
pub(crate) mod json;
pub(crate) mod live;
mod location;
mod matrix;
mod missed;
mod picture;
mod remarks;
mod spots;
mod stack;
mod story;
pub(crate) mod text;
mod writers;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use pages::track::TrackedMapping;

use super::advice::CauseAdvice;
use super::{ExplainFindings, MissCandidate, ReportCause, ReportOwner, ReportVerdict, VmaFindings};
use crate::print::words::printable;
use matrix::AnswerMatrix;
use missed::MissedGroup;
use spots::CodeSpot;
use writers::{StackList, TopWriters, stack_lists};

/// All that is counted of findings.
pub(crate) struct ExplainReport<'a> {
    findings: &'a ExplainFindings,
    /// All reported pages.
    pages: AnswerMatrix,
    /// Code locations, those with most unchanged pages first.
    spots: Vec<CodeSpot<'a>>,
    /// VMAs with reported or missed pages, those with most unchanged pages first.
    vmas: Vec<(&'a VmaFindings, AnswerMatrix)>,
    /// What changed and was not reported.
    missed: Vec<MissedGroup<'a>>,
    missed_pages: u64,
    /// From the first arming to the last round.
    lasted: Duration,
}

impl<'a> ExplainReport<'a> {
    /// Counts everything that is shown.
    pub(crate) fn new(findings: &'a ExplainFindings) -> Self {
        let mut vmas: Vec<_> = findings
            .vmas
            .iter()
            .map(|vma| (vma, AnswerMatrix::new(&vma.tally)))
            .filter(|(vma, pages)| pages.all() > 0 || vma.missed > 0)
            .collect();
        vmas.sort_by_key(|(vma, pages)| {
            Reverse((
                pages.verdict(ReportVerdict::Unchanged),
                vma.missed,
                pages.all(),
            ))
        });
        let missed = missed::missed(findings);
        let missed_pages = missed.iter().map(|group| group.pages);
        let rounds = findings.rounds.iter();
        Self {
            findings,
            pages: AnswerMatrix::new(&findings.tally),
            spots: spots::spots(findings),
            vmas,
            missed_pages: missed_pages.fold(0, u64::saturating_add),
            missed,
            lasted: rounds.map(|round| round.at).max().unwrap_or_default(),
        }
    }

    /// All reported pages by who wrote them.
    fn writers(&self) -> TopWriters<'_, 'a> {
        TopWriters::new(self.findings, &self.spots)
    }

    /// Code locations whose stacks are shown, so many in a list at most.
    fn stacks(&self, most: usize) -> Vec<StackList<'_, 'a>> {
        stack_lists(&self.spots, &self.writers(), most)
    }

    /// What could have changed pages without a report.
    fn candidates(&self) -> BTreeSet<MissCandidate> {
        let groups = self.missed.iter();
        groups.flat_map(|group| group.candidates).copied().collect()
    }

    /// What to do, cause by cause: the cause, how many pages it is about, and the advice.
    fn advice(&self) -> Vec<(ReportCause, u64, CauseAdvice)> {
        let mut told: Vec<(ReportCause, u64, CauseAdvice)> = Vec::new();
        for cause in self.pages.causes() {
            for verdict in ReportVerdict::ALL {
                let pages = self.pages.at(cause, *verdict);
                let Some(advice) = CauseAdvice::of(cause, *verdict).filter(|_| pages > 0) else {
                    continue;
                };
                match told.last_mut() {
                    Some((same, sum, known)) if *same == cause && *known == advice => {
                        *sum = sum.saturating_add(pages);
                    }
                    _ => told.push((cause, pages, advice)),
                }
            }
        }
        told
    }
}

/// Everything that is shown: of a tracker that is there already, and of ours.
pub(crate) struct ExplainReports<'a>(Vec<ExplainReport<'a>>);

impl<'a> ExplainReports<'a> {
    /// Counts everything that is shown.
    pub(crate) fn new(findings: &'a [ExplainFindings]) -> Self {
        Self(findings.iter().map(ExplainReport::new).collect())
    }

    fn iter(&self) -> impl Iterator<Item = &ExplainReport<'a>> {
        self.0.iter()
    }

    /// What stands above a report; empty if there is only ours.
    fn title(&self, report: &ExplainReport<'_>) -> &'static str {
        match report.findings.owner {
            ReportOwner::Theirs => "The tracker that is there already (observed, not touched)",
            ReportOwner::Ours if self.0.len() > 1 => "Our own tracking of all other memory",
            ReportOwner::Ours => "",
        }
    }
}

/// What a mapping is called; printable.
fn name_of(mapping: &TrackedMapping) -> String {
    if mapping.name.is_empty() {
        "[anon]".to_owned()
    } else {
        printable(&mapping.name)
    }
}

#[cfg(test)]
mod tests;
