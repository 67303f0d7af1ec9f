//! Debian's packages: installed by the machine's apt, or only fetched and unpacked.

mod source;

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{RootConsent, consent::is_root};
use crate::{paths, sh};

pub use self::source::{PackageSource, debs};

/// With this option `apt-get update` fails if it cannot fetch a list; without, it only warns.
const UPDATE: [&str; 3] = ["update", "-o", "APT::Update::Error-Mode=any"];

/// What is usually behind a failure of apt.
const OFFLINE: &str = "apt could not fetch what it needs. Check the network and the sources of \
                       this machine (`apt-get update` must work), then run this again";

/// Whether this machine has apt.
pub fn is_here() -> bool {
    ["apt-get", "apt-cache", "dpkg-deb"]
        .iter()
        .all(|name| paths::program(name).is_some())
}

/// Installs `packages`, which bring `what`, on this machine; never removes another package.
pub fn install(what: &str, packages: &[&str], consent: &RootConsent) -> Result<()> {
    const INSTALL: [&str; 4] = ["install", "--yes", "--no-install-recommends", "--no-remove"];
    let typed = format!("apt-get {} {}", INSTALL.join(" "), packages.join(" "));
    let typed = if is_root() {
        typed
    } else {
        format!("sudo {typed}")
    };
    consent.ask(what, &typed)?;
    sh::step("apt-get update", as_root(&UPDATE)?.env("LC_ALL", "C")).context(OFFLINE)?;
    let unknown = unknown(
        &sh::output(Command::new("apt-cache").arg("policy").args(packages))?,
        packages,
    );
    if !unknown.is_empty() {
        bail!(
            "this machine's apt does not know {}. On Debian 12 they come from bookworm and \
             bookworm-security: both must be among its sources",
            unknown.join(", ")
        );
    }
    let args: Vec<&str> = INSTALL.iter().chain(packages).copied().collect();
    sh::step(&format!("installing {what}"), &mut as_root(&args)?)
        .with_context(|| format!("apt could not install {what}. By hand:\n\n    {typed}\n"))
}

/// What installing packages would change.
pub struct PlannedChange {
    /// The packages that would be installed: those asked for, and what they need.
    pub installs: Vec<String>,
    /// Whether another package would go.
    pub removes: bool,
}

/// What installing `packages` would change, as apt plans it now; nothing is changed.
pub fn planned(packages: &[&str]) -> Result<PlannedChange> {
    let mut command = Command::new("apt-get");
    command.args(["--simulate", "--no-install-recommends", "install"]);
    command.args(packages).env("LC_ALL", "C");
    Ok(parse_plan(&sh::output(&mut command)?))
}

/// From the lines `Inst NAME ...` and `Remv NAME ...` of `apt-get --simulate`.
fn parse_plan(simulated: &str) -> PlannedChange {
    let named = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let mut change = PlannedChange {
        installs: Vec::new(),
        removes: false,
    };
    for line in simulated.lines() {
        if line.starts_with("Inst ") {
            change.installs.extend(named(line));
        }
        change.removes |= line.starts_with("Remv ");
    }
    change
}

/// Those of `packages` for which the output `policy` of `apt-cache policy` has no candidate.
fn unknown<'a>(policy: &str, packages: &[&'a str]) -> Vec<&'a str> {
    let mut name = "";
    let mut known = Vec::new();
    for line in policy.lines() {
        if let Some(candidate) = line.trim().strip_prefix("Candidate: ") {
            if candidate != "(none)" {
                known.push(name);
            }
        } else if !line.starts_with(' ') {
            name = line.trim_end_matches(':');
        }
    }
    packages
        .iter()
        .copied()
        .filter(|package| !known.contains(package))
        .collect()
}

/// `apt-get` with `args`, run as root and without questions.
fn as_root(args: &[&str]) -> Result<Command> {
    let mut command = if is_root() {
        Command::new("apt-get")
    } else if let Some(sudo) = paths::program("sudo") {
        let mut command = Command::new(sudo);
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    } else {
        bail!(
            "root is needed and there is no sudo; run as root: apt-get {}",
            args.join(" ")
        )
    };
    command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_tells_what_comes_and_whether_something_goes() {
        let plan = parse_plan(
            "Remv qemu-utils [1:10.0]\nInst seabios (1.16.2-1 Debian [all])\n\
             Inst qemu-system-x86 (1:7.2 Debian [amd64])\nConf seabios (1.16.2-1 Debian [all])\n",
        );
        assert_eq!(plan.installs, ["seabios", "qemu-system-x86"]);
        assert!(plan.removes);
        assert!(!parse_plan("Inst seabios (1.16.2-1)\n").removes);
    }

    #[test]
    fn packages_without_a_candidate_are_unknown() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  \
                      Version table:\n     1.96.0+dfsg1-1~deb12u2 500\n\
                      virtual:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert_eq!(
            unknown(policy, &["rustc-web", "virtual", "absent"]),
            ["virtual", "absent"]
        );
        assert_eq!(unknown("", &["absent"]), ["absent"]);
    }
}
