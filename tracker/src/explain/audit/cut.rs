//! Scans that ended early, until it is known whether somebody goes on there.

use std::collections::BTreeSet;
use std::ops::Range;

use super::found::FoundOnce;
use crate::explain::PlaceId;
use crate::explain::model::{ScanArguments, TrackerCall};

/// Cut scans whose next scan is awaited.
#[derive(Default)]
pub(super) struct CutScans {
    awaited: Vec<CutScan>,
    /// Processes that have gone on with one: they may do so later with the others, too.
    go_on: BTreeSet<u32>,
}

struct CutScan {
    /// Process that scans.
    tgid: u32,
    /// The whole range.
    range: Range<u64>,
    /// Where it ended.
    walk_end: u64,
    /// Rounds that were over by then.
    rounds: u64,
    call: TrackerCall,
}

impl CutScan {
    fn given_up(self) -> FoundOnce {
        let rest = self.walk_end..self.range.end;
        FoundOnce {
            pages: uffd::pages_in(&rest),
            ranges: vec![rest],
            ..FoundOnce::at(&self.call)
        }
    }
}

/// Cut scans that are remembered: a scan that is followed by none is rare.
const MOST: usize = 64;

impl CutScans {
    /// A scan has returned. Returns the cut scans that it shows not to be gone on with: it looks at
    /// their range again, and either begins after the place where they ended or gets no further. One
    /// that begins at the start again does go on, if what was found is armed and found no more.
    pub(super) fn scanned(
        &mut self,
        call: &TrackerCall,
        scan: &ScanArguments,
        rounds: u64,
    ) -> impl Iterator<Item = FoundOnce> {
        let tgid = call.caller.tgid;
        let is_next = |cut: &mut CutScan| {
            cut.tgid == tgid && cut.range.start < scan.range.end && scan.range.start < cut.range.end
        };
        let over: Vec<CutScan> = self.awaited.extract_if(.., is_next).collect();
        if scan.walk_end < scan.range.end && (scan.room > 0 || scan.most > 0) {
            if self.awaited.len() >= MOST {
                self.awaited.remove(0);
            }
            self.awaited.push(CutScan {
                tgid,
                range: scan.range.clone(),
                walk_end: scan.walk_end,
                rounds,
                call: call.clone(),
            });
        }
        let walked = scan.walked();
        let goes_on = move |cut: &CutScan| {
            walked.start == cut.walk_end || walked.start < cut.walk_end && cut.walk_end < walked.end
        };
        let (gone_on, given_up): (Vec<_>, Vec<_>) = over.into_iter().partition(goes_on);
        self.go_on.extend(gone_on.iter().map(|cut| cut.tgid));
        given_up.into_iter().map(CutScan::given_up)
    }

    /// Those that no scan went on with for a whole round, of processes that never do.
    pub(super) fn end(&mut self, rounds: u64) -> impl Iterator<Item = FoundOnce> {
        let go_on = &self.go_on;
        let is_over = |cut: &mut CutScan| cut.rounds + 1 < rounds && !go_on.contains(&cut.tgid);
        let old: Vec<_> = self.awaited.extract_if(.., is_over).collect();
        old.into_iter().map(CutScan::given_up)
    }

    /// Places of calls that may be told of at the end.
    pub(super) fn places(&self) -> impl Iterator<Item = PlaceId> {
        self.awaited.iter().filter_map(|cut| cut.call.place)
    }

    /// Memory that is gone is awaited no more.
    pub(super) fn clear(&mut self) {
        self.awaited.clear();
    }
}
