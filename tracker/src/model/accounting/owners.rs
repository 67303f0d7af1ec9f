//! Which process and which VMA a record belongs to. Pids, starts and record ids are all reused:
//! what is the same and what is new is decided here.

use std::collections::HashMap;
use std::time::Duration;

use tracker_ebpf::{COMM_LEN, NO_RECORD, RecordState};

use super::SeriesBooks;
use super::process::{ProcessAccount, VmaAccount, VmaExitKind};
use super::records::VmaOwner;
use crate::model::{CounterSnapshot, ProcessKey, VmaCounters, VmaSample};

impl SeriesBooks {
    /// Opens new process records, and notes which processes have one that still counts.
    pub(super) fn resolve_processes(&mut self, snapshot: &CounterSnapshot) {
        for process in self.processes.values_mut() {
            process.record_live = false;
        }
        for sample in snapshot.mms.iter().filter(|s| s.id != NO_RECORD) {
            let new = self.records.is_new_mm(sample);
            if new {
                self.records.open_mm(sample);
            }
            let live = sample.state == RecordState::Live;
            // An old record must not bring a retired process back.
            if (new || live)
                && self.ensure_process(sample.process, || comm(&sample.comm), new)
                && let Some(process) = self.processes.get_mut(&sample.process)
            {
                process.record_live |= live;
            }
        }
    }

    /// Enters a process in the books, unless its pid already belongs to a later one. Returns
    /// whether it is there.
    pub(super) fn ensure_process(
        &mut self,
        key: ProcessKey,
        comm: impl FnOnce() -> Vec<u8>,
        fresh: bool,
    ) -> bool {
        if self.processes.contains_key(&key) {
            return true;
        }
        let first = ProcessKey {
            start_boottime_ns: 0,
            ..key
        };
        let last = ProcessKey {
            start_boottime_ns: u64::MAX,
            ..key
        };
        let mut same_pid = self.processes.range(first..=last).map(|(key, _)| *key);
        if same_pid.clone().any(|other| other > key) {
            return false;
        }
        // A pid has one owner: the earlier process is gone, and its series with it.
        if let Some(earlier) = same_pid.next()
            && let Some(process) = self.processes.remove(&earlier)
            && process.series
        {
            self.sums.retire_process(&process);
        }
        self.processes
            .insert(key, ProcessAccount::new(comm(), fresh));
        true
    }

    /// Finds the owner of every VMA record: the known ones first, then the new ones in the order of
    /// their birth.
    pub(super) fn resolve_vmas(&mut self, snapshot: &CounterSnapshot, now: Duration) {
        let processes: HashMap<u32, ProcessKey> = (snapshot.mms.iter())
            .filter(|s| s.id != NO_RECORD)
            .map(|s| (s.id, s.process))
            .collect();
        let mut new = Vec::new();
        for sample in snapshot.vmas.iter().filter(|s| s.id != NO_RECORD) {
            if self.records.is_new_vma(sample) {
                new.push(sample);
            } else {
                self.follow(sample, processes.get(&sample.mm_id), snapshot, now);
            }
        }
        new.sort_by_key(|sample| sample.born_ns);
        for sample in new {
            let owner = (processes.get(&sample.mm_id))
                .filter(|_| !lost_race(sample))
                .and_then(|key| self.own(*key, sample, snapshot, now));
            self.records.open_vma(sample, owner);
        }
    }

    /// Brings the owner of a known record up to the record's state. A record that still counts
    /// shows that its VMA is there, whatever discovery or another record said.
    fn follow(
        &mut self,
        sample: &VmaSample,
        process: Option<&ProcessKey>,
        snapshot: &CounterSnapshot,
        now: Duration,
    ) {
        let counts = sample.state == RecordState::Live && self.records.gained(sample);
        let owner = self.records.owner(sample.id);
        if let Some(vma) = owner.and_then(|owner| self.vma_mut(owner)) {
            if counts {
                vma.newest_born_ns = sample.born_ns;
                vma.mode = Some(sample.mode);
                vma.revive(now);
            } else if vma.newest_born_ns == sample.born_ns {
                vma.follow(sample.state, now);
            }
        } else if counts
            && let Some(key) = process
            && let Some(owner) = self.own(*key, sample, snapshot, now)
        {
            // Its events were counted elsewhere until now.
            if let Some(vma) = self.vma_mut(owner).filter(|vma| vma.series.is_none()) {
                vma.fresh = false;
            }
            self.records.assign(sample.id, owner);
        }
    }

    /// The owner that a new record counts for; `None` if its process is not in the books.
    fn own(
        &mut self,
        key: ProcessKey,
        sample: &VmaSample,
        snapshot: &CounterSnapshot,
        now: Duration,
    ) -> Option<VmaOwner> {
        let serial = self.next_serial;
        let process = self.processes.get_mut(&key)?;
        let current = process.vmas.get_mut(&sample.start);
        if let Some(vma) = current
            && continues(vma, sample, snapshot)
        {
            // A record that counted nothing yet may still lose a race, see `lost_race`.
            if vma.newest_born_ns == 0 || sample.counters != VmaCounters::default() {
                vma.revive(now);
                vma.end = sample.end;
                vma.mode = Some(sample.mode);
                vma.newest_born_ns = sample.born_ns;
                vma.follow(sample.state, now);
            }
            return Some(VmaOwner {
                process: key,
                start: sample.start,
                serial: vma.serial,
            });
        }
        self.next_serial += 1;
        let mut vma = VmaAccount::from_record(sample, serial, now);
        vma.follow(sample.state, now);
        if let Some(earlier) = process.vmas.insert(sample.start, vma) {
            self.sums.retire_vma(&earlier);
        }
        Some(VmaOwner {
            process: key,
            start: sample.start,
            serial,
        })
    }

    pub(super) fn vma_mut(&mut self, owner: VmaOwner) -> Option<&mut VmaAccount> {
        let process = self.processes.get_mut(&owner.process)?;
        let vma = process.vmas.get_mut(&owner.start)?;
        (vma.serial == owner.serial).then_some(vma)
    }
}

/// Whether a record says nothing about its VMA: two CPUs can each fill one for the same VMA at the
/// same time, and the second ends its own unused.
fn lost_race(sample: &VmaSample) -> bool {
    sample.state != RecordState::Live && sample.counters == VmaCounters::default()
}

/// Whether a new record at the start of `vma` counts the same VMA, which splits and merges give
/// from one kernel object to another.
fn continues(vma: &VmaAccount, sample: &VmaSample, snapshot: &CounterSnapshot) -> bool {
    match vma.exited.map(|exit| exit.how) {
        // Still there: a split gave it another kernel object, or only discovery knew it.
        None | Some(VmaExitKind::Moved) => true,
        Some(VmaExitKind::Ended) => merged(sample, snapshot),
        Some(VmaExitKind::Vanished) => false,
    }
}

/// Whether a new record comes from a merge into the object of the upper VMA: that object moved down
/// to the lower start, so its old record, whose start is now inside, is reported as moved.
fn merged(sample: &VmaSample, snapshot: &CounterSnapshot) -> bool {
    snapshot.vmas.iter().any(|other| {
        other.state == RecordState::Moved
            && other.mm_id == sample.mm_id
            && other.born_ns < sample.born_ns
            && sample.start < other.start
            && other.start < sample.end
    })
}

/// The bytes of a zero padded name.
fn comm(padded: &[u8; COMM_LEN]) -> Vec<u8> {
    let length = padded.iter().position(|byte| *byte == 0);
    padded[..length.unwrap_or(COMM_LEN)].to_vec()
}
