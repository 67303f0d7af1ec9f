//! What a process shares stays shared, what is not there is not made, and huge pages stay huge,
//! while its memory is read: explaining, and every strategy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::Duration;

use pages::strategy::{StrategyName, TrackedArea};
use serde_json::Value;
use testbed::script::{ANON, FACTS, FILE, ScriptMemory, ScriptProcess, THP};
use testbed::session::{SeenPages, begin, options, pages, step, working};
use testbed::smaps::field;
use testbed::{KilledChild, eventually};
use tracker::explain::{CodeNamer, ExplainOptions, ExplainStep, ExplainedRound, Explainer};
use uffd::PAGE_SIZE;

const PAGES: u64 = 4096;
const ROUNDS: usize = 4;

/// Explains for some rounds.
fn explain(script: &ScriptProcess) {
    let mut explainer = begin_to_explain(script);
    (0..ROUNDS).for_each(|_| drop(explain_round(&mut explainer)));
    explainer.end().unwrap();
}

fn explain_round(explainer: &mut Explainer) -> Box<ExplainedRound> {
    match explainer.step().unwrap() {
        ExplainStep::Round(round) => round,
        ExplainStep::Exited => panic!("the process has ended"),
    }
}

fn begin_to_explain(script: &ScriptProcess) -> Explainer {
    let options = ExplainOptions {
        track: pages::track::TrackOptions {
            strategy: None,
            ..options(StrategyName::Markers)
        },
        content_limit: 1 << 30,
        page: None,
        against: None,
        freeze: false,
        findings: Some(CodeNamer::Program(testbed::program("tracker").into())),
    };
    let begun = Explainer::begin(script.pid(), FACTS.clone(), None, options);
    begun.unwrap().0
}

/// Explains, and tracks with each strategy that works here, and looks at `name` of the area after
/// each: it must be as it was.
fn stays(script: &ScriptProcess, kind: ScriptMemory, range: &Range<u64>, name: &str) {
    let before = field(script.pid(), range, name);
    let is_same = |by: &str| {
        let after = field(script.pid(), range, name);
        eprintln!("{name} {before} KiB, {after} KiB after {by}");
        // The kernel may move a page at any time.
        assert!(after.abs_diff(before) <= before / 64, "{by}");
    };
    if FACTS.behaviour.written.is_some() {
        explain(script);
        is_same("explain");
    }
    for strategy in working(kind) {
        let (mut session, _) = begin(script, strategy);
        (0..ROUNDS).for_each(|_| drop(step(&mut session)));
        session.end().unwrap();
        is_same(strategy.as_str());
    }
}

/// Maps an area and stores to every page of it.
fn filled(script: &mut ScriptProcess, kind: ScriptMemory) -> (u64, Range<u64>) {
    let (number, area) = script.map(kind, PAGES);
    script.tell(&format!("store {number} 7 1 0-{}", PAGES - 1));
    (number, area.range)
}

#[test]
fn what_is_shared_with_children_stays_shared() {
    let mut script = ScriptProcess::start();
    let (_, range) = filled(&mut script, ANON);
    let alone = field(script.pid(), &range, "Pss");
    for _ in 0..3 {
        script.say("worker");
    }
    assert!(field(script.pid(), &range, "Pss") <= alone / 3);
    stays(&script, ANON, &range, "Pss");
}

#[test]
fn what_is_not_there_is_not_made() {
    let mut script = ScriptProcess::start();
    // A file's page is there as soon as it is read. A hole that is read is the zero page.
    let (number, area) = script.map(ANON, PAGES);
    script.tell(&format!("store {number} 7 1 0-99"));
    let before = field(script.pid(), &area.range, "Rss");
    if FACTS.behaviour.written.is_some() {
        explain(&script);
        assert_eq!(field(script.pid(), &area.range, "Rss"), before);
    }
    let (_, file) = script.map(FILE, PAGES);
    let before = field(script.pid(), &file.range, "Rss");
    if FACTS.behaviour.written.is_some() {
        explain(&script);
        assert_eq!(field(script.pid(), &file.range, "Rss"), before);
    }
}

/// How much of a file is there after one page of it was read, in KiB: the kernel maps its
/// neighbours along.
fn mapped_by_one_read(script: &mut ScriptProcess, area: (u64, &Range<u64>)) -> u64 {
    script.tell(&format!("load {} 100", area.0));
    field(script.pid(), area.1, "Rss")
}

#[test]
fn files_are_mapped_page_by_page_where_they_are_registered() {
    let mut script = ScriptProcess::start();
    let (number, file) = script.map(FILE, PAGES);
    let usual = mapped_by_one_read(&mut script, (number, &file.range));
    if usual == 4 {
        return eprintln!("skipped: the kernel maps no neighbours of this file along");
    }
    for strategy in working(FILE) {
        let mut script = ScriptProcess::start();
        let (number, file) = script.map(FILE, PAGES);
        let (session, _) = begin(&script, strategy);
        let before = field(script.pid(), &file.range, "Rss");
        let after = mapped_by_one_read(&mut script, (number, &file.range));
        let expected = if strategy.needs_descriptor() {
            4
        } else {
            usual
        };
        let is_read_already = before != 0;
        assert!(
            is_read_already || after == expected,
            "{strategy}: {after} KiB, not {expected}"
        );
        session.end().unwrap();
    }
}

