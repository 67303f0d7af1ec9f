//! Mappings that come, grow, shrink, split, move and are replaced.

use std::collections::BTreeSet;

use pages::strategy::{StrategyName, TrackedArea};
use pages::track::{SessionEvent, TrackNote, TrackRound, TrackSession, UntrackedMapping};
use uffd::PAGE_SIZE;

use testbed::eventually;
use testbed::script::{ANON, FACTS, MEMFD, ScriptProcess, ShadowCopy, list, seed};
use testbed::session::{
    SeenPages, begin, is_vague, look, options, pages, registered, step, working,
};

/// Hashes compare content: they see what is new, but not that it was mapped anew.
const BY_CONTENT: StrategyName = StrategyName::Hash;

#[test]
fn a_new_mapping_is_unknown_where_it_is_populated_and_tracked_then() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (mut session, _) = begin(&script, name);
        let (number, area) = script.map(ANON, 64);
        script.tell(&format!("store {number} 1 1 3,7-9"));
        let seen = look(&mut session, &area);
        assert_eq!(seen.written, pages([]), "{name}");
        assert!(
            is_vague(name) || seen.unknown == pages([3, 7, 8, 9]),
            "{name}: {seen:?}"
        );
        assert_eq!(seen.tracked, 64, "{name}");
        script.tell(&format!("store {number} 2 1 8,20"));
        let seen = look(&mut session, &area);
        assert_eq!(
            (seen.written, seen.unknown),
            (pages([8, 20]), pages([])),
            "{name}"
        );
        assert_eq!(look(&mut session, &area).all(), pages([]), "{name}");
        session.end().unwrap();
    }
}

#[test]
fn a_mapping_that_grows_goes_on_and_its_new_part_is_new() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, mut area) = script.map(ANON, 32);
        script.tell(&format!("store {number} 1 1 0-31"));
        let (mut session, _) = begin(&script, name);
        // Another mapping, which the kernel merges with the first once both are tracked.
        let (next, _) = script.map_at(ANON, area.range.end, 32);
        area.range.end += 32 * PAGE_SIZE;
        script.tell(&format!("store {number} 2 1 5"));
        script.tell(&format!("store {next} 2 1 6"));
        let seen = look(&mut session, &area);
        assert_eq!(seen.written, pages([5]), "{name}");
        assert!(
            is_vague(name) || seen.unknown == pages([32 + 6]),
            "{name}: {seen:?}"
        );
        assert_eq!((seen.tracked, seen.vanished), (64, 0), "{name}");
        script.tell(&format!("store {number} 3 1 31"));
        script.tell(&format!("store {next} 3 1 0,6"));
        let seen = look(&mut session, &area);
        assert_eq!(
            (seen.written, seen.unknown),
            (pages([31, 32, 38]), pages([])),
            "{name}"
        );
        assert_eq!((seen.tracked, seen.vanished), (64, 0), "{name}");
        session.end().unwrap();
    }
}

/// mremap(2) in place extends the registration to pages that no round has seen yet.
#[test]
fn a_mapping_that_grows_in_place_hangs_nobody_and_loses_nothing() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, mut area) = script.map(ANON, 32);
        script.tell(&format!("store {number} 1 1 0-31"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("grow {number} 32"));
        area.range.end += 32 * PAGE_SIZE;
        script.tell(&format!("store {number} 2 4 5,38"));
        script.tell(&format!("load {number} 40"));
        let seen = look(&mut session, &area);
        // Without markers a first read counts as written, and without PAGEMAP_SCAN the zero page
        // counts as populated.
        let mut reported = seen.all();
        if !FACTS.behaviour.anonymous_markers || FACTS.behaviour.written.is_none() {
            reported.remove(&40);
        }
        assert!(
            is_vague(name) || reported == pages([5, 38]),
            "{name}: {seen:?}"
        );
        assert!(reported.contains(&38), "{name}: {seen:?}");
        assert!(seen.written.contains(&5), "{name}");
        assert_eq!((seen.tracked, seen.vanished), (64, 0), "{name}");
        script.tell(&format!("store {number} 3 1 0,38-40,63"));
        let seen = look(&mut session, &area);
        assert_eq!(seen.written, pages([0, 38, 39, 40, 63]), "{name}");
        session.end().unwrap();
    }
}

