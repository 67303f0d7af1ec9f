//! Bad input and bad days: each ends in a message that says what to do, none in silence.
#![allow(clippy::unwrap_used, reason = "tests")]

use assert_cmd::Command;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::contains;
use rustix::process::Signal;
use std::os::unix::process::CommandExt;
use std::time::Duration;
use testbed::{AgentProcess, agent, check_metrics, eventually, has, sum};
use uffd::{PAGE_SIZE, RegisterMode, ScratchMapping, UffdFeatures, Userfaultfd};

fn tracker() -> Command {
    let mut command = Command::cargo_bin("tracker").unwrap();
    command.timeout(Duration::from_secs(60));
    command
}

#[test]
fn wrong_flags_are_status_2_and_say_what_would_be_right() {
    for (args, hint) in [
        (["--listen", "localhost"], "127.0.0.1:19943"),
        (["--listen", "127.0.0.1:99999"], "0 to 65535"),
        (["--web.telemetry-path", "metrics"], "/metrics"),
        (["--web.telemetry-path", "/status"], "another path"),
        (["--scan-budget", "1"], "1%"),
        (["--scan-budget", "200%"], "1%"),
        (["--collect-interval", "5"], "5s"),
        (["--linger", "1w"], "--linger"),
        (["--track", ""], "comm:"),
        (["--track", "pid:redis"], "pid:1234"),
        (["--track", "pid:0"], "pid:1234"),
        (["--track", "comm:sixteen-bytes-xx"], "sixteen-bytes-x"),
        (["--track", "name:redis"], "comm:"),
        (["--track", "cgroup:redis.service"], "cgroup:/"),
        (["--track", "cgroup:/sys/fs/cgroup/a"], "cgroup:/a"),
        (["--track", "/usr/bin/redis"], "comm:redis"),
        (["--track-budget", "0%"], "more than 0"),
        (["--track-interval", "1"], "5s"),
        (["--track-strategy", "magic"], "markers"),
        (["--track-strategy", "mprotect"], "another"),
        (["--track-max", "0"], "1..="),
        (["--max-vmas", "0"], "1..=1000000"),
        (["--detail", "page"], "node, process, vma"),
        (["--require-level", "best"], "observe, partial, full"),
        (["--log.level", "loud"], "debug"),
        (["--log.format", "xml"], "json"),
        (["--no-such-flag", "1"], "--help"),
    ] {
        tracker()
            .arg("agent")
            .args(args)
            .assert()
            .code(2)
            .stderr(contains(hint));
    }
}

#[test]
fn wrong_environment_is_status_2_and_names_the_variables_flag() {
    let mut command = tracker();
    command.arg("agent").env("TRACKER_SCAN_INTERVAL", "soon");
    command
        .assert()
        .code(2)
        .stderr(contains("--scan-interval").and(contains("soon")));
}

#[test]
fn no_command_is_status_2_with_the_help() {
    tracker()
        .assert()
        .code(2)
        .stderr(contains("agent").and(contains("check")));
}

#[test]
fn an_address_of_another_host_names_the_flag() {
    let mut command = tracker();
    command.args(["agent", "--listen", "192.0.2.1:1"]);
    command
        .assert()
        .code(1)
        .stderr(contains("192.0.2.1:1").and(contains("--web.listen-address")));
}

#[test]
fn two_agents_work_side_by_side_and_a_third_on_a_taken_port_says_so() {
    let (one, two) = (AgentProcess::start(&[]), AgentProcess::start(&[]));
    for running in [&one, &two] {
        running.wait_ready();
        assert!(running.metrics().contains("uffdwp_build_info"));
    }
    let mut third = tracker();
    third.args(["agent", "--listen", &one.address]);
    third
        .assert()
        .code(1)
        .stderr(contains("ss -ltnp").and(contains("--web.listen-address")));
}

#[test]
fn signals_end_it_cleanly_and_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = AgentProcess::start(&[]);
        let _held_open = std::net::TcpStream::connect(&running.address).unwrap();
        assert!(running.end(signal).success());
        assert!(running.log().contains("stopping"), "{}", running.log());
    }
}

#[test]
fn flags_come_from_the_environment_too() {
    let mut command = agent(&[]);
    command
        .env("TRACKER_WEB_TELEMETRY_PATH", "/m")
        .env("TRACKER_LOG_FORMAT", "json");
    let running = AgentProcess::spawn(command);
    assert_eq!(running.get("/m").0, 200);
    assert_eq!(running.get("/metrics").0, 404);
    let log = running.log();
    assert!(
        log.lines()
            .all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok()),
        "{log}"
    );
}

