//! What discovery and scans add: VMAs that counted nothing yet, sizes, names, pages; and that a VMA
//! is gone.

use std::collections::HashSet;
use std::time::Duration;

use super::SeriesBooks;
use super::process::{LastScan, VmaAccount, VmaExit, VmaExitKind};
use crate::model::{FoundVma, ScanResult, ScannedPages, VmaDiscovery};

impl SeriesBooks {
    /// Takes a discovery in, if it is newer than the last one.
    pub(super) fn take_discovery(&mut self, discovery: Option<&VmaDiscovery>, now: Duration) {
        let newer = discovery.filter(|d| self.discovered_at.is_none_or(|last| d.at > last));
        let Some(discovery) = newer else { return };
        self.discovered_at = Some(discovery.at);
        for found in &discovery.vmas {
            self.take_found(found, discovery.at, now);
        }
        self.take_facts(discovery);
        self.note_vanished(discovery, now);
    }

    fn take_found(&mut self, found: &FoundVma, at: Duration, now: Duration) {
        if !self.ensure_process(found.process, || found.comm.clone(), true) {
            return;
        }
        let Some(process) = self.processes.get_mut(&found.process) else {
            return;
        };
        if !process.series && !found.comm.is_empty() {
            process.comm.clone_from(&found.comm);
        }
        if let Some(vma) = process.vmas.get_mut(&found.start) {
            match vma.exited {
                None => return vma.update(found),
                Some(VmaExit {
                    how: VmaExitKind::Moved,
                    ..
                }) => {
                    vma.revive(now);
                    return vma.update(found);
                }
                // Discovery may have seen it just before it ended.
                Some(exit) if at <= exit.at => return,
                Some(_) => {}
            }
        }
        let vma = VmaAccount::from_discovery(found, self.next_serial, now);
        self.next_serial += 1;
        if let Some(earlier) = process.vmas.insert(found.start, vma) {
            self.sums.retire_vma(&earlier);
        }
    }

    fn take_facts(&mut self, discovery: &VmaDiscovery) {
        for (key, facts) in &discovery.facts {
            if let Some(process) = self.processes.get_mut(key) {
                process.facts.clone_from(facts);
            }
        }
    }

    /// Ends what a complete discovery did not find, unless it is younger than that.
    fn note_vanished(&mut self, discovery: &VmaDiscovery, now: Duration) {
        let unread: HashSet<_> = discovery.unread.iter().collect();
        let found: HashSet<_> = (discovery.vmas.iter())
            .map(|vma| (vma.process, vma.start))
            .collect();
        let known = (self.processes.iter_mut()).filter(|(key, _)| !unread.contains(key));
        for (key, process) in known {
            for vma in process.vmas.values_mut() {
                if vma.since >= discovery.at || found.contains(&(*key, vma.start)) {
                    continue;
                }
                let how = VmaExitKind::Vanished;
                match &mut vma.exited {
                    None => vma.exited = Some(VmaExit { at: now, how }),
                    // Nobody has that start any more, so nobody goes on with it.
                    Some(exit) if exit.how == VmaExitKind::Moved && exit.at < discovery.at => {
                        exit.how = how;
                    }
                    Some(_) => {}
                }
            }
        }
    }

    /// Keeps the last scan of each VMA.
    pub(super) fn take_scans(&mut self, scans: &[ScanResult]) {
        for result in scans {
            let vma = (self.processes.get_mut(&result.process))
                .and_then(|process| process.vmas.get_mut(&result.start));
            if let Some(vma) = vma
                && vma
                    .scan
                    .is_none_or(|scan| scan.unix_seconds <= result.unix_seconds)
            {
                let pages = ScannedPages {
                    armed: result.armed_pages,
                    written: result.written_pages,
                };
                vma.scan = Some(LastScan {
                    pages,
                    unix_seconds: result.unix_seconds,
                });
            }
        }
    }
}
