//! Builds the project's programs: static, so that they run on this host and in any guest.

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
pub struct BuiltProgram {
    /// The name of its target: `tracker`, `vm_exact`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The packages whose programs run in guests.
const PACKAGES: [&str; 2] = ["tracker", "testbed"];

/// Where the tests are that run in guests.
pub const GUEST_TESTS: &str = "crates/testbed/tests";

/// Builds tracker and the test programs, optimised and static.
pub fn programs() -> Result<Vec<BuiltProgram>> {
    build(static_cargo(&["build", "--bins"], &PACKAGES))
}

/// Tests that run both on the host and in guests.
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

/// Builds the tests that run in guests: `vm_*.rs` in [`GUEST_TESTS`] and [`ALSO_IN_GUESTS`].
pub fn guest_tests() -> Result<Vec<BuiltProgram>> {
    let names = guest_test_names()?;
    let mut command = static_cargo(&["test", "--no-run"], &["testbed"]);
    for name in &names {
        command.args(["--test", name]);
    }
    let mut programs = build(command)?;
    programs.retain(|program| names.contains(&program.name));
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

/// Builds one of tracker's benchmarks for a guest.
pub fn benches(name: &str) -> Result<Vec<BuiltProgram>> {
    // As a test, because `cargo bench` has no --release; the program is the same.
    let mut command = static_cargo(&["test", "--no-run"], &["tracker"]);
    command.args(["--bench", name]);
    let mut programs = build(command)?;
    programs.retain(|program| program.name == name);
    Ok(programs)
}

/// The program called `name` among `programs`.
pub fn find<'a>(programs: &'a [BuiltProgram], name: &str) -> Result<&'a Path> {
    let found = programs.iter().find(|program| program.name == name);
    Ok(&found
        .with_context(|| format!("neither tracker nor testbed has a program {name}"))?
        .path)
}

/// The names of the tests that run in guests.
pub fn guest_test_names() -> Result<Vec<String>> {
    let dir = paths::root().join(GUEST_TESTS);
    let about = || format!("cannot list {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(about)? {
        let file = entry.with_context(about)?.file_name();
        let file = file.to_string_lossy();
        let in_guests = |name: &&str| name.starts_with("vm_") || ALSO_IN_GUESTS.contains(name);
        names.extend(
            file.strip_suffix(".rs")
                .filter(in_guests)
                .map(str::to_owned),
        );
    }
    names.sort();
    Ok(names)
}

/// Cargo for some packages with a static C library. The flags apply to the target only, so build scripts
/// and macros are shared with ordinary builds, and the two do not evict each other's artifacts.
fn static_cargo(subcommand: &[&str], packages: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(subcommand)
        .args(packages.iter().flat_map(|package| ["--package", package]))
        .args(["--release", "--target", paths::TARGET])
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

/// Runs cargo and returns the programs it built; its own messages go to stderr as usual.
fn build(mut command: Command) -> Result<Vec<BuiltProgram>> {
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
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status}); its messages are above");
    }
    Ok(programs)
}

/// The program that one of cargo's JSON messages announces.
fn artifact(message: &str) -> Option<BuiltProgram> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message.get("reason")? != "compiler-artifact" {
        return None;
    }
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some(BuiltProgram {
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
