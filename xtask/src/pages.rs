//! A test: what the pages of this repository name is there.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, path::Path};

use crate::paths;

/// The folders whose files pages name by path.
const FOLDERS: [&str; 7] = [
    "crates/",
    "deploy/",
    "docs/",
    "tracker-ebpf/",
    "tracker/",
    "xtask/",
    ".ci/",
];

/// The paths in `text` that begin with one of [`FOLDERS`].
fn named(text: &str) -> impl Iterator<Item = &str> {
    let of_path = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    text.split(move |c| !of_path(c))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
}

/// The paths that `page` names and that are neither below the root nor beside the page.
fn missing(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let beside = page.parent().unwrap();
    let is_there = |path: &&str| paths::root().join(path).exists() || beside.join(path).exists();
    let missing = named(&text).filter(|path| !is_there(path));
    missing.map(str::to_owned).collect()
}

#[test]
fn every_path_that_a_page_names_is_there() {
    let root = paths::root();
    let docs = fs::read_dir(root.join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let pages = ["ARCHITECTURE.md", "README.md", "deploy/README.md"].map(|page| root.join(page));
    for page in docs.chain(pages) {
        if page.extension().is_some_and(|extension| extension == "md") {
            assert_eq!(missing(&page), Vec::<String>::new(), "{}", page.display());
        }
    }
}

#[test]
fn paths_are_found_in_text_and_links() {
    let text = "see `tracker/src/` and [it](docs/x.md), or xtask/peer/count.bpf.c. track/not";
    let found: Vec<&str> = named(text).collect();
    assert_eq!(
        found,
        ["tracker/src/", "docs/x.md", "xtask/peer/count.bpf.c"]
    );
}
