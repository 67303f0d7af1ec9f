//! Under the kernel's own uffd-stress, whose threads fault and resolve the same pages as fast as
//! they can, every call is counted, or told as missed: by the kernel's tracer, which shares no code
//! with the agent's programs. Runs only in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::Command;

use serde_json::Value;
use testbed::tracer::{FunctionTracer, TracerProbe};
use testbed::{AgentProcess, eventually, guest, program, sum};

const PROBES: [TracerProbe; 2] = [TracerProbe::MESSAGE, TracerProbe::ARM];

/// A series, the probe with as many hits, and the hooks whose missed calls it lacks.
struct StressClaim {
    series: (&'static str, &'static [&'static str]),
    probe: &'static str,
    hooks: &'static [&'static str],
}

const CLAIMS: [StressClaim; 3] = [
    StressClaim {
        series: (
            "uffdwp_node_faults_total",
            &["mode=\"sync\"", "entry=\"pte\""],
        ),
        probe: TracerProbe::MESSAGE.name,
        hooks: &["handle_userfault"],
    },
    StressClaim {
        series: ("uffdwp_fault_wait_seconds_count", &[]),
        probe: TracerProbe::MESSAGE.name,
        hooks: &["handle_userfault", "handle_userfault_exit"],
    },
    StressClaim {
        series: ("uffdwp_arm_seconds_count", &[]),
        probe: TracerProbe::ARM.name,
        hooks: &["userfaultfd_ioctl", "userfaultfd_ioctl_exit"],
    },
];

/// Write-protect faults that uffd-stress says it handled: `… 12 wp (6+6) …`, or `12 wp` alone, in
/// each of its lines.
fn handled(output: &str) -> f64 {
    let words: Vec<_> = output.split_whitespace().collect();
    let before = |pair: &[&str]| {
        let number = pair[0].parse::<f64>().ok();
        number.filter(|_| pair[1] == "wp")
    };
    words.windows(2).filter_map(before).sum()
}

fn missed(exposition: &str, hook: &str) -> f64 {
    let label = format!("hook=\"{hook}\"");
    sum(exposition, "uffdwp_probe_missed_total", &[&label]).unwrap_or(0.0)
}

/// Runs uffd-stress once; fails if a call is neither counted nor told.
fn stress(agent: &AgentProcess, memory: &str) {
    let tracer = FunctionTracer::start(&PROBES, None);
    let before = agent.metrics();
    let output = Command::new("uffd-stress")
        .args([memory, "16", "4"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{trouble}");
    let handled = handled(&said);
    assert!(handled > 0.0, "uffd-stress handled nothing:\n{said}");
    assert_eq!(tracer.missed(), 0, "the tracer itself missed calls");
    println!("uffd-stress {memory}: it handled {handled} write-protect faults");
    for claim in &CLAIMS {
        let (family, labels) = claim.series;
        let hits = tracer.hits(claim.probe).unwrap();
        assert!(hits > 0.0, "{family} was not tested");
        // The agent asks the kernel what was missed now and then.
        eventually(&format!("{hits} of {family} are counted or told"), || {
            let after = agent.metrics();
            let gained = |value: &dyn Fn(&str) -> f64| value(&after) - value(&before);
            let counted = gained(&|text| sum(text, family, labels).unwrap_or(0.0));
            let hooks = claim.hooks.iter();
            let told: f64 = hooks.map(|hook| gained(&|text| missed(text, hook))).sum();
            println!("    {family}: the tracer {hits}, the agent {counted}, told as missed {told}");
            assert!(counted <= hits, "{counted} of {hits}");
            // A call may miss the hook at its begin and that at its end.
            (counted + told >= hits).then_some(())
        });
    }
    // Not each is handled: a page may be resolved before its message is read.
    let faults = tracer.hits(TracerProbe::MESSAGE.name).unwrap();
    assert!(faults >= handled, "{faults} of {handled}");
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn each_call_is_counted_or_told_as_missed() {
    let agent = guest::agent(&[]);
    for memory in ["anon", "shmem"] {
        stress(&agent, memory);
    }
    // And with that it is still as ready as before.
    agent.wait_ready();
}

/// What one `tracker check` says: how many exits of userfaultfd_ioctl it saw missed, and whether
/// arm times are exact.
fn checked() -> (u64, bool) {
    let mut command = Command::new(program("tracker"));
    let output = command.args(["check", "--json"]).output().unwrap();
    let check: Value = serde_json::from_slice(&output.stdout).unwrap();
    let find = |list: &Value, is_it: &dyn Fn(&Value) -> bool| {
        let mut entries = list.as_array().unwrap().iter();
        entries.find(|entry| is_it(entry)).unwrap().clone()
    };
    let hook = find(&check["hooks"], &|hook| {
        hook["name"] == "userfaultfd_ioctl_exit"
    });
    let count = find(&check["counts"], &|count| count["part"] == "arm time");
    (
        hook["missed"].as_u64().unwrap(),
        count["exactness"] == "exact",
    )
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn check_calls_no_arm_time_exact_where_it_saw_an_exit_missed() {
    let checks: Vec<_> = (0..3).map(|_| checked()).collect();
    println!("missed exits, and whether arm times are exact: {checks:?}");
    for (missed, is_exact) in &checks {
        assert_eq!(*is_exact, *missed == 0, "{checks:?}");
    }
    // There a thread can be preempted in a program, and the crowd of the check finds that out.
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    if release.starts_with("7.") {
        assert!(checks.iter().any(|(missed, _)| *missed > 0), "{checks:?}");
    }
}
