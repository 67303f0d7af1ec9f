#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bytemuck::Zeroable as _;
use rustix::io::Errno;
use tracker_ebpf::{CallKind, CallRecord};
use uffd::{Backing, PMD_SIZE, PageCategories};

use super::*;
use crate::explain::model::{CallerThread, EventMeaning, HandlerWaits, ReportCause};
use crate::explain::sample::event;

const ASYNC: UffdFeatures = UffdFeatures(1 << 15);
const WRITTEN: PageCategories = PageCategories::WRITTEN;
/// The memory of all tests: 1024 pages.
const MEMORY: Range<u64> = PMD_SIZE..3 * PMD_SIZE;

fn page(number: u64) -> u64 {
    MEMORY.start + number * PAGE_SIZE
}

fn caller() -> CallerThread {
    CallerThread {
        tgid: 7,
        tid: 8,
        comm: Arc::from("tracker"),
    }
}

/// A call that takes 10 ns, from the place of that number.
fn call(began: u64, place: u32, what: CallArguments) -> TrackerCall {
    TrackerCall {
        began,
        ended: began + 10,
        what,
        outcome: Ok(0),
        features: ASYNC,
        caller: caller(),
        cpu: 1,
        place: Some(PlaceId(place)),
    }
}

fn register(began: u64) -> TrackerCall {
    let (range, protects) = (MEMORY, true);
    call(began, 1, CallArguments::Register { range, protects })
}

fn arm(began: u64) -> TrackerCall {
    call(began, 2, CallArguments::Arm(MEMORY))
}

/// A scan with room for all.
fn scan(range: Range<u64>, arms: bool) -> ScanArguments {
    ScanArguments {
        walk_end: range.end,
        range,
        room: 1000,
        most: 0,
        inverted: PageCategories(0),
        all_of: WRITTEN,
        any_of: PageCategories(0),
        returned: WRITTEN,
        arms,
    }
}

fn scans(began: u64, scan: ScanArguments) -> TrackerCall {
    call(began, 3, CallArguments::Scan(scan))
}

fn store(time: u64, number: u64) -> WatchedEvent {
    let range = page(number)..page(number + 1);
    event(
        time,
        range,
        0,
        EventMeaning::Disarms(ReportCause::UserStore),
    )
}

fn happens(time: u64, range: Range<u64>, kind: EventKind, cause: ReportCause) -> WatchedEvent {
    WatchedEvent {
        kind,
        ..event(time, range, 0, EventMeaning::DisarmsAnonymous(cause))
    }
}

fn mapping(backing: Backing) -> TheirMapping {
    TheirMapping {
        range: MEMORY,
        backing,
    }
}

/// A look that finds nothing but what memory is made of.
fn look(mappings: &[TheirMapping]) -> TheirLook {
    TheirLook {
        mappings: mappings.to_vec(),
        ..TheirLook::default()
    }
}

#[test]
fn a_read_of_pagemap_is_of_the_pages_whose_entries_were_read() {
    let mut record = CallRecord::zeroed();
    record.kind = CallKind::Pagemap as u32;
    record.words[..2].copy_from_slice(&[MEMORY.start / PAGE_SIZE * 8, 8 * 1024]);
    for (result, pages) in [(8 * 1024, 1024), (8 * 3, 3), (u64::MAX, 1024)] {
        record.result = result;
        let call = decode(&record, caller(), None).unwrap();
        let range = MEMORY.start..page(pages);
        assert_eq!(call.what, CallArguments::Pagemap(range));
        assert_eq!(call.outcome.is_err(), result == u64::MAX);
    }
}

