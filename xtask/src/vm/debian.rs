//! The root of a guest that is a Debian: its packages unpacked, its database of packages filled in,
//! and what starts the command under systemd. The guest configures them, so nothing here needs root.

use std::{
    fmt::Write as _,
    io::{Read as _, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str,
};

use anyhow::{Context as _, Result, bail};
use tar::{Archive, Entry, EntryType};

use super::cpio::CpioArchive;

/// Where the guest's first root has the Debian; its init moves there.
pub const ROOT: &str = "/debian";

/// Directories that are links into `/usr`.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// The unit that runs the command, and the target that a guest boots into.
const UNITS: [(&str, &str); 2] = [
    ("tracker-vm.service", include_str!("tracker-vm.service")),
    ("tracker-vm.target", include_str!("tracker-vm.target")),
];

/// Adds `packages`, and what runs `command` in them and prints its status after `token`.
pub fn add<W: Write>(
    archive: &mut CpioArchive<W>,
    packages: &[PathBuf],
    command: &str,
    token: &str,
) -> Result<()> {
    archive.directory(ROOT)?;
    for name in MERGED {
        archive.directory(&format!("{ROOT}/usr/{name}"))?;
        archive.symlink(&format!("{ROOT}/{name}"), &format!("usr/{name}"))?;
    }
    let mut status = String::new();
    for package in packages {
        let about = || format!("cannot unpack {}", package.display());
        status += &add_package(archive, package).with_context(about)?;
    }
    let database = format!("{ROOT}/var/lib/dpkg");
    archive.directory(&format!("{database}/updates"))?;
    for (file, text) in [("status", &*status), ("info/format", "1\n")] {
        archive.file(&format!("{database}/{file}"), 0o644, text.as_bytes())?;
    }
    for (name, text) in [("hostname", "guest\n"), ("hosts", "127.0.0.1 localhost\n")] {
        archive.file(&format!("{ROOT}/etc/{name}"), 0o644, text.as_bytes())?;
    }
    for (name, text) in UNITS {
        let path = format!("{ROOT}/etc/systemd/system/{name}");
        archive.file(&path, 0o644, text.as_bytes())?;
    }
    let run = include_str!("run-command.sh").replace("@TOKEN@", token);
    for (name, text) in [("run", &*run), ("command", command)] {
        let path = format!("{ROOT}/usr/local/lib/tracker-vm/{name}");
        archive.file(&path, 0o755, text.as_bytes())?;
    }
    Ok(())
}

/// Adds the files of a package; returns its entry in dpkg's list.
fn add_package<W: Write>(archive: &mut CpioArchive<W>, package: &Path) -> Result<String> {
    let mut control = Vec::new();
    tar_of(package, "--ctrl-tarfile", |path, entry| {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if !path.is_empty() {
            control.push((path.to_owned(), entry.header().mode()?, bytes));
        }
        Ok(())
    })?;
    let about = control.iter().find(|(name, ..)| name == "control");
    let about = about.context("the package has no control file")?;
    let installed = unpacked(str::from_utf8(&about.2)?)?;
    let info = format!("{ROOT}/var/lib/dpkg/info/{}", installed.name);
    for (name, mode, bytes) in control.iter().filter(|(name, ..)| name != "control") {
        archive.file(&format!("{info}.{name}"), *mode, bytes)?;
    }
    let mut list = String::from("/.\n");
    tar_of(package, "--fsys-tarfile", |path, entry| {
        if !path.is_empty() {
            writeln!(list, "/{path}")?;
        }
        add_entry(archive, path, entry)
    })?;
    archive.file(&format!("{info}.list"), 0o644, list.as_bytes())?;
    Ok(installed.entry)
}

/// Adds a file of a package where a system with a merged `/usr` has it.
fn add_entry<W: Write>(
    archive: &mut CpioArchive<W>,
    path: &str,
    entry: &mut Entry<'_, impl std::io::Read>,
) -> Result<()> {
    if path.is_empty() || MERGED.contains(&path) {
        return Ok(());
    }
    let (place, mode) = (format!("{ROOT}/{}", merged(path)), entry.header().mode()?);
    let target = entry.link_name_bytes().map(|name| name.into_owned());
    let target = String::from_utf8(target.unwrap_or_default())?;
    match entry.header().entry_type() {
        EntryType::Directory => archive.directory_with(&place, mode)?,
        EntryType::Symlink => archive.symlink(&place, &target)?,
        // Nothing here changes one of two names.
        EntryType::Link => archive.symlink(&place, &format!("/{}", merged(plain(&target))))?,
        EntryType::Regular => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            archive.file(&place, mode, &bytes)?;
        }
        other => bail!("/{path} is of a kind that guests do not have: {other:?}"),
    }
    Ok(())
}

