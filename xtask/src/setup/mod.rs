//! Set-up: finds what building and testing need, and installs what is missing.
//!
//! Each check asks the tool itself, so a second run is quick, and tools that another system brought
//! are as good as those installed here.

mod apt;
pub mod busybox;
mod consent;
pub mod debian;
pub mod kernels;
mod linker;
pub mod packager;
pub mod programs;
pub mod qemu;
pub mod selftests;
mod toolchain;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

pub use consent::RootConsent;
use toolchain::{CompilerSearch, EbpfCompiler};

use crate::{paths, tools_dir};

/// How much of the set-up a command needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetupExtent {
    /// What `cargo build` needs.
    Build,
    /// Also what booting a virtual machine needs, except for kernels.
    Vm,
}

/// Something that set-up made sure of.
pub struct FoundItem {
    name: String,
    /// Its version or path.
    which: String,
}

impl FoundItem {
    fn new(name: &str, which: String) -> Self {
        let name = name.to_owned();
        Self { name, which }
    }
}

/// Makes sure that what a command of this `extent` needs is there.
pub fn prepare(extent: SetupExtent, consent: &RootConsent) -> Result<Vec<FoundItem>> {
    let compiler = ebpf_compiler(consent)?;
    record(&compiler.toolchain)?;
    let linker = linker::prepare(compiler.llvm_major, consent)?;
    let mut found = vec![
        FoundItem::new("eBPF compiler", compiler.to_string()),
        FoundItem::new("bpf-linker", linker),
    ];
    if extent >= SetupExtent::Vm {
        let busybox = busybox::prepare()?;
        found.push(FoundItem::new("QEMU", qemu::prepare(consent)?));
        found.push(FoundItem::new("busybox", busybox.display().to_string()));
    }
    Ok(found)
}

/// Makes sure that the programs of others that tests run are there.
pub fn prepare_tests() -> Result<Vec<FoundItem>> {
    programs::prepare()
}

/// Makes sure that a kernel of each of `series` is there; with `refresh`, the archive's newest.
pub fn prepare_kernels(series: &[&str], refresh: bool) -> Result<Vec<FoundItem>> {
    let one = |series: &&str| {
        let kernel = if refresh {
            kernels::refresh(series)?
        } else {
            kernels::prepare(series)?
        };
        Ok(FoundItem::new(&format!("kernel {series}"), kernel.release))
    };
    series.iter().map(one).collect()
}

/// A file to look for, and the package of Debian that has it.
struct NeededFile {
    /// A path, or the name of a program in `PATH`.
    file: &'static str,
    package: &'static str,
}

/// What `bench probes` needs for the observers that it compares with.
const PEERS: [NeededFile; 4] = [
    NeededFile {
        file: "clang",
        package: "clang",
    },
    NeededFile {
        file: "llvm-strip",
        package: "llvm",
    },
    NeededFile {
        file: "bpftrace",
        package: "bpftrace",
    },
    NeededFile {
        file: "/usr/include/bpf/libbpf.h",
        package: "libbpf-dev",
    },
];

/// Makes sure that the observers that `bench probes` compares with are there.
pub fn prepare_peers(consent: &RootConsent) -> Result<()> {
    install(
        "what the agent is compared with",
        &PEERS,
        "Install them to compare the agent with others",
        consent,
    )
}

/// Those of `needed` that are not here.
fn missing(needed: &[NeededFile], is_here: impl Fn(&str) -> bool) -> Vec<&NeededFile> {
    needed.iter().filter(|one| !is_here(one.file)).collect()
}

fn is_here(file: &str) -> bool {
    if file.starts_with('/') {
        Path::new(file).is_file()
    } else {
        paths::program(file).is_some()
    }
}

/// Installs what is missing of `needed`, together called `what`; `advice` is for machines without
/// apt.
fn install(what: &str, needed: &[NeededFile], advice: &str, consent: &RootConsent) -> Result<()> {
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

/// Prints what set-up made sure of.
pub fn print(found: &[FoundItem]) {
    for FoundItem { name, which } in found {
        eprintln!("{:>8} {name}: {which}", "ok");
    }
}

/// The compiler for the eBPF programs, installed if there is none.
fn ebpf_compiler(consent: &RootConsent) -> Result<EbpfCompiler> {
    let refused = match toolchain::find()? {
        CompilerSearch::Found(compiler) => return Ok(compiler),
        CompilerSearch::NoneFits(refused) => refused,
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
        format!("the eBPF programs need a compiler. Another one that works:\n\n    {BY_HAND}\n")
    })?;
    match toolchain::find()? {
        CompilerSearch::Found(compiler) => Ok(compiler),
        CompilerSearch::NoneFits(refused) => bail!(
            "the compiler that was installed does not do: {}",
            refused.join("; ")
        ),
    }
}

/// Writes `toolchain` where tracker's build script looks. An unchanged file is left alone, because
/// a newer one makes cargo rebuild the eBPF programs.
fn record(toolchain: &str) -> Result<()> {
    let file = paths::tools()?.join(tools_dir::TOOLCHAIN_FILE);
    if fs::read_to_string(&file).is_ok_and(|old| old.trim() == toolchain) {
        return Ok(());
    }
    fs::write(&file, format!("{toolchain}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
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
