//! What each strategy reports, as a table: pages that were accessed in every way, compared with the
//! definition. And with threads that write while rounds run, the union over rounds is what was
//! written.
//!
//! Runs on the host and in guests. What the kernel cannot do is skipped, with the reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "strategy_exact/without_bits.rs"]
mod without_bits;

use pages::strategy::{StrategyName, TrackedArea, TrackingStrategy};
use std::collections::{BTreeMap, BTreeSet};
use testbed::script::{
    ANON, FACTS, FILE, HUGETLB, MEMFD, SHMEM, SHMEM_THP, ScriptMemory, ScriptProcess, ShadowCopy,
    THP, doubtful_round, list, refused, seed, without_doubt,
};
use uffd::WrittenMeaning;

/// What is done to a page: first the classes of pages that were there, with content, before they
/// were armed.
const ALONE: char = 'A';
const STORED: char = 'S';
const SAME_VALUE: char = 'V';
const KERNEL_WRITE: char = 'K';
const ZAPPED: char = 'Z';
const ZAPPED_AND_READ: char = 'z';
/// Classes of pages that were not there.
const FIRST_STORE: char = 'F';
const FIRST_READ: char = 'R';

const CLASSES: [char; 8] = [
    ALONE,
    STORED,
    SAME_VALUE,
    KERNEL_WRITE,
    ZAPPED,
    ZAPPED_AND_READ,
    FIRST_STORE,
    FIRST_READ,
];

/// The classes of which each page is reported; after a `+` those of which the whole huge page is,
/// after a `-` those of which the huge page without the page is; `|` where kernels differ.
/// docs/strategies.md says why. The truth is `SKF`, and `Zz` where zapping changes the content
/// (anon, hugetlb, file).
const TABLE: &[(StrategyName, ScriptMemory, &str)] = &[
    (StrategyName::Markers, ANON, "SVKZzF"),
    (StrategyName::Markers, THP, "SVKZzF"),
    (StrategyName::Markers, SHMEM, "SVKF"),
    (StrategyName::Markers, MEMFD, "SVKF"),
    (StrategyName::Markers, SHMEM_THP, "SVKF"),
    (StrategyName::Markers, HUGETLB, "+SVKF"),
    (StrategyName::Markers, FILE, "SVKF"),
    (StrategyName::Sync, ANON, "SVKZzF"),
    (StrategyName::Sync, THP, "SVKZzF"),
    (StrategyName::Sync, SHMEM, "SVKF"),
    (StrategyName::Sync, MEMFD, "SVKF"),
    (StrategyName::Sync, SHMEM_THP, "SVKF"),
    (StrategyName::Sync, HUGETLB, "+SVKF"),
    (StrategyName::Prefault, ANON, "SVKZzF"),
    (StrategyName::Prefault, THP, "SVKZzF"),
    (StrategyName::Prefault, SHMEM, "SVKF"),
    (StrategyName::Prefault, MEMFD, "SVKF"),
    (StrategyName::Prefault, SHMEM_THP, "SVKF"),
    (StrategyName::Prefault, HUGETLB, "+SVKF"),
    (StrategyName::Prefault, FILE, "SVKF"),
    (StrategyName::MissingZeropage, ANON, "SVKF"),
    (StrategyName::MissingZeropage, THP, "SVKF"),
    (StrategyName::MissingZeropage, SHMEM, "SVKF"),
    (StrategyName::MissingZeropage, MEMFD, "SVKF"),
    (StrategyName::MissingZeropage, SHMEM_THP, "F+SVKz"),
    (StrategyName::MissingZeropage, HUGETLB, "+SVKF"),
    (StrategyName::NoneIsClean, ANON, "SVKF"),
    (StrategyName::NoneIsClean, THP, "SVK+F"),
    (StrategyName::NoneIsClean, SHMEM, "SVKFR"),
    (StrategyName::NoneIsClean, MEMFD, "SVKFR"),
    (StrategyName::NoneIsClean, SHMEM_THP, "+SVKzFR"),
    (StrategyName::NoneIsClean, HUGETLB, "+SVKFR"),
    (StrategyName::NoneIsClean, FILE, "SVKFR"),
    (StrategyName::FaultTime, ANON, "SVKZzF"),
    (StrategyName::FaultTime, THP, "SVKZz+F"),
    (StrategyName::FaultTime, SHMEM, "SVKF"),
    (StrategyName::FaultTime, MEMFD, "SVKF"),
    (StrategyName::FaultTime, SHMEM_THP, "+SVKzFR"),
    (StrategyName::FaultTime, FILE, "SVKZzF"),
    (StrategyName::SoftDirty, ANON, "SVKF"),
    // Since 6.2, splitting a dirty huge page makes all of it soft-dirty.
    (StrategyName::SoftDirty, THP, "+SVKF|+SVKF-Zz"),
    (StrategyName::SoftDirty, SHMEM, "SVKF"),
    (StrategyName::SoftDirty, MEMFD, "SVKF"),
    (StrategyName::SoftDirty, SHMEM_THP, "+SVKF"),
    (StrategyName::SoftDirty, FILE, "SVKF"),
    (StrategyName::Hash, ANON, "SKZzF"),
    (StrategyName::Hash, THP, "SKZzF"),
    (StrategyName::Hash, SHMEM, "SKF"),
    (StrategyName::Hash, MEMFD, "SKF"),
    (StrategyName::Hash, SHMEM_THP, "SKF"),
    (StrategyName::Hash, HUGETLB, "SKZzF"),
    (StrategyName::Hash, FILE, "SKZzF"),
];

