//! Set-up: looks for what building and testing need, and installs what is missing.
//!
//! Every check asks the tool itself, so that a second run is quick and another system's own tools
//! are as good as those installed here.

mod apt;
mod busybox;
mod consent;
pub mod kernels;
mod linker;
pub mod programs;
pub mod selftests;
mod toolchain;

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

pub use busybox::find as busybox;
pub use consent::Consent;

use crate::{paths, sh, tools_dir, vm};

/// How much of the set-up a command needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// What `cargo build` needs.
    Build,
    /// And what booting a virtual machine needs, kernels apart.
    Vm,
}

/// A thing that is there: what it is, and which.
pub type Found = (String, String);

/// Makes sure that what `extent` needs is there.
pub fn prepare(extent: Extent, consent: &Consent) -> Result<Vec<Found>> {
    let compiler = ebpf_compiler(consent)?;
    record(&compiler.toolchain)?;
    let mut found = vec![("eBPF compiler".to_owned(), compiler.to_string())];
    found.push((
        "bpf-linker".to_owned(),
        linker::prepare(compiler.llvm_major, consent)?,
    ));
    if extent >= Extent::Vm {
        found.push(("QEMU".to_owned(), qemu(consent)?));
        found.push((
            "busybox".to_owned(),
            busybox::prepare()?.display().to_string(),
        ));
    }
    Ok(found)
}

/// Makes sure that what tests run besides is there.
pub fn prepare_tests() -> Result<Vec<Found>> {
    programs::prepare()
}

/// Makes sure that all of `series` are there; with `refresh`, that none is older than the archive's.
pub fn prepare_kernels(series: &[&str], refresh: bool) -> Result<Vec<Found>> {
    let one = |series: &&str| {
        let kernel = if refresh {
            kernels::refresh(series)?
        } else {
            kernels::prepare(series)?
        };
        Ok((format!("kernel {series}"), kernel.release))
    };
    series.iter().map(one).collect()
}

/// Something to look for, by its name in `PATH` or its path, and Debian's package of it.
struct Needed {
    file: &'static str,
    package: &'static str,
}

/// What `bench` compares with.
const PEERS: [Needed; 4] = [
    Needed {
        file: "clang",
        package: "clang",
    },
    Needed {
        file: "llvm-strip",
        package: "llvm",
    },
    Needed {
        file: "bpftrace",
        package: "bpftrace",
    },
    Needed {
        file: "/usr/include/bpf/libbpf.h",
        package: "libbpf-dev",
    },
];

/// Makes sure that what `bench` compares with is there.
pub fn prepare_peers(consent: &Consent) -> Result<()> {
    install(
        "what the agent is compared with",
        &PEERS,
        "Install it to compare the agent with others",
        consent,
    )
}

/// Those of `needed` that are not here.
fn missing(needed: &[Needed], is_here: impl Fn(&str) -> bool) -> Vec<&Needed> {
    needed.iter().filter(|one| !is_here(one.file)).collect()
}

fn is_here(file: &str) -> bool {
    if file.starts_with('/') {
        Path::new(file).is_file()
    } else {
        paths::program(file).is_some()
    }
}

/// Installs what of `needed` is missing, all in all `what`; `advice` is for machines without apt.
fn install(what: &str, needed: &[Needed], advice: &str, consent: &Consent) -> Result<()> {
    let missing = missing(needed, is_here);
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::is_here() {
        let files: Vec<&str> = missing.iter().map(|one| one.file).collect();
        bail!("not found: {}. {advice}", files.join(", "));
    }
    let packages: Vec<&str> = missing.iter().map(|one| one.package).collect();
    apt::install(what, &packages, consent)
}

/// Prints what set-up found.
pub fn tell(found: &[Found]) {
    for (what, which) in found {
        eprintln!("{:>8} {what}: {which}", "ok");
    }
}

/// The compiler for the eBPF programs, installed if there is none.
fn ebpf_compiler(consent: &Consent) -> Result<toolchain::Compiler> {
    let refused = match toolchain::find()? {
        Ok(compiler) => return Ok(compiler),
        Err(refused) => refused,
    };
    const BY_HAND: &str = "rustup toolchain install nightly --component rust-src";
    if !apt::is_here() {
        bail!(
            "no compiler here can build for bpfel-unknown-none:\n  - {}\nInstall one with:\n\n    \
             {BY_HAND}\n",
            refused.join("\n  - ")
        );
    }
    apt::install(
        "the compiler for eBPF programs",
        toolchain::PACKAGES,
        consent,
    )
    .with_context(|| {
        format!(
            "the eBPF programs need a compiler. One from elsewhere does, too:\n\n    {BY_HAND}\n"
        )
    })?;
    match toolchain::find()? {
        Ok(compiler) => Ok(compiler),
        Err(refused) => bail!(
            "the installed compiler is not enough: {}",
            refused.join("; ")
        ),
    }
}

/// Leaves the choice of `toolchain` where tracker's build script looks; touches nothing if it is
/// the same, because a change makes cargo build the programs anew.
fn record(toolchain: &str) -> Result<()> {
    let file = paths::tools()?.join(tools_dir::TOOLCHAIN_FILE);
    if fs::read_to_string(&file).is_ok_and(|old| old.trim() == toolchain) {
        return Ok(());
    }
    fs::write(&file, format!("{toolchain}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// What a virtual machine needs: the emulator, and what unpacks a kernel's modules.
const VM_PROGRAMS: [Needed; 2] = [
    Needed {
        file: vm::qemu::PROGRAM,
        package: "qemu-system-x86",
    },
    Needed {
        file: "xz",
        package: "xz-utils",
    },
];

/// The emulator's version, after installing what of [`VM_PROGRAMS`] is missing.
fn qemu(consent: &Consent) -> Result<String> {
    let advice = "Install QEMU 7 or later (x86) and xz";
    install("QEMU", &VM_PROGRAMS, advice, consent)?;
    let version = sh::output(Command::new(vm::qemu::PROGRAM).arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        let packages = |here: &[&str]| -> Vec<&str> {
            let missing = missing(&PEERS, |file| here.contains(&file));
            missing.iter().map(|one| one.package).collect()
        };
        assert_eq!(packages(&[]), ["clang", "llvm", "bpftrace", "libbpf-dev"]);
        assert_eq!(packages(&["clang", "bpftrace"]), ["llvm", "libbpf-dev"]);
        assert!(packages(&PEERS.map(|one| one.file)).is_empty());
    }

    #[test]
    fn a_file_is_looked_for_by_its_path_and_a_program_in_path() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libbpf.h");
        let path = file.to_str().unwrap();
        assert!(!is_here(path));
        fs::write(&file, "").unwrap();
        assert!(is_here(path));
        assert!(is_here("sh") && !is_here("no-such-program"));
    }
}
