//! The whole table: verdict and cause of what is reported, and what changed without a report.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use tracker::explain::{
    CodeNamer, EventHub, ExplainOptions, ExplainStep, ExplainedRound, Explainer, MissCandidate,
    ReportCause, ReportVerdict,
};
use tracker::probes::events::{self, EventProbes};
use uffd::PAGE_SIZE;

use crate::came::{ActedScenarios, PageLot, in_guest};
use crate::table::{KernelClass, PageFate};
use crate::target::{ActedGround, ScenarioSetup, ScenarioTarget};
use testbed::script::FACTS;

/// The kernel's events, in a ring that holds those of all scenarios, however slow this machine is.
static HUB: LazyLock<EventHub> = LazyLock::new(|| {
    let events = EventProbes::attach(&events::EventOptions {
        ring: 128 << 20,
        ..events::EventOptions::default()
    });
    let hub = EventHub::new(events, 1 << 20).unwrap();
    if !hub.seen().is_complete() {
        eprintln!("causes may stay unknown: {}", hub.seen().told().join("; "));
    }
    hub
});

/// Lets scenarios act between two rounds; returns how many pages they were about, and what was
/// wrong.
pub fn differences(names: &[&str], how: ScenarioSetup, class: KernelClass) -> (u64, Vec<String>) {
    let options = ExplainOptions {
        track: testbed::session::options(class.strategy()),
        content_limit: 1 << 40,
        page: None,
        against: None,
        freeze: false,
        findings: Some(CodeNamer::Program(testbed::program("tracker").into())),
    };
    let target = ScenarioTarget::start(names, how);
    let begun = Explainer::begin(target.pid(), FACTS.clone(), Some(&HUB), options);
    let (mut explainer, _) = begun.unwrap();
    let before = step(&mut explainer);
    let came = ActedScenarios::of(target, class);
    let round = step(&mut explainer);
    let after = step(&mut explainer);
    let complete = explainer.end().unwrap().seen.is_complete();
    assert!(complete || !in_guest(), "not everything is seen");
    let wrong = came.check(|ground, lots| {
        // What changes without a report is found a round later: only then is it known that no
        // report comes.
        let mut found = answers(&round, ground);
        let mut later = answers(&after, ground);
        later.retain(|page, answer| match answer {
            PageAnswer::Missed { .. } => found.insert(*page, answer.clone()).is_some(),
            PageAnswer::Reported(..) => true,
        });
        let mut wrong: Vec<_> = lots
            .iter()
            .filter_map(|lot| check(&found, lot, complete))
            .collect();
        for (when, found) in [("before", answers(&before, ground)), ("again", later)] {
            if !found.is_empty() {
                wrong.push(format!("{when}: {}", tally(found.values())));
            }
        }
        wrong
    });
    let dropped = before.dropped + round.dropped + after.dropped;
    // Every cause is compared with the table. Other events that are lost belong to others, or are
    // the second of one change: exits are missed where programs are preempted (docs/hooks.md).
    if dropped != 0 {
        eprintln!("{dropped} events were dropped");
    }
    (came.pages(), wrong)
}

fn step(explainer: &mut Explainer) -> ExplainedRound {
    match explainer.step().unwrap() {
        ExplainStep::Round(round) => *round,
        ExplainStep::Exited => panic!("the process has ended"),
    }
}

/// What a round says of a page.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PageAnswer {
    /// It was reported, with verdict and cause, and with the reason for what is not known.
    Reported(ReportVerdict, ReportCause, String),
    /// It changed without a report; `by` lists what may have done it.
    Missed {
        zeroed: bool,
        by: Vec<MissCandidate>,
    },
}

impl fmt::Display for PageAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported(verdict, cause, why) => write!(f, "{verdict} {cause}{why}"),
            Self::Missed { zeroed, by } => {
                let zeroed = if *zeroed { ", zeroed" } else { "" };
                write!(f, "missed{zeroed} {by:?}")
            }
        }
    }
}

