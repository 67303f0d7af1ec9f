//! The .deb. What it contains stands in `tracker/Cargo.toml`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::release::{EPOCH, Release};
use crate::{cargo::TRACKER, paths, setup::packager, sh};

/// Packs what was staged into `out`; returns the package.
pub fn pack(release: &Release, out: &Path) -> Result<PathBuf> {
    let mut command = Command::new(packager::program()?);
    command
        .args(["--package", TRACKER, "--target", paths::TARGET])
        .args(["--no-build", "--no-strip", "--locked"])
        .arg("--output")
        .arg(out)
        .current_dir(paths::root())
        .env(EPOCH, release.epoch.to_string());
    sh::step("packing the .deb", &mut command)?;
    with_extension(out, "deb")
}

/// The file in `directory` that ends in `extension`.
fn with_extension(directory: &Path, extension: &str) -> Result<PathBuf> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry.context("cannot list what was packed")?.path();
        if path.extension().is_some_and(|found| found == extension) {
            return Ok(path);
        }
    }
    bail!("no .{extension} was written to {}", directory.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::Value;

    use super::{super::NAME, *};

    /// What `tracker/Cargo.toml` tells the packager.
    fn metadata() -> Value {
        let mut command = Command::new("cargo");
        command
            .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
            .current_dir(paths::root());
        let all: Value = serde_json::from_str(&sh::output(&mut command).unwrap()).unwrap();
        let packages = all["packages"].as_array().unwrap();
        let tracker = packages.iter().find(|package| package["name"] == TRACKER);
        tracker.unwrap()["metadata"]["deb"].clone()
    }

    /// The source, destination and mode of each file.
    fn files<'a>(metadata: &'a Value) -> Vec<[&'a str; 3]> {
        let text = |asset: &'a Value, key| asset[key].as_str().unwrap();
        let assets = metadata["assets"].as_array().unwrap().iter();
        assets
            .map(|asset| ["source", "dest", "mode"].map(|key| text(asset, key)))
            .collect()
    }

    #[test]
    fn one_program_is_packaged_and_nothing_of_the_tests() {
        let metadata = metadata();
        let files = files(&metadata);
        let programs: Vec<_> = files.iter().filter(|[_, _, mode]| *mode != "644").collect();
        let tracker = ["../target/stage/tracker", "usr/bin/tracker", "755"];
        assert_eq!(programs, [&tracker]);
        // All else is text: staged, or of these directories of the checkout.
        for [source, ..] in &files {
            let from = ["../target/stage/", "../deploy/", "../docs/"];
            assert!(from.iter().any(|from| source.starts_with(from)), "{source}");
        }
    }

    #[test]
    fn it_has_the_name_of_no_other_package_and_its_options_are_kept() {
        let metadata = metadata();
        assert_eq!(metadata["name"], NAME);
        let options = "etc/default/uffdwp-tracker";
        assert!(files(&metadata).iter().any(|[_, dest, _]| *dest == options));
        assert_eq!(
            metadata["conf-files"],
            serde_json::json!([format!("/{options}")])
        );
    }
}
