//! Reads what the probes count, from memory shared with the kernel.

use std::collections::HashMap;
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aya::Ebpf;
use bytemuck::Zeroable;
use tracker_ebpf::{
    BackingCode, ControlBlock, FreeList, MmRecord, NO_RECORD, RETIRED, RecordState, VmaFaults,
    VmaRecord, WpMode,
};
use uffd::Backing;

use super::error::ProbeError;
use super::shared::SharedArray;
use super::values::MapSizes;
use crate::model::{
    CounterSnapshot, CounterSource, MmSample, NodeReading, ProcessKey, RecordUsage, VmaCounters,
    VmaSample,
};

/// How long a program that runs when its VMA ends may still add its last event.
const GRACE: Duration = Duration::from_millis(50);

/// The shared maps.
#[derive(Debug)]
pub struct CounterMaps {
    sizes: MapSizes,
    vmas: SharedArray<VmaRecord>,
    mms: SharedArray<MmRecord>,
    faults: SharedArray<VmaFaults>,
    control: SharedArray<ControlBlock>,
    free_vmas: SharedArray<u64>,
    free_mms: SharedArray<u64>,
    ended_vmas: HashMap<u32, Instant>,
    ended_mms: HashMap<u32, Instant>,
    /// Records that we ended, and for how many more calls of `end` slots may hold them.
    held: HashMap<u32, u32>,
    /// Records that we ended, for the next walk of `iter/task_vma` to take out of the index.
    retired: SharedArray<u64>,
    /// Calls of `end` since the last walk.
    unwalked: u32,
    index: aya::maps::HashMap<aya::maps::MapData, u64, u32>,
}

impl CounterMaps {
    /// Maps the shared maps of a loaded object and hands all records to the kernel side.
    ///
    /// # Errors
    /// If a map is missing or cannot be mapped.
    pub fn new(ebpf: &mut Ebpf, sizes: MapSizes) -> Result<Self, ProbeError> {
        fn map<T: bytemuck::Pod>(
            ebpf: &Ebpf,
            name: &'static str,
            len: u32,
        ) -> Result<SharedArray<T>, ProbeError> {
            SharedArray::map(ebpf.map(name).ok_or(ProbeError::NoMap(name))?, len)
        }
        let index = ebpf.take_map("VMAS").ok_or(ProbeError::NoMap("VMAS"))?;
        let counters = Self {
            index: index.try_into()?,
            sizes,
            vmas: map(ebpf, "VMA_RECORDS", sizes.vma_records)?,
            mms: map(ebpf, "MM_RECORDS", sizes.mm_records)?,
            faults: map(ebpf, "FAULTS", sizes.vma_records * sizes.shards)?,
            control: map(ebpf, "CONTROL", 1)?,
            free_vmas: map(ebpf, "FREE_VMAS", sizes.vma_records)?,
            free_mms: map(ebpf, "FREE_MMS", sizes.mm_records)?,
            retired: map(ebpf, "RETIRED", RETIRED)?,
            unwalked: 0,
            ended_vmas: HashMap::new(),
            ended_mms: HashMap::new(),
            held: HashMap::new(),
        };
        (1..sizes.vma_records).for_each(|id| counters.free(&VMA_LIST, id));
        (1..sizes.mm_records).for_each(|id| counters.free(&MM_LIST, id));
        Ok(counters)
    }

    /// Gives a free record id to the kernel side.
    fn free(&self, list: &RecordList, id: u32) {
        let ring = if list.of_vmas {
            &self.free_vmas
        } else {
            &self.free_mms
        };
        let Some(tail) = self.control.word(0, list.at + offset_of!(FreeList, tail)) else {
            return;
        };
        let end = tail.load(Ordering::Acquire);
        ring.store((end % ring.len() as u64) as usize, u64::from(id));
        tail.store(end + 1, Ordering::Release);
    }

    /// Records taken so far, including those given back: ids up to this may be in use.
    fn taken(&self, list: &RecordList) -> u64 {
        self.control
            .word(0, list.at + offset_of!(FreeList, head))
            .map_or(0, |w| w.load(Ordering::Acquire))
    }

    fn usage(&self, list: &RecordList, capacity: u32) -> RecordUsage {
        let control = self.control.read(0);
        let list = if list.of_vmas {
            control.free_vmas
        } else {
            control.free_mms
        };
        let capacity = u64::from(capacity - 1);
        RecordUsage {
            used: capacity - list.tail.saturating_sub(list.head).min(capacity),
            capacity,
        }
    }

    fn vma(&self, id: u32, record: &VmaRecord) -> VmaSample {
        VmaSample {
            id,
            mm_id: record.mm_id,
            start: record.start,
            end: record.end,
            born_ns: record.born_ns,
            backing: backing(record.backing),
            mode: if record.mode == WpMode::Async as u32 {
                WpMode::Async
            } else {
                WpMode::Sync
            },
            state: RecordState::Live,
            counters: self.counted(id, record),
        }
    }

    fn counted(&self, id: u32, record: &VmaRecord) -> VmaCounters {
        let (shards, vmas) = (self.sizes.shards, self.sizes.vma_records);
        let read = |shard| self.faults.read((shard * vmas + id) as usize);
        VmaCounters::of(record, (0..shards).map(read))
    }

    /// Takes a record out of the index, by a system call.
    fn forget(&mut self, id: u32) {
        let key = self.vmas.read(id as usize).vma;
        // Another record may have taken its place, or nothing is there: both are fine.
        let _ = self.index.remove(&key);
    }

