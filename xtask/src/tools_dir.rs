//! Where set-up keeps what it fetches and builds: one place for all checkouts of a user, so that
//! a second clone is ready at once. Also included by `tracker/build.rs`, which needs the same answer.

use std::{env, path::PathBuf};

/// The environment variables [`tools_dir`] depends on.
#[allow(dead_code, reason = "only the build script asks")]
pub const VARIABLES: [&str; 3] = ["TRACKER_TOOLS", "XDG_CACHE_HOME", "HOME"];

/// `$TRACKER_TOOLS`, else `$XDG_CACHE_HOME/tracker`, else `$HOME/.cache/tracker`.
///
/// Relative values are ignored, as the XDG base directory specification asks.
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

/// The file that holds the rustup name (or path) of the toolchain which builds the eBPF programs.
pub const TOOLCHAIN_FILE: &str = "ebpf-toolchain.txt";
