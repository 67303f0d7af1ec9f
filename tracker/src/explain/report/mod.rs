//! What explaining found, for people and programs: pure over [`Findings`].
//!
//! [`Report`] counts and sorts; [`text`], [`html`] and [`json`] show it. What comes from the process, names, paths and symbols, is
//! made printable where it is counted, and escaped where it is shown.

mod flags;
mod headline;
pub mod html;
mod interval;
pub mod json;
pub mod live;
mod location;
mod matrix;
mod missed;
pub mod picture;
mod remarks;
mod spots;
mod stack;
pub mod story;
pub mod text;

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use super::{Candidate, Cause, Findings, Verdict, VmaFindings};
use crate::track::report::words::printable;
use matrix::Matrix;
use missed::MissedGroup;
use pages::track::TrackedMapping;
use spots::Spot;

/// All that is counted of findings.
pub struct Report<'a> {
    findings: &'a Findings,
    /// All reported pages.
    pages: Matrix,
    /// Code locations, those with most unchanged pages first.
    spots: Vec<Spot<'a>>,
    /// VMAs with reported or missed pages, those with most unchanged pages first.
    vmas: Vec<(&'a VmaFindings, Matrix)>,
    /// What changed and was not reported.
    missed: Vec<MissedGroup<'a>>,
    missed_pages: u64,
    /// From the first arming to the last round.
    lasted: Duration,
}

impl<'a> Report<'a> {
    /// Counts.
    #[must_use]
    pub fn new(findings: &'a Findings) -> Self {
        let mut vmas: Vec<_> = findings
            .vmas
            .iter()
            .map(|vma| (vma, Matrix::new(&vma.tally)))
            .filter(|(vma, pages)| pages.all() > 0 || vma.missed > 0)
            .collect();
        vmas.sort_by_key(|(vma, pages)| {
            Reverse((pages.verdict(Verdict::Unchanged), vma.missed, pages.all()))
        });
        let missed = missed::missed(findings);
        let missed_pages = missed.iter().map(|group| group.pages);
        Self {
            findings,
            pages: Matrix::new(&findings.tally),
            spots: spots::spots(findings),
            vmas,
            missed_pages: missed_pages.fold(0, u64::saturating_add),
            missed,
            lasted: findings
                .rounds
                .iter()
                .map(|r| r.at)
                .max()
                .unwrap_or_default(),
        }
    }

    /// What to show of code locations, under which title: those that write the same content again, if there are such.
    fn worst(&self) -> (&'static str, Vec<&Spot<'a>>) {
        let wasteful = |spot: &&Spot<'_>| spot.unchanged() > 0;
        if self.spots.iter().any(|spot| wasteful(&spot)) {
            let title = "Where the same content was written again";
            (title, self.spots.iter().filter(wasteful).collect())
        } else {
            ("Where pages were written", self.spots.iter().collect())
        }
    }

    /// What could have changed pages behind the protection.
    fn candidates(&self) -> BTreeSet<Candidate> {
        let groups = self.missed.iter();
        groups.flat_map(|group| group.candidates).copied().collect()
    }

    /// What to do, cause by cause: the cause, how many pages it is about, and the advice.
    fn advice(&self) -> Vec<(Cause, u64, &'static str)> {
        let mut told: Vec<(Cause, u64, &'static str)> = Vec::new();
        for cause in self.pages.causes() {
            for verdict in Verdict::ALL {
                let pages = self.pages.at(cause, *verdict);
                let Some(advice) = super::advice::advice(cause, *verdict).filter(|_| pages > 0)
                else {
                    continue;
                };
                match told.last_mut() {
                    Some((same, sum, text)) if *same == cause && *text == advice => {
                        *sum = sum.saturating_add(pages);
                    }
                    _ => told.push((cause, pages, advice)),
                }
            }
        }
        told
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
