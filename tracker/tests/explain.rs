//! What is reported of a process that does as it is told, and whether it was true: verdicts, by content alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use support::script::{ANON, FACTS, Kind, MEMFD, SHMEM, Script};
use tracker::explain::{Explained, Explainer, Findings, Options, Reason, Step, Verdict};
use tracker::strategy::Area;
use tracker::uffd::PAGE_SIZE;

fn options(content_limit: u64) -> Options {
    Options {
        track: tracker::track::Options {
            strategy: None,
            ..support::session::options(tracker::strategy::Name::Markers)
        },
        content_limit,
        page: None,
        against: None,
        freeze: false,
        findings: true,
    }
}

fn begin(script: &Script) -> Explainer {
    let (explainer, _) =
        Explainer::begin(script.pid(), FACTS.clone(), None, options(1 << 30)).unwrap();
    explainer
}

fn step(explainer: &mut Explainer) -> Explained {
    match explainer.step().unwrap() {
        Step::Round(round) => round,
        Step::Exited => panic!("the process has ended"),
    }
}

type Verdicts = BTreeMap<(Verdict, Option<Reason>), Vec<u64>>;

/// Verdicts of an area, with the numbers of its pages.
fn verdicts(round: &Explained, area: &Area) -> Verdicts {
    let mut found = Verdicts::new();
    let reported = round.reported.iter().flat_map(|(_, pages)| pages);
    for pages in reported.filter(|pages| area.range.contains(&pages.range.start)) {
        let key = (pages.why.verdict, pages.verdict_unknown);
        let numbers = pages.range.clone().step_by(PAGE_SIZE as usize);
        let numbers = numbers.map(|page| (page - area.range.start) / PAGE_SIZE);
        found.entry(key).or_default().extend(numbers);
    }
    found
}

/// Pages of an area that changed and were not reported.
fn missed(round: &Explained, area: &Area) -> Vec<(u64, bool)> {
    let missed = round.missed.iter().flat_map(|(_, pages)| pages);
    let here = missed.filter(|pages| area.range.contains(&pages.range.start));
    here.flat_map(|pages| {
        let numbers = pages.range.clone().step_by(PAGE_SIZE as usize);
        numbers.map(|page| ((page - area.range.start) / PAGE_SIZE, pages.zeroed))
    })
    .collect()
}

fn expect<const N: usize>(found: &Verdicts, expected: [(Verdict, Option<Reason>, &[u64]); N]) {
    let expected: Verdicts = expected
        .into_iter()
        .map(|(verdict, reason, pages)| ((verdict, reason), pages.to_vec()))
        .collect();
    assert_eq!(*found, expected);
}

#[test]
fn another_value_the_same_value_and_zero() {
    for kind in [ANON, MEMFD, SHMEM] {
        let mut script = Script::start();
        let (area, range) = script.map(kind, 64);
        script.tell(&format!("store {area} 7 1 0-31"));
        let mut explainer = begin(&script);
        expect(&verdicts(&step(&mut explainer), &range), []);
        script.tell(&format!("store {area} 7 2 0-3"));
        script.tell(&format!("store {area} 8 1 10-11"));
        script.tell(&format!("store {area} 0 1 20"));
        script.tell(&format!("load {area} 24-40"));
        expect(
            &verdicts(&step(&mut explainer), &range),
            [
                (Verdict::Unchanged, None, &[0, 1, 2, 3]),
                (Verdict::Changed, None, &[10, 11]),
                (Verdict::Zeroed, None, &[20]),
            ],
        );
        // Against what they were in the last round.
        script.tell(&format!("store {area} 7 1 10-11,20"));
        expect(
            &verdicts(&step(&mut explainer), &range),
            [(Verdict::Changed, None, &[10, 11, 20])],
        );
        expect(&verdicts(&step(&mut explainer), &range), []);
        let findings = explainer.end().unwrap();
        assert!(findings.missed.is_empty(), "{:x?}", findings.missed);
        adds_up(&findings);
    }
}

