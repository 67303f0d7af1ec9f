//! Building the project's programs so that they run on this host and in any guest: static.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{paths, sh};

/// A program that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its target's name: `tracker`, `vm_exactness`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// Builds tracker's binaries, optimised and static.
pub fn programs() -> Result<Vec<Program>> {
    build(static_cargo(&["build", "--bins"]))
}

/// Tests of the host that run in guests, too.
const ALSO_IN_GUESTS: [&str; 9] = [
    "explain",
    "explain_scenarios",
    "inject",
    "inject_targets",
    "prometheus",
    "strategy_exact",
    "strategy_stress",
    "track",
    "track_programs",
];

/// Builds the tests that run in guests, `tracker/tests/vm_*.rs` and [`ALSO_IN_GUESTS`]; empty when
/// there are none.
pub fn guest_tests() -> Result<Vec<Program>> {
    let names = guest_test_names()?;
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = static_cargo(&["test", "--no-run"]);
    for name in &names {
        command.args(["--test", name]);
    }
    let mut programs = build(command)?;
    programs.retain(|program| names.contains(&program.name));
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// Builds one of tracker's benchmarks, to run in a guest.
pub fn benches(name: &str) -> Result<Vec<Program>> {
    // `cargo bench` has no --release; a benchmark is built the same way here.
    let mut command = static_cargo(&["test", "--no-run"]);
    command.args(["--bench", name]);
    let mut programs = build(command)?;
    programs.retain(|program| program.name == name);
    Ok(programs)
}

/// The names of the tests that run in guests.
pub fn guest_test_names() -> Result<Vec<String>> {
    let dir = paths::root().join("tracker/tests");
    let Ok(entries) = fs::read_dir(&dir) else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry
            .with_context(|| format!("cannot list {}", dir.display()))?
            .file_name();
        let name = name.to_string_lossy().into_owned();
        if let Some(name) = name
            .strip_suffix(".rs")
            .filter(|name| name.starts_with("vm_") || ALSO_IN_GUESTS.contains(name))
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Cargo for tracker with a static C library. The flags are those of the target alone, so that
/// build scripts and macros are shared with ordinary builds and nothing is built in turns.
fn static_cargo(subcommand: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(subcommand)
        .args([
            "--package",
            "tracker",
            "--release",
            "--target",
            paths::TARGET,
        ])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(paths::root())
        .env(
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS",
            "-Ctarget-feature=+crt-static",
        )
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

/// Runs cargo and returns the programs it names; its own messages go to stderr as usual.
fn build(mut command: Command) -> Result<Vec<Program>> {
    let shown = sh::display(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut programs = Vec::new();
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|out| BufReader::new(out).lines())
    {
        programs.extend(artifact(&line.context("cannot read cargo's messages")?));
    }
    let status = child.wait().with_context(|| format!("lost `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status}); its messages are above");
    }
    Ok(programs)
}

/// The program that one of cargo's JSON messages tells of.
fn artifact(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message.get("reason")? != "compiler-artifact" {
        return None;
    }
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some(Program {
        name: name.to_owned(),
        path: Path::new(path).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn programs_are_read_from_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"tracker"},
            "executable":"/t/release/tracker","fresh":true}"#;
        let program = artifact(&message.replace('\n', "")).unwrap();
        assert_eq!(
            (program.name.as_str(), program.path.to_str().unwrap()),
            ("tracker", "/t/release/tracker")
        );
        for other in [
            r#"{"reason":"compiler-artifact","target":{"name":"x"},"executable":null}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "Compiling x",
        ] {
            assert_eq!(artifact(other), None);
        }
    }
}
