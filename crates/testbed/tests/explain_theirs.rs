//! A tracker that is there already is explained: this test tracks a process, and another part of it
//! observes that.
//!
//! Runs on the host and in guests. What the kernel cannot do is skipped, with the reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use pages::strategy::{StrategyName, TrackedArea, TrackingStrategy};
use testbed::script::{
    ANON, FACTS, MEMFD, SHMEM, ScriptMemory, ScriptProcess, list, refused, round,
};
use tracker::explain::{
    CodeNamer, EventHub, ExplainFindings, ExplainOptions, ExplainedRound, ProcessExplainer,
    ProcessStep, ReportCause, ReportOwner, ReportVerdict, ReportsAsked, UnknownReason,
};
use tracker::probes::events::{EventOptions, EventProbes};
use uffd::PAGE_SIZE;

static HUB: LazyLock<EventHub> = LazyLock::new(|| {
    let events = EventProbes::attach(&EventOptions::default());
    let hub = EventHub::new(events, 1 << 20).unwrap();
    if !hub.seen().is_complete() {
        eprintln!("causes may stay unknown: {}", hub.seen().told().join("; "));
    }
    hub
});

/// Pages of an area.
const PAGES: u64 = 512;
/// What every page holds at first.
const FIRST: u64 = 7;

/// What is done to pages in each round, and to how many; what must be said of them.
struct ActedLot {
    /// The order to the script: of a store, a read(2), a write through `/proc/PID/mem`.
    order: &'static str,
    /// The value that is written; `None`: what is there.
    value: Option<u64>,
    pages: u64,
    verdict: ReportVerdict,
    cause: ReportCause,
    done: LotPlace,
}

/// Where something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LotPlace {
    Everywhere,
    /// Other memory keeps its protection.
    InAnonymous,
    /// Where a handler answers, such a write fails.
    WhereTheKernelAnswers,
}

const fn lot(
    order: &'static str,
    value: Option<u64>,
    pages: u64,
    verdict: ReportVerdict,
    cause: ReportCause,
) -> ActedLot {
    ActedLot {
        order,
        value,
        pages,
        verdict,
        cause,
        done: LotPlace::Everywhere,
    }
}

/// The whole table. `value` is added to the number of the round, unless it is zero.
const TABLE: &[ActedLot] = &[
    lot(
        "store",
        None,
        23,
        ReportVerdict::Unchanged,
        ReportCause::UserStore,
    ),
    lot(
        "store",
        Some(100),
        19,
        ReportVerdict::Changed,
        ReportCause::UserStore,
    ),
    lot(
        "store",
        Some(0),
        5,
        ReportVerdict::Zeroed,
        ReportCause::UserStore,
    ),
    lot(
        "read",
        None,
        11,
        ReportVerdict::Unchanged,
        ReportCause::KernelCopy,
    ),
    lot(
        "read",
        Some(120),
        13,
        ReportVerdict::Changed,
        ReportCause::KernelCopy,
    ),
    ActedLot {
        done: LotPlace::WhereTheKernelAnswers,
        ..lot(
            "force",
            None,
            3,
            ReportVerdict::Unchanged,
            ReportCause::RemoteOrPin,
        )
    },
    ActedLot {
        done: LotPlace::WhereTheKernelAnswers,
        ..lot(
            "force",
            Some(140),
            2,
            ReportVerdict::Changed,
            ReportCause::RemoteOrPin,
        )
    },
    ActedLot {
        done: LotPlace::InAnonymous,
        ..lot("zap", Some(0), 7, ReportVerdict::Zeroed, ReportCause::Zap)
    },
];

/// Pages by what is said of them.
type AnswerCounts = BTreeMap<(ReportVerdict, ReportCause, Option<UnknownReason>), u64>;

/// A process that is tracked by this test, and what its pages hold.
struct TrackedScript {
    script: ScriptProcess,
    number: u64,
    area: TrackedArea,
    tracker: Box<dyn TrackingStrategy>,
    values: Vec<u64>,
    random: fastrand::Rng,
}

