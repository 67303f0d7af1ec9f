//! Memory that nobody may write when a round looks, and that is written all the same; and what is
//! not looked at.

use std::collections::BTreeSet;

use pages::strategy::StrategyName;
use pages::track::{SessionEvent, TrackNote, TrackSession, UntrackedReason};
use testbed::script::{ANON, FACTS, FILE, MEMFD, SECRET, ScriptMemory, ScriptProcess, refused};
use testbed::session::{SeenPages, begin, options, pages, step, working};
use uffd::{PAGE_SIZE, PMD_SIZE};

const PAGES: u64 = 64;

/// Every second page.
fn evens() -> BTreeSet<u64> {
    pages((0..PAGES).step_by(2))
}

fn list(pages: &BTreeSet<u64>) -> String {
    testbed::script::list(pages)
}

/// Strategies that look at memory that nobody may write at the moment. The others must say that
/// they do not.
fn sees_unwritable(name: StrategyName, not_looked_at: u64, context: &str) -> bool {
    let blind = name == StrategyName::Sync
        || name == StrategyName::Prefault && FACTS.behaviour.written.is_none();
    assert_eq!(not_looked_at >= PAGES, blind, "{name} {context}");
    !blind
}

/// Pages that are written while they are writable for a moment, or by who does not ask: a compiler
/// at run time, a debugger.
fn written_without_permission(kind: ScriptMemory, how: &str) {
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(kind, PAGES);
        script.tell(&format!("store {number} 1 1 0-{}", PAGES - 1));
        script.tell(&format!("protect {number} 0-{}", PAGES - 1));
        let (mut session, first) = begin(&script, name);
        let not_looked_at = first.not_looked_at.of(UntrackedReason::NotWritable);
        let sees = sees_unwritable(name, not_looked_at, how);
        for value in 2..5 {
            script.tell(&format!("{how} {number} {value} {}", list(&evens())));
            let seen = SeenPages::of(&step(&mut session), &area);
            let expected = if sees { evens() } else { pages([]) };
            assert_eq!(seen.written, expected, "{name} {how}");
            assert_eq!(seen.unknown, pages([]), "{name} {how}");
        }
        assert_eq!(SeenPages::of(&step(&mut session), &area).all(), pages([]));
        session.end().unwrap();
    }
}

#[test]
fn writable_for_a_moment() {
    written_without_permission(ANON, "moment");
}

#[test]
fn through_proc_self_mem() {
    written_without_permission(ANON, "force");
}

/// As the linker does with a library: it writes to its copy of the file, which is read-only before
/// a round has seen it.
#[test]
fn a_library_that_is_loaded_between_two_rounds() {
    const RELRO: u64 = 21;
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (mut session, _) = begin(&script, name);
        let (number, area) = script.map(FILE, PAGES);
        script.tell(&format!("load {number} 30-40"));
        script.tell(&format!("store {number} 1 1 0-{}", RELRO - 1));
        script.tell(&format!("protect {number} 0-{}", PAGES - 1));
        let round = step(&mut session);
        let not_looked_at = round.not_looked_at.of(UntrackedReason::NotWritable);
        let sees = sees_unwritable(name, not_looked_at, "file");
        let expected = if sees { pages(0..RELRO) } else { pages([]) };
        let seen = SeenPages::of(&round, &area);
        // What it has only read is the file's: nobody has written that.
        assert_eq!(
            (seen.unknown, seen.written),
            (expected, pages([])),
            "{name}"
        );
        script.tell(&format!("force {number} 2 5,50"));
        let expected = if sees { pages([5, 50]) } else { pages([]) };
        let seen = SeenPages::of(&step(&mut session), &area);
        assert_eq!(seen.written, expected, "{name}");
        session.end().unwrap();
    }
}

/// Address space that is only reserved costs no page tables, and is tracked all the same.
#[test]
fn reserved_address_space() {
    const RESERVED: u64 = 1 << 18;
    for name in working(ANON) {
        if name == StrategyName::Hash && FACTS.behaviour.written.is_none() {
            // It has to look at every entry.
            continue;
        }
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, RESERVED);
        script.tell(&format!("protect {number} 0-{}", RESERVED - 1));
        let before = uffd::page_table_bytes(script.pid()).unwrap().unwrap();
        let (mut session, first) = begin(&script, name);
        step(&mut session);
        let tables = uffd::page_table_bytes(script.pid()).unwrap().unwrap() - before;
        let whole = RESERVED * PAGE_SIZE / PMD_SIZE * PAGE_SIZE;
        assert!(tables < whole / 4, "{name}: {tables} bytes of page tables");
        let not_looked_at = first.not_looked_at.of(UntrackedReason::NotWritable);
        if !sees_unwritable(name, not_looked_at, "reserved") {
            continue;
        }
        for (value, chosen) in [(1, pages([5, 600, 200_000])), (2, pages([6, 600, 200_001]))] {
            script.tell(&format!("moment {number} {value} {}", list(&chosen)));
            let seen = SeenPages::of(&step(&mut session), &area);
            assert_eq!((seen.written, seen.unknown), (chosen, pages([])), "{name}");
        }
        // It becomes writable, as reserved memory does in the end.
        script.tell(&format!("unprotect {number} 0-{}", RESERVED - 1));
        script.tell(&format!("store {number} 3 2 7,600,100000"));
        let seen = SeenPages::of(&step(&mut session), &area);
        assert_eq!(seen.written, pages([7, 600, 100_000]), "{name}");
        session.end().unwrap();
    }
}