#[test]
fn a_level_that_is_not_reached_shows_in_readiness_and_stops_nothing_else() {
    let running = AgentProcess::start(&["--require-level", "full"]);
    eventually("discovery is done", || {
        (running.status()["discovery"]["processes"].as_u64()? > 0).then_some(())
    });
    if running.status()["level"]["level"] == "full" {
        return;
    }
    let (code, reason) = running.get("/readyz");
    assert_eq!(code, 503);
    assert!(
        reason.contains("--require-level") && reason.contains("tracker check"),
        "{reason}"
    );
    assert_eq!(running.get("/healthz").0, 200);
    check_metrics(&running.metrics());
}

/// A command that runs the agent as nobody, without any capability.
fn unprivileged() -> Option<std::process::Command> {
    if !rustix::process::geteuid().is_root() || !has("setpriv") {
        return None;
    }
    let directory = tempfile::tempdir_in("/tmp").unwrap().keep();
    let binary = directory.join("tracker");
    std::fs::copy(testbed::program("tracker"), &binary).unwrap();
    std::process::Command::new("chmod")
        .args(["-R", "a+rx"])
        .arg(&directory)
        .status()
        .unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
    ]);
    command
        .arg("--bounding-set=-all")
        .arg(binary)
        .args(["agent", "--listen", "127.0.0.1:0"]);
    Some(command)
}

#[test]
fn without_any_privilege_it_runs_and_says_that_it_sees_nothing() {
    let Some(command) = unprivileged() else {
        return;
    };
    let running = AgentProcess::spawn(command);
    eventually("it is not ready", || {
        let (code, reason) = running.get("/readyz");
        (code == 503 && reason.contains("no process can be seen")).then_some(())
    });
    let status = running.status();
    assert_eq!(status["level"]["level"], "observe");
    assert!(
        status["discovery"]["refused"].as_u64().unwrap() > 0,
        "{status:#}"
    );
    let refusal = status["discovery"]["first_refusal"].as_str().unwrap();
    assert!(refusal.contains("CAP_SYS_PTRACE"), "{refusal}");
    check_metrics(&running.metrics());
}

#[test]
fn processes_that_die_while_they_are_read_are_no_failure() {
    let running = AgentProcess::start(&["--discover-interval", "1ms", "--scan-interval", "1ms"]);
    let scratch = ScratchMapping::anonymous(PAGE_SIZE).unwrap();
    let fd = Userfaultfd::open_user_mode_only().unwrap();
    fd.enable(UffdFeatures::default()).unwrap();
    fd.register(&scratch.range(), RegisterMode::WP).unwrap();
    for _ in 0..300 {
        std::process::Command::new("true").status().unwrap();
    }
    let metrics = running.metrics();
    let success = sum(
        &metrics,
        "uffdwp_scrape_collector_success",
        &["collector=\"discovery\""],
    );
    assert_eq!(success, Some(1.0));
    // What is refused for good is logged; what is gone is not.
    let log = running.log();
    assert!(!log.contains("No such") && !log.contains("panic"), "{log}");
    let refusal = running.status()["discovery"]["first_refusal"].to_string();
    assert!(!refusal.contains("No such"), "{refusal}");
}

/// Every second page of a mapping is registered: 60,000 VMAs, nearly the most that a process may
/// have.
#[test]
fn a_process_with_sixty_thousand_vmas_is_folded_not_dropped() {
    const WITH_UFFD: u64 = 30_000;
    let scratch = ScratchMapping::anonymous(2 * WITH_UFFD * PAGE_SIZE).unwrap();
    let fd = Userfaultfd::open_user_mode_only().unwrap();
    fd.enable(UffdFeatures::default()).unwrap();
    let range = scratch.range();
    for page in 0..WITH_UFFD {
        let start = range.start + 2 * page * PAGE_SIZE;
        fd.register(&(start..start + PAGE_SIZE), RegisterMode::WP)
            .unwrap();
    }
    let running = AgentProcess::start(&[
        "--max-vmas",
        "10",
        "--scan-budget",
        "100%",
        "--scan-interval",
        "100ms",
    ]);
    let own = format!("pid=\"{}\"", std::process::id());
    let metrics = eventually("all of them are scanned", || {
        let metrics = running.metrics();
        let pages = sum(&metrics, "uffdwp_pages", &[&own])?;
        (pages >= WITH_UFFD as f64).then_some(metrics)
    });
    assert_eq!(
        sum(&metrics, "uffdwp_vmas_folded", &[]).map(|n| n >= (WITH_UFFD - 10) as f64),
        Some(true)
    );
    let bytes = sum(&metrics, "uffdwp_vma_bytes", &[&own]).unwrap();
    assert!(bytes >= (WITH_UFFD * PAGE_SIZE) as f64, "{bytes}");
    check_metrics(&metrics);
    assert!(metrics.len() < 100_000, "{} bytes", metrics.len());
}

