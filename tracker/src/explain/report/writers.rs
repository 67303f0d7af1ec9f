//! Who wrote most: code locations by reported pages, whatever became of these.

use std::cmp::Reverse;

use super::matrix::AnswerMatrix;
use super::spots::CodeSpot;
use crate::explain::{ExplainFindings, ReportCause, ReportVerdict};

/// All reported pages by who wrote them: its parts add up to the whole.
pub(super) struct TopWriters<'r, 'a> {
    /// Code locations, those with most reported pages first.
    pub spots: Vec<&'r CodeSpot<'a>>,
    /// Pages of which no code is known.
    pub nowhere: AnswerMatrix,
    /// All reported pages.
    pub all: u64,
}

impl<'r, 'a> TopWriters<'r, 'a> {
    pub(super) fn new(findings: &ExplainFindings, spots: &'r [CodeSpot<'a>]) -> Self {
        let (mut nowhere, mut somewhere) = (AnswerMatrix::default(), AnswerMatrix::default());
        for (why, pages) in spots.iter().flat_map(|spot| spot.pages.iter()) {
            somewhere.add(why, pages);
        }
        let all = AnswerMatrix::new(&findings.tally);
        for (why, pages) in all.iter() {
            let known = somewhere.at(why.cause, why.verdict);
            nowhere.add(why, pages.saturating_sub(known));
        }
        let mut spots: Vec<_> = spots.iter().collect();
        spots.sort_by_key(|spot| Reverse(spot.pages.all()));
        Self {
            spots,
            nowhere,
            all: all.all(),
        }
    }

    /// The first so many, and the pages of all others.
    pub(super) fn split(&self, most: usize) -> (&[&'r CodeSpot<'a>], AnswerMatrix) {
        let most = most.min(self.spots.len());
        let (shown, rest) = self.spots.split_at(most);
        let mut pages = AnswerMatrix::default();
        for (why, more) in rest.iter().flat_map(|spot| spot.pages.iter()) {
            pages.add(why, more);
        }
        (shown, pages)
    }

    /// Why no code is known of some pages: what they were reported for, the most first.
    pub(super) fn nowhere_causes(&self) -> Vec<ReportCause> {
        let mut causes = self.nowhere.causes();
        causes.sort_by_key(|cause| Reverse(self.nowhere.cause(*cause)));
        causes
    }
}

/// Pages of a place as tables show them.
pub(super) struct WriterCounts {
    pub all: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Zeroed, gone, or not known.
    pub other: u64,
}

impl WriterCounts {
    pub(super) fn of(pages: &AnswerMatrix) -> Self {
        let all = pages.all();
        let changed = pages.verdict(ReportVerdict::Changed);
        let unchanged = pages.verdict(ReportVerdict::Unchanged);
        Self {
            all,
            changed,
            unchanged,
            other: all.saturating_sub(changed).saturating_sub(unchanged),
        }
    }
}

/// Code locations whose stacks are shown, under a title.
pub(super) struct StackList<'r, 'a> {
    pub title: &'static str,
    /// As many as are shown.
    pub shown: Vec<&'r CodeSpot<'a>>,
    /// Those that are not.
    pub others: usize,
    pub other_pages: u64,
}

/// The stacks of those who write the same content again, and then of the other top writers: so many
/// of each, at most.
pub(super) fn stack_lists<'r, 'a>(
    spots: &'r [CodeSpot<'a>],
    top: &TopWriters<'r, 'a>,
    most: usize,
) -> Vec<StackList<'r, 'a>> {
    let wasteful: Vec<_> = spots.iter().filter(|spot| spot.unchanged() > 0).collect();
    let (shown, rest) = wasteful.split_at(most.min(wasteful.len()));
    let is_shown = |spot: &CodeSpot<'_>| shown.iter().any(|one| std::ptr::eq(*one, spot));
    let (top, _) = top.split(most);
    let others: Vec<_> = top.iter().copied().filter(|spot| !is_shown(spot)).collect();
    let pages = rest.iter().map(|spot| spot.pages.all());
    let again = StackList {
        title: "Where the same content was written again",
        others: rest.len(),
        other_pages: pages.fold(0, u64::saturating_add),
        shown: shown.to_vec(),
    };
    let other = StackList {
        title: match shown {
            [] => "Where pages were written",
            _ => "Where other top writers are",
        },
        shown: others,
        others: 0,
        other_pages: 0,
    };
    let lists = [again, other].into_iter();
    lists.filter(|list| !list.shown.is_empty()).collect()
}
