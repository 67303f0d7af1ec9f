//! A background snapshot of QEMU, which write-protects the memory of its machine with a userfaultfd
//! in sync mode, under the agent: its faults are counted, and how long the machine waited. Runs
//! only in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use testbed::foreign::{self, GUEST_WRITES, QemuMonitor, SnapshotOutcome, booted, with_monitor};
use testbed::{KilledChild, eventually, guest, sum};
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
}
