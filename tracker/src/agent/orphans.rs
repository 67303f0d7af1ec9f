//! Records whose VMA is no longer there and never told so: it was unregistered before it was freed,
//! or its start moved without an event.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::Discovery;
use crate::model::sample::{ProcessKey, Snapshot, VmaSample};
use tracker_ebpf::{NO_RECORD, RecordState};

/// The id of a record and when it was filled.
type RecordKey = (u32, u64);

/// Looks for them after each discovery. A VMA must be missing twice: one that registers while a
/// discovery is under way is missing once. A discovery that passes its process over says nothing.
#[derive(Default)]
pub struct Orphans {
    last: Option<Arc<Discovery>>,
    missing: HashSet<RecordKey>,
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
        let (missing, unread) = not_found(discovery, snapshot);
        let ended = missing
            .intersection(&self.missing)
            .map(|(id, _)| *id)
            .collect();
        // What is known of a process that was passed over stays as it was.
        let kept = unread.intersection(&self.missing).copied();
        self.missing = kept.chain(missing.iter().copied()).collect();
        Some(ended)
    }
}

/// Live records that a discovery did not find: missing ones, and those of processes that it did not
/// look at.
fn not_found(
    discovery: &Discovery,
    snapshot: &Snapshot,
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
    use crate::model::sample::{FoundVma, MmSample, VmaCounters};
    use tracker_ebpf::WpMode;
    use uffd::Backing;

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

    /// A discovery that passed the process over.
    fn unread() -> Arc<Discovery> {
        Arc::new(Discovery {
            unread: vec![PROCESS],
            ..Discovery::default()
        })
    }

    #[test]
    fn a_process_that_was_not_looked_at_keeps_its_records() {
        let mut orphans = Orphans::default();
        assert_eq!(orphans.after(&unread(), &snapshot()), Some(vec![]));
        assert_eq!(orphans.after(&unread(), &snapshot()), Some(vec![]));
    }

    #[test]
    fn a_look_that_was_passed_over_does_not_make_an_earlier_one_forgotten() {
        let mut orphans = Orphans::default();
        assert_eq!(orphans.after(&discovery(), &snapshot()), Some(vec![]));
        assert_eq!(orphans.after(&unread(), &snapshot()), Some(vec![]));
        assert_eq!(orphans.after(&discovery(), &snapshot()), Some(vec![2]));
    }
}