/// What a round says of each page, by number.
fn answers(round: &ExplainedRound, ground: &ActedGround) -> BTreeMap<u64, PageAnswer> {
    let reported = round.reported.iter().flat_map(|(_, pages)| pages);
    let reported = reported.map(|it| {
        let words = [it.verdict_unknown, it.cause_unknown].into_iter().flatten();
        let why = words.map(|reason| format!(" ({reason})")).collect();
        let answer = PageAnswer::Reported(it.why.verdict, it.why.cause, why);
        (it.range.clone(), answer)
    });
    let missed = round.missed.iter().flat_map(|(_, pages)| pages);
    let missed = missed.map(|it| {
        let (zeroed, by) = (it.zeroed, it.candidates.clone());
        (it.range.clone(), PageAnswer::Missed { zeroed, by })
    });
    let mut found = BTreeMap::new();
    for (range, answer) in reported.chain(missed) {
        let here = range.start.max(ground.range.start)..range.end.min(ground.range.end);
        for address in here.step_by(PAGE_SIZE as usize) {
            let page = (address - ground.range.start) / PAGE_SIZE;
            let twice = found.insert(page, answer.clone());
            assert_eq!(twice, None, "page {page} at {address:#x} is told twice");
        }
    }
    found
}

/// What is wrong with some pages. Where not every cause can be seen, a cause may be unknown, but
/// not another one.
fn check(found: &BTreeMap<u64, PageAnswer>, lot: &PageLot, complete: bool) -> Option<String> {
    let may_be = |told: ReportCause, cause| match told {
        ReportCause::Unknown => !complete,
        // The hardware tells faults of the kernel from those of a program, but not who wants the
        // page.
        ReportCause::KernelCopy if cause == ReportCause::RemoteOrPin => !complete,
        told => told == cause,
    };
    let is = |answer: &PageAnswer, verdict, cause| match answer {
        PageAnswer::Reported(v, c, _) => *v == verdict && may_be(*c, cause),
        PageAnswer::Missed { .. } => false,
    };
    let right = |answer: Option<&PageAnswer>| match (lot.fate, answer) {
        (
            PageFate::Reported(verdict, cause)
            | PageFate::AllButOne(verdict, cause)
            | PageFate::New(verdict, cause),
            Some(answer),
        ) => is(answer, verdict, cause),
        (
            PageFate::Missed { zeroed, by },
            Some(PageAnswer::Missed {
                zeroed: is,
                by: all,
            }),
        ) => {
            // With every event the likeliest is the right one.
            let likely = if complete { &all[..1] } else { &all[..] };
            zeroed == *is && likely.contains(&by)
        }
        (PageFate::Quiet | PageFate::Hidden | PageFate::Refused, answer) => answer.is_none(),
        _ => false,
    };
    let wrong = lot.pages.iter().filter(|page| !right(found.get(page)));
    let wrong: Vec<u64> = wrong.copied().collect();
    let allowed = match lot.fate {
        PageFate::AllButOne(..) => wrong.len() == 1 && !found.contains_key(&wrong[0]),
        _ => wrong.is_empty(),
    };
    (!allowed).then(|| {
        let silent = wrong.iter().filter(|page| !found.contains_key(page));
        format!(
            "{}: {} of {} pages are not {:?} but {} nothing, {}",
            lot.name,
            wrong.len(),
            lot.pages.len(),
            lot.fate,
            silent.count(),
            tally(wrong.iter().filter_map(|page| found.get(page)))
        )
    })
}

/// Counts equal answers.
fn tally<'a>(answers: impl Iterator<Item = &'a PageAnswer>) -> String {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer).or_insert(0u64) += 1;
    }
    let lines = counts
        .iter()
        .map(|(answer, count)| format!("{count} {answer}"));
    lines.collect::<Vec<_>>().join(", ")
}
