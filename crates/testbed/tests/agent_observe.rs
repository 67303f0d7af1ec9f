//! Every row of the example workload at level observe: what needs no probe must be exact.
//!
//! The rows are the oracle; each holds its memory while the agent looks at it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::{Duration, Instant};
use testbed::workload::{ExpectedSeries, HeldRow, rows};
use testbed::{AgentProcess, check_metrics, crowd, eventually, sum};
use uffd::{
    PAGE_SIZE, PageRegion, Pagemap, RegisterMode, ScanQuery, ScratchMapping, UffdFeatures,
    Userfaultfd,
};

/// Families that exist without probes.
const OBSERVED: [&str; 2] = ["uffdwp_pages", "uffdwp_vma_bytes"];

/// Discovery and scan take turns of 50 ms. On a busy machine the smaps route reads each new process
/// and then rests, to stay within its share of a core.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is not as expected, in words.
fn differences(exposition: &str, expected: &[&ExpectedSeries]) -> Vec<String> {
    let told = |e: &&&ExpectedSeries| e.in_exposition(exposition) != Some(e.value);
    let say = |e: &&ExpectedSeries| {
        format!(
            "{}: {:?} instead of {}",
            e.selector(),
            e.in_exposition(exposition),
            e.value
        )
    };
    expected.iter().filter(told).map(say).collect()
}

/// Waits until everything is as expected; returns what is not.
fn watch(agent: &AgentProcess, expected: &[&ExpectedSeries]) -> Vec<String> {
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

/// An agent in a hurry that discovers by this route.
fn start(route: &[&str]) -> AgentProcess {
    let fast = ["--discover-interval", "50ms", "--scan-interval", "50ms"];
    let agent = AgentProcess::start(
        &[
            &fast[..],
            &["--scan-budget", "50%", "--max-processes", "1000"],
            route,
        ]
        .concat(),
    );
    agent.wait_ready();
    agent
}

#[test]
fn pages_of_every_row_are_exact_by_both_routes() {
    let agents = [start(&[]), start(&["--no-hook", "task_vma"])];
    assert_eq!(agents[1].status()["discovery"]["route"], "smaps");
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for row in rows() {
        let Some(workload) = HeldRow::run(&row) else {
            continue;
        };
        let known = |e: &&ExpectedSeries| OBSERVED.contains(&e.family.as_str());
        let expected: Vec<_> = workload.expected.iter().filter(known).collect();
        for (agent, route) in agents.iter().zip(["default", "smaps"]) {
            checked += expected.len();
            let different = watch(agent, &expected);
            wrong.extend(
                different
                    .iter()
                    .map(|what| format!("{row}, {route}: {what}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(checked > 80, "only {checked} series were checked");
    agents
        .iter()
        .for_each(|agent| check_metrics(&agent.metrics()));
}

/// They never run, so the agent passes most of its scans over.
#[test]
fn what_others_do_to_processes_that_sleep_is_seen_too() {
    const PAGES: f64 = 2.0 * 4.0;
    let crowd = crowd(&["--processes", "3", "--vmas", "2"]);
    let agent = start(&[]);
    let members = uffd::pids_of(b"uffdwp-workload").unwrap();
    let members = members.into_iter().filter(|pid| {
        let parent = uffd::stat(*pid).map(|stat| stat.parent);
        parent.is_ok_and(|parent| parent == crowd.0.id())
    });
    let members: Vec<_> = members.collect();
    assert_eq!(members.len(), 3);
    let told = |pid: u32, state: &str| {
        let labels = [format!("pid=\"{pid}\""), format!("state=\"{state}\"")];
        sum(
            &agent.metrics(),
            "uffdwp_pages",
            &labels.each_ref().map(String::as_str),
        )
    };
    for pid in &members {
        eventually("all is written", || {
            (told(*pid, "written") == Some(PAGES)).then_some(())
        });
    }
    for pid in &members {
        let pagemap = Pagemap::open(*pid).unwrap();
        let vmas = uffd::smaps(*pid).unwrap().map(Result::unwrap);
        for vma in vmas.filter(|vma| vma.flags.uffd_wp()) {
            let mut regions = [PageRegion::default(); 4];
            let range = vma.start..vma.end;
            pagemap
                .scan_once(&range, &ScanQuery::WRITTEN_AND_ARM, &mut regions)
                .unwrap();
        }
        eventually("all is armed, from outside", || {
            (told(*pid, "armed") == Some(PAGES)).then_some(())
        });
    }
}

/// 20,000 VMAs: a pass takes many times the CPU time after which the scan rests.
#[test]
fn the_scan_keeps_to_its_budget() {
    const VMAS: u64 = 20_000;
    let scratch = ScratchMapping::anonymous(2 * VMAS * PAGE_SIZE).unwrap();
    let fd = Userfaultfd::open_user_mode_only().unwrap();
    fd.enable(UffdFeatures::default()).unwrap();
    let first = scratch.range().start;
    for start in (0..VMAS).map(|vma| first + 2 * vma * PAGE_SIZE) {
        fd.register(&(start..start + PAGE_SIZE), RegisterMode::WP)
            .unwrap();
    }
    let agent = AgentProcess::start(&["--scan-budget", "5%", "--scan-interval", "1ms"]);
    let (cpu, wall) = eventually("a whole pass is done", || {
        let state = &agent.status()["scan"]["state"];
        let cpu = state["last_pass_cpu_seconds"].as_f64()?;
        // The first passes, before discovery, find nothing.
        (cpu > 0.01).then_some((cpu, state["last_pass_seconds"].as_f64()?))
    });
    // The rest after a step makes up for its excess, except after the last step.
    assert!(cpu / wall < 0.07, "{cpu} s of CPU in {wall} s");
}
