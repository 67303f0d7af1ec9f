//! Code locations by what they did: several stacks that end in the same line are one spot.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use uffd::pages_in;

use super::location::CodeLocation;
use super::matrix::AnswerMatrix;
use crate::explain::{CodePlace, ExplainFindings, PlaceId, ReportCause, ReportVerdict};
use crate::print::words::printable;

/// A code location with one cause.
#[derive(Clone, Debug)]
pub(super) struct CodeSpot<'a> {
    pub location: CodeLocation,
    pub cause: ReportCause,
    /// How many of its reports were true.
    pub pages: AnswerMatrix,
    /// The stack with most pages.
    pub place: Option<&'a CodePlace>,
    /// All stacks that end here, that with most pages first.
    pub places: Vec<PlaceId>,
    /// Names of threads, those with most pages first. Printable.
    pub threads: Vec<String>,
}

impl CodeSpot<'_> {
    /// Pages that did not change.
    pub(super) fn unchanged(&self) -> u64 {
        self.pages.verdict(ReportVerdict::Unchanged)
    }

    /// How many stacks end here beside that with most pages.
    pub(super) fn others(&self) -> usize {
        self.places.len().saturating_sub(1)
    }
}

#[derive(Default)]
struct SpotGroup {
    pages: AnswerMatrix,
    places: BTreeMap<PlaceId, u64>,
    threads: BTreeMap<Arc<str>, u64>,
}

/// All spots: those with most unchanged pages first, then those with most pages.
pub(super) fn spots(findings: &ExplainFindings) -> Vec<CodeSpot<'_>> {
    let locations: BTreeMap<PlaceId, CodeLocation> = findings
        .stacks
        .iter()
        .map(|(id, place)| (*id, CodeLocation::new(place)))
        .collect();
    let location = |id: &PlaceId| locations.get(id).cloned().unwrap_or_default();
    let mut groups: BTreeMap<(CodeLocation, ReportCause), SpotGroup> = BTreeMap::new();
    for (id, tally) in &findings.places {
        for (why, pages) in AnswerMatrix::new(tally).iter() {
            let group = groups.entry((location(id), why.cause)).or_default();
            group.pages.add(why, pages);
            add(&mut group.places, *id, pages);
        }
    }
    for ((id, cause, thread), pages) in threads(findings) {
        if let Some(group) = groups.get_mut(&(location(&id), cause)) {
            add(&mut group.threads, thread, pages);
        }
    }
    let spot = |((location, cause), group): ((CodeLocation, ReportCause), SpotGroup)| {
        let places = most(group.places);
        CodeSpot {
            location,
            cause,
            pages: group.pages,
            place: places.first().and_then(|id| findings.stacks.get(id)),
            places,
            threads: most(group.threads)
                .iter()
                .map(|name| printable(name))
                .collect(),
        }
    };
    let mut spots: Vec<_> = groups.into_iter().map(spot).collect();
    spots.sort_by_key(|spot| Reverse((spot.unchanged(), spot.pages.all())));
    spots
}

/// Who was where: pages by place, cause, and name of a thread. A process has few names, and
/// millions of reports.
pub(super) fn threads(
    findings: &ExplainFindings,
) -> BTreeMap<(PlaceId, ReportCause, Arc<str>), u64> {
    let mut counts = BTreeMap::new();
    let mappings = findings.rounds.iter().flat_map(|round| &round.reported);
    for reported in mappings.flat_map(|(_, reported)| reported) {
        if let (Some(place), Some((_, name))) = (reported.place, &reported.thread) {
            let key = (place, reported.why.cause, Arc::clone(name));
            add(&mut counts, key, pages_in(&reported.range));
        }
    }
    counts
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, pages: u64) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(pages);
}

/// Keys by count, the highest first.
fn most<K>(counts: BTreeMap<K, u64>) -> Vec<K> {
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(_, count)| Reverse(*count));
    sorted.into_iter().map(|(key, _)| key).collect()
}
