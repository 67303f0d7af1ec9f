//! The crates of others that are linked into tracker and into its BPF programs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{cargo::TRACKER, paths, sh};

/// A crate as its package describes it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkedCrate {
    pub name: String,
    pub version: String,
    /// An SPDX expression.
    pub licence: String,
    /// Where its package is unpacked.
    pub directory: PathBuf,
}

/// The package, features and target of each program that tracker consists of.
const PROGRAMS: [[&str; 3]; 2] = [
    [TRACKER, "", paths::TARGET],
    ["tracker-ebpf", "bpf", "bpfel-unknown-none"],
];

/// All of them, sorted: neither what only builds the program nor macros.
pub fn linked() -> Result<Vec<LinkedCrate>> {
    let mut names = BTreeSet::new();
    for [package, features, target] in PROGRAMS {
        names.extend(tree(&cargo(&[
            "tree",
            "--edges=normal,no-proc-macro",
            "--prefix=none",
            "--format={p}",
            "--package",
            package,
            "--features",
            features,
            "--target",
            target,
        ])?));
    }
    let metadata = cargo(&["metadata", "--format-version=1"])?;
    let metadata = serde_json::from_str(&metadata).context("`cargo metadata` printed no JSON")?;
    described(&metadata, &names)
}

fn cargo(args: &[&str]) -> Result<String> {
    sh::output(
        Command::new("cargo")
            .args(args)
            .arg("--locked")
            .current_dir(paths::root()),
    )
}

/// The name and version in each line of `cargo tree`.
fn tree(lines: &str) -> BTreeSet<(String, String)> {
    let one = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        let version = rest.split(' ').next()?;
        Some((name.to_owned(), version.to_owned()))
    };
    lines.lines().filter_map(one).collect()
}

/// What `cargo metadata` tells about those of `names` that come from a registry.
fn described(metadata: &Value, names: &BTreeSet<(String, String)>) -> Result<Vec<LinkedCrate>> {
    let packages = metadata["packages"].as_array();
    let mut crates = Vec::new();
    for package in packages.into_iter().flatten() {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let (name, version) = (text("name"), text("version"));
        let linked = names.contains(&(name.clone(), version.clone()));
        if !linked || package["source"].is_null() {
            continue;
        }
        let manifest = PathBuf::from(text("manifest_path"));
        let directory = manifest.parent().map(Path::to_owned);
        crates.push(LinkedCrate {
            // How older packages write a choice.
            licence: text("license").replace(" / ", " OR ").replace('/', " OR "),
            directory: directory.with_context(|| format!("{name} has no directory"))?,
            name,
            version,
        });
    }
    crates.sort();
    Ok(crates)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn crates_of_others_are_found_by_name_and_version() {
        let names = tree(
            "tracker v0.1.0 (/src/tracker)\naya v0.14.0\nzstd-sys v2.0.1+zstd.1.5 (*)\n\nlog v0.4.1",
        );
        assert_eq!(names.len(), 4);
        let package = |name: &str, version: &str, source: Option<&str>| {
            serde_json::json!({
                "name": name, "version": version, "source": source, "license": "MIT/Apache-2.0",
                "manifest_path": format!("/crates/{name}-{version}/Cargo.toml"),
            })
        };
        let metadata = serde_json::json!({"packages": [
            package("zstd-sys", "2.0.1+zstd.1.5", Some("registry")),
            package("tracker", "0.1.0", None),
            package("aya", "0.13.0", Some("registry")),
            package("aya", "0.14.0", Some("registry")),
        ]});
        let crates = described(&metadata, &names).unwrap();
        let found: Vec<_> = crates.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(found, ["aya", "zstd-sys"]);
        assert_eq!(crates[0].version, "0.14.0");
        assert_eq!(crates[0].licence, "MIT OR Apache-2.0");
        assert_eq!(crates[0].directory, Path::new("/crates/aya-0.14.0"));
    }
}