#[test]
fn only_a_four_written_to_clear_refs_clears_soft_dirty_bits() {
    for (written, clears) in [
        ("4", true),
        ("4\n", true),
        (" 4 \n", true),
        ("1", false),
        ("5\n", false),
        ("44", false),
        ("", false),
    ] {
        let mut record = CallRecord::zeroed();
        record.kind = CallKind::ClearRefs as u32;
        let mut bytes = [0; 8];
        bytes[..written.len()].copy_from_slice(written.as_bytes());
        record.words[0] = u64::from_le_bytes(bytes);
        record.result = written.len() as u64;
        let call = decode(&record, caller(), None);
        let what = clears.then_some(CallArguments::ClearSoftDirty);
        assert_eq!(call.map(|call| call.what), what, "{written:?}");
    }
}

#[test]
fn clearing_soft_dirty_bits_is_told_and_a_fault_where_there_are_none() {
    let clears = |began| call(began, 4, CallArguments::ClearSoftDirty);
    let failed = TrackerCall {
        outcome: Err(rustix::io::Errno::ACCESS),
        ..clears(50)
    };
    for has_soft_dirty in [true, false] {
        let mut audit = TrackerAudit::new(AuditSight::Complete, has_soft_dirty);
        let calls = vec![clears(20), clears(40), failed.clone()];
        audit.round((calls, 0), &[], &look(&[]));
        let audit = audit.end().unwrap();
        assert_eq!(audit.cleared, [(caller(), 2)].into());
        if has_soft_dirty {
            assert_eq!(audit.found, []);
        } else {
            let found = one(audit.found, AuditKind::SoftDirtyAbsent);
            assert_eq!((found.times, found.place), (2, Some(PlaceId(4))));
        }
    }
}

#[test]
fn what_is_written_between_a_read_of_pagemap_and_arming_is_lost() {
    let read = call(100, 4, CallArguments::Pagemap(MEMORY));
    let calls = [register(0), arm(20), read, arm(200)];
    let events = [store(50, 1), store(150, 2)];
    let found = found(Backing::Anon, &calls, &events);
    let window = found.iter().find(|it| it.kind == AuditKind::ReadThenArm);
    let window = window.unwrap();
    assert_eq!((window.pages, window.open), (1, 1));
    assert_eq!(window.earlier, Some(PlaceId(4)));
}

/// What comes of a look after the memory was armed.
fn looked_at(features: UffdFeatures, look: TheirLook) -> Vec<AuditFinding> {
    let mut audit = TrackerAudit::new(AuditSight::Complete, true);
    let calls = [register(0), arm(20)].map(|call| TrackerCall { features, ..call });
    audit.round((calls.to_vec(), 0), &[], &look);
    audit.end().unwrap().found
}

#[test]
fn memory_that_was_read_as_a_whole_before_it_was_armed_is_told_with_its_tables() {
    let only_read = MEMORY.start + PAGE_SIZE..MEMORY.end;
    let look = TheirLook {
        only_read: vec![only_read.clone()],
        ..look(&[mapping(Backing::Anon)])
    };
    let found = one(looked_at(ASYNC, look), AuditKind::ReadFirst);
    assert_eq!((found.times, found.pages, found.tables), (1, 1023, 1));
    assert_eq!(
        (found.place, found.ranges),
        (Some(PlaceId(2)), vec![only_read])
    );
}

#[test]
fn what_came_unprotected_is_told_where_nothing_absent_can_be_armed() {
    let came = page(3)..page(5);
    let unprotected = TheirLook {
        unprotected: vec![came],
        ..look(&[mapping(Backing::Anon)])
    };
    let found = looked_at(ASYNC, unprotected.clone());
    let found = one(found, AuditKind::ArmedAbsent);
    assert_eq!(
        (found.times, found.pages, found.place),
        (1, 2, Some(PlaceId(2)))
    );
    let features = ASYNC | UffdFeatures::WP_UNPOPULATED;
    assert_eq!(looked_at(features, unprotected.clone()), []);
    let file = TheirLook {
        mappings: vec![mapping(Backing::Shmem)],
        ..unprotected
    };
    assert_eq!(looked_at(ASYNC, file), []);
}

