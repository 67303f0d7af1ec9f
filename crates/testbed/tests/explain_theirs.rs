//! A tracker that is there already is explained: clients with known numbers of reports, in their own
//! memory and in that of another process, and the strategies, by which this test tracks a process
//! itself.
//!
//! Runs on the host and in guests. What the kernel cannot do is skipped, with the reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "explain_theirs/early.rs"]
mod early;
#[path = "explain_theirs/ways.rs"]
mod ways;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use rustix::event::{PollFd, PollFlags, Timespec};

use pages::strategy::{StrategyName, TrackedArea, TrackingStrategy};
use testbed::client::{
    ClientAct, ClientPlan, ClientProcess, ClientTarget, ClientWay, FIRST, PAGES, PlannedAct,
};
use testbed::script::{ANON, FACTS, MEMFD, SHMEM, ScriptMemory, ScriptProcess, refused, round};
use tracker::explain::{
    AuditSight, CodeNamer, EventHub, ExplainFindings, ExplainOptions, ExplainedRound,
    ProcessExplainer, ProcessStep, ReportAnswer, ReportCause, ReportOwner, ReportVerdict,
    ReportsAsked, UnknownReason,
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

/// The whole table: what must be said of pages to which this is done.
const fn said_of(act: ClientAct) -> (ReportVerdict, ReportCause) {
    use ReportCause::{KernelCopy, RemoteOrPin, UserStore};
    use ReportVerdict::{Changed, Unchanged, Zeroed};
    match act {
        ClientAct::SameStore => (Unchanged, UserStore),
        ClientAct::OtherStore => (Changed, UserStore),
        ClientAct::ZeroStore => (Zeroed, UserStore),
        ClientAct::SameRead => (Unchanged, KernelCopy),
        ClientAct::OtherRead => (Changed, KernelCopy),
        ClientAct::SameForce => (Unchanged, RemoteOrPin),
        ClientAct::OtherForce => (Changed, RemoteOrPin),
        ClientAct::Zap => (Zeroed, ReportCause::Zap),
    }
}

/// What must be said of these.
fn expected_of(acts: impl Iterator<Item = ClientAct>) -> AnswerCounts {
    let mut counts = AnswerCounts::new();
    for act in acts {
        let (verdict, cause) = said_of(act);
        *counts.entry((verdict, cause, None)).or_default() += act.pages();
    }
    counts
}

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
        let mut all = BTreeSet::new();
        for act in self.acts() {
            for _ in 0..act.pages() {
                let page = self.choose(&all);
                all.insert(page);
                let value = &mut self.values[page as usize];
                *value = act.value(*value, round);
                self.script.tell(&act.line(self.number, *value, page));
            }
        }
        (expected_of(self.acts()), all)
    }

    /// What is done here. Memory of files keeps its protection where it is given back, and without
    /// markers nobody can arm what is not there; where a handler answers, a write through
    /// `/proc/PID/mem` fails.
    fn acts(&self) -> impl Iterator<Item = ClientAct> + use<> {
        let anonymous = self.area.backing == ANON.1;
        let answers = self.tracker.name() == StrategyName::Sync;
        ClientAct::ALL.into_iter().filter(move |act| match act {
            ClientAct::Zap => anonymous && FACTS.behaviour.anonymous_markers,
            ClientAct::SameForce | ClientAct::OtherForce => !answers,
            _ => true,
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

    /// A round of the tracker: what it reports.
    fn round(&mut self) -> BTreeSet<u64> {
        round(&mut *self.tracker, &self.area)
    }

    fn explained(&self, asked: ReportsAsked) -> ProcessExplainer<'static> {
        explained(self.script.pid(), self.area.range.start, asked)
    }
}

/// An explainer of a process, with the story of a page.
fn explained(pid: u32, page: u64, asked: ReportsAsked) -> ProcessExplainer<'static> {
    explained_with(&HUB, pid, page, asked)
}

fn explained_with(
    hub: &EventHub,
    pid: u32,
    page: u64,
    asked: ReportsAsked,
) -> ProcessExplainer<'_> {
    let options = ExplainOptions {
        track: pages::track::TrackOptions {
            strategy: None,
            ..testbed::session::options(StrategyName::Markers)
        },
        content_limit: 1 << 30,
        page: Some(page),
        against: None,
        freeze: false,
        findings: Some(CodeNamer::Program(testbed::program("tracker").into())),
    };
    ProcessExplainer::begin(pid, FACTS.clone(), Some(hub), options, asked).unwrap()
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

