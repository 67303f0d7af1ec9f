//! QEMU: the machine's own if it is sound, or Debian's packages: unpacked beside our tools from the
//! backports of Debian 12, whose own is not sound, or where installing them would remove another
//! package; else installed.

use std::{
    env, fs,
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

/// The first version whose emulator never runs half of a patch that a guest's kernel makes to its
/// own code: until then it could translate a page while another CPU wrote to it (upstream: "Always
/// lock pages before translation"). That this is what spoilt boots with 7.2 is inferred.
const SOUND: (u32, u32) = (8, 1);

/// What unpacks a kernel's modules.
const XZ: NeededFile = NeededFile {
    file: "xz",
    package: "xz-utils",
};

const ADVICE: &str = "Install QEMU 7 or later (x86) and xz";

/// Where Debian's packages have libraries.
const LIBRARIES: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];

/// Where Debian's packages have firmware.
const DATA: [&str; 2] = ["usr/share/qemu", "usr/share/seabios"];

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
    let sound = |found: Result<String>| found.is_ok_and(|line| is_sound(&line));
    if !sound(version()) && is_debian_12() && apt::is_here() {
        // What is there already serves, too, but for a boot in some hundred.
        if let Err(error) = unpack_backport() {
            let note = "note";
            eprintln!("{note:>8} no newer QEMU, so a boot may be spoilt now and then: {error:#}");
        }
    }
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
    version()
}

fn unpack_backport() -> Result<()> {
    let source = apt::PackageSource::open_backports()?;
    source.unpack(&source.missing(&[PACKAGE])?, &dir()?)
}

/// What the QEMU that is here says of itself, in one line.
fn version() -> Result<String> {
    let version = sh::output(command()?.arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

/// Whether `version`, a line of `--version`, is at least [`SOUND`]. What cannot be read is.
fn is_sound(version: &str) -> bool {
    let mut words = version.split_whitespace();
    let Some(number) = words.find(|word| *word == "version").and(words.next()) else {
        return true;
    };
    let mut parts = number.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= SOUND,
        _ => true,
    }
}

fn is_debian_12() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    release
        .lines()
        .any(|line| line == "VERSION_CODENAME=bookworm")
}

/// The QEMU to use, if there is one: the unpacked one, which is only there where the machine's own
/// would not do.
pub fn find() -> Option<FoundQemu> {
    if let Ok(dir) = dir() {
        let program = dir.join("usr/bin").join(PROGRAM);
        if program.is_file() {
            return Some(FoundQemu {
                program,
                unpacked: Some(dir),
            });
        }
    }
    paths::program(PROGRAM).map(|program| FoundQemu {
        program,
        unpacked: None,
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
    for dir in found.data() {
        command.arg("-L").arg(dir);
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

    /// The directories with its own firmware; none where it finds them.
    fn data(&self) -> Vec<PathBuf> {
        let dirs = self.unpacked.iter();
        let dirs = dirs.flat_map(|dir| DATA.map(|sub| dir.join(sub)));
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
    fn a_version_before_the_fix_is_not_sound() {
        for (line, sound) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)",
                false,
            ),
            ("QEMU emulator version 8.0.4", false),
            ("QEMU emulator version 8.1.0", true),
            (
                "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)",
                true,
            ),
            ("a wrapper of somebody", true),
        ] {
            assert_eq!(is_sound(line), sound, "{line}");
        }
    }

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