#[test]
fn what_is_unmapped_is_counted_to_the_page_and_the_rest_goes_on() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 64);
        script.tell(&format!("store {number} 1 1 0-63"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("store {number} 2 1 8,19"));
        script.tell(&format!("unmap {number} 0-7,20-29,60-63"));
        script.tell(&format!("store {number} 2 1 30,59"));
        let seen = look(&mut session, &area);
        assert_eq!(
            (seen.written, seen.unknown),
            (pages([8, 19, 30, 59]), pages([])),
            "{name}"
        );
        assert_eq!((seen.vanished, seen.tracked), (22, 42), "{name}");
        script.tell(&format!("store {number} 3 1 19,40"));
        let seen = look(&mut session, &area);
        assert_eq!(
            (seen.written, seen.vanished),
            (pages([19, 40]), 0),
            "{name}"
        );
        script.tell(&format!("unmap {number} 8-19,30-59"));
        let seen = look(&mut session, &area);
        assert_eq!((seen.vanished, seen.tracked), (42, 0), "{name}");
        assert_eq!(look(&mut session, &area), SeenPages::default(), "{name}");
        session.end().unwrap();
    }
}

#[test]
fn what_is_mapped_anew_at_the_same_place_is_new() {
    for (kind, run) in [
        (ANON, 0..32),
        (ANON, 8..16),
        (MEMFD, 0..32),
        (MEMFD, 24..32),
    ] {
        for name in working(kind) {
            let context = format!("{name} {} {run:?}", kind.0);
            let mut script = ScriptProcess::start();
            let (number, area) = script.map(kind, 32);
            script.tell(&format!("store {number} 1 1 0-31"));
            let (mut session, _) = begin(&script, name);
            script.tell(&format!("remap {number} {}-{}", run.start, run.end - 1));
            let (first, last) = (run.start + 1, run.end - 2);
            script.tell(&format!("store {number} 2 1 {first},{last}"));
            let seen = look(&mut session, &area);
            let size = run.end - run.start;
            let vague = is_vague(name) || name == StrategyName::Prefault && kind == MEMFD;
            if name == BY_CONTENT {
                assert_eq!(seen.written, run.clone().collect(), "{context}");
            } else {
                assert_eq!(seen.written, pages([]), "{context}");
                assert!(
                    vague || seen.unknown == pages([first, last]),
                    "{context}: {seen:?}"
                );
                assert_eq!(seen.vanished, size, "{context}");
            }
            assert_eq!(seen.tracked, 32, "{context}");
            let seen = look(&mut session, &area);
            assert_eq!((seen.all(), seen.vanished), (pages([]), 0), "{context}");
            script.tell(&format!("store {number} 3 1 2,{first},{}", first + 1));
            let seen = look(&mut session, &area);
            assert_eq!(seen.written, pages([2, first, first + 1]), "{context}");
            assert_eq!((seen.vanished, seen.tracked), (0, 32), "{context}");
            session.end().unwrap();
        }
    }
}

/// Even a strategy that cannot tell by itself whether untouched memory is registered loses no later
/// write.
#[test]
fn what_is_mapped_anew_and_not_touched_is_tracked_again() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 1024);
        script.tell(&format!("store {number} 1 1 0-1023"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("remap {number} 0-1023"));
        let seen = look(&mut session, &area);
        if name != BY_CONTENT {
            assert_eq!(seen.all(), pages([]), "{name}");
        }
        script.tell(&format!("store {number} 2 1 7,1000"));
        let seen = look(&mut session, &area);
        let exact = seen.all() == pages([7, 1000]);
        let vague = is_vague(name) && seen.all().is_superset(&pages([7, 1000]));
        assert!(exact || vague, "{name}: {seen:?}");
        script.tell(&format!("store {number} 3 1 7,8"));
        assert_eq!(look(&mut session, &area).written, pages([7, 8]), "{name}");
        session.end().unwrap();
    }
}

