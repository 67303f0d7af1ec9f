//! bpf-linker, with the LLVM of the compiler whose bitcode it links.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{RootConsent, apt};
use crate::{paths, sh};

/// The version that is built if none here fits.
const VERSION: &str = "0.13.0";

/// Makes sure that a bpf-linker with LLVM `major` is where the build looks; returns which one.
pub fn prepare(major: u32, consent: &RootConsent) -> Result<String> {
    let ours = paths::tools()?.join("bin/bpf-linker");
    let theirs = paths::program("bpf-linker");
    let mut wrong = Vec::new();
    for linker in [Some(ours.clone()).filter(|path| path.is_file()), theirs]
        .into_iter()
        .flatten()
    {
        match llvm_major(&linker) {
            Ok(found) if found == major => {
                // The build looks at ours first, so a wrong one there would hide this one.
                if linker != ours && ours.is_file() {
                    fs::remove_file(&ours)
                        .with_context(|| format!("cannot remove {}", ours.display()))?;
                }
                return Ok(format!("{} (LLVM {major})", linker.display()));
            }
            Ok(found) => wrong.push(format!("{} is built with LLVM {found}", linker.display())),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    for reason in &wrong {
        eprintln!(
            "{:>8} bpf-linker: {reason}; the eBPF compiler needs LLVM {major}",
            "note"
        );
    }
    build(major, consent)?;
    match llvm_major(&ours) {
        Ok(found) if found == major => Ok(format!("{} (LLVM {major})", ours.display())),
        Ok(found) => bail!("bpf-linker was built, but with LLVM {found} instead of {major}"),
        Err(error) => Err(error.context("bpf-linker was built, but does not work")),
    }
}

/// Builds bpf-linker against the LLVM `major` of this machine, which is installed if missing.
fn build(major: u32, consent: &RootConsent) -> Result<()> {
    let prefix = match llvm_prefix(major) {
        Some(prefix) => prefix,
        None => {
            let package = format!("llvm-{major}-dev");
            let advice = || {
                format!(
                    "the build needs a bpf-linker with LLVM {major}, the LLVM of the eBPF \
                     compiler. Install LLVM {major} with its headers (llvm-config-{major} in \
                     PATH), or:\n\n    \
                     cargo install bpf-linker --version {VERSION}\n\n\
                     with a compiler whose `rustc -vV` says LLVM {major}"
                )
            };
            if !apt::is_here() {
                bail!("{}", advice());
            }
            apt::install(&format!("LLVM {major}"), &[&package], consent).with_context(advice)?;
            llvm_prefix(major)
                .with_context(|| format!("{package} contains no usable llvm-config"))?
        }
    };
    let mut cargo = Command::new("cargo");
    cargo
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{major}"),
            "--root",
        ])
        .arg(paths::tools()?)
        .arg("--target-dir")
        .arg(paths::target().join("bpf-linker"))
        .env("LLVM_PREFIX", &prefix)
        .env_remove("RUSTFLAGS");
    let title = format!("building bpf-linker {VERSION} with LLVM {major} (1 to 3 minutes)");
    sh::step(&title, &mut cargo).context(
        "bpf-linker is needed to link eBPF programs. If crates.io cannot be reached, check the \
         network and run this again",
    )
}

/// The directory that holds `bin/llvm-config` of LLVM `major`.
fn llvm_prefix(major: u32) -> Option<PathBuf> {
    let debian = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    let configs = [Some(debian.join("bin/llvm-config"))].into_iter().chain(
        [format!("llvm-config-{major}"), "llvm-config".to_owned()].map(|n| paths::program(&n)),
    );
    configs
        .flatten()
        .filter(|config| config.is_file())
        .find_map(|config| {
            let said = sh::output(Command::new(&config).args(["--version", "--prefix"])).ok()?;
            let (version, prefix) = said.trim().split_once('\n')?;
            let prefix = PathBuf::from(prefix);
            // Only -dev packages bring the headers, without which llvm-config is useless.
            let headers = prefix.join("include/llvm-c/Core.h").is_file();
            (version.split('.').next() == Some(&major.to_string()) && headers).then_some(prefix)
        })
}

/// The major version of the LLVM in `linker`: from the library that it loads, or else from the
/// version string in its code, which LLVM writes into each bitcode file.
fn llvm_major(linker: &Path) -> Result<u32> {
    sh::output(Command::new(linker).arg("--version"))
        .with_context(|| format!("{} does not run", linker.display()))?;
    let libraries = sh::output(Command::new("ldd").arg(linker)).unwrap_or_default();
    if let Some(major) = major_in_ldd(&libraries) {
        return Ok(major);
    }
    let bytes = fs::read(linker).with_context(|| format!("cannot read {}", linker.display()))?;
    major_in_code(&bytes)
        .with_context(|| format!("{} does not reveal its LLVM version", linker.display()))
}

/// From a name like `libLLVM.so.22.1`, `libLLVM-17.so.1` or `libLLVM.so.22.1-rust-1.95.0-stable`.
fn major_in_ldd(libraries: &str) -> Option<u32> {
    libraries.split_whitespace().find_map(|word| {
        let name = word.rsplit('/').next()?;
        let rest = name
            .strip_prefix("libLLVM.so.")
            .or_else(|| name.strip_prefix("libLLVM-"))?;
        leading_number(rest.as_bytes())
    })
}

/// From a string like `LLVM22.1.8`.
fn major_in_code(bytes: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"LLVM";
    bytes
        .windows(NAME.len() + 5)
        .filter(|window| window.starts_with(NAME))
        .find_map(|window| {
            let rest = &window[NAME.len()..];
            let major = leading_number(rest)?;
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let dotted = rest.get(digits) == Some(&b'.')
                && rest.get(digits + 1).is_some_and(u8::is_ascii_digit);
            // "LLVM0700" is something else.
            (dotted && major > 0).then_some(major)
        })
}

fn leading_number(bytes: &[u8]) -> Option<u32> {
    let digits: Vec<u8> = bytes
        .iter()
        .copied()
        .take_while(u8::is_ascii_digit)
        .collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_name_tells() {
        let ldd = "\tlinux-vdso.so.1 (0x00007f6d149ca000)\n\
                   \tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/libLLVM.so.22.1 (0x7f6d0b600000)\n";
        assert_eq!(major_in_ldd(ldd), Some(22));
        assert_eq!(major_in_ldd("libLLVM-17.so.1 => not found"), Some(17));
        assert_eq!(
            major_in_ldd("libLLVM.so.22.1-rust-1.95.0-stable => /x"),
            Some(22)
        );
        assert_eq!(major_in_ldd("libc.so.6 => /lib/libc.so.6"), None);
    }

    #[test]
    fn else_the_code_tells() {
        assert_eq!(major_in_code(b"\0LLVM0700\0x\0LLVM21.1.8\0\0\0"), Some(21));
        assert_eq!(
            major_in_code(b"LLVM is great\0LLVM0700H\0LLVM ERROR: 1.2"),
            None
        );
    }
}
