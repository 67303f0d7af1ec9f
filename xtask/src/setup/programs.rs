//! Programs of others that tests run: the machine's own, or Debian's packages unpacked beside our
//! tools, because installing some of them would start a server.

use std::{
    env,
    ffi::OsString,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{FoundItem, apt, qemu, selftests};
use crate::{paths, selftests::UFFD_STRESS, vm::GuestFile};

/// A program of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignProgram {
    Prometheus,
    Promtool,
    NodeExporter,
    RedisServer,
    RedisBenchmark,
    RedisCli,
    Python,
    LuaJit,
    Qemu,
    UffdStress,
}

/// Packages, and the programs of them that tests run.
struct ProgramBundle {
    /// Its name, also of the directory that it is unpacked to.
    name: &'static str,
    packages: &'static [&'static str],
    programs: &'static [ForeignProgram],
}

/// QEMU is in none: `qemu.rs` finds it. Nor is the kernel's own test, which `selftests.rs` builds.
const BUNDLES: [ProgramBundle; 5] = [
    ProgramBundle {
        name: "prometheus",
        packages: &["prometheus"],
        programs: &[ForeignProgram::Prometheus, ForeignProgram::Promtool],
    },
    // What `bench agent` compares with.
    ProgramBundle {
        name: "node-exporter",
        packages: &["prometheus-node-exporter"],
        programs: &[ForeignProgram::NodeExporter],
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
        programs: &[
            ForeignProgram::RedisServer,
            ForeignProgram::RedisBenchmark,
            ForeignProgram::RedisCli,
        ],
    },
    // The interpreter with its smallest library, which fits into a guest.
    ProgramBundle {
        name: "python",
        packages: &["python3.11-minimal", "libpython3.11-minimal"],
        programs: &[ForeignProgram::Python],
    },
    ProgramBundle {
        name: "luajit",
        packages: &["luajit"],
        programs: &[ForeignProgram::LuaJit],
    },
];

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
        let missing = |program: &ForeignProgram| self.find(*program).is_none();
        if self.programs.iter().any(missing) {
            let names: Vec<_> = self.programs.iter().map(|program| program.file()).collect();
            let advice = format!(
                "the tests need {}: install what is missing, so that it is in PATH",
                names.join(", ")
            );
            if !apt::is_here() {
                bail!(advice);
            }
            let packages: Vec<_> = self.packages.iter().map(|&name| name.to_owned()).collect();
            let source = apt::PackageSource::open().with_context(|| advice.clone())?;
            source.unpack(&packages, &self.dir()?)?;
        }
        let path = self.find(*first).with_context(|| {
            let (bundle, first) = (self.name, first.file());
            format!("Debian's packages of {bundle} contain no {first}")
        })?;
        Ok(path.display().to_string())
    }

    fn dir(&self) -> Result<PathBuf> {
        Ok(paths::tools()?.join(self.name))
    }

    fn find(&self, program: ForeignProgram) -> Option<PathBuf> {
        let fetched = || Some(self.dir().ok()?.join("usr/bin").join(program.file()));
        // The python of a version manager is a script, useless in a guest.
        let usable = |path: &PathBuf| program != ForeignProgram::Python || is_binary(path);
        let of_machine = paths::program(program.file()).filter(usable);
        of_machine.or_else(|| fetched().filter(|path| path.is_file()))
    }
}

/// The directories with this part of the fetched bundles, for `PATH` and `LD_LIBRARY_PATH`.
fn directories(part: BundlePart) -> Result<Vec<PathBuf>> {
    let sub = match part {
        BundlePart::Programs => "usr/bin",
        BundlePart::Libraries => LIBRARIES,
    };
    let dir = |bundle: &ProgramBundle| Ok(bundle.dir()?.join(sub));
    BUNDLES.iter().map(dir).collect()
}

/// The directories in an environment `variable`, followed by those of the fetched bundles: what the
/// machine has comes first.
pub fn with_fetched(variable: &str, part: BundlePart) -> Result<OsString> {
    let own = env::var_os(variable).unwrap_or_default();
    let own = env::split_paths(&own).filter(|dir| !dir.as_os_str().is_empty());
    let all = own.chain(directories(part)?);
    env::join_paths(all).with_context(|| format!("a directory's name does not fit into {variable}"))
}