/// Passes each entry of one of a package's archives to `each`, with its path without `./`.
fn tar_of(
    package: &Path,
    which: &str,
    mut each: impl FnMut(&str, &mut Entry<'_, std::process::ChildStdout>) -> Result<()>,
) -> Result<()> {
    let mut child = Command::new("dpkg-deb")
        .arg(which)
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let out = child.stdout.take().context("dpkg-deb has an output")?;
    let mut archive = Archive::new(out);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8(entry.path_bytes().into_owned())?;
        each(plain(&path), &mut entry)?;
    }
    // The padding at the end, without which dpkg-deb would fail to write.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink())?;
    if !child.wait()?.success() {
        bail!("dpkg-deb {which} failed");
    }
    Ok(())
}

/// A path of a package's archive as others write it.
fn plain(path: &str) -> &str {
    path.trim_start_matches("./").trim_end_matches(['/', '.'])
}

/// Where a system with a merged `/usr` has `path`.
fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) {
        format!("usr/{path}")
    } else {
        path.to_owned()
    }
}

/// What dpkg knows of a package.
#[derive(Debug, PartialEq, Eq)]
struct UnpackedPackage {
    /// What its files in dpkg's database are called.
    name: String,
    /// Its entry in the list.
    entry: String,
}

/// From a control file.
fn unpacked(control: &str) -> Result<UnpackedPackage> {
    let field = |name: &str| {
        let mut lines = control.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let package = field("Package").context("a control file names its package")?;
    let name = match (field("Multi-Arch"), field("Architecture")) {
        (Some("same"), Some(architecture)) => format!("{package}:{architecture}"),
        _ => package.to_owned(),
    };
    let entry = format!("Status: install ok unpacked\n{}\n\n", control.trim_end());
    Ok(UnpackedPackage { name, entry })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn files_are_where_a_merged_system_has_them() {
        for (packaged, here) in [
            ("bin/sh", "usr/bin/sh"),
            (
                "lib64/ld-linux-x86-64.so.2",
                "usr/lib64/ld-linux-x86-64.so.2",
            ),
            ("library/x", "library/x"),
            ("usr/bin/env", "usr/bin/env"),
        ] {
            assert_eq!(merged(packaged), here);
        }
        assert_eq!(plain("./etc/default/"), "etc/default");
        assert_eq!(plain("./"), "");
    }

    #[test]
    fn a_library_of_several_architectures_is_named_with_its_own() {
        let control = "Package: libc6\nArchitecture: amd64\nMulti-Arch: same\nDescription: C\n";
        let found = unpacked(control).unwrap();
        assert_eq!(found.name, "libc6:amd64");
        assert!(
            found
                .entry
                .starts_with("Status: install ok unpacked\nPackage: libc6\n")
        );
        assert!(
            found.entry.ends_with("Description: C\n\n"),
            "{}",
            found.entry
        );
        let tool = unpacked("Package: sed\nArchitecture: amd64\nMulti-Arch: foreign\n");
        assert_eq!(tool.unwrap().name, "sed");
    }
}
