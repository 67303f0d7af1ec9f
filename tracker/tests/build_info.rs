//! The commit that a build names.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../build/revision.rs"]
mod revision;

use revision::{revision, watched};
use std::fs;
use std::path::Path;
use std::process::Command;

fn git(dir: &Path, args: &[&str]) -> String {
    let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
    let output = Command::new("git")
        .args(identity)
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A workspace with a source and a document, not yet in a repository.
fn workspace(dir: &Path) {
    fs::create_dir_all(dir.join("tracker/src")).unwrap();
    fs::write(dir.join("tracker/src/main.rs"), "fn main() {}\n").unwrap();
    fs::write(dir.join("README.md"), "what it is\n").unwrap();
}

fn commit(dir: &Path) -> String {
    git(dir, &["add", "--all"]);
    git(dir, &["commit", "--quiet", "--message", "a commit"]);
    git(dir, &["rev-parse", "HEAD"])
}

#[test]
fn a_build_names_its_commit_and_whether_its_sources_differ() {
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path());
    assert_eq!(revision(dir.path()), None, "no repository");
    git(dir.path(), &["init", "--quiet"]);
    assert_eq!(revision(dir.path()), None, "no commit");

    let first = commit(dir.path())[..12].to_owned();
    assert_eq!(revision(dir.path()), Some(first.clone()));
    fs::write(dir.path().join("README.md"), "something else\n").unwrap();
    assert_eq!(revision(dir.path()), Some(first.clone()), "not a source");

    let source = dir.path().join("tracker/src/main.rs");
    fs::write(&source, "fn main() { panic!() }\n").unwrap();
    assert_eq!(revision(dir.path()), Some(format!("{first}-dirty")));
    git(dir.path(), &["add", "tracker/src/main.rs"]);
    assert_eq!(revision(dir.path()), Some(format!("{first}-dirty")));
    let second = commit(dir.path())[..12].to_owned();
    assert_eq!(revision(dir.path()), Some(second.clone()));

    fs::write(dir.path().join("tracker/src/new.rs"), "").unwrap();
    assert_eq!(revision(dir.path()), Some(format!("{second}-dirty")));
}

#[test]
fn a_repository_around_the_workspace_is_not_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("tracker-0.1.0");
    workspace(&inner);
    git(dir.path(), &["init", "--quiet"]);
    commit(dir.path());
    assert_eq!(revision(&inner), None);
}

#[test]
fn a_commit_changes_a_watched_file_and_a_look_at_the_status_does_not() {
    let dir = tempfile::tempdir().unwrap();
    workspace(dir.path());
    let sources = watched(dir.path());
    assert_eq!(sources, [dir.path().join("tracker/src")], "what is there");
    git(dir.path(), &["init", "--quiet"]);
    commit(dir.path());

    let contents = || -> Vec<Vec<u8>> {
        let watched = watched(dir.path());
        let files = watched.iter().filter(|path| path.is_file());
        files.map(|path| fs::read(path).unwrap()).collect()
    };
    let before = contents();
    // This makes the index older than its files, so that `git status` would write it.
    fs::write(dir.path().join("README.md"), "what it is\n").unwrap();
    git(dir.path(), &["status"]);
    assert_eq!(contents(), before);
    git(
        dir.path(),
        &["commit", "--quiet", "--allow-empty", "-m", "another"],
    );
    assert_ne!(contents(), before);
}

#[test]
fn this_build_knows_both() {
    assert!(env!("TRACKER_RUSTC").starts_with("rustc "));
    let revision = env!("TRACKER_REVISION").trim_end_matches("-dirty");
    let is_commit = revision.len() >= 12 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(is_commit || revision == "unknown", "{revision}");
}
