//! Memory in which anything happens: threads map, write, protect, move, empty and unmap mappings of
//! every kind at random, in every order. For tests of trackers, which must follow it all.
//!
//! Each thread has places of its own and knows what every page of them must hold; what it finds
//! there is compared, so that a tracker that changes memory is noticed here. The line `ready SEED`
//! says that it runs; it ends with its standard input.

mod place;
mod worker;

use std::io::{Read as _, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use worker::FuzzWorker;

/// The flags of `fuzz`.
#[derive(clap::Args)]
pub struct FuzzArguments {
    /// Where the random choices begin; printed
    #[arg(long, default_value_t = fastrand::u64(..))]
    seed: u64,
    /// Threads that do it
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=16))]
    threads: u64,
    /// Where files are made
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// Runs until standard input ends, or a thread finds what must not be.
pub fn run(arguments: &FuzzArguments) -> Result<()> {
    for thread in 0..arguments.threads {
        start(thread, arguments.seed, &arguments.dir)?;
    }
    writeln!(stdout(), "ready {}", arguments.seed).context("cannot answer")?;
    let mut rest = Vec::new();
    stdin().read_to_end(&mut rest).context("cannot read")?;
    Ok(())
}

/// A thread that ends the process if it finds anything wrong.
fn start(thread: u64, seed: u64, directory: &Path) -> Result<()> {
    let mut worker = FuzzWorker::new(thread, seed, directory)?;
    thread::Builder::new()
        .name(format!("fuzz {thread}"))
        .spawn(move || {
            loop {
                if let Err(error) = worker.turn() {
                    eprintln!("uffdwp-workload: fuzz, seed {seed}, thread {thread}: {error:#}");
                    std::process::exit(1);
                }
                // Much, and not all of the time: a round must be able to overtake.
                thread::sleep(Duration::from_micros(200));
            }
        })
        .context("cannot start a thread")?;
    Ok(())
}