/// What comes of calls and events in one round, when some rounds follow.
fn audited(backing: Backing, calls: &[TrackerCall], events: &[WatchedEvent]) -> AuditFindings {
    let mut audit = TrackerAudit::new(AuditSight::Complete, true);
    let mappings = [mapping(backing)];
    audit.round((calls.to_vec(), 0), events, &look(&mappings));
    for _ in 0..2 {
        audit.round((Vec::new(), 0), &[], &look(&[]));
    }
    audit.end().unwrap()
}

fn found(backing: Backing, calls: &[TrackerCall], events: &[WatchedEvent]) -> Vec<AuditFinding> {
    audited(backing, calls, events).found
}

/// The only finding is of that kind.
fn one(found: Vec<AuditFinding>, kind: AuditKind) -> AuditFinding {
    let [one] = <[AuditFinding; 1]>::try_from(found).unwrap();
    assert_eq!(one.kind, kind);
    one
}

#[test]
fn a_process_without_a_tracker_has_no_audit() {
    let audit = TrackerAudit::new(AuditSight::Complete, true);
    assert_eq!(audit.end(), None);
    let mut audit = TrackerAudit::new(AuditSight::Complete, true);
    audit.round((Vec::new(), 0), &[], &look(&[mapping(Backing::Anon)]));
    assert_eq!(audit.end().unwrap().found, []);
}

#[test]
fn a_tracker_that_reads_and_arms_in_one_step_is_clean() {
    let calls = [
        register(0),
        scans(20, scan(MEMORY, true)),
        scans(100, scan(MEMORY, true)),
        scans(200, scan(MEMORY, true)),
    ];
    let stores = [store(50, 3), store(105, 4), store(150, 3), store(300, 9)];
    let all = audited(Backing::Anon, &calls, &stores);
    assert_eq!((all.found, all.calls), (vec![], 4));
}

#[test]
fn what_is_written_between_reading_and_arming_is_lost() {
    let calls = [
        register(0),
        arm(20),
        scans(100, scan(MEMORY, false)),
        arm(500),
    ];
    let stores = [
        // Read as written, and open since.
        store(60, 1),
        // While it is read, or armed: nobody knows.
        store(105, 2),
        store(505, 3),
        // In between.
        store(200, 4),
        store(490, 5),
    ];
    let found = found(Backing::Anon, &calls, &stores);
    let window = found.iter().find(|it| it.kind == AuditKind::ReadThenArm);
    let window = window.unwrap();
    assert_eq!((window.times, window.pages, window.open), (1, 2, 1));
    assert_eq!(window.longest, Duration::from_nanos(500 - 110));
    assert_eq!(window.place, Some(PlaceId(2)));
    assert_eq!(window.earlier, Some(PlaceId(3)));
    assert_eq!(window.ranges, [page(4)..page(5), page(5)..page(6)]);
    // All but the four of which it is sure that they had been written.
    let vain = found.iter().find(|it| it.kind == AuditKind::ArmedInVain);
    assert_eq!(vain.unwrap().pages, 1024 - 5);
    assert_eq!(found.len(), 2);
}

#[test]
fn the_first_arming_is_no_window_and_neither_is_one_where_nothing_was_written() {
    let calls = [register(0), scans(20, scan(MEMORY, false)), arm(50)];
    assert_eq!(found(Backing::Anon, &calls, &[]), []);
    let mut only = scan(MEMORY, true);
    only.room = 0;
    let calls = [
        register(0),
        scans(20, scan(MEMORY, true)),
        scans(40, scan(MEMORY, false)),
        scans(60, only.clone()),
    ];
    assert_eq!(found(Backing::Anon, &calls, &[]), []);
    let window = one(
        found(Backing::Anon, &calls, &[store(55, 1)]),
        AuditKind::ReadThenArm,
    );
    assert_eq!((window.pages, window.open), (1, 0));
    // An agent that looks is not the tracker that arms.
    let mut agent = scans(40, scan(MEMORY, false));
    agent.caller.tgid = 9;
    let calls = [
        register(0),
        scans(20, scan(MEMORY, true)),
        agent,
        scans(60, only),
    ];
    assert_eq!(found(Backing::Anon, &calls, &[store(55, 1)]), []);
}

