//! Which commit is built, as git tells.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What goes into the programs, below the workspace: a change elsewhere makes no other program.
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

/// The commit that is checked out at `workspace`, with `-dirty` if sources differ from it. `None`
/// outside a repository of its own, before the first commit, and where git is not there or refuses.
pub fn revision(workspace: &Path) -> Option<String> {
    let commit = git(workspace, &["rev-parse", "--short=12", "HEAD"])?;
    let status = [&["status", "--porcelain", "--"], SOURCES].concat();
    let dirty = !git(workspace, &status)?.is_empty();
    Some(commit + if dirty { "-dirty" } else { "" })
}

/// The files and folders that [`revision`] depends on, as far as they are there: cargo takes a
/// missing one for changed each time.
pub fn watched(workspace: &Path) -> Vec<PathBuf> {
    // Each move of HEAD is written to its log; the index is not watched, as a mere look at the
    // status may rewrite it.
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
        // A source archive may be unpacked in someone else's repository.
        command.env("GIT_CEILING_DIRECTORIES", above);
    }
    // Set where a hook of git builds.
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
