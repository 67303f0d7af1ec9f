//! `tracker explain` finds what a tracker of the process's own does wrong, and nothing else: a
//! client with one fault each, and some with none. Runs in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pages::strategy::StrategyName;
use testbed::script::FACTS;
use tracker::explain::{
    AuditFindings, AuditKind, AuditSight, CodeNamer, EventHub, ExplainOptions, ExplainStep,
    TrackerObserver,
};
use tracker::probes::events::{EventOptions, EventProbes};
use uffd::UffdFeatures;

/// What comes of three rounds of a client.
struct ExpectedAudit {
    client: &'static str,
    /// What is found, how often, and how many pages.
    found: Option<(AuditKind, u64, u64)>,
    /// Waits for a handler, at least: the thread may be woken too early.
    waits: u64,
    /// How often soft-dirty bits are cleared.
    cleared: u64,
}

const ROUNDS: u64 = 3;

const fn with(client: &'static str, kind: AuditKind, times: u64, pages: u64) -> ExpectedAudit {
    ExpectedAudit {
        client,
        found: Some((kind, times, pages)),
        waits: 0,
        cleared: 0,
    }
}

/// Clients that need no PAGEMAP_SCAN.
const SYNC: [ExpectedAudit; 2] = [
    ExpectedAudit {
        client: "sync",
        found: None,
        waits: 2 * ROUNDS,
        cleared: 0,
    },
    // A page that was not there is written in each round.
    with("armed-absent", AuditKind::ArmedAbsent, 3, 3),
];

/// The memory is of 64 pages.
const ASYNC: [ExpectedAudit; 17] = [
    ExpectedAudit {
        client: "clean",
        found: None,
        waits: 0,
        cleared: 0,
    },
    ExpectedAudit {
        client: "registered-again",
        found: None,
        waits: 0,
        cleared: 0,
    },
    // Debian's kernels have soft-dirty bits.
    ExpectedAudit {
        client: "soft-dirty",
        found: None,
        waits: 0,
        cleared: ROUNDS,
    },
    with("filled-unarmed", AuditKind::FilledUnarmed, 3, 3 * 2),
    // One page of each round is written in between.
    with("read-then-arm", AuditKind::ReadThenArm, 3, 3),
    // Three calls arm a page each; one of the pages is written in between.
    with("pagemap-then-arm", AuditKind::ReadThenArm, 9, 3),
    // The ninth page and all after it, each time that the next round begins anew.
    with("scan-cut-short", AuditKind::ScanCutShort, 2, 2 * (64 - 9)),
    with("never-armed", AuditKind::NeverArmed, 1, 64),
    with("armed-in-part", AuditKind::ArmedInPart, 1, 32),
    // All but 16 were never written.
    with("read-first", AuditKind::ReadFirst, 1, 64 - 16),
    with("armed-in-vain", AuditKind::ArmedInVain, 3, 3 * 62),
    with("extra-categories", AuditKind::ExtraCategories, 3, 3 * 64),
    with("huge-shared-page", AuditKind::HugeSharedPage, 3, 3 * 512),
    with("hugetlb-unit", AuditKind::HugetlbUnit, 3, 3 * 512),
    with("emptied", AuditKind::Emptied, 3, 3 * 4),
    with(
        "forked-without-event",
        AuditKind::ForkedWithoutEvent,
        3,
        3 * 64,
    ),
    with("moved-without-event", AuditKind::MovedWithoutEvent, 1, 64),
];

/// A client, killed when dropped.
struct OwnTracker {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl OwnTracker {
    fn start(client: &str) -> Self {
        let mut child = Command::new(testbed::program("own-tracker"))
            .arg(client)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut started = Self {
            child,
            input,
            output,
        };
        started.expect("ready");
        started
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.input, "{word}").unwrap();
        self.expect("done");
    }

    fn expect(&mut self, answer: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), answer);
    }
}

