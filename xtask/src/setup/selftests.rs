//! The kernel's own tests of userfaultfd and PAGEMAP_SCAN, real users of what tracker observes:
//! built from Debian's linux-source package, not part of this repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{apt, kernels};
use crate::{
    matrix, paths,
    selftests::{BUILT, KernelSelftest},
    sh,
};

/// The parts of the kernel's sources that they need.
const SOURCES: [&str; 4] = [
    "tools/testing/selftests/mm",
    "tools/testing/selftests/kselftest.h",
    "include/uapi/linux",
    "mm/gup_test.h",
];

/// Sources beside the tests that the kernel's own build links to each of them; not all kernels have
/// all.
const SHARED: [&str; 3] = ["vm_util.c", "thp_settings.c", "hugepage_settings.c"];

/// Headers of the kernel to prefer to the machine's, which may be too old.
const HEADERS: [&str; 3] = ["fs.h", "memfd.h", "userfaultfd.h"];

/// The test programs, ready to run.
pub struct BuiltSelftests {
    /// The package they are from: `linux-source-6.12`.
    pub package: String,
    /// Each program with its file.
    pub programs: Vec<(&'static KernelSelftest, PathBuf)>,
}

/// The programs for kernels of `series`; fetches and builds them if they are not here.
pub fn prepare(series: &str) -> Result<BuiltSelftests> {
    let tools = paths::create(paths::tools()?.join("selftests"))?;
    // None fit better than those of the series itself: no need to ask the archive.
    if let Some(built) = built(&tools, &package(series)) {
        return Ok(built);
    }
    let about = || format!("the kernel's tests for {series} cannot be built");
    let source = apt::PackageSource::open().with_context(about)?;
    let names = source.names("^linux-source-[0-9.]+$").with_context(about)?;
    let Some(from) = newest_not_after(&names, series) else {
        bail!(
            "Debian's archive has no sources from Linux 6.7, which brought pagemap_ioctl, up to \
             {series}; it has {}",
            names.join(", ")
        );
    };
    if let Some(built) = built(&tools, from) {
        return Ok(built);
    }
    let partial = paths::create(tools.join(format!(".partial-{}", std::process::id())))?;
    let done = make(&source, from, &partial).and_then(|()| {
        let dir = tools.join(from);
        if dir.exists() {
            // Of before a program was added.
            fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
        }
        fs::rename(partial.join("programs"), &dir)
            .with_context(|| format!("cannot write {}", dir.display()))
    });
    fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
    done.with_context(about)?;
    built(&tools, from).context("the programs that were just built are gone")
}

/// The file of one program, as the matrix runs it on every kernel.
pub fn program(wanted: &KernelSelftest) -> Result<PathBuf> {
    let (series, _) = matrix::SELFTESTS;
    let built = prepare(series)?.programs.into_iter();
    let mut files = built.filter(|(program, _)| program.name == wanted.name);
    let (_, file) = files
        .next()
        .with_context(|| format!("{} is not among the kernel's tests", wanted.name))?;
    Ok(file)
}

fn package(series: &str) -> String {
    format!("linux-source-{series}")
}

/// The programs of `package`, if all are here.
fn built(tools: &Path, package: &str) -> Option<BuiltSelftests> {
    let programs = BUILT.into_iter().map(|program| {
        let path = tools.join(package).join(program.name);
        path.is_file().then_some((program, path))
    });
    Some(BuiltSelftests {
        package: package.to_owned(),
        programs: programs.collect::<Option<Vec<_>>>()?,
    })
}

/// The first version with all of the programs: it brought PAGEMAP_SCAN.
const FIRST: [u64; 2] = [6, 7];

/// The newest source package that is not newer than `series`: Debian keeps images longer than
/// sources. A kernel must pass the tests of older ones, because it does not break its users.
fn newest_not_after<'a>(names: &'a [String], series: &str) -> Option<&'a str> {
    let version = |text: &str| {
        Some(
            kernels::releases::parts(text)?
                .into_iter()
                .take(2)
                .collect::<Vec<_>>(),
        )
    };
    let of = |name: &str| version(name.strip_prefix("linux-source-")?);
    let wanted = version(series)?;
    names
        .iter()
        .map(String::as_str)
        .filter(|name| {
            of(name).is_some_and(|version| FIRST[..] <= version[..] && version <= wanted)
        })
        .max_by_key(|name| of(name))
}

/// Fetches `package` and builds the programs under `dir`.
fn make(source: &apt::PackageSource, package: &str, dir: &Path) -> Result<()> {
    let unpacked = dir.join("package");
    source.unpack(&[package.to_owned()], &unpacked)?;
    let mut tar = Command::new("tar");
    tar.arg("-xJf")
        .arg(unpacked.join(format!("usr/src/{package}.tar.xz")));
    tar.arg("-C").arg(dir);
    tar.args(SOURCES.map(|path| format!("{package}/{path}")));
    sh::step(&format!("unpacking {package}"), &mut tar)?;
    let (sources, programs) = (dir.join(package), paths::create(dir.join("programs"))?);
    prepare_headers(&sources)?;
    for program in BUILT {
        build(&sources, program, package, &programs)?;
    }
    Ok(())
}

/// Adds to `sources` what the kernel's own build would generate.
fn prepare_headers(sources: &Path) -> Result<()> {
    let headers = paths::create(sources.join("tracker-include/linux"))?;
    for header in HEADERS {
        let from = sources.join("include/uapi/linux").join(header);
        fs::copy(&from, headers.join(header))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    // It is about libraries that these programs do not use.
    let config = sources.join("tools/testing/selftests/mm/local_config.h");
    fs::write(&config, "").with_context(|| format!("cannot write {}", config.display()))
}

/// Compiles one program into `dir`.
fn build(sources: &Path, program: &KernelSelftest, package: &str, dir: &Path) -> Result<()> {
    let tests = sources.join("tools/testing/selftests/mm");
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-static", "-w", "-U_FORTIFY_SOURCE"]);
    // As `make headers_install` writes it.
    gcc.arg("-D__packed=__attribute__((packed))");
    // Since 7.0 the tests include kselftest.h without its directory.
    let shared = sources.join("tools/testing/selftests");
    gcc.arg("-I").arg(sources.join("tracker-include"));
    gcc.arg("-I").arg(shared);
    gcc.arg("-I")
        .arg(sources)
        .arg("-o")
        .arg(dir.join(program.name));
    gcc.args(program.sources);
    gcc.args(SHARED.iter().filter(|file| tests.join(file).is_file()));
    gcc.args(["-lrt", "-lpthread", "-lm"]);
    sh::step(
        &format!("building {} of {package}", program.name),
        gcc.current_dir(tests),
    )
    .context("the kernel's tests need gcc and a static C library (Debian's gcc and libc6-dev)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_never_newer_than_the_kernel() {
        let names = ["6.1", "6.12", "7.2", "7.3"].map(package);
        for (series, expected) in [
            ("6.12", Some("linux-source-6.12")),
            ("6.18", Some("linux-source-6.12")),
            ("6.18.15", Some("linux-source-6.12")),
            ("7.3", Some("linux-source-7.3")),
            ("6.1", None),
            ("5.10", None),
            ("bzImage", None),
        ] {
            assert_eq!(newest_not_after(&names, series), expected, "{series}");
        }
    }
}
