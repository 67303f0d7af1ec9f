//! QEMU: the machine's own, installed, or Debian's packages unpacked beside our tools where
//! installing them would remove another package.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{NeededFile, RootConsent, apt, install};
use crate::{paths, sh};

/// The emulator's program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The package of Debian that has it.
const PACKAGE: &str = "qemu-system-x86";

/// What unpacks a kernel's modules.
const XZ: NeededFile = NeededFile {
    file: "xz",
    package: "xz-utils",
};

const ADVICE: &str = "Install QEMU 7 or later (x86) and xz";

/// Where Debian's packages have libraries.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// A QEMU on this machine.
pub struct FoundQemu {
    /// Its program.
    pub program: PathBuf,
    /// Where the packages were unpacked that it is from; none: it is the machine's own.
    pub unpacked: Option<PathBuf>,
}

/// Makes sure that QEMU and xz are there; returns QEMU's version.
pub fn prepare(consent: &RootConsent) -> Result<String> {
    install("xz", &[XZ], ADVICE, consent)?;
    if find().is_none() {
        let change = apt::is_here()
            .then(|| apt::planned(&[PACKAGE]))
            .transpose()?;
        match change {
            Some(change) if change.removes => {
                let source = apt::PackageSource::open().context(ADVICE)?;
                source.unpack(&change.installs, &dir()?)?;
            }
            _ => {
                let needed = NeededFile {
                    file: PROGRAM,
                    package: PACKAGE,
                };
                install("QEMU", &[needed], ADVICE, consent)?;
            }
        }
    }
    let version = sh::output(command()?.arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

/// The QEMU to use, if there is one.
pub fn find() -> Option<FoundQemu> {
    if let Some(program) = paths::program(PROGRAM) {
        return Some(FoundQemu {
            program,
            unpacked: None,
        });
    }
    let dir = dir().ok()?;
    let program = dir.join("usr/bin").join(PROGRAM);
    program.is_file().then_some(FoundQemu {
        program,
        unpacked: Some(dir),
    })
}

/// A command that starts it. It finds its modules and firmware relative to its own path, and ends
/// with the thread of ours that starts it, however that ends.
pub fn command() -> Result<Command> {
    let found = find().with_context(|| format!("there is no {PROGRAM}; run: cargo xtask setup"))?;
    let mut command = ending_with_us(&found.program);
    if !found.libraries().is_empty() {
        let own = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let own = env::split_paths(&own).filter(|dir| !dir.as_os_str().is_empty());
        let all = env::join_paths(found.libraries().into_iter().chain(own))
            .context("LD_LIBRARY_PATH holds a name that cannot be in it")?;
        command.env("LD_LIBRARY_PATH", all);
    }
    Ok(command)
}

/// A command that the kernel kills when who started it is gone (`PR_SET_PDEATHSIG`).
fn ending_with_us(program: &Path) -> Command {
    match paths::program("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

impl FoundQemu {
    /// The directories with its own libraries; none where the machine's loader finds them.
    pub fn libraries(&self) -> Vec<PathBuf> {
        let dirs = self.unpacked.iter();
        let dirs = dirs.flat_map(|dir| LIBRARIES.map(|sub| dir.join(sub)));
        dirs.filter(|dir| dir.is_dir()).collect()
    }
}

fn dir() -> Result<PathBuf> {
    Ok(paths::tools()?.join("qemu"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{os::unix::process::ExitStatusExt as _, thread};

    use super::*;

    #[test]
    fn a_machine_ends_with_who_started_it() {
        if paths::program("setpriv").is_none() {
            return;
        }
        let start = || {
            ending_with_us(Path::new("sleep"))
                .arg("60")
                .spawn()
                .unwrap()
        };
        let mut child = thread::spawn(move || {
            let child = start();
            // Until it is what it is to be.
            let status = format!("/proc/{}/comm", child.id());
            while std::fs::read_to_string(&status).unwrap() != "sleep\n" {
                thread::yield_now();
            }
            child
        })
        .join()
        .unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
