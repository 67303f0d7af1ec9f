//! `tracker agent --track`: the agent exports what a process is known to have written, at level
//! observe.
//!
//! The test writes pages through `/proc/PID/mem` while the process waits for its next line: the
//! kernel faults them in as for a store of the process, and nothing else moves, so every count is
//! known to the page.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pages::strategy::TrackedArea;
use pages::strategy::{StrategyMeans, StrategyName, UffdScope, verdict};
use rustix::process::Signal;
use testbed::client::{ClientAct, ClientProcess, ClientTarget, ClientWay};
use testbed::script::{ANON, FACTS, ScriptProcess};
use testbed::{AgentProcess, KilledChild, check_metrics, eventually, program, sum};
use uffd::{PAGE_SIZE, VmFlags, smaps};

/// A program with a name that no other has, so that `comm:` means ours.
struct NamedProgram {
    _directory: tempfile::TempDir,
    path: PathBuf,
    comm: String,
}

impl NamedProgram {
    fn new() -> Self {
        Self::copied(Path::new(&program("uffdwp-workload")))
    }

    /// A program of the machine, for any user to run.
    fn of(program: &str) -> Self {
        let path = ["/usr/bin", "/bin"].map(|directory| Path::new(directory).join(program));
        Self::copied(path.iter().find(|path| path.exists()).unwrap())
    }

    fn copied(built: &Path) -> Self {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let comm = format!("wl-{:08x}", fastrand::u32(..));
        let path = directory.path().join(&comm);
        let copied =
            std::fs::hard_link(built, &path).or_else(|_| std::fs::copy(built, &path).map(|_| ()));
        copied.unwrap();
        Self {
            _directory: directory,
            path,
            comm,
        }
    }

    fn start(&self) -> ScriptProcess {
        ScriptProcess::start_program(&self.path)
    }
}

/// An agent in a hurry, with series for every VMA.
fn agent(selectors: &str, further: &[&str]) -> AgentProcess {
    let (what, fast) = (
        ["--track", selectors, "--max-vmas", "1000"],
        ["--discover-interval", "50ms", "--scan-interval", "50ms"],
    );
    let agent = AgentProcess::start(&[&what[..], &fast, further].concat());
    agent.wait_ready();
    agent
}

/// Rounds without a pause, and a budget that never matters.
const ALL: [&str; 4] = ["--track-budget", "100%", "--track-interval", "20ms"];

fn value(agent: &AgentProcess, family: &str, pid: u32) -> Option<f64> {
    sum(&agent.metrics(), family, &[&format!("pid=\"{pid}\"")])
}

/// Waits until a round that begins after now is over.
fn settle(agent: &AgentProcess, pid: u32) {
    let rounds = || value(agent, "uffdwp_rounds_total", pid);
    let begin = eventually("it is tracked", rounds);
    eventually("two rounds more", || {
        (rounds()? >= begin + 2.0).then_some(())
    });
}

fn written(agent: &AgentProcess, pid: u32) -> f64 {
    value(agent, "uffdwp_written_pages_total", pid).unwrap()
}

/// Writes a byte to each of these pages of another process, which are all there and armed, and
/// waits until they are counted.
///
/// As many must be counted as this thread had faults: one for each page, and one more where a round
/// armed a page again that had faulted but was not yet written, which is rare.
fn write(agent: &AgentProcess, pid: u32, area: &TrackedArea, pages: impl IntoIterator<Item = u64>) {
    let memory = OpenOptions::new()
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .unwrap();
    let write_to = |page: u64| {
        let faults = own_faults();
        memory
            .write_all_at(&[7], area.range.start + page * PAGE_SIZE)
            .unwrap();
        own_faults() - faults
    };
    let mut pages = pages.into_iter().peekable();
    // Once beforehand, so that what is counted does not fault in code of this program.
    write_to(*pages.peek().unwrap());
    settle(agent, pid);
    let before = written(agent, pid);
    let (mut meant, mut faulted) = (0, 0);
    for page in pages {
        faulted += write_to(page);
        meant += 1;
    }
    settle(agent, pid);
    let gained = written(agent, pid) - before;
    assert_eq!(gained, faulted as f64, "{meant} pages");
    assert!((meant..=meant + meant / 100 + 1).contains(&faulted));
}

/// Minor faults of this thread, including those on memory of others to which it writes
/// (`mm_account_fault`).
fn own_faults() -> i64 {
    // SAFETY: all zeroes is a valid rusage, and getrusage fills in one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    usage.ru_minflt
}

