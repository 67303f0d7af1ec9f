//! Attached is not firing: the agent proves of each hook that it fires, says which does not, and
//! counts again when it does. Runs only in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use std::collections::BTreeSet;

use pages::strategy::StrategyName;
use serde_json::Value;
use testbed::script::{FACTS, SHMEM, ScriptProcess, refused, round};
use testbed::workload::SteppedRow;
use testbed::{AgentProcess, check_metrics, eventually, guest, sum};
use tracker::explain::{EventHub, ExplainOptions, TrackerObserver};
use tracker::probes::events::{EventOptions, EventProbes};

const FTRACE: &str = "/proc/sys/kernel/ftrace_enabled";
const KPROBES: &str = "/sys/kernel/debug/kprobes/enabled";
const QUICK: [&str; 4] = ["--self-test-interval", "200ms", "--require-level", "full"];
/// A row that runs on every kernel.
const ROW: &str = "anon-present-sync";

/// Whether the kernel lets it be switched off: 7.3 refuses that of ftrace.
fn can_switch(path: &str) -> bool {
    let refused = fs::write(path, "0").err();
    switch(path, true);
    let refused = refused.map(|error| error.raw_os_error());
    assert!(
        matches!(refused, None | Some(Some(libc::EOPNOTSUPP))),
        "{refused:?}"
    );
    refused.is_none()
}

fn switch(path: &str, on: bool) {
    fs::write(path, if on { "1" } else { "0" }).unwrap();
}

/// Waits until `/readyz` answers this, and returns its words.
fn wait_answer(agent: &AgentProcess, code: u16) -> String {
    eventually(&format!("/readyz answers {code}"), || {
        let (found, text) = agent.get("/readyz");
        (found == code).then_some(text)
    })
}

fn hooks_in(agent: &AgentProcess, key: &str, value: &str) -> Vec<Value> {
    let status = agent.status();
    let hooks = status["hooks"].as_array().unwrap().iter();
    hooks.filter(|hook| hook[key] == value).cloned().collect()
}

/// What `tracker check` says, which must be that the level is not full.
fn check_for_full() -> String {
    let mut check = Command::new("tracker");
    let output = check.args(["check", "--require-level", "full"]).output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    text
}

fn is_counted(agent: &AgentProcess) {
    let mut workload = SteppedRow::start(ROW, &[]).unwrap();
    let before = agent.metrics();
    workload.work();
    guest::wait_exact(agent, &before, &workload);
    check_metrics(&agent.metrics());
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn every_hook_proves_that_it_fires_and_the_agent_shows_nothing_of_it() {
    let agent = guest::start(&QUICK);
    wait_answer(&agent, 200);
    let unproven = hooks_in(&agent, "state", "not-proven");
    let unproven = unproven.iter().map(|hook| hook["name"].as_str().unwrap());
    for name in unproven {
        // Nothing that a process does makes these fire for sure.
        assert!(
            ["pte_free_defer", "task_vma", "mmdrop"].contains(&name),
            "{name}"
        );
    }
    let attached = hooks_in(&agent, "verdict", "attached").len();
    assert!(hooks_in(&agent, "state", "firing").len() >= attached - 3);
    // Several self-tests later.
    std::thread::sleep(Duration::from_secs(3));
    let metrics = agent.metrics();
    for family in [
        "uffdwp_node_faults_total",
        "uffdwp_node_markers_total",
        "uffdwp_vma_bytes",
    ] {
        assert_eq!(sum(&metrics, family, &[]).unwrap_or(0.0), 0.0, "{metrics}");
    }
    let took = ["collector=\"self_test\""];
    let took = sum(&metrics, "uffdwp_scrape_collector_duration_seconds", &took);
    println!("a self-test took {took:?} s");
    let tables = sum(&metrics, "uffdwp_node_page_tables_allocated_total", &[]);
    assert_eq!(tables, Some(0.0), "{metrics}");
    is_counted(&agent);
}

/// The kernel may give a process the mm of one whose end no hook saw, and then the first one counts
/// for the other (docs/hooks.md).
fn is_counted_again(agent: &AgentProcess) {
    let is_counted = || catch_unwind(AssertUnwindSafe(|| is_counted(agent))).is_ok();
    assert!((0..3).any(|_| is_counted()), "three processes in turn");
}

/// What is switched off while the agent runs is told, and counts again when it is back.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn hooks_that_are_switched_off_are_told_until_they_are_back() {
    let agent = guest::start(&QUICK);
    for (path, remedy) in [
        (FTRACE, "sysctl kernel.ftrace_enabled=1"),
        (KPROBES, "echo 1 > /sys/kernel/debug/kprobes/enabled"),
    ] {
        if !can_switch(path) {
            println!("{path} cannot be switched off");
            continue;
        }
        wait_answer(&agent, 200);
        switch(path, false);
        wait_answer(&agent, 503);
        let label = ["hook=\"handle_userfault\""];
        // The first test may have begun before.
        let metrics = eventually("the hook is silent", || {
            let metrics = agent.metrics();
            let firing = sum(&metrics, "uffdwp_probe_firing", &label);
            (firing == Some(0.0)).then_some(metrics)
        });
        let told = wait_answer(&agent, 503);
        // Once is enough: it takes as long as all the rest.
        let checked = (path == KPROBES).then(check_for_full);
        let (silent, advice) = (hooks_in(&agent, "state", "silent"), agent.status());
        switch(path, true);
        assert!(told.contains(remedy), "{told}");
        assert!(checked.is_none_or(|text| text.contains(remedy)));
        assert!(!silent.is_empty());
        assert!(advice["advice"].to_string().contains(remedy), "{advice:#}");
        // What stands still is not shown as if it counted.
        let sync = ["mode=\"sync\"", "entry=\"pte\""];
        assert_eq!(
            sum(&metrics, "uffdwp_node_faults_total", &sync),
            None,
            "{metrics}"
        );
        wait_answer(&agent, 200);
        is_counted_again(&agent);
    }
    let log = agent.log();
    assert!(
        log.contains("it does not fire") && log.contains("it fires again"),
        "{log}"
    );
}

