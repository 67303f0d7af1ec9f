//! One rule of the books per test.

use std::time::Duration;

use tracker::model::{CollectionInput, ProcessRow, SeriesDetail, SeriesLimits, VmaRow};

use crate::machine::{PIECE, SmallMachine};

fn with(limits: SeriesLimits) -> SmallMachine {
    let mut machine = SmallMachine::new(limits, 1000, 100);
    machine.spawn(1);
    machine
}

fn row(machine: &SmallMachine, pid: u32) -> Option<ProcessRow> {
    machine
        .books
        .view()
        .processes
        .into_iter()
        .find(|p| p.pid == pid)
}

fn vma(machine: &SmallMachine, piece: u64) -> Option<VmaRow> {
    let process = row(machine, 1)?;
    process.vmas.into_iter().find(|v| v.start == piece * PIECE)
}

fn faults(machine: &SmallMachine, piece: u64) -> Option<u64> {
    vma(machine, piece).map(|vma| vma.counts.total_faults())
}

fn other(machine: &SmallMachine) -> u64 {
    row(machine, 1).unwrap().other.total_faults()
}

#[test]
fn a_new_vma_has_all_it_counted() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 3, 2);
    machine.fault(1, 0, 7);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 3), Some(7));
    machine.fault(1, 0, 2);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 3), Some(9));
    assert_eq!(other(&machine), 0);
}

#[test]
fn a_vma_is_there_before_its_first_event() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 3, 2);
    machine.discover(None);
    machine.collect(1, false);
    let found = vma(&machine, 3).unwrap();
    assert_eq!((found.counts.total(), found.gauges.bytes), (0, 2 * PIECE));
    machine.fault(1, 0, 7);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 3), Some(7));
}

#[test]
fn who_waited_starts_at_zero() {
    let limits = SeriesLimits {
        max_vmas: 1,
        linger: Duration::from_secs(10),
        ..SeriesLimits::default()
    };
    let mut machine = with(limits);
    machine.map(1, 0, 1);
    machine.map(1, 2, 1);
    machine.fault(1, 0, 9);
    machine.fault(1, 1, 4);
    machine.collect(1, false);
    assert_eq!((faults(&machine, 0), faults(&machine, 2)), (Some(9), None));
    assert_eq!(other(&machine), 4);
    assert_eq!(machine.books.view().folded, 1);
    machine.unmap(1, 0);
    machine.collect(1, false);
    assert_eq!(
        (faults(&machine, 0), faults(&machine, 2)),
        (Some(9), None),
        "it lingers"
    );
    machine.fault(1, 0, 5);
    machine.collect(10, false);
    assert_eq!((faults(&machine, 0), faults(&machine, 2)), (None, Some(0)));
    assert_eq!(other(&machine), 9, "what it counted before is not moved");
    machine.fault(1, 0, 3);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 2), Some(3));
    assert_eq!(machine.books.view().retired.total_faults(), 9);
}

#[test]
fn a_free_slot_goes_to_the_busiest() {
    let limits = SeriesLimits {
        max_vmas: 1,
        linger: Duration::ZERO,
        ..SeriesLimits::default()
    };
    let mut machine = with(limits);
    for (index, n) in [100, 2, 8, 5].into_iter().enumerate() {
        machine.map(1, 2 * index as u64, 1);
        machine.fault(1, index, n);
    }
    machine.collect(1, false);
    assert_eq!(faults(&machine, 0), Some(100));
    machine.unmap(1, 0);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 4), Some(0), "the one with 8");
}

#[test]
fn a_series_is_never_demoted() {
    let limits = SeriesLimits {
        max_vmas: 1,
        ..SeriesLimits::default()
    };
    let mut machine = with(limits);
    machine.map(1, 0, 1);
    machine.fault(1, 0, 1);
    machine.collect(1, false);
    machine.map(1, 2, 1);
    for _ in 0..5 {
        machine.fault(1, 1, 1000);
        machine.collect(1, false);
    }
    assert_eq!((faults(&machine, 0), faults(&machine, 2)), (Some(1), None));
    assert_eq!(other(&machine), 5000);
}

