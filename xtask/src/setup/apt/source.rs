//! A package source of our own, from which packages are fetched and unpacked: the machine's sources
//! and installed packages stay as they are.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{self, Command},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use super::{OFFLINE, UPDATE, is_here, parse_plan};
use crate::{paths, sh};

/// The keys that sign Debian's archives; apt checks our source against them too.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The suites with the kernels of the test matrix, and whether they are on the security mirror.
const SUITES: [(&str, bool); 3] = [
    ("bookworm", false),
    ("bookworm-security", true),
    ("trixie-backports", false),
];

/// The suites with the emulator of Debian 12; the last one's packages are preferred.
const EMULATOR_SUITES: [(&str, bool); 3] = [
    ("bookworm", false),
    ("bookworm-security", true),
    (EMULATOR_RELEASE, false),
];
const EMULATOR_RELEASE: &str = "bookworm-backports";

/// What this machine has installed.
const MACHINE_STATUS: &str = "Dir::State::Status=/var/lib/dpkg/status";

/// How long our package lists count as fresh.
const FRESH: Duration = Duration::from_secs(6 * 3600);

/// A directory with our own source list, package lists and cache.
pub struct PackageSource {
    dir: PathBuf,
    /// The suite whose packages are preferred, if one is.
    preferred: Option<&'static str>,
}

impl PackageSource {
    /// Opens that of the suites of the test matrix, and updates the package lists unless they are
    /// fresh.
    pub fn open() -> Result<Self> {
        Self::open_in("apt", &SUITES, None)
    }

    /// Opens that of Debian 12 and its backports, which are preferred.
    pub fn open_backports() -> Result<Self> {
        Self::open_in("apt-backports", &EMULATOR_SUITES, Some(EMULATOR_RELEASE))
    }

    fn open_in(
        name: &str,
        suites: &[(&str, bool)],
        preferred: Option<&'static str>,
    ) -> Result<Self> {
        if !is_here() {
            bail!("this machine has no apt-get and dpkg-deb to fetch Debian packages with");
        }
        if !Path::new(KEYRING).is_file() {
            bail!("{KEYRING} is missing: install the package debian-archive-keyring");
        }
        let source = Self {
            dir: paths::tools()?.join(name),
            preferred,
        };
        for sub in ["lists/partial", "cache/archives/partial"] {
            paths::create(source.dir.join(sub))?;
        }
        let targets = [
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
        ];
        let own = sh::output(Command::new("apt-get").args(targets)).unwrap_or_default();
        let list = source.dir.join("sources.list");
        let wanted = source_list(suites, &own);
        let same = fs::read_to_string(&list).is_ok_and(|old| old == wanted);
        fs::write(&list, wanted).with_context(|| format!("cannot write {}", list.display()))?;
        if !(same && source.is_fresh()) {
            source.update()?;
        }
        Ok(source)
    }

    fn stamp(&self) -> PathBuf {
        self.dir.join("updated")
    }

    fn is_fresh(&self) -> bool {
        let written = fs::metadata(self.stamp()).and_then(|meta| meta.modified());
        written.is_ok_and(|at| {
            SystemTime::now()
                .duration_since(at)
                .is_ok_and(|age| age < FRESH)
        })
    }

    fn update(&self) -> Result<()> {
        let mut command = self.command("apt-get");
        command.args(UPDATE);
        sh::step("fetching Debian's package lists", &mut command).context(OFFLINE)?;
        fs::write(self.stamp(), "").context("cannot note when the package lists were fetched")
    }

