//! What cannot be seen is told, and is not taken for nothing there: hidden processes, other
//! namespaces, main threads that have ended, files that never answer, mappings that take long.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::Value;
use std::process::Command;
use tempfile::TempDir;
use testbed::inject::InjectTarget;
use testbed::{AgentProcess, KilledChild, agent, check_metrics, eventually, has, program, sum};
use uffd::{PAGE_SIZE, RegisterMode, ScratchMapping, UffdFeatures, Userfaultfd};

/// Whether namespaces can be made here.
fn can_unshare() -> bool {
    let can = has("unshare") && rustix::process::geteuid().is_root();
    can && Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--time", "true"])
        .status()
        .is_ok_and(|status| status.success())
}

/// An agent in new namespaces: the script prepares them.
fn agent_in(namespaces: &[&str], script: &str, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let run = format!("{script}\nexec \"$@\"");
    command
        .args(namespaces)
        .args(["sh", "-ec", &run, "sh"])
        .arg(program("tracker"))
        .args(["agent", "--listen", "127.0.0.1:0"])
        .args(args);
    command
}

const QUICK: &[&str] = &["--discover-interval", "100ms", "--scan-interval", "100ms"];

/// Memory of ours that is registered.
fn registered(pages: u64) -> (ScratchMapping, Userfaultfd) {
    let scratch = ScratchMapping::anonymous(pages * PAGE_SIZE).unwrap();
    let fd = Userfaultfd::open_user_mode_only().unwrap();
    fd.enable(UffdFeatures::default()).unwrap();
    fd.register(&scratch.range(), RegisterMode::WP).unwrap();
    (scratch, fd)
}

/// Waits until pages of a process are shown.
fn pages_of(running: &AgentProcess, pid: u32) -> String {
    let label = format!("pid=\"{pid}\"");
    eventually("its pages are counted", || {
        let metrics = running.metrics();
        sum(&metrics, "uffdwp_pages", &[&label])?;
        Some(metrics)
    })
}

fn refused(running: &AgentProcess, reason: &str) -> Option<f64> {
    let label = format!("reason=\"{reason}\"");
    sum(
        &running.metrics(),
        "uffdwp_discovery_processes_refused",
        &[&label],
    )
}

/// The program where every user may execute it.
fn public_copy() -> TempDir {
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::copy(program("tracker"), directory.path().join("tracker")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), mode).unwrap();
    directory
}

/// An agent of another user, with these capabilities, from which `/proc` hides all other processes.
fn agent_with_hidden_processes(directory: &TempDir, capabilities: &str, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    // No fork: the agent is the child that is killed at the end.
    let run = "mount -t proc -o hidepid=2 proc /proc\nexec \"$@\"";
    command.args(["--mount", "sh", "-ec", run, "sh"]);
    command.args(["setpriv", "--reuid=64322", "--regid=64322"]);
    command.arg("--clear-groups");
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.args([set, capabilities]);
    }
    command.arg(directory.path().join("tracker"));
    command
        .args(["agent", "--listen", "127.0.0.1:0"])
        .args(args);
    command
}

#[test]
fn an_agent_from_which_all_processes_are_hidden_is_not_ready() {
    if !can_unshare() || !has("setpriv") {
        return;
    }
    let directory = public_copy();
    let command = agent_with_hidden_processes(&directory, "-all", &[]);
    let running = AgentProcess::spawn(command);
    eventually("it says that it is blind", || {
        let (code, reason) = running.get("/readyz");
        (code == 503 && reason.contains("hidepid=")).then_some(())
    });
    assert_eq!(refused(&running, "hidden"), Some(1.0));
    let metrics = running.metrics();
    check_metrics(&metrics);
    assert_eq!(
        sum(&metrics, "uffdwp_discovery_processes_seen", &[]),
        Some(0.0)
    );
    let success = ["collector=\"discovery\""];
    assert_eq!(
        sum(&metrics, "uffdwp_scrape_collector_success", &success),
        Some(0.0)
    );
}

