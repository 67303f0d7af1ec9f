//! Records whose VMA went away without an event: it was unregistered before it was freed, or its
//! start moved.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{CounterSnapshot, ProcessKey, VmaDiscovery, VmaSample};
use tracker_ebpf::{NO_RECORD, RecordState};

/// The id of a record and when it was filled.
type RecordKey = (u32, u64);

/// Finds them after each discovery. A VMA must be missing twice: one that registers while a
/// discovery is under way is missing once. A discovery that passes its process over says nothing.
#[derive(Default)]
pub struct OrphanRecords {
    last: Option<Arc<VmaDiscovery>>,
    missing: HashSet<RecordKey>,
}

impl OrphanRecords {
    /// The records to end; `None` if this discovery was looked at before.
    pub fn after(
        &mut self,
        discovery: &Arc<VmaDiscovery>,
        snapshot: &CounterSnapshot,
    ) -> Option<Vec<u32>> {
        if self
            .last
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, discovery))
        {
            return None;
        }
        self.last = Some(discovery.clone());
        let (missing, unread) = not_found(discovery, snapshot);
        let ended = missing
            .intersection(&self.missing)
            .map(|(id, _)| *id)
            .collect();
        // What is known of a process that was passed over stays.
        let kept = unread.intersection(&self.missing).copied();
        self.missing = kept.chain(missing.iter().copied()).collect();
        Some(ended)
    }
}

/// Live records that a discovery did not find: missing ones, and those of processes that it passed
/// over.
fn not_found(
    discovery: &VmaDiscovery,
    snapshot: &CounterSnapshot,
) -> (HashSet<RecordKey>, HashSet<RecordKey>) {
    let processes: HashMap<u32, ProcessKey> =
        snapshot.mms.iter().map(|mm| (mm.id, mm.process)).collect();
    let found: HashSet<(ProcessKey, u64)> = discovery
        .vmas
        .iter()
        .map(|vma| (vma.process, vma.start))
        .collect();
    let unread: HashSet<&ProcessKey> = discovery.unread.iter().collect();
    let (passed_over, missing): (Vec<_>, Vec<_>) = snapshot
        .vmas
        .iter()
        .filter(|vma| vma.id != NO_RECORD && vma.state == RecordState::Live)
        .filter_map(|vma| Some((vma, processes.get(&vma.mm_id)?)))
        .filter(|(vma, process)| !found.contains(&(**process, vma.start)))
        .partition(|(_, process)| unread.contains(process));
    let keys = |records: Vec<(&VmaSample, &ProcessKey)>| {
        let key = |(vma, _): (&VmaSample, _)| (vma.id, vma.born_ns);
        records.into_iter().map(key).collect()
    };
    (keys(missing), keys(passed_over))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FoundVma, MmSample, ProcessCounters, VmaCounters};
    use tracker_ebpf::WpMode;
    use uffd::Backing;

    const PROCESS: ProcessKey = ProcessKey {
        pid: 7,
        start_boottime_ns: 0,
    };

    fn snapshot() -> CounterSnapshot {
        let vma = |id, start| VmaSample {
            id,
            mm_id: 1,
            start,
            end: start + 4096,
            born_ns: 5,
            backing: Backing::Anon,
            mode: WpMode::Async,
            state: RecordState::Live,
            counters: VmaCounters::default(),
        };
        let mm = MmSample {
            id: 1,
            process: PROCESS,
            born_ns: 4,
            comm: [0; 16],
            state: RecordState::Live,
            tables: Default::default(),
            counters: ProcessCounters::default(),
        };
        CounterSnapshot {
            vmas: vec![vma(1, 0x1000), vma(2, 0x2000)],
            mms: vec![mm],
            ..CounterSnapshot::default()
        }
    }

    fn discovery() -> Arc<VmaDiscovery> {
        let found = FoundVma {
            process: PROCESS,
            comm: Vec::new(),
            start: 0x1000,
            end: 0x2000,
            backing: Backing::Anon,
            features: None,
            name: None,
        };
        Arc::new(VmaDiscovery {
            vmas: vec![found],
            ..VmaDiscovery::default()
        })
    }

    #[test]
    fn a_record_ends_when_its_vma_is_missing_twice() {
        let mut orphans = OrphanRecords::default();
        let first = discovery();
        assert_eq!(orphans.after(&first, &snapshot()), Some(vec![]));
        assert_eq!(
            orphans.after(&first, &snapshot()),
            None,
            "it tells nothing new"
        );
        assert_eq!(orphans.after(&discovery(), &snapshot()), Some(vec![2]));
    }

    /// A discovery that passed the process over.
    fn unread() -> Arc<VmaDiscovery> {
        Arc::new(VmaDiscovery {
            unread: vec![PROCESS],
            ..VmaDiscovery::default()
        })
    }

    #[test]
    fn a_process_that_was_not_looked_at_keeps_its_records() {
        let mut orphans = OrphanRecords::default();
        assert_eq!(orphans.after(&unread(), &snapshot()), Some(vec![]));
        assert_eq!(orphans.after(&unread(), &snapshot()), Some(vec![]));
    }

    #[test]
    fn a_look_that_was_passed_over_does_not_make_an_earlier_one_forgotten() {
        let mut orphans = OrphanRecords::default();
        assert_eq!(orphans.after(&discovery(), &snapshot()), Some(vec![]));
        assert_eq!(orphans.after(&unread(), &snapshot()), Some(vec![]));
        assert_eq!(orphans.after(&discovery(), &snapshot()), Some(vec![2]));
    }
}
