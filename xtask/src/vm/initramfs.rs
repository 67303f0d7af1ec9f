//! The root file system of a guest: busybox, our init, and the programs to run.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{cpio::CpioArchive, debian, modules};
use crate::{setup, setup::kernels::GuestKernel, sh};

/// A file or directory of the host, and its place in the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Path on the host.
    pub host: PathBuf,
    /// Path in the guest, absolute.
    pub guest: String,
}

impl GuestFile {
    /// Parses `HOST:GUEST`, or `HOST` for the guest's `/root/NAME`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, guest) = match text.split_once(':') {
            Some((_, guest)) if !guest.starts_with('/') => {
                return Err(format!(
                    "the path in the guest must be absolute, not {guest:?}"
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

/// What the init script reads from /settings and /command.
pub struct InitSettings<'a> {
    /// Marks the lines about the command's begin and end.
    pub token: &'a str,
    /// A shell script; `None` for an interactive shell.
    pub command: Option<&'a str>,
    /// Whether to mount /sys/fs/bpf.
    pub bpffs: bool,
    /// How many huge pages of 2 MiB to reserve.
    pub hugepages: u32,
    /// The drivers of the guest's devices.
    pub drivers: &'a [&'a str],
    /// The packages of a Debian in which to run the command; none to run it in busybox alone.
    pub debian: &'a [PathBuf],
}

/// Writes the archive to `path`, uncompressed: an emulated machine reads faster than it unpacks.
pub fn write(
    path: &Path,
    kernel: &GuestKernel,
    files: &[GuestFile],
    settings: &InitSettings,
) -> Result<()> {
    let file =
        fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let archive = CpioArchive::new(BufWriter::new(file));
    fill(archive, kernel, files, settings)
        .with_context(|| format!("cannot write the guest's file system to {}", path.display()))
}

fn fill<W: Write>(
    mut archive: CpioArchive<W>,
    kernel: &GuestKernel,
    files: &[GuestFile],
    settings: &InitSettings,
) -> Result<()> {
    fill_base(&mut archive, settings)?;
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
        // A Debian has its own.
        if settings.debian.is_empty() {
            libraries.extend(shared_libraries(&file.host));
        }
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

/// Adds what every guest has: busybox, init with its settings, and a minimal `/etc`.
fn fill_base<W: Write>(archive: &mut CpioArchive<W>, settings: &InitSettings) -> Result<()> {
    for dir in [
        "/proc", "/sys", "/dev", "/tmp", "/root", "/run", "/var", "/modules",
    ] {
        archive.directory(dir)?;
    }
    archive.device("/dev/console", 5, 1)?;
    let busybox = setup::busybox::find().context("no static busybox; run: cargo xtask setup")?;
    archive.file("/bin/busybox", 0o755, &fs::read(&busybox)?)?;
    archive.symlink("/bin/sh", "busybox")?;
    let init = if settings.debian.is_empty() {
        include_str!("init.sh")
    } else {
        let command = settings.command.unwrap_or_default();
        debian::add(archive, settings.debian, command, settings.token)?;
        include_str!("init-debian.sh")
    };
    archive.file("/init", 0o755, init.as_bytes())?;
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
    Ok(())
}

/// Adds a file, or a directory with everything in it.
fn add<W: Write>(archive: &mut CpioArchive<W>, file: &GuestFile) -> Result<()> {
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
fn script(settings: &InitSettings) -> String {
    let yes_no = |value| if value { "yes" } else { "no" };
    format!(
        "token={}\nbpffs={}\nhugepages={}\ninteractive={}\n",
        sh::quote(settings.token),
        yes_no(settings.bpffs),
        settings.hugepages,
        yes_no(settings.command.is_none()),
    )
}

/// The shared libraries and the loader of `program`; none if it is static, or no program.
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
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)\n\
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
