//! Every row of the example workload at level observe: what needs no probe must be exact.
//!
//! The table of rows is the oracle; each row's memory is held while the agent looks at it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::time::{Duration, Instant};
use support::workload::{Expected, Workload, rows};
use support::{Agent, check_metrics};

/// Families that are there without probes.
const OBSERVED: [&str; 2] = ["uffdwp_pages", "uffdwp_vma_bytes"];

/// Discovery and scan take turns of 50 ms; a busy machine takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is not as expected, in words.
fn differences(exposition: &str, expected: &[&Expected]) -> Vec<String> {
    let told = |e: &&&Expected| e.in_exposition(exposition) != Some(e.value);
    let say = |e: &&Expected| {
        format!(
            "{}: {:?} instead of {}",
            e.selector(),
            e.in_exposition(exposition),
            e.value
        )
    };
    expected.iter().filter(told).map(say).collect()
}

/// Waits until all is as expected; else what is not.
fn watch(agent: &Agent, expected: &[&Expected]) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let exposition = agent.metrics();
        let different = differences(&exposition, expected);
        if different.is_empty() || begin.elapsed() > PATIENCE {
            return different;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn pages_of_every_row_are_exact() {
    let fast = ["--discover-interval", "50ms", "--scan-interval", "50ms"];
    let agent = Agent::start(&[&fast[..], &["--scan-budget", "50%", "--linger", "1s"]].concat());
    agent.wait_ready();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for row in rows() {
        let Some(workload) = Workload::run(&row) else {
            continue;
        };
        let known = |e: &&Expected| OBSERVED.contains(&e.family.as_str());
        let expected: Vec<_> = workload.expected.iter().filter(known).collect();
        checked += expected.len();
        wrong.extend(
            watch(&agent, &expected)
                .into_iter()
                .map(|what| format!("{row}: {what}")),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 40, "only {checked} series were checked");
    check_metrics(&agent.metrics());
}
