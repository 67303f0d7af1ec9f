//! `/processes`, and `tracker top` that shows it.

use std::process::{Command, Output};

use serde_json::Value;
use testbed::script::{ANON, ScriptProcess};
use testbed::{AgentProcess, eventually, program, sum};

fn top(args: &[&str]) -> Output {
    Command::new(program("tracker"))
        .arg("top")
        .args(args)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The same numbers as /metrics, whoever asks for them.
#[test]
fn the_tables_and_the_json_say_what_the_metrics_say() {
    let mut script = ScriptProcess::start();
    script.map(ANON, 64);
    let pid = script.pid();
    let quick = ["--discover-interval", "50ms", "--scan-interval", "50ms"];
    let selector = format!("pid:{pid}");
    let agent = AgentProcess::start(&[&["--track", &selector][..], &quick].concat());
    agent.wait_ready();
    script.say("store 0 1 1 0-63");
    let url = format!("http://{}", agent.address);
    let own = format!("pid=\"{pid}\"");
    eventually("its pages are scanned, and all say the same", || {
        let metrics = agent.metrics();
        let told = top(&["--json", &url]);
        assert!(told.status.success(), "{}", text(&told.stderr));
        let usage: Value = serde_json::from_slice(&told.stdout).unwrap();
        let process = usage["processes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|it| it["pid"] == pid)?;
        assert!(process["tracked"]["tracked_pages"].is_u64(), "{process}");
        let vmas = process["vmas"].as_array().unwrap().iter();
        let now = vmas.map(|vma| &vma["now"]).chain([&process["other"]]);
        let pages = |key: &str| now.clone().filter_map(|now| now[key].as_f64()).sum::<f64>();
        let shown = |state: &str| {
            sum(
                &metrics,
                "uffdwp_pages",
                &[&own, &format!("state=\"{state}\"")],
            )
        };
        let same = shown("armed") == Some(pages("armed_pages"))
            && shown("written") == Some(pages("written_pages"));
        (same && pages("armed_pages") > 0.0).then_some(())
    });
    let once = top(&["--once", "--interval", "50ms", &url]);
    let shown = text(&once.stdout);
    assert!(
        once.status.success() && shown.contains(&pid.to_string()),
        "{shown}"
    );
    for head in ["FAULTS/s", "WRITTEN", "BACKING"] {
        assert!(shown.contains(head), "{shown}");
    }
}

#[test]
fn without_an_agent_or_a_terminal_it_says_what_to_do() {
    let nobody = top(&["--once", "http://127.0.0.1:1"]);
    let why = text(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(1), "{why}");
    assert!(why.contains("start one with `tracker agent`"), "{why}");
    let no_terminal = top(&[]);
    let why = text(&no_terminal.stderr);
    assert_eq!(no_terminal.status.code(), Some(1), "{why}");
    assert!(why.contains("--once"), "{why}");
}
