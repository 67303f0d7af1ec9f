//! What each kernel record gained since it was read last, exactly once.
//!
//! Ids are reused after a release, so a record is told from its successor by its birth. A released
//! record stays known until the snapshot has it no more: a snapshot taken before the release took
//! effect must not be counted a second time.

use std::collections::{HashMap, HashSet};

use tracker_ebpf::{NO_RECORD, RecordState};

use crate::model::{
    CounterSet, CounterSnapshot, MmSample, ProcessCounters, ProcessKey, RecordReleases,
    VmaCounters, VmaSample,
};

/// One owner of a VMA; a later owner of the same start has another serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VmaOwner {
    pub process: ProcessKey,
    pub start: u64,
    pub serial: u64,
}

/// What one record counted since the last collection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordGain {
    /// The process; `None` if it could not be told.
    pub process: Option<ProcessKey>,
    /// The VMA; `None` for what a process record or record 0 counted.
    pub owner: Option<VmaOwner>,
    pub counts: VmaCounters,
    pub process_counts: ProcessCounters,
}

impl RecordGain {
    pub(super) fn is_zero(&self) -> bool {
        self.counts.is_zero() && self.process_counts.is_zero()
    }
}

#[derive(Clone, Copy, Debug)]
struct KnownVmaRecord {
    born_ns: u64,
    owner: Option<VmaOwner>,
    counted: VmaCounters,
    released: bool,
}

#[derive(Clone, Copy, Debug)]
struct KnownMmRecord {
    born_ns: u64,
    counted: VmaCounters,
    process_counted: ProcessCounters,
    released: bool,
}

/// All known records, with what was already counted of them.
#[derive(Debug, Default)]
pub(super) struct RecordBook {
    vmas: HashMap<u32, KnownVmaRecord>,
    mms: HashMap<u32, KnownMmRecord>,
}

impl RecordBook {
    /// Whether the record is seen for the first time.
    pub(super) fn is_new_vma(&self, sample: &VmaSample) -> bool {
        (self.vmas.get(&sample.id)).is_none_or(|known| known.born_ns != sample.born_ns)
    }

    /// Whether the record is seen for the first time.
    pub(super) fn is_new_mm(&self, sample: &MmSample) -> bool {
        (self.mms.get(&sample.id)).is_none_or(|known| known.born_ns != sample.born_ns)
    }

    /// The owner of a known record.
    pub(super) fn owner(&self, id: u32) -> Option<VmaOwner> {
        self.vmas.get(&id).and_then(|known| known.owner)
    }

    /// Starts to count a new record for `owner`.
    pub(super) fn open_vma(&mut self, sample: &VmaSample, owner: Option<VmaOwner>) {
        let record = KnownVmaRecord {
            born_ns: sample.born_ns,
            owner,
            counted: VmaCounters::default(),
            released: false,
        };
        self.vmas.insert(sample.id, record);
    }

    /// Whether a known record counted anything since it was read last.
    pub(super) fn gained(&self, sample: &VmaSample) -> bool {
        (self.vmas.get(&sample.id))
            .is_some_and(|known| !sample.counters.since(&known.counted).is_zero())
    }

    /// Lets a known record count for another owner from now on.
    pub(super) fn assign(&mut self, id: u32, owner: VmaOwner) {
        if let Some(known) = self.vmas.get_mut(&id) {
            known.owner = Some(owner);
        }
    }

    /// Starts to count a new process record.
    pub(super) fn open_mm(&mut self, sample: &MmSample) {
        let record = KnownMmRecord {
            born_ns: sample.born_ns,
            counted: VmaCounters::default(),
            process_counted: ProcessCounters::default(),
            released: false,
        };
        self.mms.insert(sample.id, record);
    }

    /// What every record gained, and which of them were read to the end: those that no longer count
    /// and gained nothing since the last collection, when they may still have been written to.
    pub(super) fn take(&mut self, snapshot: &CounterSnapshot) -> (Vec<RecordGain>, RecordReleases) {
        let mut gains = Vec::with_capacity(snapshot.vmas.len() + snapshot.mms.len());
        let mut releases = RecordReleases::default();
        let mut mms_in_use = HashSet::new();
        for sample in &snapshot.vmas {
            let gain = self.take_vma(sample);
            let live = sample.id == NO_RECORD || sample.state == RecordState::Live;
            if !live && gain.is_zero() {
                // Only once: the id may be in use again before the caller acts on a second time.
                if self.vmas.get(&sample.id).is_some_and(|r| !r.released) {
                    releases.vmas.push(sample.id);
                }
            } else {
                mms_in_use.insert(sample.mm_id);
            }
            gains.push(gain);
        }
        for sample in &snapshot.mms {
            let gain = self.take_mm(sample);
            let live = sample.id == NO_RECORD || sample.state == RecordState::Live;
            let in_use = live || mms_in_use.contains(&sample.id);
            let released = self.mms.get(&sample.id).is_none_or(|r| r.released);
            if !in_use && !released && gain.is_zero() {
                releases.mms.push(sample.id);
            }
            gains.push(gain);
        }
        gains.retain(|gain| !gain.is_zero());
        self.mark_released(snapshot, &releases);
        (gains, releases)
    }

    fn take_vma(&mut self, sample: &VmaSample) -> RecordGain {
        let known = self.vmas.entry(sample.id).or_insert(KnownVmaRecord {
            born_ns: sample.born_ns,
            owner: None,
            counted: VmaCounters::default(),
            released: false,
        });
        let counts = sample.counters.since(&known.counted);
        known.counted = known.counted.max(&sample.counters);
        RecordGain {
            process: known.owner.map(|owner| owner.process),
            owner: known.owner,
            counts,
            process_counts: ProcessCounters::default(),
        }
    }

    fn take_mm(&mut self, sample: &MmSample) -> RecordGain {
        let known = self.mms.entry(sample.id).or_insert(KnownMmRecord {
            born_ns: sample.born_ns,
            counted: VmaCounters::default(),
            process_counted: ProcessCounters::default(),
            released: false,
        });
        let (now, process_now) = (sample.tables(), sample.counters);
        let counts = now.since(&known.counted);
        let process_counts = process_now.since(&known.process_counted);
        known.counted = known.counted.max(&now);
        known.process_counted = known.process_counted.max(&process_now);
        RecordGain {
            process: (sample.id != NO_RECORD).then_some(sample.process),
            owner: None,
            counts,
            process_counts,
        }
    }

    fn mark_released(&mut self, snapshot: &CounterSnapshot, releases: &RecordReleases) {
        let vmas: HashSet<u32> = snapshot.vmas.iter().map(|s| s.id).collect();
        let mms: HashSet<u32> = snapshot.mms.iter().map(|s| s.id).collect();
        self.vmas.retain(|id, r| !r.released || vmas.contains(id));
        self.mms.retain(|id, r| !r.released || mms.contains(id));
        for id in &releases.vmas {
            if let Some(record) = self.vmas.get_mut(id) {
                record.released = true;
            }
        }
        for id in &releases.mms {
            if let Some(record) = self.mms.get_mut(id) {
                record.released = true;
            }
        }
    }
}
