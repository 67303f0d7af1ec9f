//! Exactness: every row of the example workload is compared with what the agent exports, to the
//! unit, on a kernel whose functions can be hooked. Runs only in guests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use testbed::guest::is_realtime;
use testbed::workload::{ExpectedSeries, SteppedRow, rows};
use testbed::{AgentProcess, check_metrics, eventually, sum};
use tracker::kernel::btf::KernelBtf;

/// Scan and discovery take turns of 50 ms; an emulated machine takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Families that are exact, and so must be zero where nothing is expected.
const EVENTS: [&str; 2] = ["uffdwp_faults_total", "uffdwp_markers_total"];

fn agent(args: &[&str]) -> AgentProcess {
    let fast = [
        "--discover-interval",
        "100ms",
        "--scan-interval",
        "100ms",
        "--scan-budget",
        "50%",
    ];
    let agent = AgentProcess::start(
        &[
            &fast[..],
            &[
                "--max-processes",
                "1000",
                "--linger",
                "1h",
                "--require-level",
                "partial",
            ],
            args,
        ]
        .concat(),
    );
    agent.wait_ready();
    agent
}

/// What is not as expected, in words.
fn differences(before: &str, after: &str, expected: &[ExpectedSeries]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut sums: BTreeMap<(String, Vec<String>), f64> = BTreeMap::new();
    for sample in expected {
        let found = gained(before, after, sample);
        // Of very many VMAs, only some have series of their own; the sum is checked below.
        if found != sample.value && sample.repeat == 1.0 {
            wrong.push(format!(
                "{} is {found} instead of {}",
                sample.selector(),
                sample.value
            ));
        }
        if EVENTS.contains(&sample.family.as_str()) {
            *sums
                .entry((sample.family.clone(), summed(sample)))
                .or_default() += sample.value * sample.repeat;
        }
    }
    // Nothing else was counted, neither in another VMA nor with other labels.
    let pids: Vec<_> = expected
        .iter()
        .map(|e| format!("pid=\"{}\"", e.label("pid")))
        .collect();
    for (kind, labels) in kinds() {
        for pid in pids.iter().collect::<std::collections::BTreeSet<_>>() {
            let labels: Vec<String> = std::iter::once(pid.clone()).chain(labels.clone()).collect();
            let labels_of: Vec<_> = labels.iter().map(String::as_str).collect();
            let total = |exposition| sum(exposition, kind, &labels_of).unwrap_or(0.0);
            let said = total(after) - total(before);
            let meant = sums
                .get(&(kind.to_owned(), labels.clone()))
                .copied()
                .unwrap_or(0.0);
            if said != meant {
                wrong.push(format!(
                    "{kind}{labels:?} gained {said} in all VMAs instead of {meant}"
                ));
            }
        }
    }
    wrong
}

/// How much a counter gained by the work, or the value of a gauge.
fn gained(before: &str, after: &str, sample: &ExpectedSeries) -> f64 {
    let now = sample.in_exposition(after).unwrap_or(0.0);
    if sample.family.ends_with("_total") {
        now - sample.in_exposition(before).unwrap_or(0.0)
    } else {
        now
    }
}

/// The labels that are summed over, in the order of [`kinds`].
fn summed(sample: &ExpectedSeries) -> Vec<String> {
    ["pid", "mode", "entry", "event"]
        .into_iter()
        .filter_map(|key| {
            let (_, value) = sample.labels.iter().find(|(k, _)| k == key)?;
            Some(format!("{key}=\"{value}\""))
        })
        .collect()
}

/// Every kind of exact event.
fn kinds() -> Vec<(&'static str, Vec<String>)> {
    let mut all = Vec::new();
    for event in ["installed", "consumed", "dropped"] {
        all.push(("uffdwp_markers_total", vec![format!("event=\"{event}\"")]));
    }
    for mode in ["async", "sync"] {
        for entry in ["pte", "marker", "huge"] {
            let labels = vec![format!("mode=\"{mode}\""), format!("entry=\"{entry}\"")];
            all.push(("uffdwp_faults_total", labels));
        }
    }
    all
}

/// How many page tables a process has by its series: allocated less freed.
fn tables(exposition: &str, pid: u32) -> f64 {
    let pid = format!("pid=\"{pid}\"");
    let of = |family| sum(exposition, family, &[&pid]).unwrap_or(0.0);
    of("uffdwp_page_tables_allocated_total") - of("uffdwp_page_tables_freed_total")
}

