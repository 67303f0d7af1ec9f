//! Format, lints and tests on this host.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::TestArgs;
use crate::{
    paths,
    setup::programs::{self, BundlePart},
    sh,
    tally::{HostTestCounts, TestTally},
};

/// Checks the format and runs clippy, on the hooks too.
pub fn lint(tally: &mut TestTally) {
    let cargo = |args: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(args).current_dir(paths::root());
        command
    };
    let mut format = cargo(&["fmt", "--all", "--check"]);
    tally.check("format", sh::step("cargo fmt --check", &mut format));
    let deny = ["--", "-D", "warnings"];
    let workspace = ["clippy", "--workspace", "--all-targets"];
    let mut clippy = cargo(&[&workspace[..], &deny].concat());
    tally.check("clippy", sh::step("cargo clippy", &mut clippy));
    let hooks = [
        "clippy",
        "-p",
        "tracker-ebpf",
        "--features",
        "bpf",
        "--bins",
    ];
    let mut clippy = cargo(&[&hooks[..], &deny].concat());
    // Clippy checks them for the host, where programs without `std` need a panic that aborts.
    clippy.env("CARGO_PROFILE_DEV_PANIC", "abort");
    tally.check(
        "clippy of the hooks",
        sh::step("cargo clippy of the hooks", &mut clippy),
    );
}

/// Runs `cargo test`, passes its output on and counts.
pub fn test(args: &TestArgs, tally: &mut TestTally) -> Result<()> {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(paths::root());
    command.args(&args.filter);
    for (variable, part) in [
        ("PATH", BundlePart::Programs),
        ("LD_LIBRARY_PATH", BundlePart::Libraries),
    ] {
        command.env(variable, programs::with_fetched(variable, part)?);
    }
    let shown = sh::display(&command);
    eprintln!("     ... {shown}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut counts = HostTestCounts::default();
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|out| BufReader::new(out).split(b'\n'))
    {
        let line = line.context("cannot read cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        counts.push(&line, args.no_vm);
    }
    let status = child
        .wait()
        .with_context(|| format!("cannot wait for `{shown}`"))?;
    tally.host(&counts);
    if !status.success() && counts.failures.is_empty() {
        tally.fail(
            "host tests",
            &format!("`{shown}` failed ({status}); its messages are above"),
        );
    }
    Ok(())
}
