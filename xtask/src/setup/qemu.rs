//! QEMU: the machine's own, installed, or Debian's packages unpacked beside our tools where
//! installing them would remove another package.

use std::{env, path::PathBuf, process::Command};

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

/// A command that starts it. It finds its modules and firmware relative to its own path.
pub fn command() -> Result<Command> {
    let found = find().with_context(|| format!("there is no {PROGRAM}; run: cargo xtask setup"))?;
    let mut command = Command::new(&found.program);
    if !found.libraries().is_empty() {
        let own = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let own = env::split_paths(&own).filter(|dir| !dir.as_os_str().is_empty());
        let all = env::join_paths(found.libraries().into_iter().chain(own))
            .context("LD_LIBRARY_PATH holds a name that cannot be in it")?;
        command.env("LD_LIBRARY_PATH", all);
    }
    Ok(command)
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
