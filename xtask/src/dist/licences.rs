//! The licences of what others wrote and the program contains, in one text.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::crates::LinkedCrate;
use crate::sh;

/// What the compilers link into the program.
pub struct ToolchainPart {
    pub name: &'static str,
    pub version: String,
    /// An SPDX expression.
    pub licence: &'static str,
    note: &'static str,
}

/// How the names of files with licences begin.
const NAMES: [&str; 6] = [
    "LICENSE",
    "LICENCE",
    "COPYING",
    "COPYRIGHT",
    "NOTICE",
    "UNLICENSE",
];

/// The parts of the program that are in no package of cargo's.
pub fn toolchain() -> Result<[ToolchainPart; 3]> {
    let last = |command: &mut Command| -> Result<String> {
        let said = sh::output(command)?;
        Ok(said
            .split_whitespace()
            .last()
            .unwrap_or_default()
            .to_owned())
    };
    let rustc = sh::output(Command::new("rustc").arg("--version"))?;
    let rustc = rustc.split_whitespace().nth(1).unwrap_or_default();
    Ok([
        ToolchainPart {
            name: "std",
            version: rustc.to_owned(),
            licence: "MIT OR Apache-2.0",
            note: "The standard library of Rust. Copyright (c) The Rust Project Contributors.",
        },
        ToolchainPart {
            name: "glibc",
            version: last(Command::new("getconf").arg("GNU_LIBC_VERSION"))?,
            licence: "LGPL-2.1-or-later",
            note: "The GNU C Library, linked statically. Copyright (C) Free Software Foundation, \
                   Inc. and others. `cargo xtask dist` links tracker with another version of it.",
        },
        ToolchainPart {
            name: "libgcc",
            version: last(Command::new("gcc").arg("-dumpfullversion"))?,
            licence: "GPL-3.0-or-later WITH GCC-exception-3.1",
            note: "What GCC links into programs. Copyright (C) Free Software Foundation, Inc.",
        },
    ])
}

/// All of it as one text: who wrote what, then each text of a licence once.
pub fn text(crates: &[LinkedCrate]) -> Result<String> {
    let mut text = "tracker contains the following, each under the licence that is named. The \
                    texts are below.\n\n"
        .to_owned();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in crates {
        let title = format!("{} {}", one.name, one.version);
        let files = files(&one.directory)?;
        let none = if files.is_empty() {
            " (its package has no text)"
        } else {
            ""
        };
        let _infallible = writeln!(text, "  {title}: {}{none}", one.licence);
        for file in files {
            let bytes = fs::read(&file).with_context(|| cannot_read(&file))?;
            let licence = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
            let licence = licence.trim().to_owned();
            texts.entry(licence).or_default().insert(title.clone());
        }
    }
    for part in toolchain()? {
        let _infallible = writeln!(
            text,
            "  {} {}: {}\n    {}",
            part.name, part.version, part.licence, part.note
        );
    }
    for lesser in ["LGPL-2.1", "GPL-3"] {
        let file = Path::new("/usr/share/common-licenses").join(lesser);
        let licence = fs::read_to_string(&file).with_context(|| {
            format!(
                "cannot read {}, which Debian's base-files has: a static program is shipped with \
                 the licence of its C library",
                file.display()
            )
        })?;
        let whose = if lesser == "GPL-3" { "libgcc" } else { "glibc" };
        let licence = texts.entry(licence.trim().to_owned()).or_default();
        licence.insert(whose.to_owned());
    }
    // What many have comes first.
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by_key(|(_, whose)| std::cmp::Reverse(whose.len()));
    for (licence, whose) in texts {
        let whose: Vec<_> = whose.into_iter().collect();
        let line = "-".repeat(80);
        let _infallible = writeln!(text, "\n{line}\n{}:\n\n{licence}", whose.join(", "));
    }
    Ok(text)
}

/// The files with licences in a package, also those of what it brings from elsewhere.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory).with_context(|| cannot_read(&directory))?;
        for entry in entries {
            let entry = entry.with_context(|| cannot_read(&directory))?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(path);
            } else if is_licence(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_licence(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_uppercase();
    NAMES.iter().any(|start| name.starts_with(start)) && !name.ends_with(".RS")
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn each_text_is_there_once_with_those_who_use_it() {
        let packages = tempfile::tempdir().unwrap();
        let one = |name: &str, files: &[(&str, &str)]| {
            let directory = packages.path().join(name);
            for (file, text) in files {
                let file = directory.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            fs::create_dir_all(&directory).unwrap();
            let (version, licence) = ("1.0.0".to_owned(), "MIT".to_owned());
            LinkedCrate {
                name: name.to_owned(),
                version,
                licence,
                directory,
            }
        };
        let text = text(&[
            one("a", &[("LICENSE", "as you like\n"), ("license.rs", "code")]),
            one(
                "b",
                &[("c/COPYING.txt", "as you like\r\n"), ("NOTICE", "by b")],
            ),
            one("bare", &[]),
        ])
        .unwrap();
        assert_eq!(text.matches("as you like").count(), 1, "{text}");
        assert!(
            text.contains("a 1.0.0, b 1.0.0:\n\nas you like\n"),
            "{text}"
        );
        assert!(text.contains("\nb 1.0.0:\n\nby b\n"), "{text}");
        assert!(text.contains("bare 1.0.0: MIT (its package has no text)"));
        assert!(text.contains("glibc") && !text.contains("code\n"), "{text}");
    }
}