fn armed_vmas(pid: u32) -> usize {
    let flags = smaps(pid).unwrap().map(|vma| vma.unwrap().flags);
    flags.filter(VmFlags::uffd_wp).count()
}

#[test]
fn written_pages_are_those_that_were_written_and_once_for_each_round() {
    let mut script = ScriptProcess::start();
    let (_, area) = script.map(ANON, 4096);
    script.say("store 0 1 1 0-4095");
    let pid = script.pid();
    let agent = agent(&format!("pid:{pid}"), &ALL);
    settle(&agent, pid);
    // What was there before the agent looked.
    assert!(value(&agent, "uffdwp_unknown_pages_total", pid).unwrap() >= 4096.0);
    let known: [Vec<u64>; 4] = [
        (0..1000).collect(),
        (500..1500).collect(),
        (0..4096).step_by(7).collect(),
        vec![4095],
    ];
    for pages in &known {
        write(&agent, pid, &area, pages.iter().copied());
    }
    let expected = written(&agent, pid);
    // Reading is not writing.
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    memory
        .read_exact_at(&mut vec![0; 1 << 20], area.range.start)
        .unwrap();
    settle(&agent, pid);
    assert_eq!(written(&agent, pid), expected);
    // The process's own stores count in the same way. It also writes what it needs to obey, in
    // whole huge pages where the kernel uses them for the stacks of its threads.
    script.say("store 0 9 2 0-999");
    settle(&agent, pid);
    let gained = written(&agent, pid) - expected;
    assert!((1000.0..1100.0 + 3.0 * 512.0).contains(&gained), "{gained}");
    // Discovery sees it, and the background scan counts what is armed without arming.
    eventually("the area is armed and all of it counted", || {
        let text = agent.metrics();
        let vma = format!("vma=\"{:#x}\"", area.range.start);
        let pages = |state| {
            let labels = [
                &*format!("pid=\"{pid}\""),
                &vma,
                &format!("state=\"{state}\""),
            ];
            sum(&text, "uffdwp_pages", &labels)
        };
        (pages("armed")? == 4096.0 && pages("written")? == 0.0).then_some(())
    });
    let text = agent.metrics();
    assert_eq!(
        sum(
            &text,
            "uffdwp_track_info",
            &[&format!("pid=\"{pid}\""), "strategy="]
        ),
        Some(1.0)
    );
    assert_eq!(
        sum(&text, "uffdwp_track_processes", &["state=\"tracked\""]),
        Some(1.0)
    );
    assert!(sum(&text, "uffdwp_node_written_pages_total", &[]).unwrap() >= expected);
    assert!(value(&agent, "uffdwp_tracked_pages", pid).unwrap() >= 4096.0);
    assert!(value(&agent, "uffdwp_track_cpu_seconds_total", pid).unwrap() > 0.0);
    check_metrics(&text);
}

#[test]
fn other_strategies_count_the_same_writes() {
    let means = StrategyMeans {
        in_process: false,
        descriptor: UffdScope::Full,
    };
    let names = [
        StrategyName::Sync,
        StrategyName::NoneIsClean,
        StrategyName::Prefault,
        StrategyName::Hash,
    ];
    for name in names
        .into_iter()
        .filter(|&name| verdict(name, &FACTS, means).works)
    {
        let strategy = name.as_str();
        let mut script = ScriptProcess::start();
        script.map(ANON, 1024);
        script.say("store 0 1 1 0-1023");
        let pid = script.pid();
        let further = [&ALL[..], &["--track-strategy", strategy]].concat();
        let agent = agent(&format!("pid:{pid}"), &further);
        settle(&agent, pid);
        let before = written(&agent, pid);
        script.say("store 0 9 2 0-999");
        settle(&agent, pid);
        let gained = written(&agent, pid) - before;
        assert!(
            (1000.0..1100.0 + 3.0 * 512.0).contains(&gained),
            "{strategy}: {gained}"
        );
        let labels = [format!("pid=\"{pid}\""), format!("strategy=\"{strategy}\"")];
        let labels = labels.each_ref().map(String::as_str);
        assert_eq!(
            sum(&agent.metrics(), "uffdwp_track_info", &labels),
            Some(1.0)
        );
    }
}