/// What is switched off when the agent starts is not attached, and is when it is back.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn hooks_that_are_switched_off_at_the_start_are_attached_when_they_are_back() {
    for path in [FTRACE, KPROBES]
        .into_iter()
        .filter(|path| can_switch(path))
    {
        switch(path, false);
        let agent = guest::start(&QUICK);
        let told = wait_answer(&agent, 503);
        let level = agent.status()["level"]["level"].to_string();
        switch(path, true);
        assert!(told.contains("switched off"), "{told}");
        assert_ne!(level, "\"full\"");
        wait_answer(&agent, 200);
        is_counted_again(&agent);
    }
}

/// What the strategy `fault-time` is not told while its hooks do not fire, it reports as written.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn what_fault_time_is_not_told_is_reported_as_written() {
    const PAGES: u64 = 64;
    if let Some(why) = refused(StrategyName::FaultTime, SHMEM) {
        return eprintln!("skipped: {why}");
    }
    for path in [FTRACE, KPROBES] {
        if !can_switch(path) {
            println!("{path} cannot be switched off");
            continue;
        }
        let mut script = ScriptProcess::start();
        let (number, area) = script.map(SHMEM, PAGES);
        // The file has its pages; they are mapped by reads that are seen.
        script.tell(&format!("store {number} 1 1 0-63"));
        script.tell(&format!("zap {number} 0-63"));
        let mut strategy = script.track(StrategyName::FaultTime);
        strategy.arm(&area).unwrap();
        strategy.end_round().unwrap();
        script.tell(&format!("load {number} 0-63"));
        assert_eq!(round(&mut *strategy, &area), BTreeSet::new());
        switch(path, false);
        // Only a hook at the write tells that they were not only read.
        script.tell(&format!("store {number} 2 1 7"));
        let all: BTreeSet<u64> = (0..PAGES).collect();
        let blind = [0, 1].map(|_| round(&mut *strategy, &area));
        switch(path, true);
        assert_eq!(blind, [all.clone(), all], "{path}");
        eventually("it sees again", || {
            round(&mut *strategy, &area).is_empty().then_some(())
        });
        script.tell(&format!("store {number} 3 1 9"));
        assert_eq!(round(&mut *strategy, &area), BTreeSet::from([9]));
        strategy.release().unwrap();
    }
}

/// The hooks whose events are explained prove at times that they fire, too.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn hooks_of_events_that_fall_silent_are_told_until_they_are_back() {
    if !can_switch(FTRACE) {
        return println!("{FTRACE} cannot be switched off");
    }
    let events = EventProbes::attach(&EventOptions::default());
    let hub = EventHub::with_self_test(events, 1 << 16, Duration::from_millis(100)).unwrap();
    // The hooks are made to fire as long as somebody listens.
    let script = ScriptProcess::start();
    let options = ExplainOptions {
        track: testbed::session::options(StrategyName::Sync),
        content_limit: 1 << 30,
        page: None,
        against: None,
        freeze: false,
        findings: None,
    };
    let _observer = TrackerObserver::begin(script.pid(), &FACTS, Some(&hub), &options).unwrap();
    assert!(hub.silent().is_empty(), "{:?}", hub.silent());
    switch(FTRACE, false);
    eventually("hooks are silent", || {
        (!hub.silent().is_empty()).then_some(())
    });
    switch(FTRACE, true);
    eventually("they fire again", || hub.silent().is_empty().then_some(()));
}