#[test]
fn every_kind_has_its_row_in_the_docs() {
    let doc = include_str!("../../../../docs/explain.md");
    for kind in AuditKind::ALL {
        assert!(doc.contains(&format!("`{}`", kind.as_str())), "{kind:?}");
    }
}

/// A scan that is cut at a page.
fn cut(range: Range<u64>, at: u64) -> ScanArguments {
    ScanArguments {
        walk_end: at,
        ..scan(range, true)
    }
}

#[test]
fn a_scan_that_is_cut_has_to_be_gone_on_with() {
    let rest = page(100)..MEMORY.end;
    let begin = [register(0), scans(20, scan(MEMORY, true))];
    let first = scans(100, cut(MEMORY, rest.start));
    let on = scans(120, scan(rest.clone(), true));
    let again = scans(140, scan(MEMORY, true));
    let with = |calls: &[TrackerCall]| found(Backing::Anon, &[&begin[..], calls].concat(), &[]);
    assert_eq!(with(&[first.clone(), on.clone(), again.clone()]), []);
    // What was found is armed by then: a scan of everything finds the rest.
    assert_eq!(with(&[first.clone(), again.clone()]), []);
    let further = scans(140, cut(MEMORY, page(200)));
    assert_eq!(with(&[first.clone(), further, again.clone()]), []);
    // Nothing went on for rounds. Another process has rounds of its own.
    let mut other = on.clone();
    other.caller.tgid = 9;
    let no_further = scans(140, cut(MEMORY, rest.start));
    for calls in [
        vec![first.clone()],
        vec![first.clone(), other],
        vec![first.clone(), no_further, again],
        vec![first.clone(), scans(140, scan(page(101)..MEMORY.end, true))],
    ] {
        let cut = one(with(&calls), AuditKind::ScanCutShort);
        assert_eq!((cut.times, cut.pages), (1, 1024 - 100));
        assert_eq!(cut.ranges, std::slice::from_ref(&rest));
    }
    // Who has gone on before may do so later.
    let other = scans(160, cut(MEMORY, page(300)));
    assert_eq!(with(&[first.clone(), on, other]), []);
    // Nobody knows what the process would have done next.
    let mut audit = TrackerAudit::new(AuditSight::Complete, true);
    let look = look(&[mapping(Backing::Anon)]);
    audit.round((begin.to_vec(), 0), &[], &look);
    audit.round((vec![first], 0), &[], &look);
    assert_eq!(audit.end().unwrap().found, []);
}

#[test]
fn the_features_of_what_was_registered_before_are_those_of_what_the_process_holds() {
    let zap = happens(50, page(1)..page(5), EventKind::Zap, ReportCause::Zap);
    for (features, kinds) in [
        (Some(ASYNC), vec![AuditKind::Emptied]),
        (Some(ASYNC | UffdFeatures::EVENT_REMOVE), Vec::new()),
        (None, Vec::new()),
    ] {
        let mut audit = TrackerAudit::new(AuditSight::Complete, true);
        let look = TheirLook {
            features,
            ..look(&[mapping(Backing::Anon)])
        };
        audit.round((Vec::new(), 0), &[], &look);
        let scans = vec![scans(20, scan(MEMORY, true))];
        audit.round((scans, 0), std::slice::from_ref(&zap), &look);
        let audit = audit.end().unwrap();
        let found: Vec<_> = audit.found.iter().map(|it| it.kind).collect();
        assert_eq!(found, kinds);
        let is_looked_for = audit.looked_for().any(|kind| kind == AuditKind::Emptied);
        assert_eq!(is_looked_for, features.is_some());
    }
}