/// Runs one row; `None` if it cannot run on this kernel.
fn run(agent: &AgentProcess, row: &str, args: &[&str]) -> Option<Vec<String>> {
    let mut workload = SteppedRow::start(row, args)?;
    let before = agent.metrics();
    workload.work();
    let begin = Instant::now();
    loop {
        let exposition = agent.metrics();
        let mut wrong = differences(&before, &exposition, &workload.expected);
        let gained = tables(&exposition, workload.pid()) - tables(&before, workload.pid());
        if gained != workload.page_tables_gained {
            wrong.push(format!(
                "VmPTE gained {} tables, allocated less freed is {gained}",
                workload.page_tables_gained
            ));
        }
        if wrong.is_empty() || begin.elapsed() > PATIENCE {
            return Some(wrong);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How often a row is run in which calls were missed, and told as missed.
const TRIES: u32 = 3;

/// Runs one row, again where the kernel preempted a program in it: the call of another thread that
/// is missed meanwhile is told, and counts nowhere.
fn run_but_for_misses(agent: &AgentProcess, row: &str, args: &[&str]) -> Option<Vec<String>> {
    for _ in 1..TRIES {
        let before = misses(agent);
        let wrong = run(agent, row, args)?;
        let missed = misses(agent);
        if wrong.is_empty() || !is_realtime() || missed == before {
            return Some(wrong);
        }
        println!("{row:32} again: {missed:?} were missed, before it {before:?}; {wrong:?}");
    }
    run(agent, row, args)
}

/// Runs all rows that `wanted` picks, and fails with what is wrong with any of them.
fn table(agent: &AgentProcess, wanted: impl Fn(&str) -> bool, args: &[&str]) {
    let (mut ran, mut failed) = (0, Vec::new());
    for row in rows().iter().filter(|row| wanted(row)) {
        let Some(wrong) = run_but_for_misses(agent, row, args) else {
            println!("{row:32} not on this kernel");
            continue;
        };
        ran += 1;
        println!(
            "{row:32} {}",
            if wrong.is_empty() {
                "exact".into()
            } else {
                wrong.join("\n    ")
            }
        );
        if !wrong.is_empty() {
            failed.push(row.clone());
        }
    }
    let missed = misses(agent);
    assert!(
        failed.is_empty(),
        "not exact: {failed:?}; missed {missed:?}\n{}",
        agent.get("/status").1
    );
    assert!(ran > 0, "no row ran");
}

/// The hooks that missed events.
fn misses(agent: &AgentProcess) -> Vec<String> {
    let exposition = agent.metrics();
    let nonzero =
        |line: &&str| line.starts_with("uffdwp_probe_missed_total{") && !line.ends_with(" 0");
    exposition
        .lines()
        .filter(nonzero)
        .map(str::to_owned)
        .collect()
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn every_row_is_exact() {
    let agent = agent(&[]);
    // For a developer who needs only some rows: TRACKER_ROWS is a part of their names.
    let wanted = std::env::var("TRACKER_ROWS").unwrap_or_default();
    table(&agent, |row| row.contains(&wanted), &[]);
    check_metrics(&agent.metrics());
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn threads_lose_nothing() {
    let agent = agent(&[]);
    // Where the kernel refused its program, discovery would fall back.
    let route = &agent.status()["discovery"]["route"];
    assert_eq!(route, "iter/task_vma", "{}", agent.log());
    // Eight threads write all pages, each page once per round.
    table(
        &agent,
        |row| row == "threads-async" || row == "threads-sync",
        &["--threads", "8"],
    );
    // A preempted exit loses a waiting time but never an event; nothing else may be missed here.
    let exits = |line: &&String| line.contains("_exit\"");
    let others: Vec<_> = misses(&agent)
        .into_iter()
        .filter(|line| !exits(&line))
        .collect();
    assert_eq!(others, Vec::<String>::new());
}

/// What no trampoline can see where a task that holds the lock of page tables can be preempted.
fn locked_by_kprobe() -> &'static [&'static str] {
    if is_realtime() {
        &["do_wp_page=kprobe", "make_uffd_wp_pte=kprobe"]
    } else {
        &[]
    }
}

#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn every_rung_is_exact() {
    for (entry, exit) in [("fentry", "fexit"), ("kprobe", "kretprobe")] {
        println!("{entry} and {exit}");
        let wishes = [entry, exit]
            .into_iter()
            .chain(locked_by_kprobe().iter().copied());
        let flags: Vec<_> = wishes
            .flat_map(|wish| ["--force-mechanism", wish])
            .collect();
        let agent = agent(&flags);
        // One row of each kind is enough to see that a rung counts.
        let wanted = [
            "anon-present-sync",
            "anon-present-async",
            "shmem-marker-write-sync",
            "anon-marker-write-async",
            "hugetlb-present-async",
            "hugetlb-marker-write-async",
            "thp-async",
            "thp-sync",
            "scan-ptes-async",
            "populate-write-marker-async",
            "uffdio-copy-async",
            "munmap-async",
            "mremap-event-async",
            "fork-event-async",
        ];
        table(&agent, |row| wanted.contains(&row), &[]);
    }
}

/// The BTF of a kernel whose `struct mm_struct` has no `owner` (CONFIG_MEMCG is off), as far as
/// tracker can see; the kernel's own again when dropped.
struct OwnersHidden;

impl OwnersHidden {
    const BTF: &str = "/sys/kernel/btf/vmlinux";

    fn hide() -> Self {
        let mut btf = std::fs::read(Self::BTF).unwrap();
        // One string is the name of all members that are called so.
        let name = b"\0owner\0";
        let found = btf.windows(name.len()).position(|bytes| bytes == name);
        let at = found.unwrap() + 1;
        btf[at..at + 5].copy_from_slice(b"0wner");
        std::fs::write("/tmp/btf", &btf).unwrap();
        Self::run("mount", &["--bind", "/tmp/btf", Self::BTF]);
        let seen = KernelBtf::parse(std::fs::read(Self::BTF).unwrap()).unwrap();
        assert!(seen.field("mm_struct", "pgd").is_ok());
        assert!(seen.field("mm_struct", "owner").is_err());
        Self
    }

    fn run(program: &str, args: &[&str]) {
        let status = std::process::Command::new(program).args(args).status();
        assert!(status.unwrap().success(), "{program} {args:?}");
    }
}

impl Drop for OwnersHidden {
    fn drop(&mut self) {
        Self::run("umount", &[Self::BTF]);
    }
}

/// Whose mm it is is then only known once a thread of the process itself is seen.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn a_kernel_without_owners_of_address_spaces_is_exact() {
    let hidden = OwnersHidden::hide();
    let agent = agent(&[]);
    table(&agent, |row| row.ends_with("-async"), &[]);
    drop(hidden);
}

/// Waits whose returns a kretprobe misses, having too few instances, are told by the kernel since
/// 6.7, and what is seen by one is never called exact.
#[test]
#[ignore = "needs a kernel whose functions can be hooked: cargo xtask test"]
fn what_a_kretprobe_misses_is_told() {
    let agent = agent(&["--force-mechanism", "kretprobe"]);
    let mut workload = SteppedRow::start("threads-sync", &["--threads", "32"]).unwrap();
    let before = agent.metrics();
    workload.work();
    let faults = workload.expected.iter();
    let faults = faults.filter(|sample| sample.family == "uffdwp_faults_total");
    let faults: f64 = faults.map(|sample| sample.value).sum();
    // The agent asks what was missed now and then, and the kernel counts that without a lock.
    let after = eventually("most waits that are not seen are told as missed", || {
        let after = agent.metrics();
        let gained = |family, labels: &[&str]| {
            let of = |metrics| sum(metrics, family, labels).unwrap_or(0.0);
            of(&after) - of(&before)
        };
        let waits = gained("uffdwp_fault_wait_seconds_count", &[]);
        let hook = ["hook=\"handle_userfault_exit\""];
        let missed = gained("uffdwp_probe_missed_total", &hook);
        assert!(waits <= faults, "{waits} {faults}");
        println!("{waits} seen and {missed} missed of {faults}");
        (missed >= (faults - waits) / 2.0 || is_older_than_6_7()).then_some(after)
    });
    let help = after.lines().find(|line| {
        line.starts_with("# HELP uffdwp_fault_wait_seconds ") && line.contains("kretprobe")
    });
    assert!(help.is_some(), "{after}");
}

fn is_older_than_6_7() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>());
    let (major, minor) = (numbers.next(), numbers.next());
    (major.unwrap().unwrap(), minor.unwrap().unwrap()) < (6, 7)
}