/// Runs this test as a child that has a hostile name and maps hostile files.
#[test]
fn hostile_names_stay_valid_exposition_text() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "child_with_hostile_names",
        "--include-ignored",
        "--nocapture",
    ]);
    command.env("TRACKER_TEST_HOSTILE", "1").process_group(0);
    let child = testbed::KilledChild(command.stdout(std::process::Stdio::null()).spawn().unwrap());
    let running =
        AgentProcess::start(&["--discover-interval", "100ms", "--scan-interval", "100ms"]);
    let own = format!("pid=\"{}\"", child.0.id());
    let metrics = eventually("the child is seen", || {
        let metrics = running.metrics();
        sum(&metrics, "uffdwp_vma_bytes", &[&own, "shmem"])?;
        Some(metrics)
    });
    check_metrics(&metrics);
    let lines: Vec<_> = metrics.lines().filter(|line| line.contains(&own)).collect();
    assert!(
        lines.iter().any(|line| line.contains(r#"comm="a\"{}\\"#)),
        "{lines:#?}"
    );
}

const HOSTILE: &[u8] = b"a\"{}\\\n\xff\xfe= 1";

#[test]
#[ignore = "run as a child by the test above"]
fn child_with_hostile_names() {
    if std::env::var_os("TRACKER_TEST_HOSTILE").is_none() {
        return;
    }
    let pid = std::process::id();
    std::fs::write(format!("/proc/{pid}/comm"), HOSTILE).unwrap();
    let name = std::ffi::CString::new(HOSTILE).unwrap();
    let memfd = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::empty()).unwrap();
    rustix::fs::ftruncate(&memfd, PAGE_SIZE).unwrap();
    // SAFETY: a fresh mapping at an address the kernel chooses; nothing else refers to it.
    let address = unsafe {
        use rustix::mm::{MapFlags, ProtFlags, mmap};
        let (read, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        mmap(
            std::ptr::null_mut(),
            PAGE_SIZE as usize,
            read,
            flags,
            &memfd,
            0,
        )
        .unwrap()
    };
    let start = address.addr() as u64;
    let fd = Userfaultfd::open_user_mode_only().unwrap();
    fd.enable(UffdFeatures::WP_HUGETLBFS_SHMEM).unwrap();
    fd.register(&(start..start + PAGE_SIZE), RegisterMode::WP)
        .unwrap();
    std::thread::sleep(Duration::from_secs(120));
}

#[test]
fn check_tells_every_hook_and_strategy_and_its_status_tells_the_level() {
    let check = |args: &[&str]| {
        let output = tracker().arg("check").args(args).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
        )
    };
    let (code, text) = check(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("level ") && text.contains("do_wp_page"),
        "{text}"
    );
    let (_, json) = check(&["--json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    let hooks = report["hooks"].as_array().unwrap();
    assert!(
        hooks
            .iter()
            .all(|hook| !hook["reason"].as_str().unwrap().is_empty()),
        "{json}"
    );
    let verdicts = report["strategies"]["verdicts"].as_array().unwrap();
    for verdict in verdicts {
        let name = verdict["strategy"].as_str().unwrap();
        assert!(text.contains(name), "{name}: {text}");
        assert!(!verdict["reason"].as_str().unwrap().is_empty(), "{json}");
    }
    assert_eq!(verdicts.len(), 9, "{json}");
    let full = report["level"] == "full";
    let (code, _) = check(&["--require-level", "full"]);
    assert_eq!(code, Some(if full { 0 } else { 3 }));
}

#[test]
fn a_hook_that_does_not_exist_is_status_2_with_those_that_do() {
    for (args, hint) in [
        (["--no-hook", "do_wp"], "do_wp_page"),
        (["--force-mechanism", "magic"], "kprobe"),
        (["--force-mechanism", "do_wp_page=fexit"], "fentry"),
    ] {
        tracker()
            .arg("check")
            .args(args)
            .assert()
            .code(2)
            .stderr(contains(hint));
        tracker()
            .args(["agent", "--listen", "127.0.0.1:0"])
            .args(args)
            .assert()
            .code(2);
    }
}

#[test]
fn hooks_switched_off_say_so() {
    let output = tracker()
        .args(["check", "--no-hook", "do_wp_page", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let hooks = report["hooks"].as_array().unwrap();
    let hook = hooks
        .iter()
        .find(|hook| hook["name"] == "do_wp_page")
        .unwrap();
    assert_eq!(hook["verdict"], "off");
    assert!(hook["reason"].as_str().unwrap().contains("--no-hook"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut shell = Command::new("sh");
    let check = format!("{} check; echo status $? >&2", testbed::program("tracker"));
    shell
        .args(["-c", &format!("{{ {check}; }} | true")])
        .timeout(Duration::from_secs(60));
    shell.assert().stderr(contains("status 0"));
}