/// As in a container with the host's pids: threads of the kernel may be looked at by everybody, and
/// have nothing to see.
#[test]
fn an_agent_that_may_look_at_threads_of_the_kernel_only_is_not_ready() {
    if !can_unshare() || !has("setpriv") {
        return;
    }
    let mut command = Command::new("setpriv");
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.args([set, "-all"]);
    }
    command.arg(program("tracker"));
    command.args(["agent", "--listen", "127.0.0.1:0"]);
    let running = AgentProcess::spawn(command);
    eventually("it says that it is blind", || {
        let (code, reason) = running.get("/readyz");
        (code == 503 && reason.contains("refused")).then_some(())
    });
}

/// A program in the kernel sees the VMAs of processes that `/proc` hides.
#[test]
fn pages_of_hidden_processes_whose_vmas_are_seen_are_not_told_as_none() {
    if !can_unshare() || !has("setpriv") {
        return;
    }
    let (_scratch, _fd) = registered(4);
    let directory = public_copy();
    let own = format!("pid:{}", std::process::id());
    let args = [QUICK, &["--track", &own]].concat();
    let command = agent_with_hidden_processes(&directory, "-all,+bpf,+perfmon,+sys_admin", &args);
    let running = AgentProcess::spawn(command);
    let status = eventually("a pass over pages is done", || {
        let status = running.status();
        status["scan"]["state"]["passes"]
            .as_u64()
            .filter(|passes| *passes > 0)?;
        Some(status)
    });
    if status["discovery"]["route"] != "iter/task_vma" {
        return eprintln!("skipped: no program sees VMAs here: {}", running.log());
    }
    assert_ne!(status["scan"]["state"]["failed"], 0, "{status:#}");
    let why = status["scan"]["state"]["last_failure"].to_string();
    assert!(why.contains("hidepid="), "{why}");
    let metrics = running.metrics();
    let success = |collector: &str| {
        let label = format!("collector=\"{collector}\"");
        sum(&metrics, "uffdwp_scrape_collector_success", &[&label])
    };
    assert_eq!(success("scan"), Some(0.0), "{metrics}");
    eventually("it is told that the process is not tracked", || {
        let labels = ["reason=\"hidden\""];
        let failures = sum(&running.metrics(), "uffdwp_track_failures_total", &labels);
        (failures == Some(1.0)).then_some(())
    });
}

/// What `tracker check --json` tells, and whether its status says that all is well.
fn checked(command: &mut Command) -> (Value, bool) {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {error}"));
    (told, output.status.success())
}

/// Before there is an agent.
#[test]
fn check_tells_which_processes_an_agent_would_not_see() {
    let (_scratch, _fd) = registered(4);
    let (told, well) = checked(Command::new(program("tracker")).args(["check", "--json"]));
    assert!(
        told["processes"]["processes"].as_u64() > Some(0),
        "{told:#}"
    );
    assert!(well);
    if !can_unshare() {
        return;
    }
    let script = "mount -t proc -o hidepid=2 proc /proc; exec setpriv --reuid=64322 --regid=64322 \
                  --clear-groups --bounding-set=-all --inh-caps=-all \"$@\"";
    let directory = public_copy();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]);
    command.arg(directory.path().join("tracker"));
    let (told, well) = checked(command.args(["check", "--json"]));
    assert_eq!(
        told["processes"]["refused_by_reason"]["hidden"], 1,
        "{told:#}"
    );
    assert!(!well);
    let mut command = Command::new("unshare");
    command.args(["--mount-proc", "--kill-child", "--fork", "--pid"]);
    command.arg(program("tracker"));
    let (told, _) = checked(command.args(["check", "--json"]));
    let reasons = &told["processes"]["refused_by_reason"];
    assert_eq!(reasons["pid_namespace"], 1, "{told:#}");
    let mut command = Command::new("unshare");
    let script = "umount -l /proc; exec \"$@\"";
    command.args(["--mount", "sh", "-ec", script, "sh"]);
    let (told, well) = checked(command.arg(program("tracker")).args(["check", "--json"]));
    let failure = told["processes"]["failure"].to_string();
    assert!(failure.contains("cannot list /proc") && !well, "{told:#}");
    // Nothing is said of what could not be tried.
    assert_eq!(told["missing_capabilities"], Value::Array(Vec::new()));
    let strategies = told["strategies"]["error"].to_string();
    assert!(strategies.contains("/proc/self/pagemap"), "{told:#}");
    assert!(!told.to_string().contains("no PAGEMAP_SCAN"), "{told:#}");
}

