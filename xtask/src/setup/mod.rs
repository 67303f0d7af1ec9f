//! Set-up: looks for what building and testing need, and installs what is missing.
//!
//! Every check asks the tool itself, so that a second run is quick and another system's own tools
//! are as good as those installed here.

mod apt;
mod busybox;
mod consent;
pub mod kernels;
mod linker;
mod toolchain;

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail};

pub use busybox::find as busybox;
pub use consent::Consent;

use crate::{paths, sh, tools_dir};

/// How much of the set-up a command needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// What `cargo build` needs.
    Build,
    /// And what booting a virtual machine needs, kernels apart.
    Vm,
}

/// Makes sure that what `extent` needs is there.
pub fn prepare(extent: Extent, consent: &Consent) -> Result<()> {
    let compiler = ebpf_compiler(consent)?;
    record(&compiler.toolchain)?;
    said("eBPF compiler", &compiler.to_string());
    let linker = linker::prepare(compiler.llvm_major, consent)?;
    said("bpf-linker", &linker);
    if extent >= Extent::Vm {
        said("QEMU", &qemu(consent)?);
        said("busybox", &busybox::prepare()?.display().to_string());
    }
    Ok(())
}

/// Makes sure that all of `series` are there.
pub fn prepare_kernels(series: &[&str]) -> Result<()> {
    for series in series {
        let kernel = kernels::prepare(series)?;
        said(&format!("kernel {series}"), &kernel.release);
    }
    Ok(())
}

/// One line of what set-up found.
fn said(what: &str, found: &str) {
    eprintln!("{:>8} {what}: {found}", "ok");
}

/// The compiler for the eBPF programs, installed if there is none.
fn ebpf_compiler(consent: &Consent) -> Result<toolchain::Compiler> {
    let refused = match toolchain::find()? {
        Ok(compiler) => return Ok(compiler),
        Err(refused) => refused,
    };
    let missing = || {
        let list: Vec<String> = refused.iter().map(|line| format!("  - {line}")).collect();
        format!(
            "no compiler here can build for bpfel-unknown-none:\n{}\nInstall one with:\n\n    \
             rustup toolchain install nightly --component rust-src\n",
            list.join("\n")
        )
    };
    if !apt::offers(toolchain::PACKAGES)? {
        bail!("{}", missing());
    }
    apt::install(
        "the compiler for eBPF programs",
        toolchain::PACKAGES,
        consent,
    )
    .with_context(missing)?;
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

/// The emulator's version, after installing it where it is missing.
fn qemu(consent: &Consent) -> Result<String> {
    const PROGRAM: &str = "qemu-system-x86_64";
    if paths::program(PROGRAM).is_none() {
        if !apt::offers(&["qemu-system-x86"])? {
            bail!("{PROGRAM} is not in PATH. Install QEMU 7 or later from your distribution");
        }
        apt::install("QEMU", &["qemu-system-x86"], consent)?;
    }
    let version = sh::output(Command::new(PROGRAM).arg("--version"))?;
    Ok(version.lines().next().unwrap_or_default().to_owned())
}