#[test]
fn two_processes_are_kept_apart_and_one_that_comes_again_is_attached() {
    let named = NamedProgram::new();
    let mut scripts = [named.start(), named.start()];
    let areas = scripts.each_mut().map(|script| script.map(ANON, 64).1);
    // The first write to what is not there takes two faults: one replaces the marker by an armed
    // page.
    for script in &mut scripts {
        script.say("store 0 1 1 0-63");
    }
    let pids = scripts.each_ref().map(ScriptProcess::pid);
    let agent = agent(
        &format!("comm:{}", named.comm),
        &[&ALL[..], &["--linger", "300ms"]].concat(),
    );
    pids.iter().for_each(|pid| settle(&agent, *pid));
    write(&agent, pids[0], &areas[0], 0..10);
    let first = written(&agent, pids[0]);
    write(&agent, pids[1], &areas[1], 20..57);
    assert_eq!(written(&agent, pids[0]), first);
    let known = written(&agent, pids[1]);
    let [first, second] = scripts;
    drop(first);
    eventually("its series are gone", || {
        value(&agent, "uffdwp_written_pages_total", pids[0])
            .is_none()
            .then_some(())
    });
    let again = named.start();
    settle(&agent, again.pid());
    settle(&agent, second.pid());
    assert_eq!(written(&agent, second.pid()), known);
    // The end of a process is not a failure.
    assert_eq!(
        sum(&agent.metrics(), "uffdwp_track_failures_total", &[]),
        Some(0.0)
    );
    check_metrics(&agent.metrics());
}

/// A shell with a name that no other has, which executes another program when its input ends.
fn shell(named: &NamedProgram) -> KilledChild {
    let path = named.path.with_file_name("shell");
    std::fs::copy("/bin/sh", &path).unwrap();
    std::fs::remove_file(&named.path).unwrap();
    std::fs::rename(&path, &named.path).unwrap();
    let mut command = Command::new(&named.path);
    command.args(["-c", "read line; exec sleep 600"]);
    KilledChild(command.stdin(Stdio::piped()).spawn().unwrap())
}

fn comm(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap()
}

#[test]
fn what_no_longer_matches_is_let_go_and_what_is_meant_by_number_is_followed() {
    let named = [NamedProgram::new(), NamedProgram::new()];
    let mut shells = named.each_ref().map(shell);
    let pids = shells.each_ref().map(|shell| shell.0.id());
    let agent = agent(&format!("{},pid:{}", named[0].comm, pids[1]), &ALL);
    pids.iter().for_each(|pid| settle(&agent, *pid));
    assert!(pids.iter().all(|pid| armed_vmas(*pid) > 0));
    for shell in &mut shells {
        drop(shell.0.stdin.take());
    }
    for pid in pids {
        eventually("it executes", || (comm(pid) == "sleep\n").then_some(()));
    }
    eventually("nothing is armed", || {
        (armed_vmas(pids[0]) == 0).then_some(())
    });
    // Its counters stay as long as those of a process that ended, but it is not tracked any more.
    assert!(value(&agent, "uffdwp_rounds_total", pids[0]).is_some());
    eventually("it is let go", || {
        value(&agent, "uffdwp_track_info", pids[0])
            .is_none()
            .then_some(())
    });
    settle(&agent, pids[1]);
    assert!(armed_vmas(pids[1]) > 0);
    let named = format!("comm=\"{}\"", named[1].comm);
    assert!(
        sum(&agent.metrics(), "uffdwp_track_info", &[&named]).is_some(),
        "one series from first to last"
    );
}

#[test]
fn more_than_the_most_are_counted_and_named() {
    let named = NamedProgram::new();
    let scripts = [named.start(), named.start(), named.start()];
    let args = [&ALL[..], &["--track-max", "2"]].concat();
    let agent = agent(&format!("comm:{}", named.comm), &args);
    eventually("two are tracked, one is left over", || {
        let text = agent.metrics();
        let state = |state| {
            sum(
                &text,
                "uffdwp_track_processes",
                &[&format!("state=\"{state}\"")],
            )
        };
        (state("tracked")? == 2.0 && state("over_max")? == 1.0).then_some(())
    });
    let tracking = &agent.status()["tracking"];
    let last = u64::from(scripts[2].pid());
    assert_eq!(tracking["over_max"][0]["pid"], last, "{tracking:#}");
    assert_eq!(tracking["over_max"][0]["comm"], named.comm, "{tracking:#}");
}

