//! `uffdwp-meter`: how long each event takes that an observer could make slower.
//!
//! It prints `measured NAME NANOSECONDS` for each. In the emulated machine of
//! `cargo xtask bench probes`, whose clock counts instructions, these are instructions; elsewhere
//! the clock is noisy.

mod bystander;
mod clock;
mod tracked;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};

/// The argument with which it measures as a process that never uses uffd-wp.
const BYSTANDER: &str = "bystander";

fn main() -> ExitCode {
    let mode = std::env::args().nth(1);
    let result = match mode.as_deref() {
        None => measure(),
        Some(BYSTANDER) => bystander::measure(),
        Some(other) => {
            eprintln!("uffdwp-meter: unknown argument {other:?}: it takes none");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("uffdwp-meter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures in this process, which uses uffd-wp, and then beside it in one that does not: the
/// observer has somebody to observe all the time.
fn measure() -> Result<()> {
    let _registered = tracked::measure()?;
    let status = Command::new("/proc/self/exe")
        .arg(BYSTANDER)
        .status()
        .context("cannot start this program again as a process without uffd-wp")?;
    if !status.success() {
        bail!("the process without uffd-wp failed ({status}); its message is above");
    }
    Ok(())
}