#[test]
fn a_split_keeps_the_series_of_the_start_in_either_object() {
    for lower_is_new in [false, true] {
        let mut machine = with(SeriesLimits::default());
        machine.map(1, 0, 2);
        machine.fault(1, 0, 10);
        machine.collect(1, false);
        machine.split(1, 0, lower_is_new);
        machine.fault(1, 1, 3);
        machine.collect(1, false);
        machine.fault(1, 0, 1);
        machine.collect(1, false);
        assert_eq!(faults(&machine, 0), Some(11), "lower new: {lower_is_new}");
        assert_eq!(faults(&machine, 1), Some(3), "lower new: {lower_is_new}");
        assert!(!vma(&machine, 0).unwrap().exited);
    }
}

#[test]
fn a_merge_keeps_the_series_of_the_lower_start_in_either_object() {
    for into_upper in [false, true] {
        let mut machine = with(SeriesLimits::default());
        machine.map(1, 0, 1);
        machine.map(1, 1, 1);
        machine.fault(1, 0, 10);
        machine.fault(1, 1, 20);
        machine.collect(1, false);
        machine.merge(1, 0, into_upper);
        machine.fault(1, 0, 5);
        machine.collect(1, false);
        assert_eq!(faults(&machine, 0), Some(15), "into upper: {into_upper}");
        assert_eq!(faults(&machine, 1), Some(20), "into upper: {into_upper}");
        assert!(!vma(&machine, 0).unwrap().exited);
        assert!(vma(&machine, 1).unwrap().exited);
        machine.collect(120, false);
        assert_eq!(faults(&machine, 1), None);
    }
}

/// A program changes the protection of a part and back; collections come at any moment.
#[test]
fn a_split_that_is_merged_again_loses_nothing_whatever_is_collected_when() {
    for bits in 0..64_u32 {
        let bit = |n: u32| bits >> n & 1 == 1;
        let mut machine = with(SeriesLimits::default());
        machine.map(1, 0, 2);
        machine.fault(1, 0, 10);
        machine.collect(1, false);
        machine.split(1, 0, bit(0));
        for (n, index) in [(1, 0), (2, 1)] {
            if bit(n) {
                machine.fault(1, index, 100_u64.pow(index as u32));
            }
        }
        if bit(3) {
            machine.discover(None);
        }
        machine.collect(1, false);
        machine.merge(1, 0, bit(4));
        if bit(5) {
            machine.discover(None);
        }
        machine.collect(1, false);
        machine.collect(1, false);
        machine.fault(1, 0, 10);
        machine.collect(1, false);
        let all = 20 + u64::from(bit(1));
        assert_eq!(faults(&machine, 0), Some(all), "{bits:#b}");
        assert!(!vma(&machine, 0).unwrap().exited, "{bits:#b}");
    }
}

#[test]
fn a_start_that_nobody_has_after_a_split_goes_to_no_later_owner() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 2);
    machine.fault(1, 0, 10);
    machine.collect(1, false);
    machine.split(1, 0, true);
    // The record of the whole is found to have moved, and the lower part goes uncounted.
    machine.fault(1, 1, 1);
    machine.collect(1, false);
    machine.unmap(1, 0);
    machine.discover(None);
    machine.collect(1, false);
    machine.map(1, 0, 1);
    machine.fault(1, 1, 3);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 0), Some(3));
}

#[test]
fn a_process_has_all_it_counted_after_its_vmas_are_gone() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.map(1, 2, 1);
    machine.fault(1, 0, 10);
    machine.fault(1, 1, 5);
    machine.process_event(1, 2);
    machine.collect(1, false);
    machine.unmap(1, 0);
    machine.collect(1, false);
    machine.collect(121, false);
    assert_eq!(faults(&machine, 0), None);
    let total = row(&machine, 1).unwrap().total;
    assert_eq!(total, machine.total);
}

