//! Set-up: looks for what building and testing need, and installs what is missing.
//!
//! Every check asks the tool itself, so that a second run is quick and another system's own tools
//! are as good as those installed here.

mod apt;
mod busybox;
mod consent;
pub mod kernels;
mod linker;
pub mod prometheus;
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
pub fn prepare_tests() -> Result<Found> {
    let path = prometheus::prepare()?;
    Ok(("Prometheus".to_owned(), path.display().to_string()))
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

/// What `bench` compares with: a file that tells whether it is there, and Debian's package of it.
const PEERS: [(&str, &str); 4] = [
    ("clang", "clang"),
    ("llvm-strip", "llvm"),
    ("bpftrace", "bpftrace"),
    ("/usr/include/bpf/libbpf.h", "libbpf-dev"),
];

/// Makes sure that what `bench` compares with is there.
pub fn prepare_peers(consent: &Consent) -> Result<()> {
    let is_missing = |what: &str| match what.strip_prefix('/') {
        Some(_) => !Path::new(what).is_file(),
        None => paths::program(what).is_none(),
    };
    let missing: Vec<&str> = PEERS
        .iter()
        .filter(|(what, _)| is_missing(what))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::is_here() {
        bail!("to compare with others, install clang, llvm-strip, bpftrace and libbpf's headers");
    }
    apt::install("what the agent is compared with", &missing, consent)
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

/// Programs a virtual machine needs, with Debian's package of each: the emulator, and what unpacks
/// a kernel's modules.
const VM_PROGRAMS: [(&str, &str); 2] = [(vm::qemu::PROGRAM, "qemu-system-x86"), ("xz", "xz-utils")];

/// The emulator's version, after installing what of [`VM_PROGRAMS`] is missing.
fn qemu(consent: &Consent) -> Result<String> {
    let missing: Vec<_> = VM_PROGRAMS
        .into_iter()
        .filter(|(program, _)| paths::program(program).is_none())
        .collect();
    if let Some((program, _)) = missing.first() {
        let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
        if !apt::is_here() {
            bail!("{program} is not in PATH. Install QEMU 7 or later (x86) and xz");
        }
        apt::install("QEMU", &packages, consent)?;
    }
    let version = sh::output(Command::new(vm::qemu::PROGRAM).arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}