impl TrackedScript {
    fn start(strategy: StrategyName, kind: ScriptMemory, seed: u64) -> Self {
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(kind, PAGES);
        script.tell(&format!("store {number} {FIRST} 1 0-{}", PAGES - 1));
        let mut tracker = script.track(strategy);
        tracker.arm(&area).unwrap();
        Self {
            script,
            number,
            area,
            tracker,
            values: vec![FIRST; PAGES as usize],
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Does what the table says to pages chosen at random; returns what must be said of them, and
    /// their numbers.
    fn act(&mut self, round: u64) -> (AnswerCounts, BTreeSet<u64>) {
        let (mut expected, mut all) = (AnswerCounts::new(), BTreeSet::new());
        for lot in self.lots() {
            for _ in 0..lot.pages {
                let page = self.choose(&all);
                all.insert(page);
                let before = self.values[page as usize];
                let value = lot.value.map_or(before, |value| match value {
                    0 => 0,
                    value => value + round,
                });
                self.values[page as usize] = value;
                self.obey(lot.order, value, page);
            }
            let key = (lot.verdict, lot.cause, None);
            *expected.entry(key).or_default() += lot.pages;
        }
        (expected, all)
    }

    /// What can be done here.
    fn lots(&self) -> impl Iterator<Item = &'static ActedLot> + use<> {
        let anonymous = self.area.backing == ANON.1;
        let answers = self.tracker.name() == StrategyName::Sync;
        TABLE.iter().filter(move |lot| match lot.done {
            LotPlace::Everywhere => true,
            LotPlace::InAnonymous => anonymous,
            LotPlace::WhereTheKernelAnswers => !answers,
        })
    }

    /// A page that is not in the set and holds something.
    fn choose(&mut self, but: &BTreeSet<u64>) -> u64 {
        loop {
            let page = self.random.u64(0..PAGES);
            if self.values[page as usize] != 0 && !but.contains(&page) {
                return page;
            }
        }
    }

    fn obey(&mut self, order: &str, value: u64, page: u64) {
        let (area, pages) = (self.number, list([&page]));
        let line = match order {
            "store" => format!("store {area} {value} 1 {pages}"),
            "zap" => format!("zap {area} {pages}"),
            order => format!("{order} {area} {value} {pages}"),
        };
        self.script.tell(&line);
    }

    /// A round of the tracker: what it reports.
    fn round(&mut self) -> BTreeSet<u64> {
        round(&mut *self.tracker, &self.area)
    }

    fn explained(&self, asked: ReportsAsked) -> ProcessExplainer<'static> {
        let options = ExplainOptions {
            track: pages::track::TrackOptions {
                strategy: None,
                ..testbed::session::options(StrategyName::Markers)
            },
            content_limit: 1 << 30,
            page: Some(self.area.range.start),
            against: None,
            freeze: false,
            findings: Some(CodeNamer::Program(testbed::program("tracker").into())),
        };
        let pid = self.script.pid();
        ProcessExplainer::begin(pid, FACTS.clone(), Some(&HUB), options, asked).unwrap()
    }
}

/// The round of theirs that a step makes.
fn step(explainer: &mut ProcessExplainer<'_>) -> Box<ExplainedRound> {
    match explainer.step().unwrap() {
        ProcessStep::Round { theirs, .. } => theirs.unwrap(),
        ProcessStep::Exited => panic!("the process has ended"),
    }
}

fn answers(round: &ExplainedRound) -> AnswerCounts {
    let mut counts = AnswerCounts::new();
    for pages in round.reported.iter().flat_map(|(_, pages)| pages) {
        let key = (pages.why.verdict, pages.why.cause, pages.verdict_unknown);
        *counts.entry(key).or_default() += pages.pages();
    }
    counts
}

/// Counts in which no cause is known.
fn without_causes(counts: &AnswerCounts) -> AnswerCounts {
    let mut sums = AnswerCounts::new();
    for ((verdict, _, reason), pages) in counts {
        let key = (*verdict, ReportCause::Unknown, *reason);
        *sums.entry(key).or_default() += pages;
    }
    sums
}

/// Compares with the table. Where not every cause can be seen it may be unknown, but not another.
fn check(found: &AnswerCounts, expected: &AnswerCounts, what: &str) {
    if HUB.seen().is_complete() {
        assert_eq!(found, expected, "{what}");
        return;
    }
    assert_eq!(without_causes(found), without_causes(expected), "{what}");
    for ((verdict, cause, reason), pages) in found {
        let most = expected.get(&(*verdict, *cause, *reason)).copied();
        let known = *cause == ReportCause::Unknown || *pages <= most.unwrap_or_default();
        assert!(known, "{what}: {found:?} instead of {expected:?}");
    }
}

/// Every tracker and memory that works here.
fn every(mut test: impl FnMut(TrackedScript, &str)) {
    let given = std::env::var("EXPLAIN_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    for strategy in [StrategyName::Markers, StrategyName::Sync] {
        for kind in [ANON, MEMFD, SHMEM] {
            let what = format!("{strategy} {} EXPLAIN_SEED={seed}", kind.0);
            match refused(strategy, kind) {
                Some(why) => eprintln!("{what} skipped: {why}"),
                None => test(TrackedScript::start(strategy, kind, seed), &what),
            }
        }
    }
}

fn of_theirs(findings: Vec<ExplainFindings>) -> ExplainFindings {
    let mut findings = findings.into_iter();
    findings.find(|it| it.owner == ReportOwner::Theirs).unwrap()
}

#[test]
fn each_report_of_theirs_has_the_verdict_and_cause_of_the_table() {
    every(|mut tracked, what| {
        let mut explainer = tracked.explained(ReportsAsked::Theirs);
        let mut sum = AnswerCounts::new();
        for number in 1..=4 {
            let (expected, acted) = tracked.act(number);
            assert_eq!(answers(&step(&mut explainer)), [].into(), "{what}");
            assert_eq!(tracked.round(), acted, "{what}: what their tracker is told");
            let armed = step(&mut explainer);
            check(&answers(&armed), &expected, what);
            assert!(armed.missed.is_empty(), "{what}: {:x?}", armed.missed);
            for (key, pages) in expected {
                *sum.entry(key).or_default() += pages;
            }
        }
        let findings = of_theirs(explainer.end().unwrap());
        assert_eq!(
            findings.tally.values().sum::<u64>(),
            sum.values().sum::<u64>()
        );
        assert_eq!(findings.not_rearmed, 0);
    });
}

