//! The files in `deploy/` work as written.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "agent_deploy/kubernetes.rs"]
mod kubernetes;
#[path = "agent_deploy/rules.rs"]
mod rules;

use rustix::io::FdFlags;
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use testbed::script::ScriptProcess;
use testbed::workload::HeldRow;
use testbed::{AgentProcess, agent, eventually, has, patience, sum};

const UNIT: &str = include_str!("../../../deploy/tracker.service");

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../deploy")
        .join(file)
}

#[test]
fn promtool_accepts_the_scrape_config() {
    if !has("promtool") {
        return;
    }
    let mut command = Command::new("promtool");
    let output = command
        .args(["check", "config"])
        .arg(deploy("prometheus.yml"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_scrape_config_asks_where_the_agent_serves_by_default() {
    let config = std::fs::read_to_string(deploy("prometheus.yml")).unwrap();
    let help = Command::new(testbed::program("tracker"))
        .args(["agent", "--help"])
        .output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    assert!(
        config.contains("127.0.0.1:19943") && help.contains("127.0.0.1:19943"),
        "{help}"
    );
}

/// The unit with the program of this build instead of the installed one.
fn unit_here() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tracker.service");
    let unit = UNIT.replace("/usr/local/bin/tracker", &testbed::program("tracker"));
    assert_ne!(unit, UNIT);
    std::fs::write(&path, unit).unwrap();
    (directory, path)
}

#[test]
fn systemd_accepts_the_unit_and_finds_it_hardened() {
    if !has("systemd-analyze") {
        return;
    }
    let (_directory, unit) = unit_here();
    for check in [
        &["verify"][..],
        &["security", "--offline=yes", "--threshold=35"],
    ] {
        let output = Command::new("systemd-analyze")
            .args(check)
            .arg(&unit)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{check:?}: {said}");
        assert!(!said.contains("Unknown"), "{check:?}: {said}");
    }
}

/// Of the two ways to hide it that a unit has.
#[test]
fn the_unit_leaves_the_kernels_symbols_to_be_read() {
    assert_eq!(setting("ProtectKernelTunables"), "no");
    assert!(!UNIT.contains("\nProtectKernelLogs="));
}

/// The value of a setting in the unit.
fn setting(name: &str) -> &'static str {
    let mut values = UNIT
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    values
        .next()
        .unwrap_or_else(|| panic!("the unit has no {name}"))
}

/// The agent as the unit runs it: as another user, with these capabilities and no others.
fn as_in_the_unit(without: Option<&str>) -> Option<(tempfile::TempDir, Command)> {
    if !rustix::process::geteuid().is_root() || !has("setpriv") {
        return None;
    }
    let wanted = setting("AmbientCapabilities")
        .split(' ')
        .filter(|cap| Some(*cap) != without);
    let caps: String = wanted
        .map(|cap| format!(",+{}", cap.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let directory = tempfile::tempdir_in("/tmp").unwrap();
    let binary = directory.path().join("tracker");
    std::fs::copy(testbed::program("tracker"), &binary).unwrap();
    Command::new("chmod")
        .args(["-R", "a+rx"])
        .arg(directory.path())
        .status()
        .unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--no-new-privs",
    ]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{set}=-all{caps}"));
    }
    command.arg(binary).args([
        "agent",
        "--listen",
        "127.0.0.1:0",
        "--discover-interval",
        "100ms",
    ]);
    Some((directory, command))
}

fn sees(agent: &AgentProcess, pid: u32) -> bool {
    agent
        .metrics()
        .contains(&format!("uffdwp_vma_bytes{{pid=\"{pid}\""))
}

#[test]
fn the_units_capabilities_suffice_to_see_a_process_of_root() {
    let Some((_directory, command)) = as_in_the_unit(None) else {
        return;
    };
    let agent = AgentProcess::spawn(command);
    agent.wait_ready();
    let Some(workload) = HeldRow::run("anon-present-sync") else {
        return;
    };
    eventually("the workload is seen", || {
        sees(&agent, workload.pid()).then_some(())
    });
    eventually("its pages are counted", || {
        let pages = format!("uffdwp_pages{{pid=\"{}\"", workload.pid());
        agent.metrics().contains(&pages).then_some(())
    });
}

#[test]
fn the_units_capabilities_suffice_to_track_a_process_of_root() {
    let Some((_directory, mut command)) = as_in_the_unit(None) else {
        return;
    };
    let script = ScriptProcess::start();
    let pid = format!("pid=\"{}\"", script.pid());
    command.args(["--track", &format!("pid:{}", script.pid())]);
    let agent = AgentProcess::spawn(command);
    eventually("rounds come", || {
        let rounds = sum(&agent.metrics(), "uffdwp_rounds_total", &[&pid])?;
        (rounds > 0.0).then_some(())
    });
}

/// The line for tracking is commented out, and contains what tracking needs.
#[test]
fn the_system_calls_of_tracking_are_there_to_be_switched_on() {
    let line = "SystemCallFilter=ptrace pidfd_getfd";
    assert!(
        UNIT.lines().any(|other| other == format!("#{line}")),
        "{UNIT}"
    );
    if !has("systemd-analyze") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("tracker.service");
    let with = UNIT
        .replace("/usr/local/bin/tracker", &testbed::program("tracker"))
        .replace(&format!("#{line}"), line);
    std::fs::write(&unit, with).unwrap();
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("Unknown"),
        "{said}"
    );
}