#[test]
fn what_a_call_filled_before_it_failed_is_filled() {
    for (kind, at) in [
        (CallKind::Copy, 4),
        (CallKind::Move, 4),
        (CallKind::ZeroPage, 3),
        (CallKind::Continue, 3),
    ] {
        let mut record = CallRecord::zeroed();
        record.kind = kind as u32;
        let length = if at == 4 { 2 } else { 1 };
        record.words[0] = MEMORY.start;
        record.words[length] = 10 * PAGE_SIZE;
        record.words[at] = 5 * PAGE_SIZE;
        record.result = i64::from(-Errno::AGAIN.raw_os_error()) as u64;
        let call = decode(&record, caller(), None).unwrap();
        assert_eq!(call.outcome, Ok(5 * PAGE_SIZE));
        let armed = false;
        let range = MEMORY.start..page(5);
        assert_eq!(call.what, CallArguments::Fill { kind, range, armed });
        // An error, and nothing done.
        record.words[at] = i64::from(-Errno::EXIST.raw_os_error()) as u64;
        let call = decode(&record, caller(), None).unwrap();
        assert_eq!(call.outcome, Err(Errno::AGAIN));
        // A field that the kernel has not written.
        record.words[at] = 5 * PAGE_SIZE;
        record.result = i64::from(-Errno::INVAL.raw_os_error()) as u64;
        let call = decode(&record, caller(), None).unwrap();
        assert_eq!(call.outcome, Err(Errno::INVAL));
    }
}

#[test]
fn what_is_registered_has_to_be_armed() {
    let never = one(
        found(Backing::Anon, &[register(0)], &[]),
        AuditKind::NeverArmed,
    );
    assert_eq!((never.pages, never.place), (1024, Some(PlaceId(1))));
    let half = call(20, 2, CallArguments::Arm(MEMORY.start..page(512)));
    let part = one(
        found(Backing::Anon, &[register(0), half.clone()], &[]),
        AuditKind::ArmedInPart,
    );
    let expected = page(512)..MEMORY.end;
    assert_eq!((part.pages, part.ranges), (512, vec![expected]));
    // What has gone need not be, and neither what was refused.
    let gone = call(40, 4, CallArguments::Unregister(page(512)..MEMORY.end));
    assert_eq!(found(Backing::Anon, &[register(0), half, gone], &[]), []);
    let mut refused = register(0);
    refused.outcome = Err(Errno::BUSY);
    assert_eq!(found(Backing::Anon, &[refused], &[]), []);
    // Nor what has been registered only now.
    let mut audit = TrackerAudit::new(AuditSight::Complete, true);
    audit.round((vec![register(0)], 0), &[], &look(&[]));
    assert_eq!(audit.end().unwrap().found, []);
}

#[test]
fn registering_again_takes_no_protection_off() {
    let calls = [register(0), arm(20), register(40)];
    assert_eq!(found(Backing::Anon, &calls, &[]), []);
    // Another userfaultfd has the range since.
    let mut other = register(40);
    other.features = ASYNC | UffdFeatures::EVENT_FORK;
    let calls = [register(0), arm(20), other];
    let never = one(found(Backing::Anon, &calls, &[]), AuditKind::NeverArmed);
    assert_eq!(never.pages, 1024);
}

