//! Exactness for every kind of memory: threads write known pages while rounds run.

use std::collections::BTreeSet;

use pages::strategy::StrategyName;

use testbed::script::{
    ANON, FACTS, FILE, HUGETLB, MEMFD, SHMEM, ScriptMemory, ScriptProcess, ShadowCopy, THP, list,
    seed,
};
use testbed::session::{SeenPages, begin, look, pages, registered, working};

const PAGES: u64 = 2048;

/// What round 0 calls unknown: what was there, and what `prefault` and `hash` have read themselves,
/// unless that can be told apart (the zero page, by PAGEMAP_SCAN); `hash` does not read anonymous
/// memory that is not there.
fn there(name: StrategyName, kind: ScriptMemory, before: &BTreeSet<u64>) -> BTreeSet<u64> {
    let tells_zero_page = FACTS.behaviour.written.is_some() && kind.1 == ANON.1;
    let reads_all = match name {
        StrategyName::Prefault => !tells_zero_page,
        StrategyName::Hash => !matches!(kind, ANON | THP | HUGETLB),
        _ => false,
    };
    if reads_all {
        (0..PAGES).collect()
    } else {
        before.clone()
    }
}

/// Whole huge pages where a report concerns one.
fn whole(name: StrategyName, kind: ScriptMemory, written: &BTreeSet<u64>) -> BTreeSet<u64> {
    let around = |page: &u64| page / 512 * 512..(page / 512 + 1) * 512;
    if kind == HUGETLB && name != StrategyName::Hash {
        written.iter().flat_map(around).collect()
    } else {
        written.clone()
    }
}

/// Fails with the differences alone: all pages would fill a terminal.
fn same(found: &BTreeSet<u64>, expected: &BTreeSet<u64>, context: &str) {
    let missing: Vec<_> = expected.difference(found).take(20).collect();
    let others: Vec<_> = found.difference(expected).take(20).collect();
    assert!(
        found == expected,
        "{context}: missing {missing:?}, others {others:?}"
    );
}

fn check(name: StrategyName, kind: ScriptMemory, seed: u64) {
    let context = format!("{name} {} seed {seed}", kind.0);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(kind, PAGES);
    // Huge pages are all there before: a first write would bring 512 pages.
    let step = if kind.2 == 1 { 2 } else { 1 };
    let before: BTreeSet<u64> = (0..PAGES).step_by(step).collect();
    script.tell(&format!("store {number} 1 2 {}", list(&before)));
    let (mut session, first) = begin(&script, name);
    let first = SeenPages::of(&first, &area);
    same(&first.unknown, &there(name, kind, &before), &context);
    assert_eq!(first.written, BTreeSet::new(), "{context}");
    assert_eq!(first.tracked, PAGES, "{context}");
    let mut shadow = ShadowCopy::empty(script.pid(), &area);
    shadow.copy(&before);
    for turn in 2..4 {
        let mut chosen: Vec<u64> = (0..PAGES).collect();
        random.shuffle(&mut chosen);
        chosen.truncate(300);
        let line = format!("store {number} {turn} 4 {}", list(&chosen));
        let mut union = SeenPages::default();
        script.say_while(&line, || {
            let seen = look(&mut session, &area);
            shadow.copy(&seen.written);
            union.written.extend(seen.written);
            union.unknown.extend(seen.unknown);
            assert_eq!((seen.tracked, seen.vanished), (PAGES, 0), "{context}");
        });
        same(&union.written, &whole(name, kind, &pages(chosen)), &context);
        assert_eq!(union.unknown, BTreeSet::new(), "{context}");
    }
    assert_eq!(shadow.lost(), BTreeSet::new(), "{context}");
    session.end().unwrap();
    assert_eq!(registered(script.pid()), 0, "{context}");
}

macro_rules! each_kind {
    ($($name:ident: $kind:expr,)*) => {
        $(#[test]
        fn $name() {
            let seed = seed();
            for name in working($kind) {
                check(name, $kind, seed);
            }
        })*
    };
}

each_kind! {
    anonymous: ANON,
    transparent_huge: THP,
    shared: SHMEM,
    memfd: MEMFD,
    hugetlb: HUGETLB,
    private_file: FILE,
}