/// The same on kernels without markers in anonymous memory: what is not there cannot be armed, so a
/// zap is not seen, and a first touch counts as written.
const WITHOUT_MARKERS: &[(StrategyName, ScriptMemory, &str)] = &[
    (StrategyName::Sync, ANON, "SVKzFR"),
    (StrategyName::Sync, THP, "SVKz+FR"),
    (StrategyName::Prefault, ANON, "SVKzF"),
    (StrategyName::Prefault, THP, "SVKzF"),
];

fn definition(name: StrategyName, kind: ScriptMemory, table: &'static str) -> &'static str {
    let mut others = WITHOUT_MARKERS.iter();
    match others.find(|row| (row.0, row.1) == (name, kind)) {
        Some(row) if !FACTS.behaviour.anonymous_markers => row.2,
        _ => table,
    }
}

/// Checks every row of a strategy, and shows all differences at once.
fn check_table(name: StrategyName) {
    let seed = seed();
    let mut wrong = Vec::new();
    for &(row, kind, table) in TABLE.iter().filter(|row| row.0 == name) {
        match refused(row, kind) {
            Some(why) => eprintln!("skipped: {row} {}: {why}", kind.0),
            None => wrong.extend(without_doubt(&format!("{row} {}", kind.0), || {
                check_row(row, kind, definition(row, kind, table), seed)
            })),
        }
    }
    assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
}

/// The pages of each class.
struct StrategyGround {
    pages: BTreeMap<char, BTreeSet<u64>>,
    total: u64,
    /// Pages of 4 KiB in a huge page.
    span: u64,
}

impl StrategyGround {
    /// Random pages, at most one in each huge page.
    fn new(kind: ScriptMemory, seed: u64) -> Self {
        let span = kind.2;
        let (total, each) = if span == 1 {
            (4096, 40)
        } else {
            (20 * span, 2)
        };
        let mut random = fastrand::Rng::with_seed(seed);
        let mut units: Vec<u64> = (0..total / span).collect();
        random.shuffle(&mut units);
        let mut units = units.into_iter();
        let pages = CLASSES.map(|class| {
            let own = units.by_ref().take(each);
            (
                class,
                own.map(|unit| unit * span + random.u64(0..span)).collect(),
            )
        });
        Self {
            pages: pages.into(),
            total,
            span,
        }
    }

    fn of(&self, classes: &[char]) -> String {
        list(classes.iter().flat_map(|class| &self.pages[class]))
    }

    /// The whole huge page around each of `pages`.
    fn whole(&self, pages: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
        let around = |page: u64| page / self.span * self.span..(page / self.span + 1) * self.span;
        pages.into_iter().flat_map(around).collect()
    }

    fn expected(&self, definition: &str) -> BTreeSet<u64> {
        let (definition, rest) = definition.split_once('-').unwrap_or((definition, ""));
        let (small, huge) = definition.split_once('+').unwrap_or((definition, ""));
        let of = |classes: &str| -> BTreeSet<u64> {
            let pages = classes.chars().flat_map(|class| self.pages[&class].clone());
            pages.collect()
        };
        let (around, rest) = (self.whole(of(rest)), of(rest));
        let mut expected = of(small);
        expected.extend(self.whole(of(huge)));
        expected.extend(around.difference(&rest));
        expected
    }

    /// What is reported, by class: `S` as pages, `+S` as huge pages.
    fn describe(&self, reported: &BTreeSet<u64>) -> String {
        let mut left = reported.clone();
        let (mut small, mut huge) = (String::new(), String::new());
        for (class, pages) in &self.pages {
            let whole = self.whole(pages.iter().copied());
            if self.span > 1 && whole.is_subset(reported) {
                huge.push(*class);
            } else if pages.is_subset(reported) {
                small.push(*class);
            }
            left.retain(|page| !whole.contains(page));
        }
        format!(
            "{small}+{huge}, {} pages, {} others",
            reported.len(),
            left.len()
        )
    }
}

/// Returns what is wrong, and how many pages were in doubt.
fn check_row(
    name: StrategyName,
    kind: ScriptMemory,
    definition: &str,
    seed: u64,
) -> (Vec<String>, u64) {
    let mut in_doubt = 0;
    let mut round = |strategy: &mut dyn TrackingStrategy, area: &TrackedArea| {
        let (pages, doubtful) = doubtful_round(strategy, area);
        in_doubt += doubtful;
        pages
    };
    let ground = StrategyGround::new(kind, seed);
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(kind, ground.total);
    let store =
        |value, classes: &[char]| format!("store {number} {value} 4 {}", ground.of(classes));
    script.say(&store(1, &CLASSES[..6]));
    let mut strategy = script.track(name);
    strategy.arm(&area).unwrap();
    strategy.end_round().unwrap();
    let quiet = round(&mut *strategy, &area);

    script.say(&store(2, &[STORED, FIRST_STORE]));
    script.say(&store(1, &[SAME_VALUE]));
    script.say(&format!("read {number} 2 {}", ground.of(&[KERNEL_WRITE])));
    script.say(&format!("zap {number} {}", zapped(&ground, kind)));
    script.say(&format!(
        "load {number} {}",
        ground.of(&[ZAPPED_AND_READ, FIRST_READ])
    ));
    let reported = round(&mut *strategy, &area);
    let after = round(&mut *strategy, &area);

    // Store again, to pages that were touched in any way: what came before may not cost a report.
    let again = [STORED, FIRST_STORE, FIRST_READ, ZAPPED_AND_READ, ALONE];
    script.say(&store(3, &again));
    let second = round(&mut *strategy, &area);
    strategy.release().unwrap();

    let mut definitions = definition.split('|');
    let mut wrong = Vec::new();
    let mut check = |what: &str, found: &BTreeSet<u64>, good: bool| {
        if !good {
            let found = ground.describe(found);
            wrong.push(format!("{name} {} ({definition}): {what}: {found}", kind.0));
        }
    };
    check("before", &quiet, quiet.is_empty());
    check(
        "reported",
        &reported,
        definitions.any(|definition| reported == ground.expected(definition)),
    );
    check("after", &after, after.is_empty());
    let must = ground.expected(&again.iter().collect::<String>());
    let may = ground.whole(must.clone());
    check(
        "again",
        &second,
        must.is_subset(&second) && second.is_subset(&may),
    );
    (wrong, in_doubt)
}

/// hugetlb is zapped in whole huge pages, everything else in pages of 4 KiB.
fn zapped(ground: &StrategyGround, kind: ScriptMemory) -> String {
    let classes = [ZAPPED, ZAPPED_AND_READ];
    if kind != HUGETLB {
        return ground.of(&classes);
    }
    let pages = classes.iter().flat_map(|class| &ground.pages[class]);
    list(&ground.whole(pages.copied()))
}

/// Four times, four threads write a known set while rounds run. Half of the small pages are there
/// before, and all huge ones.
fn check_union(name: StrategyName) {
    let seed = seed();
    for &(_, kind, _) in TABLE.iter().filter(|row| row.0 == name) {
        if let Some(why) = refused(name, kind) {
            eprintln!("skipped: {name} {}: {why}", kind.0);
            continue;
        }
        without_doubt(&format!("{name} {}", kind.0), || {
            ((), check_union_of(name, kind, seed))
        });
    }
}

/// Returns how many pages were in doubt: then only what is missed is looked for.
fn check_union_of(name: StrategyName, kind: ScriptMemory, seed: u64) -> u64 {
    const PAGES: u64 = 2048;
    let context = format!("{name} {} seed {seed}", kind.0);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut script = ScriptProcess::start();
    let (number, area) = script.map(kind, PAGES);
    let step = if kind.2 == 1 { 2 } else { 1 };
    let before: Vec<u64> = (0..PAGES).step_by(step).collect();
    script.say(&format!("store {number} 1 1 {}", list(&before)));
    let mut shadow = ShadowCopy::empty(script.pid(), &area);
    shadow.copy(&before.into_iter().collect());
    let mut strategy = script.track(name);
    strategy.arm(&area).unwrap();
    strategy.end_round().unwrap();
    let mut in_doubt = 0;
    for turn in 2..6 {
        let mut pages: Vec<u64> = (0..PAGES).collect();
        random.shuffle(&mut pages);
        pages.truncate(500);
        let line = format!("store {number} {turn} 4 {}", list(&pages));
        let mut union = BTreeSet::new();
        script.say_while(&line, || {
            let (reported, doubtful) = doubtful_round(&mut *strategy, &area);
            in_doubt += doubtful;
            shadow.copy(&reported);
            union.extend(reported);
        });
        let written: BTreeSet<u64> = pages.into_iter().collect();
        let around = |page: &u64| page / 512 * 512..(page / 512 + 1) * 512;
        let whole: BTreeSet<u64> = written.iter().flat_map(around).collect();
        match (name, kind) {
            _ if in_doubt != 0 => assert!(written.is_subset(&union), "{context}"),
            // It reads and clears in two steps, and the threads do not wait.
            (StrategyName::SoftDirty, _) => assert!(union.is_subset(&whole), "{context}"),
            // A huge page that a scan armed is reported as a whole until it is split.
            (
                StrategyName::NoneIsClean | StrategyName::MissingZeropage | StrategyName::FaultTime,
                SHMEM_THP,
            ) => {
                assert!(
                    written.is_subset(&union) && union.is_subset(&whole),
                    "{context}"
                );
            }
            (StrategyName::Hash, _) => assert_eq!(union, written, "{context}"),
            (_, HUGETLB) => assert_eq!(union, whole, "{context}"),
            _ => assert_eq!(union, written, "{context}"),
        }
    }
    strategy.release().unwrap();
    let lost = shadow.lost();
    match name {
        StrategyName::SoftDirty => eprintln!("{context}: {} of {PAGES} pages lost", lost.len()),
        _ => assert_eq!(lost, BTreeSet::new(), "{context}"),
    }
    in_doubt
}

/// Where an empty pte counts as written, zaps and huge pages can be told from stores.
#[test]
fn details_tell_zaps_and_huge_pages() {
    let fixed = FACTS.behaviour.written == Some(WrittenMeaning::Fixed);
    if let Some(why) =
        refused(StrategyName::Markers, THP).or((!fixed).then(|| "old meaning".into()))
    {
        eprintln!("skipped: {why}");
        return;
    }
    let mut script = ScriptProcess::start();
    let (small, huge) = (script.map(ANON, 64).1, script.map(THP, 1024).1);
    script.say("store 0 1 1 0-63");
    script.say("store 1 1 1 0,512");
    let mut strategy = script.track_detailed(StrategyName::Markers);
    strategy.arm(&small).unwrap();
    strategy.arm(&huge).unwrap();
    script.say("zap 0 3-5");
    script.say("store 0 2 1 9,10");
    script.say("zap 1 512-1023");
    script.say("store 1 2 1 600");
    let mut written = Vec::new();
    let stats = strategy.round(&small, &mut written).unwrap();
    assert_eq!((stats.written, stats.zapped), (5, Some(3)));
    written.clear();
    let stats = strategy.round(&huge, &mut written).unwrap();
    assert_eq!((stats.written, stats.zapped), (512, Some(0)));
    let units: Vec<_> = written.iter().map(|w| w.unit).collect();
    assert_eq!(units, [2 << 20], "the new huge page is reported as one");
}

macro_rules! each_strategy {
    ($($module:ident: $name:expr,)*) => {
        /// The strategies that are tested here.
        const TESTED: &[StrategyName] = &[$($name),*];

        $(mod $module {
            use super::*;

            #[test]
            fn reports_what_its_definition_says() {
                check_table($name);
            }

            #[test]
            fn the_union_over_rounds_is_what_was_written() {
                check_union($name);
            }
        })*
    };
}

each_strategy! {
    markers: StrategyName::Markers,
    sync: StrategyName::Sync,
    prefault: StrategyName::Prefault,
    missing_zeropage: StrategyName::MissingZeropage,
    none_is_clean: StrategyName::NoneIsClean,
    fault_time: StrategyName::FaultTime,
    soft_dirty: StrategyName::SoftDirty,
    hash: StrategyName::Hash,
}

/// Nobody adds a strategy without saying what it reports.
#[test]
fn every_strategy_has_its_rows_and_its_tests() {
    for name in StrategyName::outside() {
        assert!(TABLE.iter().any(|row| row.0 == name), "{name} has no row");
        assert!(TESTED.contains(&name), "{name} is not tested");
    }
}
