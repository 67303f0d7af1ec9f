//! A background snapshot of QEMU, which write-protects the memory of its machine with a userfaultfd
//! in sync mode, under the agent: its faults are counted, and how long the machine waited. Runs
//! only in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{ChildStdin, ChildStdout};

use serde_json::{Value, json};
use testbed::foreign::{self, GUEST_WRITES, booted, with_monitor};
use testbed::{KilledChild, eventually, guest, sum};
use uffd::{PAGE_SIZE, pages_in};

/// QEMU's monitor for programs (QMP), on its standard input and output.
struct QemuMonitor {
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl QemuMonitor {
    fn say(&mut self, command: &Value) -> Value {
        writeln!(self.input, "{command}").unwrap();
        loop {
            let line = self.lines.next().unwrap().unwrap();
            let answer: Value = serde_json::from_str(&line).unwrap();
            // Events and the greeting come in between.
            if answer.get("return").is_some() || answer.get("error").is_some() {
                assert!(answer.get("error").is_none(), "{command}: {answer}");
                return answer["return"].clone();
            }
        }
    }
}

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
    let mut monitor = QemuMonitor {
        input: qemu.0.stdin.take().unwrap(),
        lines: BufReader::new(qemu.0.stdout.take().unwrap()).lines(),
    };
    booted(&serial);
    let agent = guest::agent(&[]);

    monitor.say(&json!({"execute": "qmp_capabilities"}));
    let capability = json!([{"capability": "background-snapshot", "state": true}]);
    monitor.say(
        &json!({"execute": "migrate-set-capabilities", "arguments": {"capabilities": capability}}),
    );
    let uri = format!("exec:cat > {}", snapshot.display());
    monitor.say(&json!({"execute": "migrate", "arguments": {"uri": uri}}));
    eventually("the snapshot is complete", || {
        let state = monitor.say(&json!({"execute": "query-migrate"}));
        let status = state["status"].as_str().unwrap_or_default().to_owned();
        assert_ne!(status, "failed", "{state}");
        (status == "completed").then_some(())
    });
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
