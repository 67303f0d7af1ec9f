//! Programs that nobody here wrote, for the tests that run them: the machine's own, or Debian's packages unpacked
//! beside our tools (installing some would start a server).

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{Found, apt};
use crate::{paths, vm::GuestFile, vm::qemu};

/// Packages that bring some programs, and in a guest a part of them.
struct Bundle {
    /// What it is called, and the directory it is unpacked to.
    name: &'static str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
}

const BUNDLES: [Bundle; 3] = [
    Bundle {
        name: "prometheus",
        packages: &["prometheus"],
        programs: &["prometheus", "promtool"],
    },
    Bundle {
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
    // The interpreter with its smallest library, which fits into a guest; hosts have one of their own.
    Bundle {
        name: PYTHON_BUNDLE,
        packages: &["python3.11-minimal", "libpython3.11-minimal"],
        programs: &[PYTHON],
    },
];

const PYTHON_BUNDLE: &str = "python";
const PYTHON: &str = "python3.11";
/// Where Debian puts libraries, and where a guest's loader finds them.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Fetches what is not here.
pub fn prepare() -> Result<Vec<Found>> {
    BUNDLES
        .iter()
        .map(|bundle| Ok((bundle.name.to_owned(), bundle.prepare()?)))
        .collect()
}

impl Bundle {
    fn prepare(&self) -> Result<String> {
        let [first, ..] = self.programs else {
            bail!("{} is no program", self.name);
        };
        if self.programs.iter().any(|name| self.find(name).is_none()) {
            let advice = format!(
                "the tests need {}: install them, so that they are in PATH",
                self.programs.join(", ")
            );
            if !apt::is_here() {
                bail!(advice);
            }
            let packages: Vec<_> = self.packages.iter().map(|&name| name.to_owned()).collect();
            let source = apt::Source::open().with_context(|| advice.clone())?;
            source.unpack(&packages, &self.dir()?)?;
        }
        let path = self
            .find(first)
            .with_context(|| format!("Debian's packages of {} hold no {first}", self.name))?;
        Ok(path.display().to_string())
    }

    fn dir(&self) -> Result<PathBuf> {
        Ok(paths::tools()?.join(self.name))
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        let fetched =
            || Some(self.dir().ok()?.join("usr/bin").join(program)).filter(|path| path.is_file());
        // A version manager's python in PATH is a script, of no use in a guest.
        let usable = |path: &PathBuf| self.name != PYTHON_BUNDLE || is_binary(path);
        let of_machine = paths::program(program).filter(usable);
        of_machine.or_else(fetched)
    }
}

/// Where fetched programs are, and the libraries they bring: to be put into `PATH` and `LD_LIBRARY_PATH`.
pub fn directories(of: Kind) -> Result<Vec<PathBuf>> {
    let sub = match of {
        Kind::Programs => "usr/bin",
        Kind::Libraries => LIBRARIES,
    };
    let dir = |bundle: &Bundle| Ok(bundle.dir()?.join(sub));
    BUNDLES.iter().map(dir).collect()
}

/// What a directory holds.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Programs.
    Programs,
    /// Shared libraries.
    Libraries,
}

/// One of the programs, or any in `PATH`.
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
            // It looks for its modules from where it is itself.
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

/// The libraries that a bundle brings; none if the machine's own program is used.
fn libraries(dir: &Path) -> Result<Vec<GuestFile>> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for entry in entries {
        let host = entry
            .with_context(|| format!("cannot list {}", dir.display()))?
            .path();
        // Links are files here, and what they lead to is copied.
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
