//! Pages that changed and were not reported, mapping by mapping.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pages::track::TrackedMapping;
use uffd::pages_in;

use crate::explain::{ExplainFindings, MissCandidate};
use crate::print::words::number;

/// Missed pages of one mapping with the same candidates.
#[derive(Clone, Debug)]
pub(super) struct MissedGroup<'a> {
    pub mapping: &'a TrackedMapping,
    /// What could have done it, the likeliest first.
    pub candidates: &'a [MissCandidate],
    /// Pages, each as often as it was missed.
    pub pages: u64,
    /// Those that are all zeroes now.
    pub zeroed: u64,
    /// The address of the first of them.
    pub first: u64,
    /// The first and the last round in which one was missed.
    pub rounds: (u64, u64),
}

impl MissedGroup<'_> {
    /// `3`, or `3 to 17`.
    pub(super) fn rounds(&self) -> String {
        match self.rounds {
            (first, last) if first == last => number(first),
            (first, last) => format!("{} to {}", number(first), number(last)),
        }
    }
}

/// The groups, those with most pages first.
pub(super) fn missed(findings: &ExplainFindings) -> Vec<MissedGroup<'_>> {
    let mut groups: BTreeMap<(u64, &str, &[MissCandidate]), MissedGroup<'_>> = BTreeMap::new();
    for (mapping, missed) in &findings.missed {
        let candidates = missed.candidates.as_slice();
        let key = (mapping.start, mapping.name.as_str(), candidates);
        let group = groups.entry(key).or_insert(MissedGroup {
            mapping,
            candidates,
            pages: 0,
            zeroed: 0,
            first: missed.range.start,
            rounds: (missed.round, missed.round),
        });
        let pages = pages_in(&missed.range);
        group.pages = group.pages.saturating_add(pages);
        if missed.zeroed {
            group.zeroed = group.zeroed.saturating_add(pages);
        }
        group.first = group.first.min(missed.range.start);
        let (first, last) = group.rounds;
        group.rounds = (first.min(missed.round), last.max(missed.round));
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| Reverse(group.pages));
    groups
}
