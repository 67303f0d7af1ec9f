//! A background snapshot of QEMU, which write-protects the memory of its machine with a userfaultfd
//! in sync mode. Under the agent its faults are counted, and how long the machine waited; it is
//! explained, too. Runs only in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use pages::strategy::StrategyName;
use testbed::foreign::{
    self, GUEST_MEMORY, GUEST_WRITES, QemuMonitor, SnapshotOutcome, booted, with_monitor,
};
use testbed::script::FACTS;
use testbed::{KilledChild, eventually, guest, sum};
use tracker::explain::{
    AuditKind, CodeNamer, EventHub, ExplainOptions, ExplainStep, ReportCause, ReportVerdict,
    TrackerObserver,
};
use tracker::probes::events::{EventOptions, EventProbes};
use uffd::{PAGE_SIZE, pages_in};

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_background_snapshot_shows_its_faults_and_waits() {
    // An emulator in an emulated machine needs QEMU and a kernel that can run it.
    if !testbed::has("qemu-system-x86_64") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (serial, snapshot) = (dir.path().join("serial"), dir.path().join("snapshot"));
    let to_file = format!("file:{}", serial.display());
    let command = foreign::machine(dir.path(), &["-serial", &to_file, "-qmp", "stdio"]);
    let mut qemu = KilledChild(with_monitor(command));
    let mut monitor = QemuMonitor::of(&mut qemu);
    booted(&serial);
    let agent = guest::agent(&[]);

    assert_eq!(monitor.snapshot(&snapshot), SnapshotOutcome::Completed);
    let written = std::fs::metadata(&snapshot).unwrap().len();
    assert!(written > pages_in(&GUEST_WRITES) * PAGE_SIZE, "{written}");

    let pid = format!("pid=\"{}\"", qemu.0.id());
    let faults = eventually("the faults are on /metrics", || {
        let metrics = agent.metrics();
        let labels = [pid.as_str(), "mode=\"sync\""];
        let faults = sum(&metrics, "uffdwp_faults_total", &labels)?;
        let waited = sum(&metrics, "uffdwp_process_fault_wait_seconds_total", &[&pid])?;
        (faults > 0.0 && waited > 0.0).then_some(faults)
    });
    // Each page is written for the first time once, unless QEMU has saved it before.
    assert!(faults <= pages_in(&GUEST_WRITES) as f64, "{faults}");
    let metrics = agent.metrics();
    let node = sum(&metrics, "uffdwp_node_faults_total", &["mode=\"sync\""]).unwrap();
    let waits = sum(&metrics, "uffdwp_fault_wait_seconds_count", &[]).unwrap();
    assert_eq!((node, waits), (faults, faults), "who else?");
    eprintln!("{faults} faults of QEMU's machine");
    drop(agent);
    // On a busy machine all that is written may be written before a look finds what QEMU has
    // registered: then nothing of it is explained.
    let mut tries = 0..4;
    let explained = tries.any(|_| a_snapshot_is_explained(qemu.0.id(), &mut monitor, &snapshot));
    assert!(explained, "what was written was never seen");
}

/// What a snapshot is told, how long its machine waits for it, and that it reads all memory first.
/// Returns whether any of its reports was seen.
fn a_snapshot_is_explained(pid: u32, monitor: &mut QemuMonitor, snapshot: &Path) -> bool {
    let hub = EventHub::new(EventProbes::attach(&EventOptions::default()), 1 << 16).unwrap();
    let options = ExplainOptions {
        track: pages::track::TrackOptions {
            strategy: None,
            ..testbed::session::options(StrategyName::Sync)
        },
        content_limit: 1 << 30,
        page: None,
        against: None,
        freeze: false,
        findings: Some(CodeNamer::Program(testbed::program("tracker").into())),
    };
    let mut observer = TrackerObserver::begin(pid, &FACTS, Some(&hub), &options).unwrap();
    let look = |observer: &mut TrackerObserver| {
        assert!(matches!(observer.step(&[]).unwrap(), ExplainStep::Round(_)));
    };
    look(&mut observer);
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| monitor.snapshot(snapshot));
        while !taken.is_finished() {
            look(&mut observer);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(taken.join().unwrap(), SnapshotOutcome::Completed);
    });
    look(&mut observer);
    assert!(observer.has_any(), "its memory was never seen");
    observer.close();
    let findings = observer.end();
    let audit = findings.audit.unwrap();
    assert_eq!(audit.dropped, 0, "{audit:#?}");
    let waits: u64 = audit.waits.iter().map(|waits| waits.times).sum();
    assert!(waits > 0 && !audit.answers.is_empty(), "{audit:#?}");
    // The machine counts up in each page that it writes: no report of them is false.
    let tally = &findings.tally;
    let user = tally
        .iter()
        .filter(|(why, _)| why.cause == ReportCause::UserStore);
    let reported: u64 = user.clone().map(|(_, pages)| pages).sum();
    let unchanged = user.filter(|(why, _)| why.verdict == ReportVerdict::Unchanged);
    assert!(reported <= pages_in(&GUEST_WRITES), "{tally:?}");
    assert_eq!(unchanged.count(), 0, "{tally:?}");
    let reads = audit
        .found
        .iter()
        .filter(|found| found.kind == AuditKind::ReadFirst);
    let pages: u64 = reads.map(|found| found.pages).sum();
    if FACTS.behaviour.written.is_some() {
        // Hardly any of the machine's memory was ever written.
        assert!(pages > pages_in(&(0..GUEST_MEMORY)) * 3 / 4, "{audit:#?}");
    }
    eprintln!("explained: {reported} pages, {waits} waits, {pages} pages read first");
    reported > 0
}