#[test]
fn what_is_filled_has_to_be_armed() {
    let fill = |kind, armed| {
        let range = page(8)..page(12);
        call(40, 4, CallArguments::Fill { kind, range, armed })
    };
    let with = |fill: TrackerCall, arms: bool| {
        let again = call(60, 5, CallArguments::Arm(page(8)..page(12)));
        let calls = [register(0), arm(20), fill, again];
        found(Backing::Anon, &calls[..if arms { 4 } else { 3 }], &[])
    };
    for kind in [CallKind::Copy, CallKind::ZeroPage, CallKind::Move] {
        for arms in [false, true] {
            let filled = one(with(fill(kind, false), arms), AuditKind::FilledUnarmed);
            assert_eq!((filled.times, filled.pages), (1, 4));
            assert_eq!(filled.place, Some(PlaceId(4)));
        }
    }
    assert_eq!(with(fill(CallKind::Copy, true), false), []);
    assert_eq!(with(fill(CallKind::Poison, false), false), []);
    // Before anything was armed there is nothing to lose.
    let calls = [register(0), fill(CallKind::Copy, false), arm(60)];
    assert_eq!(found(Backing::Anon, &calls, &[]), []);
}

#[test]
fn arming_again_is_in_vain_where_nothing_was_written() {
    let calls = [register(0), arm(20), arm(100), arm(200)];
    let vain = one(
        found(Backing::Anon, &calls, &[store(150, 1)]),
        AuditKind::ArmedInVain,
    );
    assert_eq!((vain.times, vain.pages), (2, 1024 + 1023));
    assert_eq!(vain.longest, Duration::from_nanos(10));
    // Some pages between written ones are no matter.
    let some = call(100, 2, CallArguments::Arm(page(0)..page(4)));
    let stores = [store(50, 0), store(50, 3)];
    assert_eq!(
        found(Backing::Anon, &[register(0), arm(20), some], &stores),
        []
    );
}

#[test]
fn more_categories_than_one_are_dear() {
    let more = ScanArguments {
        returned: WRITTEN | PageCategories::PRESENT,
        ..scan(MEMORY, true)
    };
    let dear = one(
        found(Backing::Anon, &[register(0), scans(20, more.clone())], &[]),
        AuditKind::ExtraCategories,
    );
    assert_eq!((dear.times, dear.pages), (1, 1024));
    // One that has no output has another fast path.
    let only = ScanArguments { room: 0, ..more };
    assert_eq!(
        found(Backing::Anon, &[register(0), scans(20, only)], &[]),
        []
    );
}

#[test]
fn huge_pages_lose_more_than_was_written() {
    let armed = [register(0), scans(20, scan(MEMORY, true))];
    let split = happens(
        50,
        MEMORY.start..MEMORY.start + PMD_SIZE,
        EventKind::HugeSplit,
        ReportCause::HugeUnit,
    );
    let huge = one(
        found(Backing::Shmem, &armed, std::slice::from_ref(&split)),
        AuditKind::HugeSharedPage,
    );
    assert_eq!((huge.times, huge.pages), (1, 512));
    assert_eq!(found(Backing::Shmem, &[register(0), arm(20)], &[split]), []);
    let stores = [store(50, 1), store(60, 2), store(70, 600)];
    let units = one(
        found(Backing::Hugetlb, &armed, &stores),
        AuditKind::HugetlbUnit,
    );
    assert_eq!((units.times, units.pages), (2, 1024));
}

#[test]
fn what_takes_protection_away_without_its_event() {
    use EventKind::{Fork, Ksm, Zap};
    let range = page(0)..page(8);
    for (kind, cause, expected) in [
        (Zap, ReportCause::Zap, AuditKind::Emptied),
        (Fork, ReportCause::Fork, AuditKind::ForkedWithoutEvent),
        (Ksm, ReportCause::Ksm, AuditKind::Merged),
    ] {
        let calls = [register(0), arm(20)];
        let events = [store(40, 1), happens(50, range.clone(), kind, cause)];
        let lost = one(found(Backing::Anon, &calls, &events), expected);
        assert_eq!((lost.times, lost.pages), (1, 7), "{expected:?}");
        // With the feature it is told, and nothing is wrong.
        if kind != Ksm {
            let all = UffdFeatures(u64::MAX);
            let calls = calls.map(|call| TrackerCall {
                features: all,
                ..call
            });
            assert_eq!(found(Backing::Anon, &calls, &events), []);
        }
        // Memory that nobody else has registered is not theirs.
        let mut audit = TrackerAudit::new(AuditSight::Complete, true);
        audit.round((Vec::new(), 0), &events, &look(&[]));
        assert_eq!(audit.end(), None);
    }
    let moved = WatchedEvent {
        kind: EventKind::Move,
        ..event(
            50,
            0..8 * PAGE_SIZE,
            page(0),
            EventMeaning::Disarms(ReportCause::Move),
        )
    };
    let moved = one(
        found(Backing::Anon, &[register(0), arm(20)], &[moved]),
        AuditKind::MovedWithoutEvent,
    );
    assert_eq!((moved.pages, &moved.ranges[..]), (8, &[range][..]));
}