/// Anybody can start processes of any name.
#[test]
fn many_of_one_user_take_no_place_of_another() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: to be another user takes root");
        return;
    }
    let named = NamedProgram::of("sleep");
    let sleeping = |uid: u32| {
        let mut command = Command::new(&named.path);
        KilledChild(command.arg("600").uid(uid).spawn().unwrap())
    };
    let many: Vec<_> = (0..8).map(|_| sleeping(64321)).collect();
    eventually("they have their name", || {
        let named_so =
            |child: &KilledChild| uffd::comm(child.0.id()).unwrap() == named.comm.as_bytes();
        many.iter().all(named_so).then_some(())
    });
    let args = [&ALL[..], &["--track-max", "2"]].concat();
    let agent = agent(&format!("comm:{}", named.comm), &args);
    let tracked = || {
        let text = agent.metrics();
        sum(&text, "uffdwp_track_processes", &["state=\"tracked\""])
    };
    eventually("two of them are tracked", || {
        (tracked()? == 2.0).then_some(())
    });
    let log = agent.log();
    assert!(
        log.contains("for --track-max is 2") && log.contains("user 64321"),
        "{log}"
    );
    let status = &agent.status()["tracking"];
    let users = serde_json::json!([{"uid": 64321, "processes": 6}]);
    assert_eq!(status["over_max_users"], users, "{status:#}");

    // The one that is meant comes last.
    let meant = sleeping(113);
    settle(&agent, meant.0.id());
    eventually("one of the others made room", || {
        let status = &agent.status()["tracking"];
        let users = serde_json::json!([{"uid": 64321, "processes": 7}]);
        (tracked()? == 2.0 && status["over_max_users"] == users).then_some(())
    });
}

/// A process that is not a thread, and has the memory of another one (clone(2) with CLONE_VM).
#[test]
fn of_two_processes_with_one_memory_the_second_is_refused() {
    let named = NamedProgram::new();
    let mut script = named.start();
    let (number, _) = script.map(ANON, 16);
    script.say(&format!("store {number} 1 1 0-15"));
    script.say(&format!("share {number} 3 5"));
    let (first, second) = (script.pid(), child_of(script.pid()));
    let agent = agent(&format!("comm:{}", named.comm), &ALL);
    settle(&agent, first);
    let refused = eventually("the second is refused", || {
        let refused = agent.status()["tracking"]["refused"].take();
        (refused.as_array()?.len() == 1).then_some(refused)
    });
    let refusal = &refused[0];
    assert_eq!(refusal["pid"], second, "{refused:#}");
    assert_eq!(refusal["reason"], "nothing", "{refused:#}");
    let message = refusal["message"].as_str().unwrap();
    assert!(message.contains("another userfaultfd"), "{message}");
    let has_first = message.contains(&format!("has the memory of process {first} ("));
    assert!(has_first || !kcmp_works(first, second), "{message}");
    let text = agent.metrics();
    check_metrics(&text);
    let state = |state: &str| {
        sum(
            &text,
            "uffdwp_track_processes",
            &[&format!("state=\"{state}\"")],
        )
    };
    assert_eq!((state("tracked"), state("refused")), (Some(1.0), Some(1.0)));
    let failures = sum(
        &text,
        "uffdwp_track_failures_total",
        &["reason=\"nothing\""],
    );
    assert!(failures >= Some(1.0), "{failures:?}");
    assert_eq!(value(&agent, "uffdwp_track_info", second), None);
    // What the second stores is reported of the memory that both have.
    let before = written(&agent, first);
    eventually("its stores are counted", || {
        (written(&agent, first) > before + 4.0).then_some(())
    });
}

fn child_of(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.unwrap().trim().parse().unwrap()
}

fn kcmp_works(pid: u32, other: u32) -> bool {
    pages::inject::share_memory(pid, other)
}