/// What was not there is known to be zero if it is anonymous, and is what the file has otherwise.
#[test]
fn the_first_write_and_emptied_pages() {
    let first = |kind: Kind| {
        let mut script = Script::start();
        let (area, range) = script.map(kind, 32);
        script.tell(&format!("store {area} 7 1 0-7"));
        let mut explainer = begin(&script);
        script.tell(&format!("store {area} 7 1 16-17"));
        script.tell(&format!("zap {area} 0-1"));
        let found = verdicts(&step(&mut explainer), &range);
        explainer.end().unwrap();
        found
    };
    expect(
        &first(ANON),
        [
            (Verdict::Changed, None, &[16, 17]),
            (Verdict::Zeroed, None, &[0, 1]),
        ],
    );
    // The file still has what is emptied: it stays armed.
    expect(
        &first(MEMFD),
        [(Verdict::Unknown, Some(Reason::NotMapped), &[16, 17])],
    );
}

#[test]
fn a_mapping_of_its_own_time() {
    let mut script = Script::start();
    let (area, old) = script.map(ANON, 16);
    script.tell(&format!("store {area} 7 1 0-15"));
    let mut explainer = begin(&script);
    script.tell(&format!("remap {area} 0-15"));
    script.tell(&format!("store {area} 7 1 3"));
    // Nobody saw whether that one was written: it was there when it was armed, and what was there before was another.
    expect(
        &verdicts(&step(&mut explainer), &old),
        [(Verdict::Unknown, Some(Reason::NoImageBefore), &[3])],
    );
    script.tell(&format!("store {area} 7 1 3-4"));
    expect(
        &verdicts(&step(&mut explainer), &old),
        [
            (Verdict::Changed, None, &[4]),
            (Verdict::Unchanged, None, &[3]),
        ],
    );
    explainer.end().unwrap();
}

/// Written to the file behind it: no page table tells.
#[test]
fn what_changes_behind_the_page_tables_is_missed_and_told() {
    let mut script = Script::start();
    let (area, range) = script.map(MEMFD, 16);
    script.tell(&format!("store {area} 7 1 0-15"));
    let mut explainer = begin(&script);
    let Range { start, end } = range.range;
    let path = format!("/proc/{}/map_files/{start:x}-{end:x}", script.pid());
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[9; 2 * PAGE_SIZE as usize], 4 * PAGE_SIZE)
        .unwrap();
    let round = step(&mut explainer);
    expect(&verdicts(&round, &range), []);
    assert_eq!(missed(&round, &range), [(4, false), (5, false)]);
    assert!(round.verified >= 16);
    let round = step(&mut explainer);
    assert_eq!(missed(&round, &range), []);
    explainer.end().unwrap();
}

#[test]
fn of_a_large_process_a_sample() {
    let mut script = Script::start();
    let (area, range) = script.map(ANON, 4096);
    script.tell(&format!("store {area} 7 1 0-4095"));
    let limit = 4 << 20;
    let (mut explainer, _) =
        Explainer::begin(script.pid(), FACTS.clone(), None, options(limit)).unwrap();
    let one_of = explainer.findings().sampling.one_of;
    assert!((4..=8).contains(&one_of), "{one_of}");
    script.tell(&format!("store {area} 7 1 0-2047"));
    script.tell(&format!("store {area} 8 1 2048-4095"));
    let found = verdicts(&step(&mut explainer), &range);
    let count = |verdict, reason| found.get(&(verdict, reason)).map_or(0, Vec::len) as u64;
    let (unchanged, changed) = (
        count(Verdict::Unchanged, None),
        count(Verdict::Changed, None),
    );
    let left = count(Verdict::Unknown, Some(Reason::NotSampled));
    assert_eq!(unchanged + changed + left, 4096);
    for sampled in [unchanged, changed] {
        // A chance below 1e-9 to be further away.
        let expected = 2048 / one_of;
        assert!(sampled.abs_diff(expected) < expected / 2, "{found:x?}");
    }
    explainer.end().unwrap();
}

/// Every sum is that of the others.
fn adds_up(findings: &Findings) {
    let all: u64 = findings.tally.values().sum();
    let rounds = findings
        .rounds
        .iter()
        .flat_map(|round| round.tally.values());
    assert_eq!(rounds.sum::<u64>(), all);
    let vmas = findings.vmas.iter().flat_map(|vma| vma.tally.values());
    assert_eq!(vmas.sum::<u64>(), all);
}