#[test]
fn the_next_owner_of_a_start_begins_at_zero_at_once() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.fault(1, 0, 10);
    machine.collect(1, false);
    machine.unmap(1, 0);
    machine.map(1, 0, 1);
    machine.fault(1, 0, 1);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 0), Some(1));
    assert_eq!(machine.books.view().retired.total_faults(), 10);
}

#[test]
fn discovery_tells_the_next_owner_of_a_start_too() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.fault(1, 0, 10);
    machine.discover(None);
    machine.collect(1, false);
    machine.unmap(1, 0);
    // The same look again: older than the end of the VMA, so it says nothing about it.
    machine.collect(1, false);
    assert!(vma(&machine, 0).unwrap().exited);
    machine.map(1, 0, 1);
    machine.discover(None);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 0), Some(0));
    assert!(!vma(&machine, 0).unwrap().exited);
}

#[test]
fn what_discovery_misses_lingers_and_comes_back_with_its_next_event() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.fault(1, 0, 10);
    machine.discover(None);
    machine.collect(1, false);
    let hidden = std::mem::take(&mut machine.processes.get_mut(&1).unwrap().vmas);
    machine.discover(None);
    machine.collect(1, false);
    assert!(vma(&machine, 0).unwrap().exited);
    machine.processes.get_mut(&1).unwrap().vmas = hidden;
    machine.fault(1, 0, 1);
    machine.collect(1, false);
    let back = vma(&machine, 0).unwrap();
    assert_eq!((back.exited, back.counts.total_faults()), (false, 11));
}

#[test]
fn a_discovery_from_before_ends_nothing_that_a_record_shows() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.map(1, 2, 1);
    machine.discover(None);
    machine.unmap(1, 0);
    machine.collect(0, false);
    machine.discover(None);
    machine.map(1, 0, 1);
    machine.fault(1, 1, 7);
    machine.collect(0, false);
    assert_eq!(faults(&machine, 0), Some(7));
    machine.discover(None);
    machine.collect(0, false);
    assert_eq!(faults(&machine, 0), Some(7));
}

#[test]
fn what_discovery_could_not_read_stays() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.discover(None);
    machine.collect(1, false);
    machine.discover(Some(1));
    machine.collect(1, false);
    assert!(!vma(&machine, 0).unwrap().exited);
}

#[test]
fn the_second_of_two_records_for_one_vma_ends_nothing() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.fault(1, 0, 10);
    machine.lose_race(1, 0);
    machine.collect(1, false);
    machine.lose_race(1, 0);
    machine.fault(1, 0, 1);
    machine.collect(1, false);
    let vma = vma(&machine, 0).unwrap();
    assert_eq!((vma.exited, vma.counts.total_faults()), (false, 11));
}

#[test]
fn a_record_that_was_given_up_unused_shows_nothing() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.lose_race(1, 0);
    machine.collect(1, false);
    assert!(vma(&machine, 0).is_none());
}

#[test]
fn a_process_that_reuses_a_pid_begins_anew() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.fault(1, 0, 10);
    machine.process_event(1, 4);
    machine.collect(1, false);
    machine.spawn(1);
    machine.map(1, 0, 1);
    machine.fault(1, 0, 1);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 0), Some(1));
    assert_eq!(row(&machine, 1).unwrap().counts.fault_wait_ns, 0);
    assert_eq!(machine.books.view().processes.len(), 1);
    assert_eq!(machine.books.view().retired_process.fault_wait_ns, 4);
}

/// The record of its old mm was given back, and its new one took it and ended before a collection.
#[test]
fn an_exec_that_gets_the_same_record_is_counted_and_gives_it_back() {
    let mut machine = SmallMachine::new(SeriesLimits::default(), 10, 1);
    machine.spawn(1);
    for _ in 0..3 {
        machine.process_event(1, 5);
        machine.exec(1);
        machine.collect(1, false);
        machine.collect(1, false);
    }
    assert_eq!(machine.books.view().node_process, machine.process_total);
    assert_eq!(machine.process_total.fault_wait_ns, 15);
    assert_eq!(machine.books.view().node, machine.total);
}