/// Part of a bundle: what one of its directories contains.
#[derive(Clone, Copy)]
pub enum BundlePart {
    Programs,
    Libraries,
}

impl ForeignProgram {
    /// The name of its file.
    fn file(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Promtool => "promtool",
            Self::NodeExporter => "prometheus-node-exporter",
            Self::RedisServer => "redis-server",
            Self::RedisBenchmark => "redis-benchmark",
            Self::RedisCli => "redis-cli",
            Self::Python => "python3.11",
            Self::LuaJit => "luajit",
            Self::Qemu => qemu::PROGRAM,
            Self::UffdStress => UFFD_STRESS.name,
        }
    }

    fn bundle(self) -> Option<&'static ProgramBundle> {
        BUNDLES
            .iter()
            .find(|bundle| bundle.programs.contains(&self))
    }

    /// The program on this machine: in a bundle, built by us, or else in `PATH`.
    pub fn find(self) -> Result<PathBuf> {
        let found = match (self, self.bundle()) {
            (_, Some(bundle)) => bundle.find(self),
            (Self::UffdStress, None) => Some(selftests::program(&UFFD_STRESS)?),
            (_, None) => qemu::find().map(|found| found.program),
        };
        found.with_context(|| format!("there is no {}; run: cargo xtask setup", self.file()))
    }

    /// Fetches the bundle that it is in, or builds it, if it is not here.
    pub fn prepare(self) -> Result<()> {
        match (self, self.bundle()) {
            (_, Some(bundle)) => bundle.prepare().map(drop),
            (Self::UffdStress, None) => self.find().map(drop),
            (_, None) => Ok(()),
        }
    }

    /// What a guest needs to run it.
    pub fn guest_files(self) -> Result<Vec<GuestFile>> {
        let host = self.find()?;
        let file = |host: PathBuf, guest: String| GuestFile { host, guest };
        match self {
            Self::Python => {
                let library = host.with_file_name("../lib/python3.11");
                Ok(vec![
                    file(host, "/bin/python3".to_owned()),
                    file(library, "/usr/lib/python3.11".to_owned()),
                ])
            }
            Self::Qemu => qemu_files(host),
            Self::UffdStress => Ok(vec![file(host, format!("/bin/{}", self.file()))]),
            Self::Prometheus
            | Self::Promtool
            | Self::NodeExporter
            | Self::RedisServer
            | Self::RedisBenchmark
            | Self::RedisCli
            | Self::LuaJit => {
                let mut files = vec![file(host, format!("/bin/{}", self.file()))];
                if let Some(bundle) = self.bundle() {
                    files.extend(libraries(&bundle.dir()?.join(LIBRARIES))?);
                }
                Ok(files)
            }
        }
    }
}

/// QEMU looks for its modules relative to its own path.
fn qemu_files(program: PathBuf) -> Result<Vec<GuestFile>> {
    let file = |host: PathBuf, guest: String| GuestFile { host, guest };
    let mut files = vec![file(program, format!("/usr/bin/{}", qemu::PROGRAM))];
    let found = qemu::find();
    let root = found.as_ref().and_then(|found| found.unpacked.clone());
    let root = root.unwrap_or_else(|| PathBuf::from("/"));
    // Debian's QEMU loads its emulator as a module; others have it built in.
    for path in [
        "usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so",
        "usr/share/seabios",
        "usr/share/qemu/kvmvapic.bin",
    ] {
        if root.join(path).exists() {
            files.push(file(root.join(path), format!("/{path}")));
        }
    }
    for dir in found.iter().flat_map(qemu::FoundQemu::libraries) {
        files.extend(libraries(&dir)?);
    }
    Ok(files)
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
    fn a_program_is_in_one_bundle_only() {
        let programs: Vec<_> = BUNDLES.iter().flat_map(|bundle| bundle.programs).collect();
        for program in &programs {
            let same = programs.iter().filter(|other| *other == program);
            assert_eq!(same.count(), 1, "{program:?}");
        }
    }
}
