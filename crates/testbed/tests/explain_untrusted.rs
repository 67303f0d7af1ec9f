//! `tracker explain` of programs whose files and perf maps change while they are read, or lie.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use testbed::program;
use testbed::session::registered;

/// The function that stores.
const STORE: &str = "uffdwp_store_pages";

/// A program that is not to be trusted, killed when dropped.
struct UntrustedProgram(Child);

impl UntrustedProgram {
    fn start(kind: &str, directory: &tempfile::TempDir) -> Self {
        let mut child = Command::new(program("uffdwp-workload"))
            .args(["code", kind, "--dir"])
            .arg(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let ready = BufReader::new(out).lines().next().unwrap().unwrap();
        assert_eq!(ready, "ready");
        Self(child)
    }
}

impl Drop for UntrustedProgram {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let pid = self.0.id();
        for name in ["map", "pipe"] {
            let _ = std::fs::remove_file(format!("/tmp/perf-{pid}.{name}"));
        }
    }
}

/// The report as JSON. It comes, whatever the files do, and nothing stays armed.
fn explain(untrusted: &UntrustedProgram) -> String {
    let pid = untrusted.0.id();
    let output = Command::new(program("tracker"))
        .args([
            "explain",
            "--pid",
            &pid.to_string(),
            "-n",
            "3",
            "-i",
            "30ms",
        ])
        .output()
        .unwrap();
    let (text, errors) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert_eq!(registered(pid), 0);
    text
}

fn stores_are_seen(text: &str) -> bool {
    let seen = text.contains("\"user-store\":");
    if !seen {
        eprintln!("skipped: stores are not seen here");
    }
    seen
}

#[test]
fn a_file_that_lies_about_its_size_loses_only_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let text = explain(&UntrustedProgram::start("lies", &directory));
    assert!(!stores_are_seen(&text) || text.contains(STORE), "{text}");
}

#[test]
fn a_file_that_is_cut_off_is_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let untrusted = UntrustedProgram::start("cut-off", &directory);
    let texts: Vec<_> = (0..8).map(|_| explain(&untrusted)).collect();
    let told = |text: &String| text.contains("cut-off+0x") || text.contains(STORE);
    assert!(
        !stores_are_seen(&texts[0]) || texts.iter().any(told),
        "{}",
        texts[0]
    );
}

#[test]
fn a_perf_map_that_becomes_a_pipe_keeps_nobody_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let untrusted = UntrustedProgram::start("perf-map", &directory);
    let texts: Vec<_> = (0..8).map(|_| explain(&untrusted)).collect();
    let named = texts.iter().filter(|text| text.contains("made_up_store"));
    assert!(
        named.count() > 0 || !stores_are_seen(&texts[0]),
        "{}",
        texts[0]
    );
}
