//! Builds the project's programs: static, so that they run on this host and in any guest.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    matrix::{GUEST_TESTS, GuestTest},
    paths, sh,
};

/// A program that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub struct BuiltProgram {
    /// The name of its target: `tracker`, `vm_exact`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The package of tracker, and that of the test programs and the tests that run programs.
pub const TRACKER: &str = "tracker";
pub const TESTBED: &str = "testbed";

/// Where the tests of [`TESTBED`] are.
#[cfg(test)]
pub const TESTBED_TESTS: &str = "crates/testbed/tests";

/// A program of these packages that xtask itself starts.
#[derive(Clone, Copy, Debug)]
pub enum OwnProgram {
    /// tracker itself.
    Tracker,
    /// It uses uffd-wp with known numbers.
    Workload,
    /// It measures what an event costs.
    Meter,
}

impl OwnProgram {
    /// The name of its target and of its file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tracker => "tracker",
            Self::Workload => "uffdwp-workload",
            Self::Meter => "uffdwp-meter",
        }
    }
}

/// Builds the programs of tracker and testbed, optimised and static.
pub fn programs() -> Result<Vec<BuiltProgram>> {
    build(programs_command())
}

fn programs_command() -> Command {
    static_cargo(&["build", "--bins"], &[TRACKER, TESTBED])
}

/// `program` among those that were built.
pub fn find(programs: &[BuiltProgram], program: OwnProgram) -> Result<&Path> {
    let name = program.name();
    let found = programs.iter().find(|program| program.name == name);
    Ok(&found
        .with_context(|| format!("neither {TRACKER} nor {TESTBED} has a program {name}"))?
        .path)
}

/// A program of tests that was built for guests.
pub struct BuiltGuestTest {
    /// Its entry in the table.
    pub entry: &'static GuestTest,
    /// Where it is.
    pub program: BuiltProgram,
}

/// Builds the tests that run in guests.
pub fn guest_tests() -> Result<Vec<BuiltGuestTest>> {
    let mut built = build(guest_tests_command())?;
    let take = |entry: &'static GuestTest| {
        let found = built.iter().position(|program| program.name == entry.name);
        let program = built.swap_remove(found?);
        Some(BuiltGuestTest { entry, program })
    };
    Ok(GUEST_TESTS.iter().filter_map(take).collect())
}

fn guest_tests_command() -> Command {
    let mut command = static_cargo(&["test", "--no-run"], &[TESTBED]);
    for test in &GUEST_TESTS {
        command.args(["--test", test.name]);
    }
    command
}

/// Builds what guests need beside something else that mostly waits, and gives way to it. What goes
/// wrong is told by [`programs`] and [`guest_tests`], which are asked for the programs later.
pub fn build_for_guests_meanwhile() -> thread::JoinHandle<()> {
    thread::spawn(|| {
        // On Linux this is about the calling thread and what it starts.
        if rustix::process::nice(19).is_err() {
            return;
        }
        for mut command in [programs_command(), guest_tests_command()] {
            let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
            if !quiet.status().is_ok_and(|status| status.success()) {
                return;
            }
        }
    })
}

/// Builds a benchmark of a package, static.
pub fn benches(package: &str, name: &str) -> Result<Vec<BuiltProgram>> {
    // As a test, because `cargo bench` has no --release; the program is the same.
    let mut command = static_cargo(&["test", "--no-run"], &[package]);
    command.args(["--bench", name]);
    let mut programs = build(command)?;
    programs.retain(|program| program.name == name);
    Ok(programs)
}

/// Cargo for some packages with a static C library. The flags apply to the target only, so build
/// scripts and macros are shared with ordinary builds, and the two do not evict each other's
/// artifacts.
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
