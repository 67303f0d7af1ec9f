//! Tracks programs of others, and checks what is reported against their content.
//!
//! The oracle is the judge: the program is stopped while a round is read and all of its memory is
//! compared with that of the last round.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use pages::inject;
use pages::track::{TrackOptions, TrackRound, TrackSession, TrackStep};
use testbed::foreign::{
    GUEST_MEMORY, GUEST_WRITES, QemuMonitor, RedisServer, SnapshotOutcome, booted, machine,
    with_monitor,
};
use testbed::judge::judge_session;
use testbed::script::FACTS;
use testbed::{KilledChild, eventually, has};
use uffd::PAGE_SIZE;

/// Rounds that are judged, and the time between two.
const ROUNDS: u32 = 4;
const INTERVAL: Duration = Duration::from_millis(300);

fn options() -> TrackOptions {
    let helper = testbed::program("tracker");
    let helper = if helper.contains('/') {
        helper
    } else {
        format!("/bin/{helper}")
    };
    TrackOptions {
        strategy: None,
        detailed: false,
        max_mapping: pages::track::MAX_MAPPING,
        interval: Duration::from_secs(1),
        tracker: "test",
        inject: inject::InjectOptions {
            helper: helper.into(),
            ..inject::InjectOptions::default()
        },
    }
}

fn begin(pid: u32) -> (TrackSession, TrackRound) {
    let (session, first) = TrackSession::begin(pid, FACTS.clone(), options()).unwrap();
    eprintln!("{}: {}", session.header().comm, session.header().strategy);
    (session, first)
}

fn step(session: &mut TrackSession) -> TrackRound {
    match session.step().unwrap() {
        TrackStep::Round(round) => round,
        TrackStep::Exited => panic!("the process has ended"),
    }
}

/// Whether the strategy is its own oracle, because it reads everything. To the others, pages that
/// we read through `/proc/PID/mem` do not count as written, even if they count first reads.
fn is_oracle(session: &TrackSession) -> bool {
    session.strategy().reads_content()
}

#[test]
fn redis_under_load() {
    if !has("redis-server") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(dir.path());
    let load = redis.benchmark();
    let (mut session, _) = begin(redis.pid());
    assert!(!is_oracle(&session));
    judge_session(redis.pid(), &mut session, ROUNDS, INTERVAL);
    drop(load);
    assert_eq!(redis.say("SET tracked yes"), "+OK");
    session.end().unwrap();
    assert_eq!(redis.say("EXISTS tracked"), ":1");
    assert_eq!(armed(redis.pid()), 0);
}

#[test]
fn python_that_makes_and_drops_objects() {
    const PROGRAM: &str = "\
import gc
total = 0
for turn in range(1, 1000000):
    items = [[n, str(n * turn)] for n in range(2000)]
    items[0].append(items)
    total += sum(len(text) for _, text in items[1:])
    del items
    gc.collect()";
    if !has("python3") {
        return;
    }
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM]).stdin(Stdio::null());
    let python = KilledChild(command.spawn().unwrap());
    // The wrapper of a version manager executes the program itself; injection and exec get along.
    let (mut session, _) = begin(python.0.id());
    judge_session(python.0.id(), &mut session, ROUNDS, INTERVAL);
    session.end().unwrap();
    assert_eq!(armed(python.0.id()), 0);
}

