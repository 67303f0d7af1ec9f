//! A small machine: processes, VMAs and the records that hooks fill, as the kernel side does it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tracker::model::{
    CollectionInput, CounterSnapshot, FoundVma, MmSample, NodeReading, ProcessCounters, ProcessKey,
    RecordReleases, RecordUsage, SeriesBooks, SeriesLimits, VmaCounters, VmaDiscovery, VmaSample,
};
use tracker_ebpf::{FaultEntry, RecordState, TableCause, TableLevel, WpMode};
use uffd::Backing;

/// Size of the pieces that VMAs are made of.
pub const PIECE: u64 = 0x10_0000;

#[derive(Debug)]
pub struct MachineProcess {
    pub key: ProcessKey,
    pub mm_id: Option<u32>,
    pub vmas: Vec<MachineVma>,
}

#[derive(Clone, Copy, Debug)]
pub struct MachineVma {
    /// The kernel object: another one after a merge or a split.
    pub object: u64,
    /// The memory: the part with the lower start keeps it in a split, and gives it to a merged one.
    pub identity: u64,
    pub start: u64,
    pub end: u64,
}

/// The machine, and the books kept on it.
#[derive(Debug)]
pub struct SmallMachine {
    pub books: SeriesBooks,
    pub processes: BTreeMap<u32, MachineProcess>,
    /// Everything that happened.
    pub total: VmaCounters,
    pub process_total: ProcessCounters,
    pub now: Duration,
    snapshot_vmas: BTreeMap<u32, VmaSample>,
    snapshot_mms: BTreeMap<u32, MmSample>,
    /// Record of a kernel object.
    records: BTreeMap<u64, u32>,
    free_vmas: VecDeque<u32>,
    free_mms: VecDeque<u32>,
    capacity: RecordUsage,
    clock_ns: u64,
    next_object: u64,
    discovery: Option<VmaDiscovery>,
    pending: RecordReleases,
}

impl SmallMachine {
    pub fn new(limits: SeriesLimits, vma_records: u32, mm_records: u32) -> Self {
        let mut machine = Self {
            books: SeriesBooks::new(limits),
            processes: BTreeMap::new(),
            total: VmaCounters::default(),
            process_total: ProcessCounters::default(),
            now: Duration::from_secs(1),
            snapshot_vmas: BTreeMap::new(),
            snapshot_mms: BTreeMap::new(),
            records: BTreeMap::new(),
            free_vmas: (1..=vma_records).collect(),
            free_mms: (1..=mm_records).collect(),
            capacity: RecordUsage {
                used: 0,
                capacity: u64::from(vma_records),
            },
            clock_ns: 1,
            next_object: 0xffff_8880_0000_0000,
            discovery: None,
            pending: RecordReleases::default(),
        };
        machine.snapshot_vmas.insert(0, vma_sample(0, 0, 0, 0, 0));
        let nobody = ProcessKey {
            pid: 0,
            start_boottime_ns: 0,
        };
        machine.snapshot_mms.insert(0, mm_sample(0, nobody, 0));
        machine
    }

    fn tick(&mut self) -> u64 {
        self.clock_ns += 1;
        self.clock_ns
    }

    /// Starts a process; an earlier one of that pid exits.
    pub fn spawn(&mut self, pid: u32) {
        self.exit(pid);
        let key = ProcessKey {
            pid,
            start_boottime_ns: self.tick(),
        };
        let process = MachineProcess {
            key,
            mm_id: None,
            vmas: Vec::new(),
        };
        self.processes.insert(pid, process);
    }

    pub fn exit(&mut self, pid: u32) {
        self.exec(pid);
        self.processes.remove(&pid);
    }

    /// Gives a process a new mm; it stays the same process.
    pub fn exec(&mut self, pid: u32) {
        while self.processes.get(&pid).is_some_and(|p| !p.vmas.is_empty()) {
            self.unmap(pid, 0);
        }
        let mm = self.processes.get_mut(&pid).and_then(|p| p.mm_id.take());
        if let Some(mm) = mm.and_then(|id| self.snapshot_mms.get_mut(&id)) {
            mm.state = RecordState::Ended;
        }
    }

    /// Maps pieces `at..at + pieces`, unless something is there.
    pub fn map(&mut self, pid: u32, at: u64, pieces: u64) {
        let (start, end) = (at * PIECE, (at + pieces) * PIECE);
        self.next_object += 0x100;
        let object = self.next_object;
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if process
            .vmas
            .iter()
            .all(|v| v.end <= start || end <= v.start)
        {
            process.vmas.push(MachineVma {
                object,
                identity: object,
                start,
                end,
            });
        }
    }

