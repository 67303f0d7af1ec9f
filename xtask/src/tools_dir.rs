//! Where set-up keeps what it fetches and builds: one directory for all checkouts of a user, so
//! that a second clone is ready at once. `tracker/build.rs` includes this file for the same answer.

use std::{env, path::PathBuf};

/// The environment variables that [`tools_dir`] depends on.
#[allow(dead_code, reason = "only the build script asks")]
pub const VARIABLES: [&str; 3] = ["TRACKER_TOOLS", "XDG_CACHE_HOME", "HOME"];

/// `$TRACKER_TOOLS`, else `$XDG_CACHE_HOME/tracker`, else `$HOME/.cache/tracker`.
///
/// Relative values are ignored, as the XDG base directory specification demands.
pub fn tools_dir() -> Option<PathBuf> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("TRACKER_TOOLS")
        .or_else(|| absolute("XDG_CACHE_HOME").map(|cache| cache.join("tracker")))
        .or_else(|| absolute("HOME").map(|home| home.join(".cache/tracker")))
}

/// The file with the rustup name, or the path, of the toolchain that builds the eBPF programs.
pub const TOOLCHAIN_FILE: &str = "ebpf-toolchain.txt";