#[test]
fn a_process_that_refuses_is_told_once_and_tried_again() {
    let script = ScriptProcess::start();
    let pid = script.pid();
    let mut strace = Command::new("strace");
    strace
        .args(["-p", &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(child) = strace.spawn() else {
        eprintln!("skipped: strace is not installed");
        return;
    };
    let tracer = KilledChild(child);
    eventually("it is traced", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        (!status.contains("TracerPid:\t0")).then_some(())
    });
    let agent = agent(&format!("pid:{pid}"), &ALL);
    let refused = eventually("it is refused twice", || {
        let refused = agent.status()["tracking"]["refused"][0].clone();
        (refused["tries"].as_u64()? >= 2).then_some(refused)
    });
    assert_eq!(refused["reason"], "traced", "{refused:#}");
    assert!(
        refused["message"].as_str().unwrap().contains("strace"),
        "{refused:#}"
    );
    let log = agent.log();
    assert_eq!(log.matches("is traced by process").count(), 1, "{log}");
    let failures = sum(
        &agent.metrics(),
        "uffdwp_track_failures_total",
        &["reason=\"traced\""],
    );
    assert!(failures.unwrap() >= 2.0);
    drop(tracer);
    settle(&agent, pid);
    assert_eq!(agent.status()["tracking"]["refused"], serde_json::json!([]));
}

#[test]
fn over_the_budget_the_interval_grows_and_the_share_stays() {
    const PAGES: u64 = 1 << 16;
    const BUDGET: f64 = 0.01;
    let mut script = ScriptProcess::start();
    script.map(ANON, PAGES);
    script.say(&format!("store 0 1 1 0-{}", PAGES - 1));
    let pid = script.pid();
    let started = Instant::now();
    let agent = agent(
        &format!("pid:{pid}"),
        &["--track-interval", "1ms", "--track-budget", "1%"],
    );
    settle(&agent, pid);
    let cpu = || {
        let now = started.elapsed();
        let cpu = sum(&agent.metrics(), "uffdwp_node_track_cpu_seconds_total", &[]).unwrap();
        (
            now.as_secs_f64(),
            cpu,
            value(&agent, "uffdwp_rounds_total", pid).unwrap(),
        )
    };
    let before = cpu();
    // Most of it is dirty in every round.
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        script.say(&format!("store 0 2 1 0-{}", PAGES - 1));
        std::thread::sleep(Duration::from_millis(50));
    }
    let after = cpu();
    let share = (after.1 - before.1) / (after.0 - before.0);
    eprintln!(
        "{share} of a core, {} rounds in {} s",
        after.2 - before.2,
        after.0 - before.0
    );
    assert!(after.2 > before.2, "no round at all");
    assert!(share < 2.0 * BUDGET, "{share} of a core");
    let interval = value(&agent, "uffdwp_track_interval_seconds", pid).unwrap();
    assert!(interval > 0.02, "{interval}");
    assert_eq!(
        sum(&agent.metrics(), "uffdwp_track_budget_ratio", &[]),
        Some(BUDGET)
    );
    let tracking = &agent.status()["tracking"];
    assert_eq!(
        tracking["processes"][0]["over_budget"], true,
        "{tracking:#}"
    );
    assert!(agent.log().contains("--track-budget"), "{}", agent.log());
}

#[test]
fn nothing_stays_armed_after_the_agent_however_it_ends() {
    for signal in [Signal::TERM, Signal::INT, Signal::KILL] {
        let mut script = ScriptProcess::start();
        script.map(ANON, 1024);
        script.say("store 0 1 1 0-1023");
        let pid = script.pid();
        let mut agent = agent(&format!("pid:{pid}"), &ALL);
        settle(&agent, pid);
        assert!(armed_vmas(pid) > 0);
        let begin = Instant::now();
        let status = agent.end(signal);
        assert_eq!(status.success(), signal != Signal::KILL, "{status}");
        assert!(begin.elapsed() < Duration::from_secs(20));
        // A killed process closes its files after its parent hears of its end.
        eventually("nothing is armed", || (armed_vmas(pid) == 0).then_some(()));
        assert_eq!(script.say("store 0 3 4 0-1023"), "ok");
    }
}

#[test]
fn without_the_flag_there_is_no_family_of_it() {
    let agent = AgentProcess::start(&[]);
    agent.wait_ready();
    let text = agent.metrics();
    assert!(!text.contains("uffdwp_track") && !text.contains("uffdwp_rounds_total"));
    assert!(agent.status()["tracking"].is_null());
}

#[test]
fn the_cgroup_of_a_process_selects_it() {
    let script = ScriptProcess::start();
    let pid = script.pid();
    let Some(own) = cgroup_of_its_own(pid) else {
        eprintln!("skipped: no cgroup can be made here");
        return;
    };
    let path = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = path
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default();
    let agent = agent(&format!("cgroup:{path}"), &ALL);
    settle(&agent, pid);
    drop(script);
    drop(own);
}