    /// A `program` of apt that reads and writes nothing of the machine's.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C");
        for (option, value) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::Etc::SourceParts", "no-parts"),
            ("Dir::Etc::Preferences", "no-preferences"),
            ("Dir::Etc::PreferencesParts", "no-parts"),
            ("Dir::State", ""),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::Status", "no-status"),
            ("Dir::Cache", "cache"),
        ] {
            let path = self.dir.join(value);
            command
                .arg("-o")
                .arg(format!("{option}={}", path.display()));
        }
        if let Some(suite) = self.preferred {
            command
                .arg("-o")
                .arg(format!("APT::Default-Release={suite}"));
        }
        // As root, apt fetches as user _apt, who may not enter our home.
        command.args([
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "APT::Architecture=amd64",
        ]);
        command
    }

    /// The names of packages that match `pattern`, an extended regular expression.
    pub fn names(&self, pattern: &str) -> Result<Vec<String>> {
        self.nothing_installed()?;
        let mut command = self.command("apt-cache");
        let found = sh::output(command.args(["search", "--names-only", pattern]))?;
        Ok(parse_names(&found))
    }

    /// Makes sure that what this machine has does not matter: the list of it is empty.
    fn nothing_installed(&self) -> Result<()> {
        let status = self.dir.join("no-status");
        fs::write(&status, "").with_context(|| format!("cannot write {}", status.display()))
    }

    /// `packages` and all that they need, as if nothing were installed.
    pub fn closure(&self, packages: &[&str]) -> Result<Vec<String>> {
        self.nothing_installed()?;
        let mut command = self.command("apt-get");
        command.args(["--simulate", "--no-install-recommends", "install"]);
        Ok(parse_plan(&sh::output(command.args(packages))?).installs)
    }

    /// `packages` and what they need that this machine has not installed.
    pub fn missing(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut command = self.command("apt-get");
        command.args(["-o", MACHINE_STATUS]);
        command.args(["--simulate", "--no-install-recommends", "install"]);
        Ok(parse_plan(&sh::output(command.args(packages))?).installs)
    }

    /// Fetches `packages` into `dir`, which is replaced only if all went well.
    pub fn fetch(&self, packages: &[String], dir: &Path) -> Result<()> {
        let partial = self.fetch_beside(packages, dir)?;
        replace(dir, &partial)
    }

    /// Fetches `packages` and unpacks them into `dir`, which is replaced only if all went well.
    pub fn unpack(&self, packages: &[String], dir: &Path) -> Result<()> {
        let partial = self.fetch_beside(packages, dir)?;
        let root = paths::create(partial.join("root"))?;
        for file in debs(&partial)? {
            let mut command = Command::new("dpkg-deb");
            sh::output(command.arg("-x").arg(&file).arg(&root))?;
        }
        replace(dir, &root)?;
        fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))
    }

    /// Fetches `packages` into a new directory beside `dir`.
    fn fetch_beside(&self, packages: &[String], dir: &Path) -> Result<PathBuf> {
        let parent = dir.parent().context("what is fetched has a place")?;
        let partial = parent.join(format!(".partial-{}", process::id()));
        let _ = fs::remove_dir_all(&partial);
        let partial = paths::create(partial)?;
        let mut command = self.command("apt-get");
        command.arg("download").args(packages).current_dir(&partial);
        let what = match packages {
            [one] => one.clone(),
            [first, rest @ ..] if rest.len() > 8 => format!("{first} and {} more", rest.len()),
            some => some.join(" "),
        };
        sh::step(&format!("fetching {what}"), &mut command).context(OFFLINE)?;
        Ok(partial)
    }
}

/// The packages in `dir`, sorted.
pub fn debs(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let is_deb = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let mut debs: Vec<_> = paths.filter(is_deb).collect();
    debs.sort();
    Ok(debs)
}

/// Moves the directory `new` to `dir`.
fn replace(dir: &Path, new: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(dir);
    fs::rename(new, dir)
        .with_context(|| format!("cannot move what was fetched to {}", dir.display()))
}

/// Our source list. Its mirrors are those in `own`, the machine's sources, or else Debian's.
fn source_list(suites: &[(&str, bool)], own: &str) -> String {
    let mirror = |security: bool| {
        own.lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(uri, release)| {
                uri.contains("debian")
                    && is_debian(release)
                    && release.contains("-security") == security
            })
            .map_or(
                if security {
                    "http://deb.debian.org/debian-security"
                } else {
                    "http://deb.debian.org/debian"
                },
                |(uri, _)| uri.trim_end_matches('/'),
            )
            .to_owned()
    };
    suites
        .iter()
        .map(|(suite, security)| {
            format!(
                "deb [signed-by={KEYRING}] {} {suite} main\n",
                mirror(*security)
            )
        })
        .collect()
}

/// Whether a suite belongs to Debian.
fn is_debian(release: &str) -> bool {
    ["bookworm", "trixie", "forky", "sid"]
        .iter()
        .any(|name| release.starts_with(name))
}

/// The names in the output of `apt-cache search --names-only`.
fn parse_names(found: &str) -> Vec<String> {
    found
        .lines()
        .filter_map(|line| line.split_once(" - "))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_sources_use_the_machines_mirror() {
        let own = "http://mirror.example/debian/ bookworm\n\
                   http://mirror.example/debian/ bookworm-updates\n\
                   http://mirror.example/debian-security/ bookworm-security\n";
        let list = source_list(&SUITES, own);
        assert!(
            list.contains("] http://mirror.example/debian bookworm main\n"),
            "{list}"
        );
        assert!(list.contains("] http://mirror.example/debian-security bookworm-security main\n"));
        assert!(list.contains("] http://mirror.example/debian trixie-backports main\n"));
    }

    #[test]
    fn our_sources_fall_back_to_debians_own() {
        let foreign = "http://archive.ubuntu.com/ubuntu/ noble\nhttps://x.example/node nodistro\n";
        for own in ["", foreign] {
            let list = source_list(&SUITES, own);
            assert!(
                list.contains(" http://deb.debian.org/debian bookworm main\n"),
                "{list}"
            );
            assert!(list.contains(" http://deb.debian.org/debian-security bookworm-security "));
        }
    }
}
