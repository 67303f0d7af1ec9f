//! Finds a Rust compiler that can build for `bpfel-unknown-none`.
//!
//! Two kinds can: one with a compiled `core` for that target (Debian's `libstd-rust-web-dev-bpf`),
//! and a nightly with the source of `core`. What counts is what the compiler has, not who packaged
//! it.

use std::{
    fmt, fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{paths, sh};

/// The packages of Debian that bring such a compiler.
pub const PACKAGES: &[&str] = &["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// The workspace's `rust-version`: an older cargo refuses to build it.
const OLDEST: (u32, u32) = (1, 95);

/// A compiler that can build the eBPF programs.
pub struct EbpfCompiler {
    /// What `rustup run` takes: the name of a toolchain, or its directory.
    pub toolchain: String,
    /// The major version of its LLVM; bpf-linker must have the same.
    pub llvm_major: u32,
    release: String,
}

impl fmt::Display for EbpfCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rustc {} (LLVM {}), {}",
            self.release, self.llvm_major, self.toolchain
        )
    }
}

/// What came of looking for a compiler.
pub enum CompilerSearch {
    /// The first that can build the eBPF programs.
    Found(EbpfCompiler),
    /// For each that was looked at, why it cannot.
    NoneFits(Vec<String>),
}

/// Looks at the system's compiler, then at rustup's nightly.
pub fn find() -> Result<CompilerSearch> {
    let mut refused = Vec::new();
    let system = system_toolchain()?;
    for toolchain in system.as_deref().into_iter().chain(["nightly"]) {
        match examine(toolchain) {
            Ok(compiler) => return Ok(CompilerSearch::Found(compiler)),
            Err(reason) => refused.push(format!("{toolchain}: {reason:#}")),
        }
    }
    if system.is_none() {
        refused.push("/usr/bin: it does not have rustc and cargo".to_owned());
    }
    Ok(CompilerSearch::NoneFits(refused))
}

/// A directory that `rustup run` takes as a toolchain and whose links lead to the system's
/// compiler.
///
/// The links are ours, not those of `rustup toolchain link`, so that the user's rustup stays as it
/// is.
fn system_toolchain() -> Result<Option<String>> {
    let usr = Path::new("/usr");
    if !(usr.join("bin/rustc").is_file() && usr.join("bin/cargo").is_file()) {
        return Ok(None);
    }
    let dir = paths::create(paths::tools()?.join("system-toolchain"))?;
    paths::create(dir.join("bin"))?;
    for name in ["bin/rustc", "bin/cargo", "lib"] {
        let (from, to) = (dir.join(name), usr.join(name));
        match symlink(&to, &from) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.with_context(|| format!("cannot link {}", from.display()))?,
        }
    }
    Ok(Some(dir.display().to_string()))
}

/// Asks the compiler of `toolchain` for its version, and looks into its sysroot.
fn examine(toolchain: &str) -> Result<EbpfCompiler> {
    let rustc = |args: &[&str]| match paths::program("rustup") {
        Some(rustup) => sh::output(
            Command::new(rustup)
                .args(["run", toolchain, "rustc"])
                .args(args),
        ),
        // Without rustup, aya-build takes the compiler in PATH too.
        None => sh::output(Command::new("rustc").args(args)),
    };
    let version = RustcVersion::parse(&rustc(&["-vV"])?)
        .context("the output of its `rustc -vV` is not understood")?;
    if version.number() < OLDEST {
        return Err(anyhow!(
            "{} is older than {}.{}",
            version.release,
            OLDEST.0,
            OLDEST.1
        ));
    }
    let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?.trim());
    has_core(&sysroot, version.is_nightly())?;
    Ok(EbpfCompiler {
        toolchain: toolchain.to_owned(),
        llvm_major: version.llvm_major,
        release: version.release,
    })
}

/// Fails unless `core` for BPF is under `sysroot`: compiled, or for a nightly as source.
fn has_core(sysroot: &Path, nightly: bool) -> Result<()> {
    let rustlib = sysroot.join("lib/rustlib");
    let compiled = fs::read_dir(rustlib.join("bpfel-unknown-none/lib")).is_ok_and(|dir| {
        dir.flatten()
            .any(|e| e.file_name().to_string_lossy().starts_with("libcore-"))
    });
    let source = rustlib.join("src/rust/library/core/Cargo.toml").is_file();
    if compiled && !nightly || source && nightly {
        return Ok(());
    }
    let hint = if nightly {
        ": rustup component add rust-src --toolchain nightly"
    } else {
        ""
    };
    Err(anyhow!(
        "it has no `core` for bpfel-unknown-none in {}{hint}",
        rustlib.display()
    ))
}

/// What `rustc -vV` prints, as far as it matters here.
struct RustcVersion {
    release: String,
    llvm_major: u32,
}

impl RustcVersion {
    fn parse(verbose: &str) -> Option<Self> {
        let field = |name: &str| {
            verbose
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        Some(Self {
            release: field("release:")?.to_owned(),
            llvm_major: field("LLVM version:")?.split('.').next()?.parse().ok()?,
        })
    }

    /// Major and minor version.
    fn number(&self) -> (u32, u32) {
        let mut parts = self
            .release
            .split(['.', '-'])
            .map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    }

    fn is_nightly(&self) -> bool {
        self.release.contains("nightly")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const DEBIAN: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
        binary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\n\
        host: x86_64-unknown-linux-gnu\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n";

    #[test]
    fn versions_are_read() {
        let debian = RustcVersion::parse(DEBIAN).unwrap();
        assert_eq!((debian.number(), debian.llvm_major), ((1, 96), 22));
        assert!(!debian.is_nightly());
        let nightly = RustcVersion::parse(NIGHTLY).unwrap();
        assert_eq!(nightly.number(), (1, 97));
        assert!(nightly.is_nightly());
        assert!(RustcVersion::parse("rustc 1.96.0").is_none());
    }

    #[test]
    fn old_compilers_are_older() {
        let old = RustcVersion::parse(&DEBIAN.replace("1.96.0", "1.85.0")).unwrap();
        assert!(old.number() < OLDEST);
    }

    #[test]
    fn core_may_be_compiled_or_source() {
        let dir = tempfile::tempdir().unwrap();
        assert!(has_core(dir.path(), true).is_err());
        let source = dir.path().join("lib/rustlib/src/rust/library/core");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("Cargo.toml"), "").unwrap();
        has_core(dir.path(), true).unwrap();
        assert!(has_core(dir.path(), false).is_err());
        let compiled = dir.path().join("lib/rustlib/bpfel-unknown-none/lib");
        fs::create_dir_all(&compiled).unwrap();
        fs::write(compiled.join("libcore-8056e5e5b270ef4d.rlib"), "").unwrap();
        has_core(dir.path(), false).unwrap();
    }
}
