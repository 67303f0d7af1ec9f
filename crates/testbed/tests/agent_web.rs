//! What the agent shows to whoever can ask it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "agent_web/tls.rs"]
mod tls;
#[path = "agent_web/top.rs"]
mod top;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use testbed::script::{ANON, FILE, ScriptProcess};
use testbed::{AgentProcess, KilledChild, eventually, sum};
use uffd::smaps;

/// Everything that the agent says while it tracks a process.
fn told(agent: &AgentProcess) -> String {
    let parts = ["/metrics", "/status", "/processes", "/readyz", "/"].map(|path| agent.get(path).1);
    parts.concat()
}

/// Who may not read /proc/PID/maps learns nothing of it here.
#[test]
fn no_address_of_a_process_is_shown_unless_asked_for() {
    let mut script = ScriptProcess::start();
    let (_, area) = script.map(ANON, 64);
    script.say("store 0 1 1 0-63");
    let pid = script.pid();
    let selector = format!("pid:{pid}");
    let quick = ["--discover-interval", "50ms", "--scan-interval", "50ms"];
    for label in ["number", "address"] {
        let args = [
            "--vma-label",
            label,
            "--track",
            &selector,
            "--max-vmas",
            "1000",
        ];
        let agent = AgentProcess::start(&[&args[..], &quick].concat());
        agent.wait_ready();
        let own = format!("pid=\"{pid}\"");
        eventually("its VMAs have series", || {
            sum(&agent.metrics(), "uffdwp_vma_bytes", &[&own]).filter(|bytes| *bytes > 0.0)
        });
        let told = told(&agent);
        let addresses: Vec<_> = (smaps(pid).unwrap())
            .flat_map(|vma| {
                let vma = vma.unwrap();
                [vma.start, vma.end]
            })
            .map(|address| format!("{address:x}"))
            .collect();
        let shown = addresses.iter().filter(|address| told.contains(*address));
        match label {
            "number" => assert_eq!(shown.collect::<Vec<_>>(), Vec::<&String>::new(), "{told}"),
            _ => assert!(
                told.contains(&format!("vma=\"{:#x}\"", area.range.start)),
                "{told}"
            ),
        }
    }
}

/// What goes to others has no name of a process or a file, and still its numbers.
#[test]
fn no_name_and_no_path_is_shown_where_that_is_asked_for() {
    let mut script = ScriptProcess::start();
    let (_, area) = script.map(FILE, 64);
    script.say("store 0 1 1 0-63");
    let pid = script.pid();
    let comm = uffd::comm(pid).unwrap();
    let comm = String::from_utf8(comm).unwrap();
    let vmas = smaps(pid).unwrap().map(Result::unwrap);
    let file = vmas
        .filter(|vma| vma.start == area.range.start)
        .map(|vma| vma.name)
        .next();
    let file = String::from_utf8(file.unwrap()).unwrap();
    let by_comm = format!("comm:{comm}");
    let quick = ["--discover-interval", "50ms", "--scan-interval", "50ms"];
    let track = ["--explain", &by_comm, "--max-vmas", "1000"];
    for redact in [false, true] {
        let flag = redact.then_some("--redact");
        let args: Vec<&str> = track.into_iter().chain(quick).chain(flag).collect();
        let agent = AgentProcess::start(&args);
        agent.wait_ready();
        let own = format!("pid=\"{pid}\"");
        let told = eventually("it is tracked, and its file is known", || {
            let metrics = agent.metrics();
            let is_there = sum(&metrics, "uffdwp_vma_bytes", &[&own]).is_some_and(|it| it > 0.0)
                && sum(&metrics, "uffdwp_tracked_pages", &[&own]).is_some();
            let told = told(&agent);
            (is_there && (redact || told.contains(&file))).then_some(told)
        });
        let names = [comm.as_str(), file.as_str()].map(|name| told.contains(name));
        assert_eq!(names, [!redact; 2], "--redact {redact}: {told}");
    }
}

#[test]
fn the_landing_page_shows_level_processes_and_vmas() {
    let mut script = ScriptProcess::start();
    script.map(ANON, 64);
    let pid = script.pid();
    let selector = format!("pid:{pid}");
    let quick = ["--discover-interval", "50ms", "--scan-interval", "50ms"];
    let agent = AgentProcess::start(&[&["--explain", &selector][..], &quick].concat());
    agent.wait_ready();
    eventually("the page has its VMAs, and what was reported", || {
        script.say("store 0 1 1 0-63");
        let (code, page) = agent.get("/");
        assert_eq!(code, 200, "{page}");
        let shown = page.matches(&format!("<td class=\"n\">{pid}</td>")).count();
        (shown > 1 && page.contains("100%")).then_some(())
    });
    let page = agent.get("/").1;
    let level = agent.status()["level"]["level"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(page.contains(&format!("Level {level}")), "{page}");
    for link in ["/metrics", "/status", "/processes", "/readyz", "/healthz"] {
        assert!(page.contains(&format!("href=\"{link}\"")), "{page}");
    }
    assert!(!page.contains("<script"), "{page}");
}

/// Opens connections without end, asks nothing, and holds the last of them.
const FLOOD: &str = r#"
    while :; do
        for fd in $(seq 10 209); do eval "exec $fd<>/dev/tcp/${1%:*}/${1#*:}"; done
    done"#;

/// Any user can open connections to the loopback address.
#[test]
fn a_user_who_opens_connections_without_end_keeps_no_other_out() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: to be another user takes root");
        return;
    }
    let agent = AgentProcess::start(&[]);
    agent.wait_ready();
    let mut flood = Command::new("bash");
    flood.args(["-c", FLOOD, "bash", &agent.address]).uid(64321);
    let _flood = KilledChild(flood.spawn().unwrap());
    eventually("all connections are taken", || {
        agent
            .log()
            .contains("gave up a connection of whoever holds most")
            .then_some(())
    });
    for _ in 0..100 {
        assert_eq!(agent.get("/metrics").0, 200);
    }
    let log = agent.log();
    let given_up = log
        .lines()
        .filter(|line| line.contains("gave up a connection"));
    for line in given_up {
        assert!(
            line.contains("peer=\"user 64321\"") || line.contains("peer=user 64321"),
            "{line}"
        );
    }
}