fn seed() -> u64 {
    let given = std::env::var("EXPLAIN_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap())
}

/// Every tracker and memory that works here.
fn every(mut test: impl FnMut(TrackedScript, &str)) {
    let seed = seed();
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

/// Every client that works here.
fn every_client(mut test: impl FnMut(ClientTarget, ClientWay, u64)) {
    let seed = seed();
    for target in ClientTarget::ALL {
        for way in ClientWay::ALL {
            let strategy = match way {
                ClientWay::Messages => StrategyName::Sync,
                _ => StrategyName::Markers,
            };
            match refused(strategy, ANON) {
                Some(why) => eprintln!("{} skipped: {why}", way.as_str()),
                None => test(target, way, seed),
            }
        }
    }
}

const ROUNDS: usize = 4;

#[test]
fn each_client_is_explained_as_the_table_says_and_is_told_the_same_as_alone() {
    every_client(|target, way, seed| {
        let what = format!("{} {} EXPLAIN_SEED={seed}", target.as_str(), way.as_str());
        let mut alone = ClientProcess::start(target, way, seed);
        let mut client = ClientProcess::start(target, way, seed);
        let mut explainer = explained(client.pid(), client.start_of_area(), ReportsAsked::Theirs);
        for _ in 0..ROUNDS {
            client.say("act");
            assert_eq!(answers(&step(&mut explainer)), [].into(), "{what}");
            client.say("round");
            let armed = step(&mut explainer);
            check(&answers(&armed), &expected_of(way.acts()), &what);
            assert!(armed.missed.is_empty(), "{what}: {:x?}", armed.missed);
            ["act", "round"].iter().for_each(|line| alone.say(line));
        }
        let findings = of_theirs(explainer.end().unwrap());
        let pages: u64 = way.acts().map(ClientAct::pages).sum();
        let told = findings.tally.values().sum::<u64>();
        assert_eq!(told, pages * ROUNDS as u64, "{what}");
        assert_eq!(findings.not_rearmed, 0, "{what}");
        let who = if target == ClientTarget::Inside {
            "which the process itself holds"
        } else {
            "who holds it is not seen"
        };
        assert!(
            findings.header.reason.contains(who),
            "{what}: {}",
            findings.header.reason
        );
        assert_eq!(
            client.said(),
            alone.said(),
            "{what}: what it is told, observed and alone"
        );
    });
}

/// What must be said of rounds of a client between two looks. Of a page that was armed and written
/// again before anybody read it nothing is known but that it was reported, and why.
fn expected_between_looks(rounds: &[Vec<PlannedAct>]) -> AnswerCounts {
    let mut by_page: BTreeMap<u64, Vec<ClientAct>> = BTreeMap::new();
    for planned in rounds.iter().flatten() {
        by_page.entry(planned.page).or_default().push(planned.act);
    }
    let mut counts = AnswerCounts::new();
    for acts in by_page.values() {
        for (number, act) in acts.iter().enumerate() {
            let (verdict, cause) = said_of(*act);
            let key = match (acts.len(), number + 1 == acts.len()) {
                (1, _) => (verdict, cause, None),
                (_, false) => unknown(cause, UnknownReason::WrittenAgain),
                (_, true) => unknown(cause, UnknownReason::ShortRound),
            };
            *counts.entry(key).or_default() += 1;
        }
    }
    counts
}

const fn unknown(
    cause: ReportCause,
    reason: UnknownReason,
) -> (ReportVerdict, ReportCause, Option<UnknownReason>) {
    (ReportVerdict::Unknown, cause, Some(reason))
}

/// Whether nothing that trackers do, and nothing that happens to their pages, is hidden here.
fn sees_everything() -> bool {
    let complete = HUB.seen().is_complete() && HUB.calls_seen() == &AuditSight::Complete;
    if !complete {
        eprintln!("skipped: not everything is seen");
    }
    complete
}

#[test]
fn rounds_of_theirs_between_two_looks_are_counted_to_the_unit() {
    if !sees_everything() {
        return;
    }
    every_client(|target, way, seed| {
        let what = format!("{} {} EXPLAIN_SEED={seed}", target.as_str(), way.as_str());
        let mut plan = ClientPlan::new(way, seed);
        let mut client = ClientProcess::start(target, way, seed);
        let mut explainer = explained(client.pid(), client.start_of_area(), ReportsAsked::Theirs);
        for _ in 0..2 {
            let rounds: Vec<_> = (0..3).map(|_| plan.round()).collect();
            for _ in &rounds {
                client.say("act");
                client.say("round");
            }
            let found = step(&mut explainer);
            check(&answers(&found), &expected_between_looks(&rounds), &what);
            assert!(found.missed.is_empty(), "{what}: {:x?}", found.missed);
        }
        let findings = of_theirs(explainer.end().unwrap());
        assert_eq!(findings.not_rearmed, 0, "{what}");
    });
}

fn have_they_armed(explainer: &ProcessExplainer<'_>) -> bool {
    let arming = explainer.arming().unwrap();
    let mut ready = [PollFd::from_borrowed_fd(arming, PollFlags::IN)];
    rustix::event::poll(&mut ready, Some(&Timespec::default())).unwrap() > 0
}

/// Content is read soon after their tracker has armed it: then every verdict is known, however long
/// the time between two looks is.
#[test]
fn what_their_tracker_arms_is_read_at_once() {
    if !sees_everything() {
        return;
    }
    every_client(|target, way, seed| {
        let tried = (0..3).any(|_| are_read_at_once(target, way, seed));
        assert!(tried, "calls were missed each time");
    });
}

/// False where calls were missed, which the findings tell: where the kernel preempts programs, the
/// self-test of the hooks may miss its own.
fn are_read_at_once(target: ClientTarget, way: ClientWay, seed: u64) -> bool {
    let what = format!("{} {} EXPLAIN_SEED={seed}", target.as_str(), way.as_str());
    let mut client = ClientProcess::start(target, way, seed);
    let mut explainer = explained(client.pid(), client.start_of_area(), ReportsAsked::Theirs);
    let mut expected = AnswerCounts::new();
    let mut not_told = 0;
    for _ in 0..ROUNDS {
        client.say("act");
        client.say("round");
        let told = testbed::soon(|| have_they_armed(&explainer).then_some(()));
        not_told += u64::from(told.is_none());
        explainer.catch_up().unwrap();
        for (key, pages) in expected_of(way.acts()) {
            *expected.entry(key).or_default() += pages;
        }
    }
    let found = step(&mut explainer);
    let still_rings = have_they_armed(&explainer);
    let findings = of_theirs(explainer.end().unwrap());
    let missed = findings.audit.unwrap().dropped;
    if missed > 0 {
        eprintln!("{what}: {missed} calls were missed");
        return false;
    }
    check(&answers(&found), &expected, &what);
    assert!(found.missed.is_empty(), "{what}: {:x?}", found.missed);
    assert_eq!((not_told, still_rings), (0, false), "{what}");
    true
}

/// A tracker that answers writes takes the protection off by itself, too, and is told nothing then.
#[test]
fn what_their_tracker_releases_is_no_report() {
    const RELEASED: u64 = 31;
    if let Some(why) = refused(StrategyName::Sync, ANON) {
        eprintln!("skipped: {why}");
        return;
    }
    let mut client = ClientProcess::start(ClientTarget::Outside, ClientWay::Messages, seed());
    let mut explainer = explained(client.pid(), client.start_of_area(), ReportsAsked::Theirs);
    client.say(&format!("release {RELEASED}"));
    assert_eq!(answers(&step(&mut explainer)), [].into());
    let findings = of_theirs(explainer.end().unwrap());
    let unknown = ReportAnswer {
        verdict: ReportVerdict::Unknown,
        cause: ReportCause::Unknown,
    };
    if HUB.seen().is_complete() {
        assert_eq!(findings.tally, [].into());
    } else {
        assert_eq!(findings.tally, [(unknown, RELEASED)].into());
        let reason = UnknownReason::MaybeReleased;
        assert_eq!(findings.verdict_unknown, [(reason, RELEASED)].into());
    }
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
        let (expected, acted) = tracked.act(1);
        assert_eq!(tracked.round(), acted, "{what}");
        let found = answers(&step(&mut explainer));
        // What a handler does here is not seen: it is in the process that explains.
        if HUB.seen().is_complete() && tracked.tracker.name() != StrategyName::Sync {
            return check(&found, &expected, what);
        }
        let is_changed = |act: &ClientAct| said_of(*act).0 != ReportVerdict::Unchanged;
        let changed: u64 = tracked
            .acts()
            .filter(is_changed)
            .map(ClientAct::pages)
            .sum();
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
        let line = ClientAct::OtherStore.line(tracked.number, 55, 0);
        tracked.script.tell(&line);
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