/// A cgroup for one process, which is removed when dropped.
struct TestCgroup(PathBuf);

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // The process is gone by now.
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn cgroup_of_its_own(pid: u32) -> Option<TestCgroup> {
    let root = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let root = root
        .iter()
        .map(Path::new)
        .find(|root| root.join("cgroup.procs").exists())?;
    let path = root.join(format!("tracker-test-{pid}"));
    std::fs::create_dir(&path).ok()?;
    let cgroup = TestCgroup(path);
    std::fs::write(cgroup.0.join("cgroup.procs"), pid.to_string()).ok()?;
    Some(cgroup)
}

/// `--explain`: whether what was reported has changed, and what changed although nothing armed
/// shows it.
#[test]
fn what_is_explained_is_counted_by_verdict() {
    let mut script = ScriptProcess::start();
    let (area, _) = script.map(ANON, 256);
    script.say(&format!("store {area} 7 1 0-255"));
    let pid = script.pid();
    let agent = AgentProcess::start(&[
        "--explain",
        &format!("pid:{pid}"),
        "--track-budget",
        "100%",
        "--track-interval",
        "20ms",
        "--discover-interval",
        "50ms",
    ]);
    agent.wait_ready();
    let verdict = |name: &str| {
        let labels = [&*format!("pid=\"{pid}\""), &*format!("verdict=\"{name}\"")];
        sum(&agent.metrics(), "uffdwp_reported_pages_total", &labels).unwrap_or_default()
    };
    settle(&agent, pid);
    for (line, name, pages) in [
        ("7 1 0-99", "unchanged", 100.0),
        ("8 1 50-89", "changed", 40.0),
        ("0 1 200-219", "zeroed", 20.0),
    ] {
        let before = verdict(name);
        script.say(&format!("store {area} {line}"));
        eventually("they are counted", || {
            (verdict(name) - before >= pages).then_some(())
        });
    }
    settle(&agent, pid);
    let text = agent.metrics();
    let labels = [&*format!("pid=\"{pid}\"")];
    assert_eq!(sum(&text, "uffdwp_missed_pages_total", &labels), Some(0.0));
    assert!(sum(&text, "uffdwp_verified_pages_total", &labels).unwrap() >= 256.0);
    // Every report has a verdict and a cause.
    let reported = sum(&text, "uffdwp_reported_pages_total", &labels).unwrap();
    let known = ["written", "unknown"].map(|what| {
        let family = format!("uffdwp_{what}_pages_total");
        sum(&text, &family, &labels).unwrap()
    });
    assert!(
        reported <= known[0] + known[1] && reported >= 160.0,
        "{reported} of {known:?}"
    );
    check_metrics(&text);
    drop(agent);
    assert_eq!(armed_vmas(pid), 0);
}

/// `--explain` of a process with a tracker of its own: what that is told has families of its own,
/// and is not part of what we report.
#[test]
fn a_tracker_that_is_there_already_is_counted_apart() {
    if let Some(why) = testbed::script::refused(StrategyName::Markers, ANON) {
        eprintln!("skipped: {why}");
        return;
    }
    let mut client = ClientProcess::start(ClientTarget::Inside, ClientWay::Scan, 1);
    let pid = client.pid();
    let agent = AgentProcess::start(&[
        "--explain",
        &format!("pid:{pid}"),
        "--track-budget",
        "100%",
        "--track-interval",
        "20ms",
        "--discover-interval",
        "50ms",
    ]);
    agent.wait_ready();
    settle(&agent, pid);
    for line in ["act", "round", "act", "round"] {
        client.say(line);
        settle(&agent, pid);
    }
    let text = agent.metrics();
    let of = |family: &str, verdict: &str| {
        let labels = [
            &*format!("pid=\"{pid}\""),
            &*format!("verdict=\"{verdict}\""),
        ];
        sum(&text, family, &labels).unwrap_or_default()
    };
    use ClientAct::{OtherForce, OtherRead, OtherStore, SameForce, SameRead, SameStore};
    for (verdict, acts) in [
        ("unchanged", [SameStore, SameRead, SameForce]),
        ("changed", [OtherStore, OtherRead, OtherForce]),
    ] {
        let pages: u64 = acts.iter().map(|act| act.pages()).sum();
        let found = of("uffdwp_observed_reported_pages_total", verdict);
        assert_eq!(found, 2.0 * pages as f64, "{verdict}");
    }
    let labels = [&*format!("pid=\"{pid}\"")];
    assert!(sum(&text, "uffdwp_observed_verified_pages_total", &labels).unwrap() > 512.0);
    check_metrics(&text);
}