/// As a unit with `ProcSubset=pid` has it: what is missing is told once, not at each scrape.
#[test]
fn where_proc_has_processes_only_it_says_so_once() {
    let script = "mount -t proc -o subset=pid proc /proc";
    let can = can_unshare()
        && Command::new("unshare")
            .args(["--mount", "sh", "-ec", script])
            .status()
            .is_ok_and(|status| status.success());
    if !can {
        return eprintln!("skipped: no /proc of processes only");
    }
    let running = AgentProcess::spawn(agent_in(&["--mount"], script, QUICK));
    running.wait_ready();
    let warnings = || running.log().matches("level=warn").count();
    let before = warnings();
    for _ in 0..5 {
        check_metrics(&running.metrics());
    }
    assert_eq!(warnings(), before, "{}", running.log());
    let success = ["collector=\"process\""];
    assert_eq!(
        sum(
            &running.metrics(),
            "uffdwp_scrape_collector_success",
            &success
        ),
        Some(1.0)
    );
}

/// As a container has it that mounts the host's `/proc`.
#[test]
fn with_the_hosts_proc_it_observes_from_a_pid_namespace_and_tracks_nobody_else() {
    if !can_unshare() {
        return;
    }
    let (_scratch, _fd) = registered(4);
    let own = std::process::id();
    let select = format!("pid:{own}");
    let args = [QUICK, &["--track", &select]].concat();
    let running = AgentProcess::spawn(agent_in(&["--kill-child", "--fork", "--pid"], "", &args));
    running.wait_ready();
    pages_of(&running, own);
    let log = running.log();
    assert!(log.contains("numbers of another pid namespace"), "{log}");
    let metrics = running.metrics();
    let tracked = sum(&metrics, "uffdwp_track_processes", &["state=\"tracked\""]);
    assert_eq!(tracked, Some(0.0));
    eventually("why is counted", || {
        let why = ["reason=\"pid_namespace\""];
        let failures = sum(&running.metrics(), "uffdwp_track_failures_total", &why);
        (failures == Some(1.0)).then_some(())
    });
}

#[test]
fn in_a_time_namespace_it_is_the_same_process() {
    if !can_unshare() {
        return;
    }
    let (_scratch, _fd) = registered(4);
    let time = ["--kill-child", "--fork", "--time", "--boottime", "100000"];
    let running = AgentProcess::spawn(agent_in(&time, "", QUICK));
    pages_of(&running, std::process::id());
}

/// Its main thread ends; another one holds registered memory.
#[test]
fn a_process_whose_main_thread_has_ended_is_seen() {
    for no_iterator in [false, true] {
        let target = {
            let mut command = Command::new(program("inject-target"));
            InjectTarget::spawn(command.args(["leader-ends", "600000"]))
        };
        eventually("the first thread ends", || {
            (target.state() == 'Z').then_some(())
        });
        let mut command = agent(QUICK);
        if no_iterator {
            command.env("TRACKER_EBPF_OBJECT", "/dev/null");
        }
        let running = AgentProcess::spawn(command);
        let metrics = pages_of(&running, target.pid());
        let label = format!("pid=\"{}\"", target.pid());
        let tables = sum(&metrics, "uffdwp_page_table_bytes", &[&label]);
        assert!(tables.is_some_and(|bytes| bytes > 0.0), "{tables:?}");
    }
}