    /// Counts `n` faults, of a kind that tells the VMAs apart, and a table.
    pub fn fault(&mut self, pid: u32, index: usize, n: u64) {
        let Some(id) = self.resolve(pid, index) else {
            return;
        };
        let mut gain = VmaCounters::default();
        gain.faults[WpMode::Async as usize][FaultEntry::ALL[index % 3] as usize] = n;
        gain.tables[TableLevel::Pte as usize][TableCause::Arm as usize] = 1;
        self.snapshot_vmas.get_mut(&id).unwrap().counters += &gain;
        self.total += &gain;
    }

    /// Counts a table outside the VMAs, one freed, and waiting time.
    pub fn process_event(&mut self, pid: u32, n: u64) {
        if !self.processes.contains_key(&pid) {
            return;
        }
        let id = self.resolve_mm(pid);
        let mm = self.snapshot_mms.get_mut(&id).unwrap();
        mm.tables[TableLevel::Pmd as usize][TableCause::Fork as usize] += n;
        mm.counters.freed[TableLevel::Pte as usize] += n;
        mm.counters.fault_wait_ns += n;
        self.total.tables[TableLevel::Pmd as usize][TableCause::Fork as usize] += n;
        self.process_total.freed[TableLevel::Pte as usize] += n;
        self.process_total.fault_wait_ns += n;
    }

    /// As `resolve` of the hooks: the record of the object if its start is still the same.
    fn resolve(&mut self, pid: u32, index: usize) -> Option<u32> {
        let vma = *self.processes.get(&pid)?.vmas.get(index)?;
        let mm_id = self.resolve_mm(pid);
        if let Some(id) = self.records.get(&vma.object).copied() {
            let sample = self.snapshot_vmas.get_mut(&id).unwrap();
            if sample.start == vma.start && sample.state == RecordState::Live {
                return Some(id);
            }
            sample.state = RecordState::Moved;
            self.records.remove(&vma.object);
        }
        let Some(id) = self.free_vmas.pop_front() else {
            return Some(0);
        };
        let born = self.tick();
        let sample = vma_sample(id, mm_id, vma.start, vma.end, born);
        self.snapshot_vmas.insert(id, sample);
        self.records.insert(vma.object, id);
        Some(id)
    }

    fn resolve_mm(&mut self, pid: u32) -> u32 {
        let born = self.tick();
        let process = self.processes.get_mut(&pid).unwrap();
        if process.mm_id.is_none()
            && let Some(id) = self.free_mms.pop_front()
        {
            process.mm_id = Some(id);
            self.snapshot_mms
                .insert(id, mm_sample(id, process.key, born));
        }
        process.mm_id.unwrap_or(0)
    }

    /// Another CPU fills a record for a VMA that has one, and gives it up.
    pub fn lose_race(&mut self, pid: u32, index: usize) {
        let Some(vma) = self
            .processes
            .get(&pid)
            .and_then(|p| p.vmas.get(index).copied())
        else {
            return;
        };
        let mm_id = self.resolve_mm(pid);
        let born = self.tick();
        if let Some(id) = self.free_vmas.pop_front() {
            let mut sample = vma_sample(id, mm_id, vma.start, vma.end, born);
            sample.state = RecordState::Ended;
            self.snapshot_vmas.insert(id, sample);
        }
    }