/// The machine writes the same pages again and again, and no others: in each turn all of them are
/// reported, and no others. How long it takes to write them depends on the host, so a turn is as
/// many rounds as needed.
#[test]
fn qemu_running_a_guest() {
    const ROUNDS_OF_A_TURN: usize = 200;
    if !has("qemu-system-x86_64") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let serial = dir.path().join("serial");
    let to_file = format!("file:{}", serial.display());
    let mut command = machine(dir.path(), &["-serial", &to_file]);
    let qemu = KilledChild(
        command
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap(),
    );
    booted(&serial);
    let (mut session, first) = begin(qemu.0.id());
    let memory = first
        .mappings
        .iter()
        .find(|row| row.mapping.end - row.mapping.start == GUEST_MEMORY);
    let start = memory.unwrap().mapping.start;
    let expected: BTreeSet<u64> = GUEST_WRITES
        .step_by(PAGE_SIZE as usize)
        .map(|at| start + at)
        .collect();
    for turn in 1..=ROUNDS {
        let mut missed = expected.clone();
        for _ in 0..ROUNDS_OF_A_TURN {
            std::thread::sleep(Duration::from_millis(300));
            let round = step(&mut session);
            let row = round
                .mappings
                .iter()
                .find(|row| row.mapping.start == start)
                .unwrap();
            for extent in &row.written {
                for page in extent.range.clone().step_by(PAGE_SIZE as usize) {
                    missed.remove(&page);
                    // A huge page is reported as a whole.
                    assert!(
                        extent.unit > PAGE_SIZE || expected.contains(&page),
                        "turn {turn}: {page:#x} is reported, and the machine does not write it"
                    );
                }
            }
            if missed.is_empty() {
                break;
            }
        }
        assert!(
            missed.is_empty(),
            "turn {turn}: written by the machine and not reported: {missed:x?}"
        );
    }
    session.end().unwrap();
    assert_eq!(armed(qemu.0.id()), 0);
}

/// QEMU write-protects the memory of its machine itself for a background snapshot. That fails at
/// first, and then it has its memory.
#[test]
fn qemu_takes_a_snapshot_while_it_is_tracked_and_while_it_is_explained() {
    /// QEMU opens one, closes it, and opens the next before anybody could give way to it.
    const MOST_FAILURES: usize = 3;
    if !has("qemu-system-x86_64") {
        return;
    }
    for command in ["track", "explain"] {
        let dir = tempfile::tempdir().unwrap();
        let (serial, snapshot) = (dir.path().join("serial"), dir.path().join("snapshot"));
        let to_file = format!("file:{}", serial.display());
        let machine = machine(dir.path(), &["-serial", &to_file, "-qmp", "stdio"]);
        let mut qemu = KilledChild(with_monitor(machine));
        let mut monitor = QemuMonitor::of(&mut qemu);
        booted(&serial);
        let pid = qemu.0.id().to_string();
        let log = dir.path().join("log");
        let mut tracker = Command::new(testbed::program("tracker"));
        tracker.args([
            command,
            "--pid",
            &pid,
            "--json",
            "--interval=60s",
            "--strategy",
        ]);
        let strategy = FACTS.behaviour.written.map_or("sync", |_| "markers");
        let log_file = std::fs::File::create(&log).unwrap();
        let tracker = tracker.arg(strategy).stdout(log_file).spawn().unwrap();
        let mut tracker = KilledChild(tracker);
        let said = |text: &str| {
            let log = std::fs::read_to_string(&log).unwrap();
            log.contains(text).then_some(())
        };
        eventually("it is tracked", || said("header"));
        let mut failures = 0;
        while let SnapshotOutcome::Failed(why) = monitor.snapshot(&snapshot) {
            failures += 1;
            assert!(failures <= MOST_FAILURES, "{command}: {why}");
            std::thread::sleep(Duration::from_millis(500));
        }
        eprintln!("{command}: after {failures} failures");
        let written = std::fs::metadata(&snapshot).unwrap().len();
        assert!(written > GUEST_WRITES.end - GUEST_WRITES.start, "{written}");
        eventually("it is told", || said("has created a userfaultfd itself"));
        assert!(tracker.0.try_wait().unwrap().is_none(), "{command} goes on");
    }
}

/// How many VMAs are registered with a userfaultfd.
fn armed(pid: u32) -> usize {
    let vmas = uffd::smaps(pid).unwrap().map(Result::unwrap);
    vmas.filter(|vma| vma.flags.uffd_wp() || vma.flags.uffd_missing())
        .count()
}