#[test]
fn a_mapping_of_another_size_at_the_same_place() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 64);
        script.tell(&format!("store {number} 1 1 0-63"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("unmap {number} 0-63"));
        let (number, _) = script.map_at(ANON, area.range.start, 32);
        script.tell(&format!("store {number} 2 1 4"));
        let seen = look(&mut session, &area);
        assert!(seen.all().contains(&4), "{name}");
        assert_eq!(seen.tracked, 32, "{name}");
        if name != BY_CONTENT {
            assert_eq!(seen.vanished, 64, "{name}");
            assert!(is_vague(name) || seen.all() == pages([4]), "{name}");
        }
        script.tell(&format!("store {number} 3 1 4,5"));
        assert_eq!(look(&mut session, &area).written, pages([4, 5]), "{name}");
        // And other memory altogether.
        script.tell(&format!("unmap {number} 0-31"));
        let (number, _) = script.map_at(MEMFD, area.range.start, 32);
        script.tell(&format!("store {number} 4 1 9"));
        let seen = look(&mut session, &area);
        assert!(
            seen.unknown.contains(&9) && seen.written.is_empty(),
            "{name}: {seen:?}"
        );
        assert_eq!((seen.vanished, seen.tracked), (32, 32), "{name}");
        script.tell(&format!("store {number} 5 1 9,10"));
        assert_eq!(look(&mut session, &area).written, pages([9, 10]), "{name}");
        session.end().unwrap();
    }
}

#[test]
fn protection_splits_a_mapping_and_joins_it_again() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 60);
        script.tell(&format!("store {number} 1 1 0-59"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("store {number} 2 1 1,21,41"));
        script.tell(&format!("protect {number} 20-39"));
        script.tell(&format!("store {number} 2 1 2,42"));
        let round = step(&mut session);
        let seen = SeenPages::of(&round, &area);
        assert_eq!(seen.written, pages([1, 2, 21, 41, 42]), "{name}");
        assert_eq!(
            (seen.unknown, seen.vanished, seen.tracked),
            (pages([]), 0, 60),
            "{name}"
        );
        assert_eq!(rows(&round, &area.range), 3, "{name}");
        script.tell(&format!("store {number} 3 1 3"));
        script.tell(&format!("unprotect {number} 20-39"));
        script.tell(&format!("store {number} 3 1 22,43"));
        let round = step(&mut session);
        let seen = SeenPages::of(&round, &area);
        assert_eq!(
            (seen.written, seen.unknown),
            (pages([3, 22, 43]), pages([])),
            "{name}"
        );
        assert_eq!((seen.vanished, seen.tracked), (0, 60), "{name}");
        assert_eq!(rows(&round, &area.range), 1, "{name}");
        assert_eq!(look(&mut session, &area).all(), pages([]), "{name}");
        session.end().unwrap();
    }
}

/// How many rows of a round begin in a range; there may be no others.
fn rows(round: &TrackRound, range: &std::ops::Range<u64>) -> usize {
    let inside = |start: u64| range.contains(&start);
    let mut rows = round.mappings.iter();
    let count = rows
        .by_ref()
        .filter(|row| inside(row.mapping.start))
        .count();
    assert!(rows.next().is_none());
    count
}

#[test]
fn what_is_moved_is_gone_there_and_new_here() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 32);
        script.tell(&format!("store {number} 1 1 0-15"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("store {number} 2 1 1"));
        let (moved, place) = script.move_away(ANON, number);
        script.tell(&format!("store {moved} 2 1 3,20"));
        let round = step(&mut session);
        let (old, new) = (SeenPages::of(&round, &area), SeenPages::of(&round, &place));
        assert_eq!((old.vanished, old.tracked), (32, 0), "{name}");
        assert_eq!(new.written, pages([]), "{name}");
        let expected: BTreeSet<u64> = (0..16).chain([20]).collect();
        // Kernels before 6.13 move markers too, which then look like pages in swap.
        assert!(expected.is_subset(&new.unknown), "{name}: {new:?}");
        assert_eq!(new.tracked, 32, "{name}");
        script.tell(&format!("store {moved} 3 1 0,31"));
        assert_eq!(look(&mut session, &place).written, pages([0, 31]), "{name}");
        session.end().unwrap();
        assert_eq!(registered(script.pid()), 0, "{name}");
    }
}