#[test]
fn a_process_that_is_gone_before_it_is_seen_is_shown_and_lingers() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.fault(1, 0, 10);
    machine.exit(1);
    machine.collect(1, false);
    assert_eq!(faults(&machine, 0), Some(10));
    assert_eq!(row(&machine, 1).unwrap().comm, b"machine");
    machine.collect(119, false);
    assert!(row(&machine, 1).unwrap().exited);
    machine.collect(1, false);
    assert!(row(&machine, 1).is_none());
    assert_eq!(machine.books.view().retired.total_faults(), 10);
}

#[test]
fn tables_outside_the_vmas_are_the_process_s_other() {
    let mut machine = with(SeriesLimits::default());
    machine.process_event(1, 3);
    machine.collect(1, false);
    let process = row(&machine, 1).unwrap();
    assert_eq!((process.other.total(), process.counts.freed[0]), (3, 3));
}

#[test]
fn a_hundred_vmas_in_sixteen_records_add_up() {
    let mut machine = SmallMachine::new(SeriesLimits::default(), 16, 4);
    machine.spawn(1);
    for index in 0..100 {
        machine.map(1, 2 * index, 1);
        machine.fault(1, index as usize, 1 + index);
    }
    machine.collect(1, false);
    let view = machine.books.view();
    let own: u64 = (view.processes[0].vmas.iter())
        .map(|vma| vma.counts.total_faults())
        .sum();
    assert_eq!(own, (1..=16).sum::<u64>());
    assert_eq!(
        view.other.total_faults(),
        (17..=100).sum::<u64>(),
        "pid=\"other\""
    );
    assert_eq!(view.node.total_faults(), 5050);
    assert_eq!(view.outcomes.unattributed, view.other.total());
    assert_eq!(
        view.outcomes.counted + view.outcomes.unattributed,
        view.node.total()
    );
}

#[test]
fn a_record_that_is_reported_after_its_release_is_not_counted_again() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.fault(1, 0, 10);
    machine.collect(1, true);
    machine.exit(1);
    for _ in 0..4 {
        machine.collect(1, true);
    }
    assert_eq!(machine.books.view().node.total_faults(), 10);
}

#[test]
fn a_record_is_released_once_and_only_when_it_gained_nothing_more() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 1);
    machine.fault(1, 0, 10);
    machine.unmap(1, 0);
    let mut released = Vec::new();
    for second in 1..5 {
        let snapshot = machine.snapshot();
        let input = CollectionInput {
            snapshot: &snapshot,
            discovery: None,
            scans: &[],
            now: Duration::from_secs(second),
        };
        released.push(machine.books.collect(&input).vmas);
    }
    assert_eq!(released, [vec![], vec![1], vec![], vec![]]);
}

#[test]
fn detail_process_has_sums_and_detail_node_has_none() {
    for (detail, processes) in [(SeriesDetail::Process, 1), (SeriesDetail::Node, 0)] {
        let mut machine = with(SeriesLimits {
            detail,
            ..SeriesLimits::default()
        });
        machine.map(1, 0, 1);
        machine.fault(1, 0, 10);
        machine.collect(1, false);
        let view = machine.books.view();
        assert_eq!(view.processes.len(), processes);
        assert!(view.processes.iter().all(|p| p.vmas.is_empty()));
        assert_eq!(view.node.total_faults(), 10);
        assert_eq!(view.folded, 1);
    }
}

#[test]
fn gauges_go_with_the_vma_and_counters_linger() {
    let mut machine = with(SeriesLimits::default());
    machine.map(1, 0, 4);
    machine.fault(1, 0, 10);
    machine.collect(1, false);
    assert_eq!(vma(&machine, 0).unwrap().gauges.bytes, 4 * PIECE);
    machine.unmap(1, 0);
    machine.collect(1, false);
    let gone = vma(&machine, 0).unwrap();
    assert_eq!((gone.exited, gone.gauges.bytes), (true, 0));
    assert_eq!(gone.counts.total_faults(), 10);
}
