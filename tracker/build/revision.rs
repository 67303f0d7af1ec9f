//! The commit that is built, from git.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The paths in the workspace that go into the programs: a change elsewhere makes no difference.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "crates/pages",
    "crates/uffd",
    "tracker/Cargo.toml",
    "tracker/build.rs",
    "tracker/build",
    "tracker/src",
    "tracker-ebpf",
];

/// The commit that is checked out at `workspace`, with `-dirty` if the sources differ from it.
/// `None` if the workspace is not a repository itself, before the first commit, and if git is
/// missing or refuses.
pub fn revision(workspace: &Path) -> Option<String> {
    let commit = git(workspace, &["rev-parse", "--short=12", "HEAD"])?;
    let status = [&["status", "--porcelain", "--"], SOURCES].concat();
    let dirty = !git(workspace, &status)?.is_empty();
    Some(commit + if dirty { "-dirty" } else { "" })
}

/// The files and folders that [`revision`] depends on and that exist: cargo would consider a
/// missing one changed each time.
pub fn watched(workspace: &Path) -> Vec<PathBuf> {
    // Each move of HEAD is written to its log. The index is not watched, because merely looking at
    // the status may rewrite it.
    let moves = ["HEAD", "logs/HEAD"].iter().filter_map(|name| {
        let path = git(workspace, &["rev-parse", "--git-path", name])?;
        Some(workspace.join(path))
    });
    let sources = SOURCES.iter().map(|name| workspace.join(name));
    sources.chain(moves).filter(|path| path.exists()).collect()
}

/// What git prints about the repository whose top is `workspace`; `None` if it fails.
fn git(workspace: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    if let Some(above) = workspace.parent() {
        // A source archive may have been unpacked inside another repository.
        command.env("GIT_CEILING_DIRECTORIES", above);
    }
    // Set if a git hook started the build.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let output = command
        .arg("--no-optional-locks")
        .args(args)
        .current_dir(workspace)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
