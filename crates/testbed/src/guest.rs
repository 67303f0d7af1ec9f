//! For tests in guests: an agent in a hurry, and comparing what it counts with a workload.

use std::time::{Duration, Instant};

use super::workload::{ExpectedSeries, SteppedRow};
use super::{AgentProcess, eventually, sum};

/// How long counters may take to reach the agent on an emulated machine that does nothing else.
const SOON: Duration = Duration::from_secs(30);

/// Whether this kernel has PREEMPT_RT: there what runs under a lock of page tables can be preempted,
/// and has no trampoline.
pub fn is_realtime() -> bool {
    let version = std::fs::read_to_string("/proc/version").unwrap_or_default();
    version.contains("PREEMPT_RT")
}

/// Starts an agent that discovers at once, keeps its series and has counters, and waits until it is
/// ready.
pub fn agent(args: &[&str]) -> AgentProcess {
    let agent = start(&[&["--linger", "1h", "--require-level", "partial"], args].concat());
    agent.wait_ready();
    agent
}

/// Starts an agent that discovers at once, and does not wait.
pub fn start(args: &[&str]) -> AgentProcess {
    const FAST: [&str; 4] = ["--discover-interval", "100ms", "--scan-budget", "0%"];
    AgentProcess::start(&[&FAST[..], args].concat())
}

/// Whether a series is a counter: gauges need a scan.
fn is_exact(sample: &ExpectedSeries) -> bool {
    sample.family.ends_with("_total")
}

/// Waits until all counters are as the workload foretells, and nothing else was counted.
pub fn wait_exact(agent: &AgentProcess, before: &str, workload: &SteppedRow) {
    let begin = Instant::now();
    loop {
        let after = agent.metrics();
        let wrong = differences(before, &after, workload);
        if wrong.is_empty() {
            return;
        }
        assert!(begin.elapsed() < SOON, "{wrong:#?}\n{after}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn differences(before: &str, after: &str, workload: &SteppedRow) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut faults = 0.0;
    let exact: Vec<_> = workload.expected.iter().filter(|s| is_exact(s)).collect();
    assert!(!exact.is_empty(), "{:?}", workload.expected);
    for sample in exact {
        let value = |exposition| sample.in_exposition(exposition).unwrap_or(0.0);
        let gained = value(after) - value(before);
        if gained != sample.value {
            let (selector, value) = (sample.selector(), sample.value);
            wrong.push(format!("{selector} gained {gained} instead of {value}"));
        }
        if sample.family == "uffdwp_faults_total" {
            faults += sample.value;
        }
    }
    let pid = format!("pid=\"{}\"", workload.pid());
    let all = |exposition| sum(exposition, "uffdwp_faults_total", &[&pid]).unwrap_or(0.0);
    let gained = all(after) - all(before);
    if gained != faults {
        wrong.push(format!("all faults are {gained} instead of {faults}"));
    }
    wrong
}

/// Waits until the sum of a family over some labels is `value`.
pub fn wait_sum(agent: &AgentProcess, family: &str, labels: &[&str], value: f64) {
    let what = format!("{family}{labels:?} is {value}");
    eventually(&what, || {
        (sum(&agent.metrics(), family, labels) == Some(value)).then_some(())
    });
}
