//! Less than root, and fewer file systems, where every hook could be attached: what the unit in
//! `deploy/` grants suffices, and what is missing is named. Runs only in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::Command;

use rustix::thread::CapabilitySet;
use serde_json::Value;
use testbed::privileges::{as_nobody_with, capabilities};
use testbed::workload::SteppedRow;
use testbed::{AgentProcess, agent, guest};

const UNIT: &str = include_str!("../../../deploy/tracker.service");

/// The capabilities that the unit keeps.
fn of_the_unit() -> Vec<&'static str> {
    let setting = |line: &'static str| line.strip_prefix("AmbientCapabilities=");
    let value = UNIT.lines().find_map(setting).unwrap();
    value.split(' ').collect()
}

/// The report of `tracker check`, which sees processes.
fn check(command: Command) -> Value {
    checked(command, 0)
}

/// The report of `tracker check`, which ends with this status.
fn checked(mut command: Command, status: i32) -> Value {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn tracker_check() -> Command {
    let mut command = Command::new("tracker");
    command.args(["check", "--json"]);
    command
}

/// Each hook with its mechanism.
fn hooks(report: &Value) -> Vec<(&Value, &Value)> {
    let hooks = report["hooks"].as_array().unwrap().iter();
    hooks
        .map(|hook| (&hook["name"], &hook["mechanism"]))
        .collect()
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn the_units_capabilities_reach_what_root_reaches() {
    let root = check(tracker_check());
    let unit = check(as_nobody_with(
        tracker_check(),
        capabilities(&of_the_unit()),
    ));
    assert_ne!(root["level"], "observe", "{root:#}");
    assert_eq!(unit["level"], root["level"], "{unit:#}");
    assert_eq!(hooks(&unit), hooks(&root));
    assert_eq!(unit["advice"].as_array().map(Vec::len), Some(0), "{unit:#}");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn the_units_agent_counts_a_process_of_root() {
    let mut command = agent(&["--discover-interval", "100ms", "--require-level", "partial"]);
    command.env("TMPDIR", "/tmp");
    let agent = AgentProcess::spawn(as_nobody_with(command, capabilities(&of_the_unit())));
    agent.wait_ready();
    let mut workload = SteppedRow::start("anon-present-sync", &[]).unwrap();
    let before = agent.metrics();
    workload.work();
    guest::wait_exact(&agent, &before, &workload);
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn each_missing_capability_is_named() {
    let unit = of_the_unit();
    let named = |report: &Value| report["advice"].to_string();
    // It may look into no process that uses userfaultfd: it is blind.
    let none = as_nobody_with(tracker_check(), CapabilitySet::empty());
    let none = checked(none, 3);
    assert_eq!(none["level"], "observe", "{none:#}");
    for name in &unit {
        assert!(named(&none).contains(name), "{name}: {}", named(&none));
    }
    // CAP_SYS_ADMIN implies both (bpf_capable, perfmon_capable), so it goes too.
    for missing in ["CAP_BPF", "CAP_PERFMON"] {
        let without = [missing, "CAP_SYS_ADMIN"];
        let kept: Vec<_> = unit
            .iter()
            .copied()
            .filter(|one| !without.contains(one))
            .collect();
        let report = check(as_nobody_with(tracker_check(), capabilities(&kept)));
        assert_eq!(report["level"], "observe", "without {missing}: {report:#}");
        for name in &unit {
            let named = named(&report).contains(name);
            assert_eq!(named, without.contains(name), "{name}: {report:#}");
        }
    }
}

/// None of these file systems is needed: links are file descriptors, and BTF tells what can be
/// traced.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn without_bpffs_and_tracefs_everything_is_counted() {
    const UNMOUNT: &str = "umount -l /sys/fs/bpf /sys/kernel/tracing /sys/kernel/debug || exit 9; \
                           exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", UNMOUNT, "tracker", "agent", "--listen"]);
    command.args(["127.0.0.1:0", "--discover-interval", "100ms"]);
    command.args(["--require-level", "partial"]);
    command.env("TRACKER_VMA_LABEL", "address");
    let agent = AgentProcess::spawn(command);
    agent.wait_ready();
    let mut workload = SteppedRow::start("anon-present-sync", &[]).unwrap();
    let before = agent.metrics();
    workload.work();
    guest::wait_exact(&agent, &before, &workload);
}