    fn reset_vma(&self, id: u32) {
        self.vmas.write(id as usize, VmaRecord::zeroed());
        for shard in 0..self.sizes.shards {
            self.faults.write(
                (shard * self.sizes.vma_records + id) as usize,
                VmaFaults::zeroed(),
            );
        }
    }
}

/// A list of free records in the control map.
struct RecordList {
    at: usize,
    of_vmas: bool,
}

const VMA_LIST: RecordList = RecordList {
    at: offset_of!(ControlBlock, free_vmas),
    of_vmas: true,
};
const MM_LIST: RecordList = RecordList {
    at: offset_of!(ControlBlock, free_mms),
    of_vmas: false,
};

/// The state to report. An ended record counts as live until it has been quiet for a while.
fn settled(state: u32, id: u32, ended: &mut HashMap<u32, Instant>) -> Option<RecordState> {
    let state = match state {
        s if s == RecordState::Live as u32 => return Some(RecordState::Live),
        s if s == RecordState::Ended as u32 => RecordState::Ended,
        s if s == RecordState::Moved as u32 => RecordState::Moved,
        _ => return None,
    };
    let quiet = ended.entry(id).or_insert_with(Instant::now).elapsed() >= GRACE;
    Some(if quiet { state } else { RecordState::Live })
}

/// The backing that a record's code stands for.
pub fn backing(code: u32) -> Backing {
    [
        (BackingCode::Anon, Backing::Anon),
        (BackingCode::Shmem, Backing::Shmem),
        (BackingCode::Hugetlb, Backing::Hugetlb),
    ]
    .into_iter()
    .find(|(known, _)| *known as u32 == code)
    .map_or(Backing::File, |(_, backing)| backing)
}

impl CounterSource for CounterMaps {
    fn snapshot(&mut self) -> CounterSnapshot {
        let control = self.control.read(0);
        let mut snapshot = CounterSnapshot {
            node: NodeReading {
                durations: control.durations.map(Some),
                losses: control.losses,
                vma_records: self.usage(&VMA_LIST, self.sizes.vma_records),
                mm_records: self.usage(&MM_LIST, self.sizes.mm_records),
            },
            ..CounterSnapshot::default()
        };
        let last = self
            .taken(&VMA_LIST)
            .min(u64::from(self.sizes.vma_records - 1)) as u32;
        for id in 0..=last {
            let record = self.vmas.read(id as usize);
            let state = if id == NO_RECORD || self.held.contains_key(&id) {
                Some(RecordState::Live)
            } else {
                settled(record.state, id, &mut self.ended_vmas)
            };
            if let Some(state) = state {
                snapshot.vmas.push(VmaSample {
                    state,
                    ..self.vma(id, &record)
                });
            }
        }
        let last = self
            .taken(&MM_LIST)
            .min(u64::from(self.sizes.mm_records - 1)) as u32;
        for id in 0..=last {
            let record = self.mms.read(id as usize);
            let state = if id == NO_RECORD {
                Some(RecordState::Live)
            } else {
                settled(record.state, id, &mut self.ended_mms)
            };
            // A child that is being forked has no pid yet; it is reported once it has one.
            let nameless = id != NO_RECORD && record.tgid == 0 && state == Some(RecordState::Live);
            match state {
                Some(_) if nameless => snapshot.vmas.retain(|vma| vma.mm_id != id),
                Some(state) => snapshot.mms.push(mm(id, &record, state)),
                None => {}
            }
        }
        snapshot
    }

    fn release(&mut self, vmas: &[u32], mms: &[u32]) {
        for id in vmas {
            if self.ended_vmas.remove(id).is_some() {
                self.reset_vma(*id);
                self.free(&VMA_LIST, *id);
            }
        }
        for id in mms {
            if self.ended_mms.remove(id).is_some() {
                self.mms.write(*id as usize, MmRecord::zeroed());
                self.free(&MM_LIST, *id);
            }
        }
    }

    fn end(&mut self, vmas: &[u32]) {
        self.held.retain(|_, walks| {
            *walks -= 1;
            *walks > 0
        });
        let places = 0..self.retired.len();
        let (left, mut free): (Vec<usize>, Vec<usize>) =
            places.partition(|place| self.retired.read(*place) != 0);
        self.unwalked = if left.is_empty() {
            0
        } else {
            self.unwalked + 1
        };
        if self.unwalked > WALKS {
            // Nobody walks: discovery does not use the iterator here.
            for place in left {
                self.forget(self.retired.read(place) as u32);
                self.retired.store(place, 0);
            }
        }
        for id in vmas {
            // Records that have ended look live for a while, and so are named again.
            if self.vmas.read(*id as usize).state != RecordState::Live as u32 {
                continue;
            }
            // The others are named again after the next discovery.
            let Some(place) = free.pop() else {
                break;
            };
            let ended = RecordState::Ended as u32;
            self.vmas
                .store_u32(*id as usize, offset_of!(VmaRecord, state), ended);
            self.held.insert(*id, WALKS);
            self.retired.store(place, u64::from(*id));
        }
    }
}

/// How many calls of [`CounterSource::end`], one per discovery, it takes until no slot holds a
/// record any more: each discovery begins with a walk that makes all slots look again.
const WALKS: u32 = 2;

fn mm(id: u32, record: &MmRecord, state: RecordState) -> MmSample {
    MmSample {
        id,
        process: ProcessKey {
            pid: record.tgid,
            start_boottime_ns: record.start_boottime_ns,
        },
        born_ns: record.born_ns,
        comm: record.comm,
        state,
        tables: record.tables,
        counters: record.into(),
    }
}