#[test]
fn what_is_not_armed_again_counts_with_its_content_at_the_end() {
    every(|mut tracked, what| {
        let mut explainer = tracked.explained(ReportsAsked::Theirs);
        let (expected, acted) = tracked.act(1);
        assert_eq!(answers(&step(&mut explainer)), [].into(), "{what}");
        let findings = of_theirs(explainer.end().unwrap());
        assert_eq!(
            findings.not_rearmed,
            expected.values().sum::<u64>(),
            "{what}"
        );
        let mut counts = AnswerCounts::new();
        for (why, pages) in &findings.tally {
            counts.insert((why.verdict, why.cause, None), *pages);
        }
        check(&counts, &expected, what);
        assert_eq!(tracked.round(), acted, "{what}: what their tracker is told");
    });
}

#[test]
fn a_round_of_theirs_between_two_looks_is_unknown_where_nothing_tells_of_it() {
    every(|mut tracked, what| {
        let mut explainer = tracked.explained(ReportsAsked::Theirs);
        let (_, acted) = tracked.act(1);
        assert_eq!(tracked.round(), acted, "{what}");
        let found = answers(&step(&mut explainer));
        let is_changed = |lot: &&ActedLot| lot.verdict != ReportVerdict::Unchanged;
        let changed: u64 = tracked.lots().filter(is_changed).map(|lot| lot.pages).sum();
        // What has the same content is in no count: as far as two looks tell, it stayed armed.
        assert_eq!(found.values().sum::<u64>(), changed, "{what}: {found:?}");
        let unknown = |(verdict, _, reason): &(ReportVerdict, ReportCause, _)| {
            (*verdict, *reason) == (ReportVerdict::Unknown, Some(UnknownReason::BetweenLooks))
        };
        if !HUB.seen().is_complete() {
            assert!(found.keys().all(unknown), "{what}: {found:?}");
        }
    });
}

#[test]
fn without_a_flag_theirs_is_observed_and_the_rest_tracked() {
    every(|mut tracked, what| {
        let (other, ours) = tracked.script.map(ANON, 16);
        let mut explainer = tracked.explained(ReportsAsked::Both);
        assert!(explainer.refused().is_none(), "{what}");
        let (expected, acted) = tracked.act(1);
        tracked.script.tell(&format!("store {other} 9 1 0-3"));
        let ProcessStep::Round { ours: round, .. } = explainer.step().unwrap() else {
            panic!("{what}: the process has ended");
        };
        let reported = round.unwrap().reported;
        let reported = reported.iter().flat_map(|(_, pages)| pages);
        let pages: Vec<_> = reported.map(|pages| pages.range.clone()).collect();
        let written = ours.range.start..ours.range.start + 4 * PAGE_SIZE;
        assert!(pages.contains(&written), "{what}: {pages:x?}");
        let theirs = |range: &std::ops::Range<u64>| tracked.area.range.contains(&range.start);
        assert!(!pages.iter().any(theirs), "{what}: {pages:x?}");
        assert_eq!(tracked.round(), acted, "{what}: what their tracker is told");
        check(&answers(&step(&mut explainer)), &expected, what);
        let owners: Vec<_> = explainer.end().unwrap().iter().map(|it| it.owner).collect();
        assert_eq!(owners, [ReportOwner::Theirs, ReportOwner::Ours], "{what}");
    });
}

/// A range that is given up for a moment, as between two snapshots, can be registered again.
#[test]
fn what_was_theirs_is_never_taken_over() {
    every(|mut tracked, what| {
        let mut explainer = tracked.explained(ReportsAsked::Both);
        tracked.tracker.forget(&tracked.area).unwrap();
        for _ in 0..20 {
            explainer.step().unwrap();
        }
        tracked
            .tracker
            .arm(&tracked.area)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        step(&mut explainer);
        tracked.round();
        explainer.end().unwrap();
    });
}

/// The story of a page, and what stands at the end for people.
#[test]
fn the_story_of_a_page_tells_when_it_was_seen_written() {
    every(|mut tracked, what| {
        let mut explainer = tracked.explained(ReportsAsked::Theirs);
        tracked.obey("store", 55, 0);
        step(&mut explainer);
        tracked.round();
        step(&mut explainer);
        let findings = of_theirs(explainer.end().unwrap());
        let story = findings.story.unwrap();
        let told: Vec<_> = story.lines.iter().map(|line| &*line.what).collect();
        let has = |part: &str| told.iter().any(|line| line.contains(part));
        assert!(
            has("round 1: written, and not armed again"),
            "{what}: {told:#?}"
        );
        assert!(has("round 2: reported: changed"), "{what}: {told:#?}");
    });
}
