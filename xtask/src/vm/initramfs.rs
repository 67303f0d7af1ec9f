//! The guest's root file system: busybox, an init of our own, and the programs to run.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{cpio::Archive, modules};
use crate::{setup, setup::kernels::Kernel, sh};

/// A file of the host, and where the guest finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// On the host.
    pub host: PathBuf,
    /// In the guest, absolute.
    pub guest: String,
}

impl GuestFile {
    /// `HOST` or `HOST:GUEST`; a guest's path is `/root/NAME` where none is given.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, guest) = match text.split_once(':') {
            Some((host, guest)) if !guest.starts_with('/') => {
                return Err(format!(
                    "{guest:?} in {host:?}:{guest:?} must be an absolute path"
                ));
            }
            Some((host, guest)) => (PathBuf::from(host), guest.to_owned()),
            None => {
                let host = PathBuf::from(text);
                let name = host
                    .file_name()
                    .ok_or_else(|| format!("{text:?} names no file"))?;
                let guest = format!("/root/{}", name.to_string_lossy());
                (host, guest)
            }
        };
        Ok(Self { host, guest })
    }
}

/// What the init script is told.
pub struct Settings<'a> {
    /// Marks the verdict.
    pub token: &'a str,
    /// A shell script; none means an interactive shell.
    pub command: Option<&'a str>,
    /// Whether /sys/fs/bpf is mounted.
    pub bpffs: bool,
    /// 2 MiB pages to reserve.
    pub hugepages: u32,
    /// The drivers of its devices.
    pub drivers: &'a [&'a str],
}

/// Writes the archive to `path`. Uncompressed: an emulated machine reads faster than it unpacks.
pub fn write(path: &Path, kernel: &Kernel, files: &[GuestFile], settings: &Settings) -> Result<()> {
    let file =
        fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let archive = Archive::new(BufWriter::new(file));
    fill(archive, kernel, files, settings)
        .with_context(|| format!("cannot build the guest's file system {}", path.display()))
}

fn fill<W: Write>(
    mut archive: Archive<W>,
    kernel: &Kernel,
    files: &[GuestFile],
    settings: &Settings,
) -> Result<()> {
    for dir in [
        "/proc", "/sys", "/dev", "/tmp", "/root", "/run", "/var", "/modules",
    ] {
        archive.directory(dir)?;
    }
    archive.device("/dev/console", 5, 1)?;
    let busybox = setup::busybox().context("no static busybox; run: cargo xtask setup")?;
    archive.file("/bin/busybox", 0o755, &fs::read(&busybox)?)?;
    archive.symlink("/bin/sh", "busybox")?;
    archive.file("/init", 0o755, include_bytes!("init.sh"))?;
    archive.file("/settings", 0o644, script(settings).as_bytes())?;
    archive.file(
        "/command",
        0o755,
        settings.command.unwrap_or_default().as_bytes(),
    )?;
    archive.file(
        "/etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    )?;
    archive.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost\n")?;
    if !settings.drivers.is_empty() {
        let modules = modules::of(kernel, settings.drivers)?;
        for (index, module) in modules.into_iter().enumerate() {
            archive.file(
                &format!("/modules/{index:02}-{}.ko", module.name),
                0o644,
                &module.code,
            )?;
        }
    }
    let mut libraries = BTreeSet::new();
    for file in files {
        add(&mut archive, file)?;
        libraries.extend(shared_libraries(&file.host));
    }
    for library in libraries {
        let guest = library.display().to_string();
        add(
            &mut archive,
            &GuestFile {
                host: library,
                guest,
            },
        )?;
    }
    archive.finish()?;
    Ok(())
}

/// Adds a file, or a directory with all that is in it.
fn add<W: Write>(archive: &mut Archive<W>, file: &GuestFile) -> Result<()> {
    let about = || format!("cannot read {}", file.host.display());
    let meta = fs::metadata(&file.host).with_context(about)?;
    if !meta.is_dir() {
        let data = fs::read(&file.host).with_context(about)?;
        return Ok(archive.file(&file.guest, meta.permissions().mode(), &data)?);
    }
    archive.directory(&file.guest)?;
    for entry in fs::read_dir(&file.host).with_context(about)? {
        let entry = entry.with_context(about)?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            bail!("{} has a name that is not UTF-8", entry.path().display());
        };
        add(
            archive,
            &GuestFile {
                host: entry.path(),
                guest: format!("{}/{name}", file.guest),
            },
        )?;
    }
    Ok(())
}

/// The settings as shell assignments.
fn script(settings: &Settings) -> String {
    let yes_no = |value| if value { "yes" } else { "no" };
    format!(
        "token={}\nbpffs={}\nhugepages={}\ninteractive={}\n",
        sh::quote(settings.token),
        yes_no(settings.bpffs),
        settings.hugepages,
        yes_no(settings.command.is_none()),
    )
}

/// The shared libraries `program` loads, with its loader; none for what is static or no program.
fn shared_libraries(program: &Path) -> Vec<PathBuf> {
    let loaded = sh::output(Command::new("ldd").arg(program)).unwrap_or_default();
    parse_ldd(&loaded)
}

fn parse_ldd(loaded: &str) -> Vec<PathBuf> {
    loaded
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn files_are_named_by_one_or_two_paths() {
        let file = GuestFile::parse("target/x/tool").unwrap();
        assert_eq!(file.guest, "/root/tool");
        let file = GuestFile::parse("tool:/bin/other").unwrap();
        assert_eq!(
            (file.host.to_str(), file.guest.as_str()),
            (Some("tool"), "/bin/other")
        );
        assert!(GuestFile::parse("tool:relative").is_err());
        assert!(GuestFile::parse("/").is_err());
    }

    #[test]
    fn libraries_and_the_loader_are_found() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n\tlibgone.so => not found\n";
        let found = parse_ldd(ldd);
        assert_eq!(found.len(), 2);
        assert!(found.contains(&PathBuf::from("/lib64/ld-linux-x86-64.so.2")));
        assert_eq!(
            parse_ldd("\tnot a dynamic executable\n"),
            Vec::<PathBuf>::new()
        );
    }
}
