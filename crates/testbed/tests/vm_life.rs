//! The agent's life and its bad days, on a kernel whose functions can be hooked: it is killed, it
//! is not alone, its tables are full, and what it observes starts earlier or goes away. Runs only
//! in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pages::strategy::StrategyName;
use rustix::process::Signal;
use testbed::script::{ANON, ScriptProcess, refused};
use testbed::workload::SteppedRow;
use testbed::{AgentProcess, check_metrics, eventually, guest, sum};
use tracker::probes::fault_time::FaultTimeProbes;
use uffd::{PAGE_SIZE, UffdFeatures};

/// What the kernel holds for BPF and tracing: programs, maps and links by id, functions with a
/// probe, and kprobes.
#[derive(Debug, PartialEq)]
struct HeldObjects {
    programs: Vec<u32>,
    maps: Vec<u32>,
    links: Vec<u32>,
    traced: Vec<String>,
    kprobes: Vec<String>,
}

impl HeldObjects {
    fn now() -> Self {
        let lines = |path| {
            let text = fs::read_to_string(path).unwrap();
            text.lines().map(str::to_owned).collect()
        };
        let programs = aya::programs::loaded_programs();
        let links = aya::programs::loaded_links();
        Self {
            programs: programs.filter_map(|one| Some(one.ok()?.id())).collect(),
            maps: aya::maps::loaded_maps()
                .filter_map(|one| Some(one.ok()?.id()))
                .collect(),
            links: links.filter_map(|one| Some(one.ok()?.id())).collect(),
            traced: lines("/sys/kernel/tracing/enabled_functions"),
            kprobes: lines("/sys/kernel/debug/kprobes/list"),
        }
    }

    fn sizes(&self) -> [usize; 5] {
        let Self {
            programs,
            maps,
            links,
            traced,
            kprobes,
        } = self;
        [
            programs.len(),
            maps.len(),
            links.len(),
            traced.len(),
            kprobes.len(),
        ]
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn nothing_is_left_in_the_kernel_however_it_ends() {
    let before = HeldObjects::now();
    for signal in [Signal::KILL, Signal::TERM] {
        let mut agent = guest::agent(&[]);
        let during = HeldObjects::now();
        let more = |(now, then): (usize, usize)| now > then;
        assert!(
            during.sizes().into_iter().zip(before.sizes()).all(more),
            "an agent at work shows: {during:?}"
        );
        let status = agent.end(signal);
        assert_eq!(status.success(), signal == Signal::TERM, "{status:?}");
        // The kernel frees programs and trampolines one grace period later.
        eventually(&format!("the kernel is as before: {before:?}"), || {
            (HeldObjects::now() == before).then_some(())
        });
    }
}

/// The verifier refuses a program after a million verified instructions
/// (`BPF_COMPLEXITY_LIMIT_INSNS`). How many it verifies differs by kernel, and by where `vmlinux`
/// has its fields. The next kernel needs room.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn the_verifier_has_room() {
    const MOST: u32 = 250_000;
    let _agent = guest::agent(&["--explain", "comm:sleep"]);
    let fault_time = FaultTimeProbes::attached();
    if let Err(why) = &fault_time {
        let kernel = uffd::self_test().unwrap();
        assert!(!kernel.features.contains(UffdFeatures::WP_ASYNC), "{why}");
    }
    let mut all: Vec<(u32, String)> = aya::programs::loaded_programs()
        .map(|program| {
            let program = program.unwrap();
            let name = program.name_as_str().unwrap_or_default().to_owned();
            (program.verified_instruction_count().unwrap(), name)
        })
        .collect();
    all.sort_unstable_by(|a, b| b.cmp(a));
    eprintln!("{:?}", &all[..all.len().min(5)]);
    assert!(all.len() > 20, "the hooks are loaded: {all:?}");
    assert!(all[0].0 < MOST, "{:?}", all[0]);
}

/// Rows, of which at least the first runs on every kernel.
const ROWS: [&str; 3] = [
    "anon-present-sync",
    "anon-marker-write-async",
    "munmap-async",
];

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn two_agents_at_once_both_count_exactly() {
    let agents = [guest::agent(&[]), guest::agent(&[])];
    for row in ROWS {
        let Some(mut workload) = SteppedRow::start(row, &[]) else {
            continue;
        };
        let before = agents.each_ref().map(AgentProcess::metrics);
        workload.work();
        for (agent, before) in agents.iter().zip(&before) {
            guest::wait_exact(agent, before, &workload);
        }
    }
}

/// The workload starts before the agent, and first uses userfaultfd after it.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn the_first_use_after_the_start_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let facts = directory.path().join("facts.json");
    testbed::workload::write_facts(&facts);
    for row in ["anon-present-sync", "anon-marker-write-async"] {
        let args = ["--wait-for-newline", "--facts", facts.to_str().unwrap()];
        let waiting = SteppedRow::waiting(row, &args);
        let agent = guest::agent(&[]);
        let before = agent.metrics();
        let Some(mut workload) = waiting.begin() else {
            continue;
        };
        workload.work();
        guest::wait_exact(&agent, &before, &workload);
    }
}