#[test]
fn waits_are_told_by_thread() {
    let wait = |began, took, number| {
        let (page, protected) = (page(number), true);
        let mut wait = call(began, 5, CallArguments::Wait { page, protected });
        wait.ended = began + took;
        wait.outcome = Ok(1024);
        wait
    };
    let resolve = call(60, 6, CallArguments::Resolve(page(1)..page(2)));
    let calls = [
        register(0),
        arm(20),
        wait(40, 30, 1),
        resolve,
        wait(90, 50, 2),
    ];
    let all = audited(Backing::Anon, &calls, &[store(40, 1), store(90, 2)]);
    assert_eq!(all.found, []);
    let nanos = Duration::from_nanos;
    let waits = HandlerWaits {
        caller: caller(),
        times: 2,
        whole: nanos(80),
        longest: nanos(50),
        page: page(2),
    };
    assert_eq!(all.waits, [waits]);
    assert_eq!(
        all.answers.into_iter().collect::<Vec<_>>(),
        [((caller(), 1), 1)]
    );
}

fn record(kind: CallKind, given: &[u64], result: i64) -> CallRecord {
    let mut record = CallRecord::zeroed();
    record.kind = kind as u32;
    record.words[..given.len()].copy_from_slice(given);
    record.result = result as u64;
    record
}

#[test]
fn structs_are_read_as_the_kernel_has_them() {
    let decoded = |record: CallRecord| decode(&record, caller(), None).unwrap();
    let arms = decoded(record(CallKind::WriteProtect, &[4096, 8192, 1], 0));
    assert_eq!(arms.what, CallArguments::Arm(4096..12288));
    let failed = decoded(record(CallKind::WriteProtect, &[4096, 8192, 0], -2));
    assert_eq!(failed.what, CallArguments::Resolve(4096..12288));
    assert_eq!(failed.outcome, Err(Errno::NOENT));
    let copy = decoded(record(CallKind::Copy, &[4096, 77, 8192, 2], 0));
    let expected = CallArguments::Fill {
        kind: CallKind::Copy,
        range: 4096..12288,
        armed: true,
    };
    assert_eq!(copy.what, expected);
    let words = [96, 1, 4096, 40960, 8192, 5, 6, 7, 8, 9, 10, 11];
    let expected = ScanArguments {
        range: 4096..40960,
        walk_end: 8192,
        room: 6,
        most: 7,
        inverted: PageCategories(8),
        all_of: PageCategories(9),
        any_of: PageCategories(10),
        returned: PageCategories(11),
        arms: true,
    };
    let scan = decoded(record(CallKind::Scan, &words, 3));
    assert_eq!(
        (scan.what, scan.outcome),
        (CallArguments::Scan(expected), Ok(3))
    );
    // Numbers that nobody should have given.
    let odd = decoded(record(CallKind::Register, &[u64::MAX, 5, 2], 0));
    let range = u64::MAX..u64::MAX;
    assert_eq!(
        odd.what,
        CallArguments::Register {
            range,
            protects: true
        }
    );
    assert_eq!(
        decode(
            &CallRecord {
                kind: 999,
                ..record(CallKind::Scan, &[], 0)
            },
            caller(),
            None
        ),
        None
    );
}
