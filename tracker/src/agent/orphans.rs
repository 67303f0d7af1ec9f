//! Records whose VMA is no longer there and never told so: it was unregistered before it was freed,
//! or its start moved without an event.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::Discovery;
use crate::model::sample::{ProcessKey, Snapshot};
use tracker_ebpf::{NO_RECORD, RecordState};

/// Looks for them after each discovery. A VMA must be missing twice: one that registers while a
/// discovery is under way is missing once.
#[derive(Default)]
pub struct Orphans {
    last: Option<Arc<Discovery>>,
    missing: HashSet<(u32, u64)>,
}

impl Orphans {
    /// Records to end; `None` if this discovery was looked at before.
    pub fn after(&mut self, discovery: &Arc<Discovery>, snapshot: &Snapshot) -> Option<Vec<u32>> {
        if self
            .last
            .as_ref()
            .is_some_and(|last| Arc::ptr_eq(last, discovery))
        {
            return None;
        }
        self.last = Some(discovery.clone());
        let missing = missing(discovery, snapshot);
        let ended = missing
            .intersection(&self.missing)
            .map(|(id, _)| *id)
            .collect();
        self.missing = missing;
        Some(ended)
    }
}

/// Live records, with when they were filled, that a discovery did not find.
fn missing(discovery: &Discovery, snapshot: &Snapshot) -> HashSet<(u32, u64)> {
    let processes: HashMap<u32, ProcessKey> =
        snapshot.mms.iter().map(|mm| (mm.id, mm.process)).collect();
    let found: HashSet<(ProcessKey, u64)> = discovery
        .vmas
        .iter()
        .map(|vma| (vma.process, vma.start))
        .collect();
    let is_missing = |mm_id: &u32, start: u64| {
        processes.get(mm_id).is_some_and(|process| {
            !found.contains(&(*process, start)) && !discovery.unread.contains(process)
        })
    };
    snapshot
        .vmas
        .iter()
        .filter(|vma| vma.id != NO_RECORD && vma.state == RecordState::Live)
        .filter(|vma| is_missing(&vma.mm_id, vma.start))
        .map(|vma| (vma.id, vma.born_ns))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sample::{FoundVma, MmSample, VmaCounters, VmaSample};
    use tracker_ebpf::{Backing, Mode};

    const PROCESS: ProcessKey = ProcessKey {
        pid: 7,
        start_boottime_ns: 0,
    };

    fn snapshot() -> Snapshot {
        let vma = |id, start| VmaSample {
            id,
            mm_id: 1,
            start,
            end: start + 4096,
            born_ns: 5,
            backing: Backing::Anon,
            mode: Mode::Async,
            state: RecordState::Live,
            counters: VmaCounters::default(),
        };
        let mm = MmSample {
            id: 1,
            process: PROCESS,
            comm: [0; 16],
            state: RecordState::Live,
            tables: Default::default(),
            freed: [0; 3],
            fault_wait_ns: 0,
        };
        Snapshot {
            vmas: vec![vma(1, 0x1000), vma(2, 0x2000)],
            mms: vec![mm],
            ..Snapshot::default()
        }
    }

    fn discovery() -> Arc<Discovery> {
        let found = FoundVma {
            process: PROCESS,
            comm: Vec::new(),
            start: 0x1000,
            end: 0x2000,
            backing: Backing::Anon,
            features: None,
            name: None,
        };
        Arc::new(Discovery {
            vmas: vec![found],
            ..Discovery::default()
        })
    }

    #[test]
    fn a_record_ends_when_its_vma_is_missing_twice() {
        let mut orphans = Orphans::default();
        let first = discovery();
        assert_eq!(orphans.after(&first, &snapshot()), Some(vec![]));
        assert_eq!(
            orphans.after(&first, &snapshot()),
            None,
            "it tells nothing new"
        );
        assert_eq!(orphans.after(&discovery(), &snapshot()), Some(vec![2]));
    }

    #[test]
    fn a_process_that_could_not_be_read_keeps_its_records() {
        let mut orphans = Orphans::default();
        let unread = || {
            Arc::new(Discovery {
                unread: vec![PROCESS],
                ..Discovery::default()
            })
        };
        assert_eq!(orphans.after(&unread(), &snapshot()), Some(vec![]));
        assert_eq!(orphans.after(&unread(), &snapshot()), Some(vec![]));
    }
}