#[test]
fn without_cap_sys_ptrace_or_cap_dac_read_search_it_is_not_seen() {
    let Some(workload) = HeldRow::run("anon-present-sync") else {
        return;
    };
    for capability in ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"] {
        let Some((_directory, command)) = as_in_the_unit(Some(capability)) else {
            return;
        };
        let agent = AgentProcess::spawn(command);
        agent.wait_ready();
        let status = agent.status();
        if status["discovery"]["route"] != "smaps" {
            return;
        }
        assert!(
            status["discovery"]["refused"].as_u64().unwrap() > 0,
            "{status:#}"
        );
        let pages = format!("uffdwp_pages{{pid=\"{}\"", workload.pid());
        assert!(!agent.metrics().contains(&pages), "without {capability}");
    }
}

#[test]
fn the_service_manager_hears_of_start_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(patience())).unwrap();
    let mut command = agent(&[]);
    command.env("NOTIFY_SOCKET", &path);
    let mut running = AgentProcess::spawn(command);
    let hear = || {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let ready = hear();
    assert!(
        ready.contains("READY=1") && ready.contains(&running.address),
        "{ready}"
    );
    assert!(running.end(Signal::TERM).success());
    assert!(hear().contains("STOPPING=1"));
}

/// As systemd does for a .socket unit: the first descriptor that it passes is 3.
#[test]
fn sockets_of_the_service_manager_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::io::fcntl_setfd(&listener, FdFlags::empty()).unwrap();
    let number = listener.as_raw_fd();
    let start = format!("exec 3<&{number}; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"");
    let activated = |flags: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", &start, &testbed::program("tracker"), "agent"]);
        command.args(flags);
        command
    };
    let running = AgentProcess::spawn(activated(&["--web.systemd-socket"]));
    let address = listener.local_addr().unwrap().to_string();
    assert_eq!(running.address, address);
    assert_eq!(running.get("/healthz").0, 200);
    drop(running);

    let refused = Command::new(testbed::program("tracker"))
        .args(["agent", "--web.systemd-socket"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(
        told.contains("passed no socket") && told.contains("ListenStream"),
        "{told}"
    );
}

#[test]
fn completions_and_man_pages_are_of_this_command_line() {
    let tracker = testbed::program("tracker");
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(&tracker).args(["completions", shell]).output();
        let script = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(script.contains("web.systemd-socket"), "{shell}: {script}");
        assert!(!script.contains("compare-work"), "{shell}");
    }
    let complete = format!(
        "source <({tracker} completions bash); COMP_WORDS=(tracker age); \
        COMP_CWORD=1; _tracker tracker age tracker; echo ${{COMPREPLY[@]}}"
    );
    let output = Command::new("bash")
        .args(["-c", &complete])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "agent\n",
        "{output:?}"
    );

    let directory = tempfile::tempdir().unwrap();
    let pages = directory.path().join("man");
    let written = Command::new(&tracker).arg("man-pages").arg(&pages).status();
    assert!(written.unwrap().success());
    let names = std::fs::read_dir(&pages).unwrap();
    let mut names: Vec<_> = names
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let commands = [
        "agent",
        "check",
        "compare",
        "completions",
        "explain",
        "report",
        "top",
        "track",
    ];
    let mut wanted: Vec<_> = commands.map(|one| format!("tracker-{one}.1")).into();
    wanted.push("tracker.1".into());
    assert_eq!(names, wanted);
    let page = std::fs::read_to_string(pages.join("tracker-agent.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("systemd"), "{page}");
}
