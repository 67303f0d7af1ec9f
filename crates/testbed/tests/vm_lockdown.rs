//! A kernel that is locked down to confidentiality lets nobody read its memory: the agent uses what
//! is left, and says what would help. Runs only in guests booted with `lockdown=confidentiality`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::Command;

use testbed::workload::SteppedRow;
use testbed::{check_metrics, eventually, guest, sum};

#[test]
#[ignore = "needs a kernel booted with lockdown=confidentiality: cargo xtask test"]
fn a_locked_down_kernel_is_observed_and_told() {
    let mount = ["-t", "securityfs", "security", "/sys/kernel/security"];
    assert!(
        Command::new("mount")
            .args(mount)
            .status()
            .unwrap()
            .success()
    );
    let agent = guest::start(&[]);
    agent.wait_ready();
    let status = agent.status();
    // What reads no kernel memory is still attached: how long a scan takes.
    assert_ne!(status["level"]["level"], "full", "{status:#}");
    // The program of this hook reads the fault, so the kernel refuses to load it.
    let hooks = status["hooks"].as_array().unwrap();
    let absent = hooks.iter().find(|hook| hook["name"] == "do_wp_page");
    let reason = absent.unwrap()["reason"].to_string();
    assert!(
        reason.contains("refuses programs that read kernel memory"),
        "{reason}"
    );
    let advice = status["advice"].to_string();
    assert!(advice.contains("lockdown=integrity"), "{advice}");

    // Discovery needs no hook.
    let mut workload = SteppedRow::start("anon-present-sync", &[]).unwrap();
    workload.work();
    let pid = format!("pid=\"{}\"", workload.pid());
    eventually("the workload is seen", || {
        sum(&agent.metrics(), "uffdwp_vma_bytes", &[&pid])
    });
    check_metrics(&agent.metrics());
}