/// Zaps are reported as each strategy defines; all report a write after one.
#[test]
fn emptied_pages() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 32);
        script.tell(&format!("store {number} 1 1 0-31"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("zap {number} 4-7"));
        let seen = look(&mut session, &area);
        let sees = match name {
            StrategyName::Hash => true,
            StrategyName::Markers | StrategyName::Sync | StrategyName::Prefault => {
                FACTS.behaviour.anonymous_markers
            }
            _ => false,
        };
        let expected = if sees { pages(4..8) } else { pages([]) };
        assert_eq!(
            (seen.written, seen.unknown),
            (expected, pages([])),
            "{name}"
        );
        script.tell(&format!("store {number} 2 1 5,6,9"));
        assert_eq!(
            look(&mut session, &area).written,
            pages([5, 6, 9]),
            "{name}"
        );
        session.end().unwrap();
    }
}

#[test]
fn one_page() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 1);
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("store {number} 1 1 0"));
        assert_eq!(look(&mut session, &area).written, pages([0]), "{name}");
        assert_eq!(look(&mut session, &area).all(), pages([]), "{name}");
        script.tell(&format!("unmap {number} 0"));
        assert_eq!(look(&mut session, &area).vanished, 1, "{name}");
        session.end().unwrap();
    }
}

#[test]
fn two_thousand_mappings() {
    const MAPPINGS: u64 = 2000;
    let name = working(ANON)[0];
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(ANON, 2 * MAPPINGS);
    let gaps: Vec<u64> = (0..MAPPINGS).map(|page| 2 * page + 1).collect();
    script.tell(&format!("unmap {number} {}", list(&gaps)));
    let (mut session, _) = begin(&script, name);
    let seen = look(&mut session, &area);
    assert_eq!((seen.all(), seen.tracked), (pages([]), MAPPINGS));
    let mut random = fastrand::Rng::with_seed(seed());
    let mut chosen: Vec<u64> = (0..MAPPINGS).map(|page| 2 * page).collect();
    random.shuffle(&mut chosen);
    let (written, remapped) = (&chosen[..500], &chosen[500..520]);
    script.tell(&format!("store {number} 1 4 {}", list(written)));
    script.tell(&format!("remap {number} {}", list(remapped)));
    script.tell(&format!("store {number} 1 4 {}", list(remapped)));
    script.tell(&format!("unmap {number} {}", list(&chosen[520..530])));
    let seen = look(&mut session, &area);
    assert_eq!(seen.written, pages(written.iter().copied()));
    assert_eq!((seen.tracked, seen.vanished), (MAPPINGS - 10, 30));
    assert_eq!(seen.unknown, pages(remapped.iter().copied()));
    script.tell(&format!("store {number} 2 4 {}", list(&chosen[..520])));
    let seen = look(&mut session, &area);
    assert_eq!(seen.written, pages(chosen[..520].iter().copied()));
    session.end().unwrap();
    assert_eq!(registered(script.pid()), 0);
}