/// Puts the clock back by an hour, and at the end where it would be.
struct SteppedClock;

impl SteppedClock {
    fn back() -> Self {
        Self::step(-3600);
        Self
    }

    fn step(seconds: i64) {
        let clock = rustix::time::ClockId::Realtime;
        let mut now = rustix::time::clock_gettime(clock);
        now.tv_sec += seconds;
        rustix::time::clock_settime(clock, now).unwrap();
    }
}

impl Drop for SteppedClock {
    fn drop(&mut self) {
        Self::step(3600);
    }
}

#[test]
#[ignore = "needs a guest, whose clock may be put back: cargo xtask test"]
fn when_it_started_does_not_follow_steps_of_the_clock() {
    let agent = guest::agent(&[]);
    let started = || sum(&agent.metrics(), "process_start_time_seconds", &[]).unwrap();
    let before = started();
    let _stepped = SteppedClock::back();
    assert_eq!(started(), before);
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn the_programs_speak_at_level_debug_only() {
    for (level, speaks) in [("info", false), ("debug", true)] {
        let agent = guest::agent(&["--log.level", level]);
        assert_eq!(agent.status()["level"]["level"], "full", "{}", agent.log());
        let refused: Vec<_> = agent.status()["hooks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|hook| hook["verdict"] == "attached" && hook["reason"] != "first choice")
            .cloned()
            .collect();
        assert_eq!(
            refused,
            Vec::<serde_json::Value>::new(),
            "a line must not cost a hook its mechanism"
        );
        let before = agent.metrics();
        let mut workload = SteppedRow::start("anon-present-sync", &[]).unwrap();
        workload.work();
        guest::wait_exact(&agent, &before, &workload);
        if speaks {
            eventually("a line of the programs", || {
                agent.log().contains("VMA record").then_some(())
            });
        }
        assert_eq!(
            agent.log().contains("target=tracker_ebpf"),
            speaks,
            "{}",
            agent.log()
        );
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn full_tables_are_told_and_lose_no_total() {
    const VMAS: f64 = 100.0;
    let agent = guest::agent(&["--vma-records", "16", "--max-vmas", "1000"]);
    let mut workload = SteppedRow::start("many-vmas-sync", &["--pages", "100"]).unwrap();
    let before = agent.metrics();
    workload.work();
    let node = ["mode=\"sync\"", "entry=\"pte\""];
    guest::wait_sum(&agent, "uffdwp_node_faults_total", &node, VMAS);
    let after = agent.metrics();
    let gained = |family: &str, labels: &[&str]| {
        sum(&after, family, labels).unwrap() - sum(&before, family, labels).unwrap_or(0.0)
    };

    // Each fault is somewhere: with its VMA, or with what found no room.
    assert_eq!(gained("uffdwp_faults_total", &node), VMAS);
    let own = format!("pid=\"{}\"", workload.pid());
    let with_vma = gained("uffdwp_faults_total", &[&own, "vma=\"0x"]);
    assert!((1.0..=16.0).contains(&with_vma), "{with_vma}\n{after}");

    let outcome = |name: &str| {
        let label = format!("outcome=\"{name}\"");
        gained("uffdwp_probe_events_total", &[&label])
    };
    let outcomes = ["counted", "process_only", "unattributed"].map(outcome);
    let totals = [
        "uffdwp_node_faults_total",
        "uffdwp_node_markers_total",
        "uffdwp_node_page_tables_allocated_total",
    ];
    let totals: f64 = totals.iter().map(|family| gained(family, &[])).sum();
    assert_eq!(
        outcomes.iter().sum::<f64>(),
        totals,
        "{outcomes:?}\n{after}"
    );
    assert!(outcomes[2] >= VMAS - 16.0, "{outcomes:?}\n{after}");

    let map = |family: &str| sum(&after, family, &["map=\"vma_records\""]);
    assert_eq!(map("uffdwp_map_capacity"), Some(16.0));
    // VMAs that were split are gone, and their records are free again.
    let entries = map("uffdwp_map_entries").unwrap();
    assert!((1.0..=16.0).contains(&entries), "{entries}\n{after}");
    let full = gained("uffdwp_record_failures_total", &["vma_records_full"]);
    assert!(full >= VMAS - 16.0, "{full}");
    check_metrics(&after);
}

/// Every total of the node, and what became of the events.
fn totals(exposition: &str) -> BTreeMap<String, f64> {
    let total = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let wanted = ["uffdwp_node_", "uffdwp_probe_events_total"];
        let is_total = wanted.iter().any(|start| series.starts_with(start));
        is_total.then(|| (series.to_owned(), value.parse().unwrap()))
    };
    exposition.lines().filter_map(total).collect()
}

/// Scrapes until told to end; returns each total that went down or away.
fn watch(address: &str, end: &AtomicBool) -> Vec<String> {
    let (mut last, mut fallen) = (BTreeMap::new(), Vec::new());
    while !end.load(Ordering::Relaxed) {
        let now = totals(&testbed::get(address, "/metrics").1);
        for (series, then) in &last {
            if now.get(series).is_none_or(|now| now < then) {
                fallen.push(format!("{series} from {then} to {:?}", now.get(series)));
            }
        }
        last = now;
        std::thread::sleep(Duration::from_millis(30));
    }
    fallen
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn totals_stay_when_processes_go() {
    // Series go at once, but totals may not.
    let agent = guest::start(&["--linger", "100ms", "--require-level", "partial"]);
    agent.wait_ready();
    let end = AtomicBool::new(false);
    let fallen = std::thread::scope(|scope| {
        let watched = scope.spawn(|| watch(&agent.address, &end));
        let mut known = 0.0;
        for row in ROWS.into_iter().cycle().take(6) {
            let Some(mut workload) = SteppedRow::start(row, &[]) else {
                continue;
            };
            workload.work();
            let faults = workload.expected.iter();
            let faults = faults.filter(|sample| sample.family == "uffdwp_faults_total");
            known += faults.map(|sample| sample.value).sum::<f64>();
        }
        guest::wait_sum(&agent, "uffdwp_node_faults_total", &[], known);
        for _ in 0..4 {
            // Killed while at work, with its counters full.
            let mut workload = SteppedRow::start("threads-sync", &["--rounds", "1000000"]).unwrap();
            workload.go();
            let more = || sum(&agent.metrics(), "uffdwp_node_faults_total", &[]).unwrap();
            eventually("it is counted", || (more() > known).then_some(()));
            drop(workload);
            known = more();
        }
        // This takes longer than series linger.
        eventually("series go", || {
            (sum(
                &agent.metrics(),
                "uffdwp_faults_total",
                &["pid=\"", "vma=\"0x"],
            )
            .is_none())
            .then_some(())
        });
        end.store(true, Ordering::Relaxed);
        watched.join().unwrap()
    });
    assert!(fallen.is_empty(), "{fallen:#?}");
    check_metrics(&agent.metrics());
}

/// Without page tables for what nobody touches, and what is zapped is reported all the same.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn processes_are_tracked_by_their_faults_if_that_is_asked_for() {
    const PAGES: u64 = 64;
    let mut script = ScriptProcess::start();
    // A page table for each 2 MiB of it would be 1 MiB.
    let (number, area) = script.map(ANON, (512 << 20) / PAGE_SIZE);
    let tables = || uffd::page_table_bytes(script.pid()).unwrap().unwrap();
    let tables_before = tables();
    let selector = format!("pid:{}", script.pid());
    let asked = ["--track", &selector, "--track-strategy", "fault-time"];
    let quick = ["--track-budget", "100%", "--track-interval", "50ms"];
    let agent = guest::agent(&[&asked[..], &quick].concat());
    if let Some(why) = refused(StrategyName::FaultTime, ANON) {
        eprintln!("skipped: {why}");
        assert!(agent.log().contains("fault-time does not work here"));
        return;
    }
    let of_script = format!("pid=\"{}\"", script.pid());
    let value = |family| sum(&agent.metrics(), family, &[&of_script]);
    let rounds = || value("uffdwp_rounds_total").unwrap_or(0.0);
    eventually("it is tracked", || (rounds() >= 1.0).then_some(()));
    let info = ["strategy=\"fault-time\"", &of_script];
    assert_eq!(sum(&agent.metrics(), "uffdwp_track_info", &info), Some(1.0));
    assert!(tables() < tables_before + (256 << 10));
    let pages = format!("0-{}", PAGES - 1);
    for line in [
        format!("store {number} 7 1 {pages}"),
        format!("zap {number} {pages}"),
    ] {
        let before = value("uffdwp_written_pages_total").unwrap();
        script.tell(&line);
        eventually(&format!("what it did ({line}) is reported"), || {
            let written = value("uffdwp_written_pages_total")? - before;
            (written >= PAGES as f64).then_some(())
        });
    }
    let doubtful = value("uffdwp_in_doubt_pages_total").unwrap();
    assert!(doubtful < area.pages() as f64, "{doubtful}");
}
