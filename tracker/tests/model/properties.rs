//! What holds after every collection of any history.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use tracker::model::{
    CounterSet, ProcessCounters, SeriesDetail, SeriesLimits, SeriesView, VmaCounters,
};

use crate::machine::SmallMachine;

/// One thing that happens.
#[derive(Clone, Debug)]
enum MachineEvent {
    Spawn(u32),
    Exit(u32),
    Exec(u32),
    Map(u32, u64, u64),
    Fault(u32, usize, u64),
    ProcessEvent(u32, u64),
    LoseRace(u32, usize),
    Unmap(u32, usize),
    Split(u32, usize, bool),
    Merge(u32, usize, bool),
    Move(u32, usize, u64),
    Discover(Option<u32>),
    Collect(u64, bool),
}

fn op() -> impl Strategy<Value = MachineEvent> {
    let pid = || 1_u32..4;
    let index = || 0_usize..6;
    prop_oneof![
        1 => pid().prop_map(MachineEvent::Spawn),
        1 => pid().prop_map(MachineEvent::Exit),
        1 => pid().prop_map(MachineEvent::Exec),
        4 => (pid(), 0_u64..12, 1_u64..4).prop_map(|(p, at, n)| MachineEvent::Map(p, at, n)),
        10 => (pid(), index(), 1_u64..9).prop_map(|(p, i, n)| MachineEvent::Fault(p, i, n)),
        2 => (pid(), 1_u64..9).prop_map(|(p, n)| MachineEvent::ProcessEvent(p, n)),
        1 => (pid(), index()).prop_map(|(p, i)| MachineEvent::LoseRace(p, i)),
        2 => (pid(), index()).prop_map(|(p, i)| MachineEvent::Unmap(p, i)),
        1 => (pid(), index(), any::<bool>()).prop_map(|(p, i, n)| MachineEvent::Split(p, i, n)),
        1 => (pid(), index(), any::<bool>()).prop_map(|(p, i, u)| MachineEvent::Merge(p, i, u)),
        1 => (pid(), index(), 0_u64..12).prop_map(|(p, i, to)| MachineEvent::Move(p, i, to)),
        2 => prop::option::weighted(0.2, pid()).prop_map(MachineEvent::Discover),
        6 => (0_u64..40, any::<bool>()).prop_map(|(s, late)| MachineEvent::Collect(s, late)),
    ]
}

fn limits() -> impl Strategy<Value = SeriesLimits> {
    let detail = prop::sample::select(&SeriesDetail::ALL[..]);
    let linger = prop::sample::select(&[0_u64, 30, 120][..]);
    (detail, 0_usize..4, 0_usize..5, linger).prop_map(|(detail, processes, vmas, linger)| {
        SeriesLimits {
            detail,
            max_processes: processes,
            max_vmas: vmas,
            linger: Duration::from_secs(linger),
        }
    })
}

fn apply(machine: &mut SmallMachine, op: &MachineEvent) {
    match *op {
        MachineEvent::Spawn(pid) => machine.spawn(pid),
        MachineEvent::Exit(pid) => machine.exit(pid),
        MachineEvent::Exec(pid) => machine.exec(pid),
        MachineEvent::Map(pid, at, pieces) => machine.map(pid, at, pieces),
        MachineEvent::Fault(pid, index, n) => machine.fault(pid, index, n),
        MachineEvent::ProcessEvent(pid, n) => machine.process_event(pid, n),
        MachineEvent::LoseRace(pid, index) => machine.lose_race(pid, index),
        MachineEvent::Unmap(pid, index) => machine.unmap(pid, index),
        MachineEvent::Split(pid, index, lower_is_new) => machine.split(pid, index, lower_is_new),
        MachineEvent::Merge(pid, index, into_upper) => machine.merge(pid, index, into_upper),
        MachineEvent::Move(pid, index, to) => machine.move_to(pid, index, to),
        MachineEvent::Discover(unread) => machine.discover(unread),
        MachineEvent::Collect(seconds, late) => machine.collect(seconds, late),
    }
}

/// own + other + retired = node = everything that happened.
fn assert_nothing_is_lost(machine: &SmallMachine, view: &SeriesView) {
    let mut sum = view.other;
    let mut process_sum = view.other_process;
    sum += &view.retired;
    process_sum += &view.retired_process;
    for process in &view.processes {
        sum += &process.other;
        process_sum += &process.counts;
        for vma in &process.vmas {
            sum += &vma.counts;
        }
    }
    assert_eq!(sum, view.node);
    assert_eq!(view.node, machine.total);
    assert_eq!(process_sum, view.node_process);
    assert_eq!(view.node_process, machine.process_total);
    let outcomes = view.outcomes;
    let seen = outcomes.counted + outcomes.process_only + outcomes.unattributed;
    assert_eq!(seen, machine.total.total());
}