    pub fn unmap(&mut self, pid: u32, index: usize) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        if index < process.vmas.len() {
            let vma = process.vmas.remove(index);
            self.free_object(pid, vma.object);
        }
    }

    /// Ends the record of a kernel object that is free now, as `vm_area_free` does: another may
    /// have its start.
    fn free_object(&mut self, pid: u32, object: u64) {
        let Some(id) = self.records.remove(&object) else {
            return;
        };
        let record = self.snapshot_vmas.get_mut(&id).unwrap();
        let mut vmas = self.processes.get(&pid).into_iter().flat_map(|p| &p.vmas);
        record.state = if vmas.any(|vma| vma.start == record.start) {
            RecordState::Moved
        } else {
            RecordState::Ended
        };
    }

    /// Cuts the last piece off, either into a new object or leaving the old object there.
    pub fn split(&mut self, pid: u32, index: usize, lower_is_new: bool) {
        self.next_object += 0x100;
        let new = self.next_object;
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let Some(vma) = process.vmas.get_mut(index) else {
            return;
        };
        if vma.end - vma.start < 2 * PIECE {
            return;
        }
        let cut = vma.end - PIECE;
        let (lower, upper) = if lower_is_new {
            (new, vma.object)
        } else {
            (vma.object, new)
        };
        let tail = MachineVma {
            object: upper,
            identity: new,
            start: cut,
            end: vma.end,
        };
        vma.object = lower;
        vma.end = cut;
        process.vmas.push(tail);
    }

    /// Merges a VMA with the one that follows it, into the object of either.
    pub fn merge(&mut self, pid: u32, index: usize, into_upper: bool) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let Some(lower) = process.vmas.get(index).copied() else {
            return;
        };
        let Some(at) = process.vmas.iter().position(|v| v.start == lower.end) else {
            return;
        };
        let upper = process.vmas[at];
        let (keep, free) = if into_upper {
            (upper.object, lower.object)
        } else {
            (lower.object, upper.object)
        };
        process.vmas[index] = MachineVma {
            object: keep,
            end: upper.end,
            ..lower
        };
        process.vmas.remove(at);
        self.free_object(pid, free);
    }

    /// `mremap(2)` to piece `to`, unless something is there: into a new object.
    pub fn move_to(&mut self, pid: u32, index: usize, to: u64) {
        self.next_object += 0x100;
        let object = self.next_object;
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let Some(vma) = process.vmas.get(index).copied() else {
            return;
        };
        let (start, end) = (to * PIECE, to * PIECE + (vma.end - vma.start));
        if process
            .vmas
            .iter()
            .all(|v| v.end <= start || end <= v.start)
        {
            process.vmas[index] = MachineVma {
                object,
                identity: object,
                start,
                end,
            };
            self.free_object(pid, vma.object);
        }
    }

    /// Looks at all VMAs; of `unread` nothing is seen.
    pub fn discover(&mut self, unread: Option<u32>) {
        self.now += Duration::from_millis(1);
        let mut discovery = VmaDiscovery {
            at: self.now,
            ..VmaDiscovery::default()
        };
        for process in self.processes.values() {
            if unread == Some(process.key.pid) {
                discovery.unread.push(process.key);
                continue;
            }
            discovery
                .vmas
                .extend(process.vmas.iter().map(|vma| FoundVma {
                    process: process.key,
                    comm: b"machine".to_vec(),
                    start: vma.start,
                    end: vma.end,
                    backing: Backing::Anon,
                    features: Some(1 << 15),
                    name: None,
                }));
        }
        self.discovery = Some(discovery);
        self.now += Duration::from_millis(1);
    }

    /// What a reading says now.
    pub fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            vmas: self.snapshot_vmas.values().copied().collect(),
            mms: self.snapshot_mms.values().copied().collect(),
            node: NodeReading {
                vma_records: self.capacity,
                ..NodeReading::default()
            },
        }
    }

    /// Collects, and gives the records back now or only before the next collection.
    pub fn collect(&mut self, seconds: u64, release_late: bool) {
        self.now += Duration::from_secs(seconds);
        let snapshot = self.snapshot();
        let input = CollectionInput {
            snapshot: &snapshot,
            discovery: self.discovery.as_ref(),
            scans: &[],
            now: self.now,
        };
        let releases = self.books.collect(&input);
        let earlier = std::mem::replace(&mut self.pending, releases);
        self.release(&earlier);
        if !release_late {
            let releases = std::mem::take(&mut self.pending);
            self.release(&releases);
        }
    }

    /// As `CounterSource::release`. A record is not given back twice.
    fn release(&mut self, releases: &RecordReleases) {
        for id in &releases.vmas {
            if let Some(sample) = self.snapshot_vmas.remove(id) {
                assert_ne!(
                    sample.state,
                    RecordState::Live,
                    "a live record was released"
                );
                self.free_vmas.push_back(*id);
            }
        }
        for id in &releases.mms {
            if let Some(sample) = self.snapshot_mms.remove(id) {
                assert_ne!(
                    sample.state,
                    RecordState::Live,
                    "a live process was released"
                );
                assert!(
                    self.snapshot_vmas.values().all(|vma| vma.mm_id != *id),
                    "a process record was released before its VMA records"
                );
                self.free_mms.push_back(*id);
            }
        }
    }
}

fn vma_sample(id: u32, mm_id: u32, start: u64, end: u64, born_ns: u64) -> VmaSample {
    VmaSample {
        id,
        mm_id,
        start,
        end,
        born_ns,
        backing: Backing::Anon,
        mode: WpMode::Async,
        state: RecordState::Live,
        counters: VmaCounters::default(),
    }
}

fn mm_sample(id: u32, process: ProcessKey, born_ns: u64) -> MmSample {
    let mut comm = [0; 16];
    comm[..7].copy_from_slice(b"machine");
    MmSample {
        id,
        process,
        born_ns,
        comm,
        state: RecordState::Live,
        tables: Default::default(),
        counters: ProcessCounters::default(),
    }
}
