//! `cargo xtask bench`: what tracker costs. One file per question.

mod probes;
mod scrape;
mod track;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Measure what observing costs
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Guest instructions for one event of each kind, with each way of observing it
    Probes(probes::ProbesArgs),
    /// Guest instructions and bytes of a scrape of 10,000 series
    Scrape(scrape::ScrapeArgs),
    /// Rounds of tracking against bare system calls, memory, and the slowdown of a process, on this machine
    Track(track::TrackArgs),
}

/// Runs one benchmark and prints its table in Markdown.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    match &args.what {
        What::Probes(args) => probes::run(args),
        What::Scrape(args) => scrape::run(args),
        What::Track(args) => track::run(args),
    }
}