/// A file of one process is a pipe that nobody writes to: opening it waits for ever.
#[test]
fn one_file_that_never_answers_holds_up_nobody_else() {
    if !can_unshare() {
        return;
    }
    let (_scratch, _fd) = registered(4);
    let sleeper = KilledChild(Command::new("sleep").arg("600").spawn().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let script = format!(
        "mkfifo {0}; mount --bind {0} /proc/{1}/stat",
        pipe.display(),
        sleeper.0.id()
    );
    let mut command = agent_in(&["--mount"], &script, QUICK);
    // The iterator would not even ask.
    command.env("TRACKER_EBPF_OBJECT", "/dev/null");
    let mut running = AgentProcess::spawn(command);
    running.wait_ready();
    pages_of(&running, std::process::id());
    eventually("it is told", || {
        (refused(&running, "stuck") == Some(1.0)).then_some(())
    });
    let told = running.status()["discovery"]["first_refusals"]["stuck"].to_string();
    assert!(told.contains(&sleeper.0.id().to_string()), "{told}");
    // It ends with a thread that cannot end.
    let log = running.log();
    assert!(log.contains("thread discover is stuck"), "{log}");
    running.end(rustix::process::Signal::TERM);
}

/// Attaching to a process waits for ever: its name is asked for in a pipe that nobody writes to.
#[test]
fn one_process_that_cannot_be_attached_to_holds_up_no_other() {
    if !can_unshare() {
        return;
    }
    let sleeper = || KilledChild(Command::new("sleep").arg("600").spawn().unwrap());
    let (stuck, other) = (sleeper(), sleeper());
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    let script = format!(
        "mkfifo {0}; mount --bind {0} /proc/{1}/comm",
        pipe.display(),
        stuck.0.id()
    );
    let track = [&stuck, &other].map(|child| format!("pid:{}", child.0.id()));
    let args = [QUICK, &["--track", &track[0], "--track", &track[1]]].concat();
    let mut running = AgentProcess::spawn(agent_in(&["--mount"], &script, &args));
    running.wait_ready();
    let own = format!("pid=\"{}\"", other.0.id());
    eventually("the other one is tracked", || {
        sum(&running.metrics(), "uffdwp_rounds_total", &[&own])
    });
    let log = running.log();
    assert!(log.contains("the others go on"), "{log}");
    running.end(rustix::process::Signal::TERM);
}

/// Nothing is in it, and walking it all takes a budget of minutes.
#[test]
fn a_huge_empty_mapping_holds_up_no_other() {
    const HUGE: u64 = 32 << 40;
    let Ok(huge) = ScratchMapping::anonymous(HUGE) else {
        eprintln!("skipped: no 32 TiB of addresses");
        return;
    };
    let small = ScratchMapping::anonymous(4 * PAGE_SIZE).unwrap();
    let fd = Userfaultfd::open_user_mode_only().unwrap();
    fd.enable(UffdFeatures::default()).unwrap();
    fd.register(&huge.range(), RegisterMode::WP).unwrap();
    fd.register(&small.range(), RegisterMode::WP).unwrap();
    let args = [QUICK, &["--scan-budget", "0.2%"]].concat();
    let running = AgentProcess::start(&args);
    let own = format!("pid=\"{}\"", std::process::id());
    let start = format!("vma=\"{:#x}\"", small.range().start);
    eventually("the small one is counted", || {
        sum(&running.metrics(), "uffdwp_pages", &[&own, &start])
    });
    let scan = running.status()["scan"]["state"].take();
    assert!(scan["passes"].as_u64() >= Some(1), "{scan:#}");
    // What is not counted yet is told, and not as zero pages.
    let exposition = running.metrics();
    let huge = format!("vma=\"{:#x}\"", huge.range().start);
    assert_eq!(sum(&exposition, "uffdwp_pages", &[&own, &huge]), None);
    assert_eq!(sum(&exposition, "uffdwp_scan_late_vmas", &[]), Some(1.0));
}