impl Drop for OwnTracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn options() -> ExplainOptions {
    ExplainOptions {
        track: pages::track::TrackOptions {
            strategy: None,
            ..testbed::session::options(StrategyName::Markers)
        },
        content_limit: 1 << 30,
        page: None,
        against: None,
        freeze: false,
        findings: Some(CodeNamer::Program(testbed::program("tracker").into())),
    }
}

fn look(observer: &mut TrackerObserver) {
    assert!(matches!(observer.step(&[]).unwrap(), ExplainStep::Round(_)));
}

/// What is found in a client.
fn audit(client: &str, hub: &EventHub) -> AuditFindings {
    let mut tracker = OwnTracker::start(client);
    let pid = tracker.child.id();
    let mut observer = TrackerObserver::begin(pid, &FACTS, Some(hub), &options()).unwrap();
    look(&mut observer);
    tracker.tell("begin");
    // What is registered is not looked for all the time.
    testbed::eventually("the memory is observed", || {
        look(&mut observer);
        observer.has_any().then_some(())
    });
    for _ in 0..ROUNDS {
        tracker.tell("round");
        look(&mut observer);
    }
    observer.close();
    let findings = observer.end();
    let audit = findings
        .audit
        .unwrap_or_else(|| panic!("{client} has no audit"));
    for place in audit.found.iter().filter_map(|found| found.place) {
        assert!(findings.stacks.contains_key(&place), "{client}: {place:?}");
    }
    audit
}

/// Kind, times and pages. In optimised code one call has several stacks, each a finding.
fn by_kind(audit: &AuditFindings) -> Vec<(AuditKind, u64, u64)> {
    let mut kinds: Vec<(AuditKind, u64, u64)> = Vec::new();
    for found in &audit.found {
        match kinds.iter_mut().find(|(kind, ..)| *kind == found.kind) {
            Some((_, times, pages)) => {
                *times += found.times;
                *pages += found.pages;
            }
            None => kinds.push((found.kind, found.times, found.pages)),
        }
    }
    kinds
}

/// What is wrong about the audit of a client.
fn differences(expected: &ExpectedAudit, hub: &EventHub) -> Option<String> {
    let audit = audit(expected.client, hub);
    let found = by_kind(&audit);
    let waits: u64 = audit.waits.iter().map(|waits| waits.times).sum();
    let waits_fit = match expected.waits {
        0 => waits == 0,
        least => waits >= least,
    };
    let is_right = found == Vec::from_iter(expected.found)
        && waits_fit
        && audit.cleared.values().sum::<u64>() == expected.cleared
        && audit.sight == AuditSight::Complete
        && audit.dropped == 0;
    (!is_right).then(|| format!("{}: {audit:#?}", expected.client))
}

fn hub() -> EventHub {
    EventHub::new(EventProbes::attach(&EventOptions::default()), 1 << 16).unwrap()
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn what_a_tracker_does_wrong_is_found_and_nothing_else() {
    let hub = hub();
    let offered = UffdFeatures::offered().unwrap();
    let mut expected = Vec::from_iter(&SYNC);
    if offered.contains(UffdFeatures::WP_ASYNC) {
        let enabled = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
        fs::write(enabled, "advise").unwrap();
        expected.extend(&ASYNC);
    } else {
        eprintln!("skipped: this kernel has no PAGEMAP_SCAN");
    }
    let wrong = expected.into_iter();
    let wrong: Vec<_> = wrong.filter_map(|one| differences(one, &hub)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_process_without_a_tracker_has_no_audit() {
    let mut script = testbed::script::ScriptProcess::start();
    let (area, _) = script.map(testbed::script::ANON, 16);
    script.tell(&format!("store {area} 7 1 0-15"));
    let hub = hub();
    let pid = script.pid();
    let mut observer = TrackerObserver::begin(pid, &FACTS, Some(&hub), &options()).unwrap();
    look(&mut observer);
    script.tell(&format!("store {area} 7 2 0-3"));
    look(&mut observer);
    observer.close();
    assert_eq!(observer.end().audit, None);
}
