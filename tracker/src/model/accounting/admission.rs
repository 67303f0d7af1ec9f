//! Who gets a free slot: the busiest that waits. A slot is never taken away.
//!
//! The series of one that gets a slot at once has all it counted. One that waited was counted
//! elsewhere until now, so its series starts at 0 after this collection.

use std::cmp::Reverse;

use super::SeriesBooks;
use super::process::ProcessAccount;
use super::records::{RecordGain, VmaOwner};
use crate::model::ProcessKey;

/// Those that waited: they start at 0 once this collection is counted.
#[derive(Debug, Default)]
pub(super) struct LateAdmissions {
    processes: Vec<ProcessKey>,
    vmas: Vec<VmaOwner>,
}

/// A process or a VMA that wants a slot.
struct SlotCandidate<K> {
    key: K,
    live: bool,
    busy: u64,
}

/// The `free` first: live before exited, busy before quiet, then by key.
fn choose<K: Ord + Copy>(mut candidates: Vec<SlotCandidate<K>>, free: usize) -> Vec<K> {
    candidates.sort_by_key(|c| (!c.live, Reverse(c.busy), c.key));
    candidates.into_iter().take(free).map(|c| c.key).collect()
}

impl SeriesBooks {
    /// Fills the free slots. The new ones have their series now, the others after the count.
    pub(super) fn admit(&mut self, gains: &[RecordGain]) -> LateAdmissions {
        self.weigh(gains);
        let mut admitted = LateAdmissions::default();
        let taken = self.processes.values().filter(|p| p.series).count();
        let free = self.limits.process_slots().saturating_sub(taken);
        let waiting = (self.processes.iter())
            .filter(|(_, process)| !process.series && (process.fresh || process.exited.is_none()))
            .map(|(key, process)| SlotCandidate {
                key: *key,
                live: process.exited.is_none(),
                busy: process.busy,
            })
            .collect();
        for key in choose(waiting, free) {
            match self.processes.get_mut(&key) {
                Some(process) if process.fresh => process.series = true,
                _ => admitted.processes.push(key),
            }
        }
        let slots = self.limits.vma_slots();
        for (key, process) in &mut self.processes {
            if process.series {
                admit_vmas(*key, process, slots, &mut admitted.vmas);
            }
        }
        admitted
    }

    /// Notes how much each gained lately.
    fn weigh(&mut self, gains: &[RecordGain]) {
        for process in self.processes.values_mut() {
            process.busy /= 2;
            for vma in process.vmas.values_mut() {
                vma.busy /= 2;
            }
        }
        for gain in gains {
            let events = gain.counts.total();
            if let Some(process) = gain.process.and_then(|key| self.processes.get_mut(&key)) {
                process.busy = process.busy.saturating_add(events);
            }
            if let Some(vma) = gain.owner.and_then(|owner| self.vma_mut(owner)) {
                vma.busy = vma.busy.saturating_add(events);
            }
        }
    }

    /// Opens the series of those that waited, and notes that none is new any more.
    pub(super) fn open(&mut self, admitted: LateAdmissions) {
        for key in admitted.processes {
            if let Some(process) = self.processes.get_mut(&key) {
                process.series = true;
            }
        }
        for owner in admitted.vmas {
            if let Some(vma) = self.vma_mut(owner) {
                vma.series = Some(Box::default());
            }
        }
        for process in self.processes.values_mut() {
            process.fresh = false;
            for vma in process.vmas.values_mut() {
                vma.fresh = false;
            }
        }
    }
}

fn admit_vmas(
    key: ProcessKey,
    process: &mut ProcessAccount,
    slots: usize,
    later: &mut Vec<VmaOwner>,
) {
    let taken = process.vmas.values().filter(|v| v.series.is_some()).count();
    let free = slots.saturating_sub(taken);
    if free == 0 {
        return;
    }
    let waiting = (process.vmas.iter())
        .filter(|(_, vma)| vma.series.is_none() && (vma.fresh || vma.exited.is_none()))
        .map(|(start, vma)| SlotCandidate {
            key: *start,
            live: vma.exited.is_none(),
            busy: vma.busy,
        })
        .collect();
    for start in choose(waiting, free) {
        match process.vmas.get_mut(&start) {
            Some(vma) if vma.fresh => vma.series = Some(Box::default()),
            Some(vma) => later.push(VmaOwner {
                process: key,
                start,
                serial: vma.serial,
            }),
            None => {}
        }
    }
}
