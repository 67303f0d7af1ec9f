//! Builds the eBPF programs of `tracker-ebpf` into `OUT_DIR/tracker-ebpf`, and sets
//! `TRACKER_REVISION` and `TRACKER_RUSTC`, which say what was built and with what.
//!
//! `cargo xtask setup` chooses the compiler and builds bpf-linker; this file only uses them.

#[path = "build/revision.rs"]
mod revision;
#[path = "../xtask/src/tools_dir.rs"]
mod tools_dir;

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

/// The crates that use unstable features, which a stable compiler only allows by name.
///
/// Not "1", which would make aya-build compile `core`, and that needs the compiler's source.
const UNSTABLE_CRATES: &str = "aya_ebpf,tracker_ebpf";

fn main() -> ExitCode {
    match prepare() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Returned from `main`, the error would print a backtrace that hides the advice.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prepare() -> Result<()> {
    note_build()?;
    for variable in tools_dir::VARIABLES {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let tools = tools_dir::tools_dir()
        .context("TRACKER_TOOLS, XDG_CACHE_HOME or HOME must be set to an absolute path")?;
    let record = tools.join(tools_dir::TOOLCHAIN_FILE);
    let linker = tools.join("bin/bpf-linker");
    for path in [Path::new("../xtask/src/tools_dir.rs"), &record, &linker] {
        println!("cargo:rerun-if-changed={}", path.display());
    }

    let path = search_path(&tools)?;
    let Ok(toolchain) = fs::read_to_string(&record) else {
        bail!("{} is missing, {SETUP}", record.display());
    };
    if !env::split_paths(&path).any(|dir| dir.join("bpf-linker").is_file()) {
        bail!(
            "bpf-linker is neither in {} nor in PATH, {SETUP}",
            tools.join("bin").display()
        );
    }
    build(toolchain.trim(), &path).with_context(|| {
        format!(
            "tracker-ebpf did not build with the toolchain {}. If its messages above name a \
             missing `core` or linker, run:\n\n    cargo xtask setup\n",
            toolchain.trim()
        )
    })
}

fn note_build() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let workspace = fs::canonicalize(&workspace)
        .with_context(|| format!("cannot find {}", workspace.display()))?;
    for path in revision::watched(&workspace) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let revision = revision::revision(&workspace).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=TRACKER_REVISION={revision}");

    let rustc = env::var_os("RUSTC").context("cargo has not set RUSTC")?;
    let output = Command::new(&rustc)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", rustc.display()))?;
    let version = String::from_utf8_lossy(&output.stdout);
    println!("cargo:rustc-env=TRACKER_RUSTC={}", version.trim());
    Ok(())
}

/// The rest of an error about a missing tool.
const SETUP: &str = "so the eBPF programs cannot be built. Run:\n\n    cargo xtask setup\n";

fn build(toolchain: &str, path: &OsString) -> Result<()> {
    // SAFETY: this is the build script's only thread.
    unsafe {
        env::set_var("PATH", path);
        if !toolchain.starts_with("nightly") {
            env::set_var("RUSTC_BOOTSTRAP", UNSTABLE_CRATES);
        }
    }
    let package = Package {
        name: "tracker-ebpf",
        root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../tracker-ebpf"),
        features: &["bpf"],
        ..Package::default()
    };
    aya_build::build_ebpf([package], Toolchain::Custom(toolchain))
}

/// `PATH` with the programs of set-up first.
fn search_path(tools: &Path) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs: Vec<PathBuf> = [tools.join("bin")]
        .into_iter()
        .chain(env::split_paths(&path))
        .collect();
    env::join_paths(dirs).with_context(|| format!("cannot add {} to PATH", tools.display()))
}
