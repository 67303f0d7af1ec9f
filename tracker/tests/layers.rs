//! The layer rule of ARCHITECTURE.md: a module uses those below it, never those above.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of tracker, lowest first; those in one row do not know each other.
const LAYERS: &[&[&str]] = &[
    &["heap", "kernel", "logging", "model", "print"],
    &["probes"],
    &["track", "compare", "top"],
    &["explain"],
    &["metrics"],
    &["agent"],
    &["cli"],
];

/// What the crates below tracker may not depend on: they neither log nor know of BPF or a runtime.
const NOT_BELOW: &[&str] = &[
    "anyhow",
    "aya",
    "clap",
    "log",
    "prometheus",
    "tokio",
    "tracing",
    "tracker",
    "tracker-ebpf",
];

#[test]
fn modules_use_only_those_below_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    for file in files(&source) {
        let module = module(&file, &source);
        let text = fs::read_to_string(&file).unwrap();
        for used in uses(&text) {
            if rank(&used).is_none() || module == used {
                continue;
            }
            // The root sees everything: it declares the modules.
            let Some(own) = rank(&module) else { continue };
            if rank(&used) >= Some(own) {
                found.insert(format!("{}: {module} uses {used}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn every_module_has_its_layer() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let modules: BTreeSet<_> = files(&source)
        .iter()
        .map(|file| module(file, &source))
        .collect();
    let named: BTreeSet<_> = LAYERS.concat().iter().map(ToString::to_string).collect();
    let roots = ["lib", "main"].map(str::to_owned);
    let modules: BTreeSet<_> = modules
        .into_iter()
        .filter(|name| !roots.contains(name))
        .collect();
    assert_eq!(modules, named);
}

#[test]
fn the_crates_below_depend_on_nothing_above() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    for name in ["uffd", "pages"] {
        let manifest = fs::read_to_string(crates.join(name).join("Cargo.toml")).unwrap();
        let (_, dependencies) = manifest.split_once("[dependencies]").unwrap();
        for line in dependencies.lines() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            assert!(
                !NOT_BELOW.contains(&dependency),
                "{name} depends on {dependency}"
            );
            assert!(
                name != "uffd" || dependency != "pages",
                "uffd depends on pages"
            );
        }
    }
}

#[test]
fn uses_are_found_however_they_are_written() {
    let text = "use crate::probes::plan;\nuse crate::{kernel::Facts, model};\n\
                let x = crate::agent::run();";
    let expected = ["agent", "kernel", "model", "probes"].map(str::to_owned);
    assert_eq!(uses(text), BTreeSet::from(expected));
}

/// The modules of this crate that a source file names.
fn uses(text: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(found.insert(word(rest))),
            Some(group) => {
                let group = group.split('}').next().unwrap_or_default();
                found.extend(group.split(',').map(|one| word(one.trim())));
            }
        }
    }
    found
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// The top module that a file belongs to.
fn module(file: &Path, source: &Path) -> String {
    let inside = file.strip_prefix(source).unwrap();
    let first = inside.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