fn assert_bounds(limits: &SeriesLimits, view: &SeriesView) {
    let processes = match limits.detail {
        SeriesDetail::Node => 0,
        _ => limits.max_processes,
    };
    let vmas = match limits.detail {
        SeriesDetail::Vma => limits.max_vmas,
        _ => 0,
    };
    assert!(view.processes.len() <= processes);
    let pids: BTreeSet<u32> = view.processes.iter().map(|p| p.pid).collect();
    assert_eq!(pids.len(), view.processes.len(), "a pid is there twice");
    for process in &view.processes {
        assert!(process.vmas.len() <= vmas);
        let starts: BTreeSet<u64> = process.vmas.iter().map(|v| v.start).collect();
        assert_eq!(starts.len(), process.vmas.len(), "a VMA is there twice");
    }
}

/// Series of one process, by start: they go down only together with a new process.
type ProcessStart = (u32, u64);

fn others(view: &SeriesView) -> BTreeMap<ProcessStart, (VmaCounters, ProcessCounters)> {
    (view.processes.iter())
        .map(|p| ((p.pid, p.start_boottime_ns), (p.other, p.counts)))
        .collect()
}

fn not_less(now: &VmaCounters, before: &VmaCounters) -> bool {
    now.max(before) == *now
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn own_and_other_and_retired_are_everything(
        limits in limits(),
        records in prop::sample::select(&[3_u32, 16, 400][..]),
        mm_records in prop::sample::select(&[1_u32, 60][..]),
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let mut machine = SmallMachine::new(limits, records, mm_records);
        for pid in 1..4 {
            machine.spawn(pid);
        }
        let mut before = machine.books.view();
        let twice = [MachineEvent::Collect(1, false), MachineEvent::Collect(1, false)];
        for op in ops.iter().chain(&twice) {
            apply(&mut machine, op);
            if matches!(op, MachineEvent::Collect(..)) {
                let view = machine.books.view();
                assert_nothing_is_lost(&machine, &view);
                assert_bounds(&limits, &view);
                prop_assert!(not_less(&view.other, &before.other));
                prop_assert!(not_less(&view.retired, &before.retired));
                let earlier = others(&before);
                for (key, (other, counts)) in others(&view) {
                    if let Some((other_before, counts_before)) = earlier.get(&key) {
                        prop_assert!(not_less(&other, other_before));
                        prop_assert_eq!(counts.max(counts_before), counts);
                    }
                }
                before = view;
            }
        }
    }

    /// With records and slots for all, each VMA has what happened to its memory since that begins
    /// there, however it is split, merged and moved. Once anything was cut, memory that begins where
    /// other memory began before may go on with what was counted there then. Nobody may have looked
    /// at a part whose record another part took, so nothing ends before the test does.
    #[test]
    fn with_room_for_all_each_vma_has_its_own(
        ops in prop::collection::vec(op(), 0..120),
    ) {
        let limits = SeriesLimits {
            max_processes: 400,
            max_vmas: 400,
            linger: Duration::MAX,
            ..SeriesLimits::default()
        };
        let mut machine = SmallMachine::new(limits, 4000, 400);
        let mut truth: BTreeMap<(u32, u64), StartTruth> = BTreeMap::new();
        let mut cut = false;
        for pid in 1..4 {
            machine.spawn(pid);
        }
        for op in &ops {
            if let MachineEvent::Fault(pid, index, n) = *op
                && let Some(vma) = machine.processes.get(&pid).and_then(|p| p.vmas.get(index))
            {
                truth.entry((pid, vma.start)).or_default().count(vma.identity, n);
            }
            cut |= matches!(op, MachineEvent::Split(..));
            apply(&mut machine, op);
            if !matches!(op, MachineEvent::Collect(..)) {
                continue;
            }
            let view = machine.books.view();
            for process in machine.processes.values() {
                let Some(row) = view.processes.iter().find(|p| p.pid == process.key.pid) else {
                    continue;
                };
                for vma in &process.vmas {
                    if let Some(truth) = truth.get(&(process.key.pid, vma.start))
                        && truth.identity == vma.identity
                    {
                        let own = row.vmas.iter().find(|v| v.start == vma.start);
                        let counted = own.map(|v| v.counts.total_faults());
                        prop_assert!(
                            counted.is_some_and(|n| truth.allows(n, cut)),
                            "{counted:?}, {truth:?} at {:#x}", vma.start
                        );
                    }
                }
            }
        }
    }
}

/// What happened to the memory that begins at one place.
#[derive(Debug, Default)]
struct StartTruth {
    identity: u64,
    faults: u64,
    /// To memory that began there before.
    before: u64,
}

impl StartTruth {
    fn count(&mut self, identity: u64, n: u64) {
        if self.identity != identity {
            self.before += self.faults;
            (self.identity, self.faults) = (identity, 0);
        }
        self.faults += n;
    }

    fn allows(&self, counted: u64, cut: bool) -> bool {
        let before = if cut { self.before } else { 0 };
        (self.faults..=self.faults + before).contains(&counted)
    }
}
