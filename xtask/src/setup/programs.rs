//! Programs of others that tests run: the machine's own, or Debian's packages unpacked beside our
//! tools, because installing some of them would start a server.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{FoundItem, apt};
use crate::{paths, vm::GuestFile, vm::qemu};

/// Packages, and the programs of them that tests run.
struct ProgramBundle {
    /// Its name, also of the directory that it is unpacked to.
    name: &'static str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
}

const BUNDLES: [ProgramBundle; 3] = [
    ProgramBundle {
        name: "prometheus",
        packages: &["prometheus"],
        programs: &["prometheus", "promtool"],
    },
    ProgramBundle {
        name: "redis",
        packages: &[
            "redis-server",
            "redis-tools",
            "libjemalloc2",
            "liblua5.1-0",
            "liblzf1",
            "lua-bitop",
            "lua-cjson",
        ],
        programs: &["redis-server", "redis-benchmark", "redis-cli"],
    },
    // The interpreter with its smallest library, which fits into a guest.
    ProgramBundle {
        name: PYTHON_BUNDLE,
        packages: &["python3.11-minimal", "libpython3.11-minimal"],
        programs: &[PYTHON],
    },
];

const PYTHON_BUNDLE: &str = "python";
const PYTHON: &str = "python3.11";
/// Where Debian puts libraries, and where a guest's loader finds them.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Fetches the bundles that are not here.
pub fn prepare() -> Result<Vec<FoundItem>> {
    BUNDLES
        .iter()
        .map(|bundle| Ok(FoundItem::new(bundle.name, bundle.prepare()?)))
        .collect()
}

impl ProgramBundle {
    fn prepare(&self) -> Result<String> {
        let [first, ..] = self.programs else {
            bail!("the bundle {} has no program", self.name);
        };
        if self.programs.iter().any(|name| self.find(name).is_none()) {
            let advice = format!(
                "the tests need {}: install what is missing, so that it is in PATH",
                self.programs.join(", ")
            );
            if !apt::is_here() {
                bail!(advice);
            }
            let packages: Vec<_> = self.packages.iter().map(|&name| name.to_owned()).collect();
            let source = apt::PackageSource::open().with_context(|| advice.clone())?;
            source.unpack(&packages, &self.dir()?)?;
        }
        let path = self
            .find(first)
            .with_context(|| format!("Debian's packages of {} contain no {first}", self.name))?;
        Ok(path.display().to_string())
    }

    fn dir(&self) -> Result<PathBuf> {
        Ok(paths::tools()?.join(self.name))
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        let fetched =
            || Some(self.dir().ok()?.join("usr/bin").join(program)).filter(|path| path.is_file());
        // The python of a version manager is a script, useless in a guest.
        let usable = |path: &PathBuf| self.name != PYTHON_BUNDLE || is_binary(path);
        let of_machine = paths::program(program).filter(usable);
        of_machine.or_else(fetched)
    }
}

/// The directories with this part of the fetched bundles, for `PATH` and `LD_LIBRARY_PATH`.
pub fn directories(part: BundlePart) -> Result<Vec<PathBuf>> {
    let sub = match part {
        BundlePart::Programs => "usr/bin",
        BundlePart::Libraries => LIBRARIES,
    };
    let dir = |bundle: &ProgramBundle| Ok(bundle.dir()?.join(sub));
    BUNDLES.iter().map(dir).collect()
}

/// Part of a bundle: what one of its directories contains.
#[derive(Clone, Copy)]
pub enum BundlePart {
    Programs,
    Libraries,
}

/// A program of a bundle, or any in `PATH`.
fn find(program: &str) -> Option<PathBuf> {
    let owner = BUNDLES
        .iter()
        .find(|bundle| bundle.programs.contains(&program));
    owner.map_or_else(|| paths::program(program), |bundle| bundle.find(program))
}

/// What a guest needs to run `program`.
pub fn guest_files(program: &str) -> Result<Vec<GuestFile>> {
    let host =
        |name: &str| find(name).with_context(|| format!("no {name}; run: cargo xtask setup"));
    let file = |host: PathBuf, guest: String| GuestFile { host, guest };
    match program {
        "python3" => {
            let program = host(PYTHON)?;
            let library = program.with_file_name("../lib/python3.11");
            Ok(vec![
                file(program, "/bin/python3".to_owned()),
                file(library, "/usr/lib/python3.11".to_owned()),
            ])
        }
        qemu::PROGRAM => {
            // QEMU looks for its modules relative to its own path.
            let mut files = vec![file(host(program)?, format!("/usr/bin/{program}"))];
            // Debian's QEMU loads its emulator as a module; others have it built in.
            for path in [
                "/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so",
                "/usr/share/seabios",
                "/usr/share/qemu/kvmvapic.bin",
            ] {
                if Path::new(path).exists() {
                    files.push(file(path.into(), path.to_owned()));
                }
            }
            Ok(files)
        }
        _ => {
            let mut files = vec![file(host(program)?, format!("/bin/{program}"))];
            let owner = BUNDLES
                .iter()
                .find(|bundle| bundle.programs.contains(&program));
            if let Some(bundle) = owner {
                files.extend(libraries(&bundle.dir()?.join(LIBRARIES))?);
            }
            Ok(files)
        }
    }
}

fn is_binary(path: &Path) -> bool {
    let mut head = [0; 4];
    let read = fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && head == *b"\x7fELF"
}

/// The libraries in `dir` of a bundle; none if the bundle was not fetched.
fn libraries(dir: &Path) -> Result<Vec<GuestFile>> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in entries {
        let host = entry
            .with_context(|| format!("cannot list {}", dir.display()))?
            .path();
        // A link counts as a file: what it leads to is copied.
        if let (true, Some(name)) = (host.is_file(), host.file_name()) {
            let guest = format!("/{LIBRARIES}/{}", name.to_string_lossy());
            files.push(GuestFile { host, guest });
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_one_bundle() {
        let mut names: Vec<_> = BUNDLES.iter().flat_map(|bundle| bundle.programs).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
