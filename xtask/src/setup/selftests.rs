//! The kernel's own tests of userfaultfd and PAGEMAP_SCAN, built from Debian's linux-source package:
//! real clients of what tracker observes. Not part of this repository.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::apt;
use crate::{paths, sh};

/// Each program and its sources, in tools/testing/selftests/mm.
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("pagemap_ioctl", &["pagemap_ioctl.c", "vm_util.c"]),
    (
        "uffd-unit-tests",
        &["uffd-unit-tests.c", "uffd-common.c", "vm_util.c"],
    ),
];

/// What of the kernel's sources they are made of.
const SOURCES: [&str; 4] = [
    "tools/testing/selftests/mm",
    "tools/testing/selftests/kselftest.h",
    "include/uapi/linux",
    "mm/gup_test.h",
];

/// Headers that the machine's own may be too old for.
const HEADERS: [&str; 3] = ["fs.h", "memfd.h", "userfaultfd.h"];

/// The programs for kernels of `series`, fetched and built if they are not here.
pub fn prepare(series: &str) -> Result<Vec<PathBuf>> {
    let dir = paths::create(paths::tools()?.join("selftests").join(series))?;
    let programs = PROGRAMS.map(|(name, _)| dir.join(name)).to_vec();
    if programs.iter().all(|program| program.is_file()) {
        return Ok(programs);
    }
    let sources = unpack(series, &dir)?;
    for (name, files) in PROGRAMS {
        build(&sources, name, files, &dir)?;
    }
    fs::remove_dir_all(&sources).with_context(|| format!("cannot remove {}", sources.display()))?;
    Ok(programs)
}

/// Fetches the sources and unpacks what is needed into `dir`.
fn unpack(series: &str, dir: &Path) -> Result<PathBuf> {
    let name = format!("linux-source-{series}");
    let package = dir.join("package");
    apt::Source::open()?.unpack(std::slice::from_ref(&name), &package)?;
    let mut tar = Command::new("tar");
    tar.arg("-xJf")
        .arg(package.join(format!("usr/src/{name}.tar.xz")));
    tar.arg("-C").arg(dir);
    tar.args(SOURCES.map(|path| format!("{name}/{path}")));
    sh::step(&format!("unpacking {name}"), &mut tar)?;
    fs::remove_dir_all(&package).with_context(|| format!("cannot remove {}", package.display()))?;
    Ok(dir.join(name))
}

/// Compiles one program, with `sources`' headers where they matter.
fn build(sources: &Path, name: &str, files: &[&str], dir: &Path) -> Result<()> {
    let tests = sources.join("tools/testing/selftests/mm");
    let headers = paths::create(sources.join("tracker-include/linux"))?;
    for header in HEADERS {
        let from = sources.join("include/uapi/linux").join(header);
        fs::copy(&from, headers.join(header))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    // Made by the kernel's build to tell of libraries that these two do not use.
    fs::write(tests.join("local_config.h"), "").context("cannot write local_config.h")?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-static", "-w", "-U_FORTIFY_SOURCE"]);
    // As `make headers_install` would have it.
    gcc.arg("-D__packed=__attribute__((packed))");
    gcc.arg("-I").arg(sources.join("tracker-include"));
    gcc.arg("-I").arg(sources).arg("-o").arg(dir.join(name));
    gcc.args(files).args(["-lrt", "-lpthread", "-lm"]);
    sh::step(&format!("building {name}"), gcc.current_dir(tests))
}
