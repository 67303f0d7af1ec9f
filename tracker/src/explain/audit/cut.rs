//! Scans that ended early, until it is known whether somebody goes on there.

use std::ops::Range;

use super::found::FoundOnce;
use crate::explain::model::{ScanArguments, TrackerCall};

/// Cut scans whose next scan is awaited.
#[derive(Default)]
pub(super) struct CutScans(Vec<CutScan>);

struct CutScan {
    /// Process that scans.
    tgid: u32,
    /// The whole range.
    range: Range<u64>,
    /// Where it ended.
    walk_end: u64,
    call: TrackerCall,
}

/// Cut scans that are remembered: a scan that is followed by none is rare.
const MOST: usize = 64;

impl CutScans {
    /// A scan has returned. Returns the cut scans that it shows not to be gone on with: it looks at
    /// their range again, and not from where they ended.
    pub(super) fn scanned(
        &mut self,
        call: &TrackerCall,
        scan: &ScanArguments,
    ) -> impl Iterator<Item = FoundOnce> {
        let tgid = call.caller.tgid;
        let is_next = |cut: &mut CutScan| {
            cut.tgid == tgid && cut.range.start < scan.range.end && scan.range.start < cut.range.end
        };
        let over: Vec<CutScan> = self.0.extract_if(.., is_next).collect();
        if scan.walk_end < scan.range.end && (scan.room > 0 || scan.most > 0) {
            if self.0.len() >= MOST {
                self.0.remove(0);
            }
            self.0.push(CutScan {
                tgid,
                range: scan.range.clone(),
                walk_end: scan.walk_end,
                call: call.clone(),
            });
        }
        let next = scan.range.start;
        let given_up = over.into_iter().filter(move |cut| next != cut.walk_end);
        given_up.map(|cut| {
            let rest = cut.walk_end..cut.range.end;
            FoundOnce {
                pages: uffd::pages_in(&rest),
                ranges: vec![rest],
                ..FoundOnce::at(&cut.call)
            }
        })
    }

    /// Memory that is gone is awaited no more.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