#[test]
fn only_what_reads_everything_reads_in_files() {
    for strategy in working(FILE) {
        let mut script = ScriptProcess::start();
        let (_, file) = script.map(FILE, PAGES);
        let (mut session, _) = begin(&script, strategy);
        step(&mut session);
        let there = field(script.pid(), &file.range, "Rss");
        let reads = [StrategyName::Hash, StrategyName::Prefault].contains(&strategy);
        assert_eq!(there != 0, reads, "{strategy}: {there} KiB");
        session.end().unwrap();
    }
}

#[test]
fn huge_pages_that_nobody_writes_to_stay_huge() {
    let mut script = ScriptProcess::start();
    let (_, range) = filled(&mut script, THP);
    if field(script.pid(), &range, "AnonHugePages") == 0 {
        return eprintln!("skipped: the kernel gives no huge pages");
    }
    stays(&script, THP, &range, "AnonHugePages");
}

/// Only in a guest: KSM is the whole machine's.
#[test]
fn what_ksm_merged_stays_merged() {
    const RUN: &str = "/sys/kernel/mm/ksm/run";
    if std::env::var_os("TRACKER_VM").is_none() || fs::write(RUN, "1").is_err() {
        return eprintln!("skipped: no guest with KSM");
    }
    fs::write("/sys/kernel/mm/ksm/pages_to_scan", "10000").unwrap();
    let mut script = ScriptProcess::start();
    let (number, range) = filled(&mut script, ANON);
    let alone = field(script.pid(), &range, "Pss");
    script.tell(&format!("merge {number}"));
    eventually("it merges", || {
        std::thread::sleep(Duration::from_millis(100));
        (field(script.pid(), &range, "Pss") < alone / 8).then_some(())
    });
    let area = TrackedArea {
        range: range.clone(),
        backing: ANON.1,
        page_size: PAGE_SIZE,
        shared: false,
    };
    if FACTS.behaviour.written.is_some() {
        // While KSM goes on: what reading took apart it would merge again, and so report.
        let mut explainer = begin_to_explain(&script);
        for round in 0..ROUNDS {
            let scans = ksm_scans();
            eventually("KSM has looked at all", || {
                (ksm_scans() > scans + 1).then_some(())
            });
            let explained = explain_round(&mut explainer);
            let seen = SeenPages::of(&explained.round, &area);
            assert_eq!(seen.written, pages([]), "in round {round}");
        }
        explainer.end().unwrap();
        assert!(field(script.pid(), &range, "Pss") < alone / 8);
    }
    fs::write(RUN, "0").unwrap();
    stays(&script, ANON, &range, "Rss");
    assert!(field(script.pid(), &range, "Pss") < alone / 8);
    fs::write(RUN, "2").unwrap();
}

/// How often KSM has looked at all memory.
fn ksm_scans() -> u64 {
    let text = fs::read_to_string("/sys/kernel/mm/ksm/full_scans").unwrap();
    text.trim().parse().unwrap()
}

/// MADV_COLLAPSE on a range of another process; the errno, or 0.
fn collapse(pid: u32, range: &Range<u64>) -> i32 {
    const MADV_COLLAPSE: i32 = 25;
    let process = rustix::process::Pid::from_raw(pid as i32).unwrap();
    let flags = rustix::process::PidfdFlags::empty();
    let pidfd = rustix::process::pidfd_open(process, flags).unwrap();
    let part = [range.start, range.end - range.start];
    // SAFETY: one iovec of memory of another process, which stays as it is.
    let result = unsafe {
        let call = libc::SYS_process_madvise;
        libc::syscall(call, pidfd.as_raw_fd(), part.as_ptr(), 1, MADV_COLLAPSE, 0)
    };
    if result >= 0 {
        return 0;
    }
    std::io::Error::last_os_error().raw_os_error().unwrap()
}

/// A write splits each huge page, and none can be made again until the end; that is told before and
/// after.
#[test]
fn collapse_fails_where_pages_are_armed_and_the_loss_is_told() {
    let mut script = ScriptProcess::start();
    let (number, range) = filled(&mut script, THP);
    let huge = field(script.pid(), &range, "AnonHugePages");
    let part = range.start.next_multiple_of(2 << 20)..range.end / (2 << 20) * (2 << 20);
    if huge < 4096 || FACTS.behaviour.written.is_none() || collapse(script.pid(), &part) != 0 {
        return eprintln!("skipped: no huge pages, no MADV_COLLAPSE, or no markers");
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut tracker = Command::new(testbed::program("tracker"));
    tracker.args([
        "track",
        "--json",
        "--strategy=markers",
        "--interval=100ms",
        "--pid",
    ]);
    let tracker = tracker.arg(script.pid().to_string()).arg("--rounds=40");
    let output = fs::File::create(&log).unwrap();
    let mut tracker = KilledChild(tracker.stdout(output).spawn().unwrap());
    let said = |text: &str| {
        let log = fs::read_to_string(&log).unwrap();
        log.contains(text).then_some(())
    };
    eventually("it is tracked", || said("\"round\""));
    for page in (0..PAGES).step_by(512) {
        script.tell(&format!("store {number} 8 1 {page}"));
    }
    assert_eq!(collapse(script.pid(), &part), libc::EINVAL);
    assert!(tracker.0.wait().unwrap().success());
    assert!(said("MADV_COLLAPSE fails with EINVAL").is_some());
    let log = fs::read_to_string(&log).unwrap();
    let summary: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let told = |when: &str| summary["anon_huge_bytes"][when].as_u64().unwrap() >> 10;
    assert!(
        told("before") >= huge && told("after") <= told("before") - huge / 2,
        "{summary}"
    );
    assert_eq!(collapse(script.pid(), &part), 0);
}
