//! The write between "table installed" and "bit set" must not be lost. Four threads load from and
//! store to the same untouched pages at the same time, while a tracker arms, reads and copies what
//! is reported, as fast as it can. In the end its copy equals the content, or a write was lost.
//!
//! Also what must hold on bad days: memory that is unmapped under the tracker, and a tracker that
//! leaves while the target writes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "strategy_stress/paged_out.rs"]
mod paged_out;

use std::collections::BTreeSet;
use std::thread;

use pages::strategy::{MprotectStrategy, StrategyName, TrackedArea, TrackingStrategy};
use testbed::script::{
    ANON, FILE, HUGETLB, MEMFD, ScriptMemory, ScriptProcess, ShadowCopy, THP, list, numbers,
    refused, round, seed,
};
use uffd::Backing;
use uffd::{PAGE_SIZE, ScratchMapping, smaps};

/// Untouched areas, one after the other, because what matters is over once a page is there.
const AREAS: u64 = 4;
const PAGES: u64 = 2048;
const THREADS: u64 = 4;
const TIMES: u64 = 3;

fn churn(name: StrategyName, kind: ScriptMemory) -> u64 {
    let seed = seed();
    if let Some(why) = refused(name, kind) {
        eprintln!("skipped: {name} {}: {why}", kind.0);
        return 0;
    }
    let mut script = ScriptProcess::start();
    let mut strategy = script.track(name);
    let (mut lost, mut rounds) = (0, 0);
    for number in 0..AREAS {
        let (_, area) = script.map(kind, PAGES);
        strategy.arm(&area).unwrap();
        strategy.end_round().unwrap();
        let mut shadow = ShadowCopy::empty(script.pid(), &area);
        let line = format!("churn {number} {} {THREADS} {TIMES}", seed ^ number);
        script.say_while(&line, || {
            shadow.copy(&round(&mut *strategy, &area));
            rounds += 1;
        });
        strategy.forget(&area).unwrap();
        lost += shadow.lost().len() as u64;
    }
    eprintln!(
        "{name} {}: {lost} pages lost in {rounds} rounds, seed {seed}",
        kind.0
    );
    lost
}

macro_rules! no_write_is_lost {
    ($($strategy:ident: $name:expr,)*) => {
        mod no_write_is_lost_between_table_and_bit {
            use super::*;
            $(#[test]
            fn $strategy() {
                for kind in [ANON, THP, MEMFD, HUGETLB, FILE] {
                    assert_eq!(churn($name, kind), 0, "{} {}", $name, kind.0);
                }
            })*
        }
    };
}

no_write_is_lost! {
    markers: StrategyName::Markers,
    sync: StrategyName::Sync,
    prefault: StrategyName::Prefault,
    missing_zeropage: StrategyName::MissingZeropage,
    none_is_clean: StrategyName::NoneIsClean,
    fault_time: StrategyName::FaultTime,
    hash: StrategyName::Hash,
}

/// It reads and clears in two steps, and writes in between are lost: this is printed, not asserted.
#[test]
fn soft_dirty_loses_what_is_written_while_it_reads() {
    churn(StrategyName::SoftDirty, ANON);
}

/// Four threads write, empty, give up and page out the same pages while rounds run: whatever the
/// last round leaves is in the copy.
fn wear(name: StrategyName, kind: ScriptMemory) {
    let seed = seed();
    if let Some(why) = refused(name, kind) {
        eprintln!("skipped: {name} {}: {why}", kind.0);
        return;
    }
    let mut script = ScriptProcess::start();
    let mut strategy = script.track(name);
    let (number, area) = script.map(kind, PAGES);
    strategy.arm(&area).unwrap();
    strategy.end_round().unwrap();
    let mut shadow = ShadowCopy::empty(script.pid(), &area);
    let (mut rounds, mut reported) = (0, 0);
    script.say_while(&format!("wear {number} {seed} {THREADS} 1"), || {
        let pages = round(&mut *strategy, &area);
        shadow.copy(&pages);
        rounds += 1;
        reported += pages.len();
    });
    let lost = shadow.lost();
    eprintln!(
        "{name} {}: {rounds} rounds, {reported} pages, seed {seed}",
        kind.0
    );
    assert_eq!(lost, BTreeSet::new(), "{name} {} seed {seed}", kind.0);
    strategy.release().unwrap();
}

#[test]
fn what_is_emptied_and_paged_out_meanwhile_is_not_lost() {
    for kind in [ANON, THP, MEMFD, FILE] {
        wear(StrategyName::FaultTime, kind);
    }
}