/// What was there is emptied while nobody may write it: its content is another one.
#[test]
fn emptied_while_it_is_not_writable() {
    let sees_zaps = FACTS.behaviour.written == Some(uffd::WrittenMeaning::Fixed);
    for name in working(ANON) {
        if name != StrategyName::Hash && !(name == StrategyName::Markers && sees_zaps) {
            continue;
        }
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, PAGES);
        script.tell(&format!("protect {number} 0-{}", PAGES - 1));
        let (mut session, _) = begin(&script, name);
        script.tell(&format!("force {number} 1 3-9"));
        assert_eq!(
            SeenPages::of(&step(&mut session), &area).written,
            pages(3..10)
        );
        script.tell(&format!("zap {number} 4-5"));
        let seen = SeenPages::of(&step(&mut session), &area);
        assert_eq!(seen.written, pages([4, 5]), "{name}");
        session.end().unwrap();
    }
}

/// Memory that nobody else can read is tracked by write protection; `hash` says that it is not.
#[test]
fn secret_memory() {
    // SAFETY: takes flags; the descriptor is closed with this process.
    if unsafe { libc::syscall(libc::SYS_memfd_secret, 0) } < 0 {
        eprintln!("skipped: this kernel has no memfd_secret(2)");
        return;
    }
    for name in working(ANON) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(SECRET, PAGES);
        script.tell(&format!("store {number} 1 1 0-{}", PAGES - 1));
        let (mut session, first) = begin(&script, name);
        script.tell(&format!("store {number} 2 1 0-9"));
        let seen = SeenPages::of(&step(&mut session), &area);
        let reason = |round: &pages::track::TrackRound| {
            let secret = round.not_looked_at.of(UntrackedReason::Secret);
            secret + round.not_looked_at.of(UntrackedReason::NotRegistrable)
        };
        if name == StrategyName::Hash {
            assert_eq!(first.not_looked_at.of(UntrackedReason::Secret), PAGES);
            let notes = &session.header().notes;
            let told = |note: &TrackNote| match note {
                TrackNote::PassedOver(it) => it.reason == UntrackedReason::Secret,
                _ => false,
            };
            assert!(notes.iter().any(told), "{notes:?}");
        }
        let expected = if reason(&first) >= PAGES {
            pages([])
        } else {
            pages(0..10)
        };
        assert_eq!(seen.written, expected, "{name}");
        session.end().unwrap();
    }
}

/// Every page of a process is either tracked or counted as not looked at, in each round.
#[test]
fn what_is_not_looked_at_is_counted() {
    for name in working(ANON) {
        let script = ScriptProcess::start();
        let (mut session, _) = begin(&script, name);
        for _ in 0..2 {
            let round = step(&mut session);
            let tracked: u64 = round.mappings.iter().map(|row| row.pages.tracked).sum();
            let vmas = uffd::maps(script.pid()).unwrap().map(Result::unwrap);
            let all: u64 = vmas
                .filter(|vma| vma.name != b"[vsyscall]")
                .map(|vma| uffd::pages_in(&vma.range()))
                .sum();
            let vsyscall = round.not_looked_at.total() + tracked - all;
            assert!(vsyscall <= 1, "{name}: {:?}", round.not_looked_at);
            assert!(
                round.not_looked_at.of(UntrackedReason::Kernel) > 0,
                "{name}"
            );
        }
        session.end().unwrap();
    }
}

/// A second tracker on a process gets none of its memory: it fails, and says who has it.
#[test]
fn a_process_that_is_tracked_already() {
    for name in working(ANON)
        .into_iter()
        .filter(|name| name.needs_descriptor())
    {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, PAGES);
        let (mut session, _) = begin(&script, name);
        let second = TrackSession::begin(script.pid(), FACTS.clone(), options(name));
        let error = second.err().unwrap();
        assert!(!error.is_inability(), "{name}");
        let text = error.to_string();
        assert!(text.contains("another userfaultfd"), "{name}: {text}");
        script.tell(&format!("store {number} 1 1 3"));
        let round = step(&mut session);
        let gave_back = |event: &SessionEvent| matches!(event, SessionEvent::GaveBack { .. });
        assert!(!round.events.iter().any(gave_back), "{name}");
        assert_eq!(SeenPages::of(&round, &area).written, pages([3]), "{name}");
        session.end().unwrap();
    }
}

/// A page of shared memory that is mapped twice is one page.
#[test]
fn an_alias_is_the_same_memory() {
    for name in working(MEMFD) {
        if refused(name, MEMFD).is_some() {
            continue;
        }
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(MEMFD, PAGES);
        let (second, alias) = script.alias(MEMFD, number);
        let (mut session, first) = begin(&script, name);
        let place = |range: &std::ops::Range<u64>| {
            let mut rows = first.mappings.iter();
            let row = rows.find(|row| row.mapping.start == range.start).unwrap();
            row.mapping.shared.unwrap()
        };
        assert_eq!(place(&area.range), place(&alias.range), "{name}");
        script.tell(&format!("store {number} 1 1 3"));
        script.tell(&format!("store {second} 2 1 3-4"));
        let round = step(&mut session);
        let mut set = pages::track::WorkingSet::default();
        set.add(&round);
        let seen = [&area, &alias].map(|area| SeenPages::of(&round, area).written);
        if name != StrategyName::Hash {
            assert_eq!(seen, [pages([3]), pages([3, 4])], "{name}");
        }
        let others = round
            .mappings
            .iter()
            .filter(|row| row.mapping.shared.is_none());
        let others: u64 = others.map(|row| row.pages.written).sum();
        assert_eq!(set.pages() - others, 2, "{name}");
        session.end().unwrap();
    }
}