/// The process has its own userfaultfd before it is tracked, opens another while it is tracked, and
/// closes one.
#[test]
fn what_belongs_to_another_userfaultfd_is_passed_over_and_named() {
    for name in working(ANON)
        .into_iter()
        .filter(|name| name.needs_descriptor())
    {
        let mut script = ScriptProcess::start();
        let ((first, early), (other, _)) = (script.map(ANON, 8), script.map(ANON, 8));
        let uffd = script.say(&format!("own {first}"));
        let (mut session, round) = begin(&script, name);
        let at = |it: &UntrackedMapping, start| it.mapping.start == start;
        let noted =
            |note: &TrackNote, start| matches!(note, TrackNote::PassedOver(it) if at(it, start));
        let told = |event: &SessionEvent, start| match event {
            SessionEvent::PassedOver(it) => at(it, start),
            _ => false,
        };
        assert_eq!(SeenPages::of(&round, &early).tracked, 0, "{name}");
        let notes = session.header().notes.clone();
        let early_noted = notes.iter().any(|note| noted(note, early.range.start));
        assert!(early_noted, "{name}: {notes:?}");
        let (number, late) = script.map(ANON, 8);
        script.say(&format!("own {number}"));
        // Everything is given back for a while, because it may want more.
        let (_, mut events) = until_it_gives_back(&mut session, &late);
        assert_eq!(registered(script.pid()), 2, "{name}");
        let round = tracked_again(&mut session);
        assert_eq!(SeenPages::of(&round, &late).tracked, 0, "{name}");
        events.extend(round.events);
        let late_told = events.iter().any(|event| told(event, late.range.start));
        assert!(late_told, "{name}: {events:?}");
        let round = step(&mut session);
        assert_eq!(round.events, [], "{name}: told once");
        script.tell(&format!("store {other} 1 1 3"));
        assert_eq!(registered(script.pid()) - owned(&round), 2, "{name}");
        // What it gives up is tracked from then on.
        script.tell(&format!("close {uffd}"));
        script.tell(&format!("store {first} 1 1 2"));
        let seen = eventually("what is given up is tracked", || {
            Some(look(&mut session, &early)).filter(|seen| seen.tracked != 0)
        });
        assert_eq!(seen.tracked, 8, "{name}");
        assert!(
            is_vague(name) || seen.unknown == pages([2]),
            "{name}: {seen:?}"
        );
        script.tell(&format!("store {first} 2 1 4"));
        assert_eq!(look(&mut session, &early).written, pages([4]), "{name}");
        session.end().unwrap();
    }
}

/// Makes rounds until one sees a userfaultfd of the process, which not every round looks for;
/// returns what they report as written, and their events.
fn until_it_gives_back(
    session: &mut TrackSession,
    area: &TrackedArea,
) -> (BTreeSet<u64>, Vec<SessionEvent>) {
    let told = |event: &SessionEvent| matches!(event, SessionEvent::GaveBack { .. });
    let (mut written, mut events) = (BTreeSet::new(), Vec::new());
    eventually("it is seen", || {
        let round = step(session);
        written.extend(SeenPages::of(&round, area).written);
        events.extend(round.events);
        events.iter().any(told).then_some(())
    });
    (written, events)
}

/// Makes rounds until nothing is given back any more; returns the first of that kind.
fn tracked_again(session: &mut TrackSession) -> TrackRound {
    eventually("the rest is tracked again", || {
        Some(step(session)).filter(|_| !session.gave_back())
    })
}

/// A process that opens a userfaultfd gets its memory back and can register what was tracked. The
/// rest is tracked again, and nothing that was written before is lost.
#[test]
fn a_process_that_wants_its_memory_gets_it() {
    for name in working(ANON)
        .into_iter()
        .filter(|name| name.needs_descriptor())
    {
        let mut script = ScriptProcess::start();
        let ((wanted, own), (number, area)) = (script.map(ANON, 8), script.map(ANON, 8));
        script.tell(&format!("store {number} 1 1 0-7"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("store {number} 2 1 3"));
        script.say("uffd");
        let (written, _) = until_it_gives_back(&mut session, &area);
        assert_eq!(written, pages([3]), "{name}");
        assert_eq!(registered(script.pid()), 0, "{name}");
        script.tell(&format!("store {number} 3 1 5"));
        script.say(&format!("own {wanted}"));
        let round = tracked_again(&mut session);
        assert_eq!(SeenPages::of(&round, &own).tracked, 0, "{name}");
        let seen = SeenPages::of(&round, &area);
        assert!(
            is_vague(name) || seen.unknown == pages(0..8),
            "{name}: {seen:?}"
        );
        script.tell(&format!("store {number} 4 1 6"));
        assert_eq!(look(&mut session, &area).written, pages([6]), "{name}");
        session.end().unwrap();
        assert_eq!(registered(script.pid()), 1, "{name}: its own");
    }
}

fn owned(round: &TrackRound) -> usize {
    round
        .mappings
        .iter()
        .filter(|row| row.pages.tracked != 0)
        .count()
}

/// Between two rounds memory is mapped anew and taken by a userfaultfd of the process itself.
/// `sync` does not notice, because UFFDIO_WRITEPROTECT acts on any registered mapping, whoever
/// registered it.
#[test]
fn what_is_mapped_anew_and_taken_vanishes_once() {
    for name in working(ANON).into_iter().filter(|name| {
        let through_sync = *name == StrategyName::Prefault && FACTS.behaviour.written.is_none();
        name.needs_descriptor() && *name != StrategyName::Sync && !through_sync
    }) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 8);
        script.tell(&format!("store {number} 1 1 0-7"));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("remap {number} 0-7"));
        script.tell(&format!("store {number} 1 1 0-7"));
        script.say(&format!("own {number}"));
        let seen = look(&mut session, &area);
        let again = look(&mut session, &area);
        assert_eq!((seen.vanished, again.vanished), (8, 0), "{name}");
        assert_eq!((seen.tracked, again.tracked), (0, 0), "{name}");
        session.end().unwrap();
        assert_eq!(registered(script.pid()), 1, "{name}: its own");
    }
}