/// The same for `mprotect`, in this process, with a copy of the first bytes.
#[test]
fn mprotect_reports_what_was_written_and_loses_nothing() {
    const PAGES: u64 = 512;
    let seed = seed();
    let scratch = ScratchMapping::anonymous(PAGES * PAGE_SIZE).unwrap();
    let area = TrackedArea {
        range: scratch.range(),
        backing: Backing::Anon,
        page_size: PAGE_SIZE,
        shared: false,
    };
    // SAFETY: it only gets the scratch mapping, which outlives it and which nobody else protects.
    let mut strategy = unsafe { MprotectStrategy::new() }.unwrap();
    strategy.arm(&area).unwrap();
    let mut shadow = vec![0; PAGES as usize];
    for turn in 1..=20u8 {
        let mut random = fastrand::Rng::with_seed(seed + u64::from(turn));
        let mut pages: Vec<u64> = (0..PAGES).collect();
        random.shuffle(&mut pages);
        pages.truncate(100);
        let mut union = BTreeSet::new();
        let mut copy = |strategy: &mut MprotectStrategy| {
            let reported = round(strategy, &area);
            reported
                .iter()
                .for_each(|&page| shadow[page as usize] = scratch.read(page));
            union.extend(reported);
        };
        thread::scope(|scope| {
            let (pages, scratch) = (&pages, &scratch);
            let writers = [0, 1].map(|first| {
                let own = pages.iter().skip(first);
                scope.spawn(move || own.for_each(|&page| scratch.store(page, turn)))
            });
            while writers.iter().any(|writer| !writer.is_finished()) {
                copy(&mut strategy);
            }
        });
        copy(&mut strategy);
        assert_eq!(union, pages.into_iter().collect(), "seed {seed}");
    }
    Box::new(strategy).release().unwrap();
    let now: Vec<u8> = (0..PAGES).map(|page| scratch.read(page)).collect();
    assert_eq!(shadow, now, "seed {seed}");
}

/// The first, some middle and the last pages of an area go; what is left is tracked, and what is
/// gone is counted.
#[test]
fn what_is_unmapped_is_counted_and_the_rest_is_tracked() {
    for name in [
        StrategyName::Markers,
        StrategyName::Sync,
        StrategyName::NoneIsClean,
        StrategyName::FaultTime,
    ] {
        if let Some(why) = refused(name, ANON) {
            eprintln!("skipped: {name}: {why}");
            continue;
        }
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(ANON, 64);
        script.say(&format!("store {number} 1 1 0-63"));
        let mut strategy = script.track(name);
        strategy.arm(&area).unwrap();
        script.say(&format!("unmap {number} 0-7,20-29,60-63"));
        script.say(&format!("store {number} 2 1 8,19,30,59"));
        let mut written = Vec::new();
        let stats = strategy.round(&area, &mut written).unwrap();
        let expected = BTreeSet::from([8, 19, 30, 59]);
        let found = numbers(&area, &written);
        assert_eq!(found, expected, "{name}");
        if name != StrategyName::Sync {
            assert_eq!((stats.vanished, stats.tracked), (22, 42), "{name}");
        }
        strategy.forget(&area).unwrap();
        strategy.release().unwrap();
    }
}

/// A strategy ends while four threads write: they continue, and nothing stays registered.
#[test]
fn a_tracker_that_leaves_frees_the_target() {
    for name in StrategyName::ALL
        .into_iter()
        .filter(|name| name.needs_descriptor())
    {
        if let Some(why) = refused(name, MEMFD) {
            eprintln!("skipped: {name}: {why}");
            continue;
        }
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(MEMFD, 2048);
        let mut strategy = Some(script.track(name));
        strategy.as_mut().unwrap().arm(&area).unwrap();
        let mut rounds = 0;
        script.say_while(&format!("churn {number} 1 4 20"), || {
            rounds += 1;
            if rounds == 3 {
                strategy = None;
            } else if let Some(strategy) = &mut strategy {
                round(&mut **strategy, &area);
            }
        });
        drop(strategy);
        let vmas = smaps(script.pid()).unwrap().map(Result::unwrap);
        let left = vmas.filter(|vma| vma.flags.uffd_wp() || vma.flags.uffd_missing());
        assert_eq!(left.count(), 0, "{name}");
        assert_eq!(
            script.say(&format!("store {number} 1 1 {}", list(&[0, 5]))),
            "ok"
        );
    }
}
