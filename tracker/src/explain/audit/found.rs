//! What was found, summed up by kind and call.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::time::Duration;

use crate::explain::PlaceId;
use crate::explain::model::{AuditFinding, AuditKind, CallerThread, TrackerCall};

/// All findings.
#[derive(Default)]
pub(super) struct FoundFaults(BTreeMap<(AuditKind, Option<PlaceId>), AuditFinding>);

/// One time that something was found.
#[derive(Default)]
pub(super) struct FoundOnce {
    pub place: Option<PlaceId>,
    pub earlier: Option<PlaceId>,
    pub caller: Option<CallerThread>,
    pub pages: u64,
    pub open: u64,
    pub tables: u64,
    pub took: Duration,
    pub ranges: Vec<Range<u64>>,
}

impl FoundOnce {
    /// In a call.
    pub(super) fn at(call: &TrackerCall) -> Self {
        Self {
            place: call.place,
            caller: Some(call.caller.clone()),
            ..Self::default()
        }
    }
}

impl FoundFaults {
    /// Adds one time.
    pub(super) fn add(&mut self, kind: AuditKind, once: FoundOnce) {
        let mut ranges = once.ranges;
        ranges.truncate(AuditFinding::RANGES);
        let found = AuditFinding {
            kind,
            place: once.place,
            earlier: once.earlier,
            caller: once.caller,
            times: 1,
            pages: once.pages,
            open: once.open,
            tables: once.tables,
            took: once.took,
            longest: once.took,
            ranges,
        };
        match self.0.entry((kind, once.place)) {
            Entry::Vacant(entry) => drop(entry.insert(found)),
            Entry::Occupied(mut known) => known.get_mut().add(found),
        }
    }

    /// Places of the calls.
    pub(super) fn places(&self) -> impl Iterator<Item = PlaceId> {
        let places = self.0.values();
        places.flat_map(|found| [found.place, found.earlier].into_iter().flatten())
    }

    /// All that holds: by kind, those with most pages first.
    pub(super) fn end(self, holds: impl Fn(&AuditFinding) -> bool) -> Vec<AuditFinding> {
        let mut all: Vec<_> = self.0.into_values().filter(holds).collect();
        all.sort_by_key(|found| (found.kind, std::cmp::Reverse(found.pages)));
        all
    }
}