/// The same without a round in between: ending takes nothing from the process that is not ours.
#[test]
fn ending_leaves_alone_what_the_process_has_taken() {
    for name in working(ANON)
        .into_iter()
        .filter(|name| name.needs_descriptor())
    {
        let mut script = ScriptProcess::start();
        let (number, _) = script.map(ANON, 8);
        let (session, _) = begin(&script, name);
        script.tell(&format!("remap {number} 0-7"));
        script.say(&format!("own {number}"));
        session.end().unwrap();
        assert_eq!(registered(script.pid()), 1, "{name}");
    }
}

/// Page tables for all of a large mapping could cost the process its life.
#[test]
fn a_mapping_that_is_too_large_is_passed_over_and_named() {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let ((large, wide), (small, area)) = (script.map(ANON, 1024), script.map(ANON, 8));
        let options = pages::track::TrackOptions {
            max_mapping: 1 << 20,
            ..options(name)
        };
        let (mut session, round) =
            pages::track::TrackSession::begin(script.pid(), FACTS.clone(), options).unwrap();
        script.tell(&format!("store {large} 1 1 5"));
        script.tell(&format!("store {small} 1 1 5"));
        let tracked = SeenPages::of(&round, &wide).tracked;
        assert_eq!(
            tracked,
            if name.pays_for_absent() { 0 } else { 1024 },
            "{name}"
        );
        let notes = &session.header().notes;
        let start = format!("passed over {:#x}-", wide.range.start);
        let is_noted = notes
            .iter()
            .any(|note| note.to_string().starts_with(&start));
        assert_eq!(is_noted, tracked == 0, "{name}: {notes:?}");
        assert_eq!(look(&mut session, &area).written, pages([5]), "{name}");
        session.end().unwrap();
    }
}

/// Four threads load and store while the area splits and merges and others come and go, and rounds
/// run as fast as they can: whoever copies what is reported has the content in the end.
#[test]
fn turmoil() {
    let seed = seed();
    for name in working(ANON) {
        for kind in [ANON, MEMFD] {
            let mut script = ScriptProcess::start();
            let (number, area) = script.map(kind, 1024);
            let (mut session, _) = begin(&script, name);
            let mut shadow = ShadowCopy::empty(script.pid(), &area);
            let mut rounds = 0;
            script.say_while(&format!("turmoil {number} {seed} 4 2"), || {
                let seen = look(&mut session, &area);
                shadow.copy(&seen.all());
                rounds += 1;
            });
            eprintln!("{name} {}: {rounds} rounds", kind.0);
            session.end().unwrap();
            assert_eq!(shadow.lost(), pages([]), "{name} {} seed {seed}", kind.0);
            assert_eq!(registered(script.pid()), 0, "{name} {}", kind.0);
        }
    }
}
