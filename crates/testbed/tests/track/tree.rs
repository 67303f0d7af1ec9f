//! A process and its children, tracked as one.

use std::collections::BTreeSet;

use pages::strategy::{StrategyName, TrackedArea};
use pages::track::{
    MappingRound, SessionEvent, TrackRound, TrackScope, TrackStep, TrackTree, WorkingSet,
};
use uffd::PAGE_SIZE;

use testbed::script::{FACTS, MEMFD, SHMEM, ScriptMemory, ScriptProcess, list, seed};
use testbed::session::{options, pages, registered, working};

const PAGES: u64 = 64;

fn begin(script: &ScriptProcess, name: StrategyName) -> (TrackTree, TrackRound) {
    let scope = TrackScope::WithChildren;
    TrackTree::begin(script.pid(), FACTS.clone(), options(name), scope).unwrap()
}

fn step(tree: &mut TrackTree) -> TrackRound {
    match tree.step().unwrap() {
        TrackStep::Round(round) => round,
        TrackStep::Exited => panic!("the process has ended"),
    }
}

/// What any of the processes reports of the memory that an area of the script shows.
fn union(round: &TrackRound, area: &TrackedArea) -> BTreeSet<u64> {
    let mut rows = round.mappings.iter();
    let own = rows.find(|row| row.mapping.start == area.range.start);
    let first = own.unwrap().mapping.shared.unwrap();
    let number = |row: &MappingRound, page: u64| {
        let place = row.mapping.shared_at(page)?;
        let same = place.file() == first.file();
        same.then_some((place.offset - first.offset) / PAGE_SIZE)
    };
    let reported = round.all_mappings().flat_map(|row| {
        let extents = row.written.iter().map(|extent| extent.range.clone());
        let pages = extents.flat_map(|range| range.step_by(PAGE_SIZE as usize));
        pages.filter_map(move |page| number(row, page))
    });
    reported.collect()
}

fn is_followed(event: &SessionEvent) -> bool {
    matches!(event, SessionEvent::ChildFollowed { .. })
}

/// Every page that any of the processes writes is reported by the tree, and no other.
fn the_union_has_no_gap(kind: ScriptMemory) {
    let mut random = fastrand::Rng::with_seed(seed());
    for name in working(kind) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(kind, PAGES);
        script.tell(&format!("store {number} 1 1 0-{}", PAGES - 1));
        let workers = 3;
        for worker in 0..workers {
            script.say("worker");
            // All of it is in its page tables: a first access is no write, for no strategy.
            script.tell(&format!("in {worker} store {number} 1 1 0-{}", PAGES - 1));
        }
        let (mut tree, first) = begin(&script, name);
        let followed = first.events.iter().filter(|event| is_followed(event));
        assert_eq!(followed.count(), workers, "{name}: {:?}", first.events);
        step(&mut tree);
        let mut set = WorkingSet::default();
        let mut written = BTreeSet::new();
        for value in 2..12_u64 {
            let mut expected = BTreeSet::new();
            for writer in 0..=workers {
                let some: BTreeSet<u64> = (0..5).map(|_| random.u64(0..PAGES)).collect();
                let store = format!("store {number} {value} 1 {}", list(&some));
                match writer.checked_sub(1) {
                    None => script.tell(&store),
                    Some(worker) => script.tell(&format!("in {worker} {store}")),
                }
                expected.extend(some);
            }
            let round = step(&mut tree);
            assert_eq!(union(&round, &area), expected, "{name}: {value}");
            set.add(&round);
            written.extend(expected);
        }
        assert_eq!(union(&step(&mut tree), &area), pages([]), "{name}");
        assert!(set.pages() >= written.len() as u64, "{name}");
        tree.end().unwrap();
        assert_eq!(registered(script.pid()), 0, "{name}");
    }
}

#[test]
fn several_processes_on_one_memfd() {
    the_union_has_no_gap(MEMFD);
}

#[test]
fn several_processes_on_shared_anonymous_memory() {
    the_union_has_no_gap(SHMEM);
}

/// A child is followed from the round after its fork on, with what it wrote by then as unknown.
#[test]
fn a_child_that_comes_and_goes() {
    for name in working(MEMFD) {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(MEMFD, PAGES);
        let (mut tree, _) = begin(&script, name);
        let child: u32 = script.say("worker").parse().unwrap();
        script.tell(&format!("in 0 store {number} 1 1 3,4"));
        let round = step(&mut tree);
        assert!(
            round.events.iter().any(is_followed),
            "{name}: {:?}",
            round.events
        );
        let reported = union(&round, &area);
        assert!(reported.is_superset(&pages([3, 4])), "{name}: {reported:?}");
        assert_eq!(round.children[0].pid, child, "{name}");
        script.tell(&format!("in 0 store {number} 2 1 4,5"));
        assert!(
            union(&step(&mut tree), &area).is_superset(&pages([4, 5])),
            "{name}"
        );
        script.tell("leave-work");
        let round = step(&mut tree);
        let ended = SessionEvent::ChildEnded { pid: child };
        assert!(round.events.contains(&ended), "{name}: {:?}", round.events);
        assert!(round.children.is_empty(), "{name}");
        script.tell(&format!("store {number} 3 1 7"));
        assert_eq!(union(&step(&mut tree), &area), pages([7]), "{name}");
        tree.end().unwrap();
    }
}
