//! `cargo xtask bench`: what tracker costs. One module per benchmark.

mod agent;
mod probes;
mod scrape;
mod track;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Measure what observing and tracking cost
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Measure memory, CPU time and scrapes of the agent beside node_exporter's, on this machine and
    /// in a guest
    Agent(agent::BenchAgentArgs),
    /// Count the guest instructions of each kind of event under each way of observing it
    Probes(probes::BenchProbesArgs),
    /// Count the guest instructions and bytes of a scrape of 10,000 series
    Scrape(scrape::BenchScrapeArgs),
    /// Time rounds of tracking on this machine, and measure its memory and how it slows a process
    Track(track::BenchTrackArgs),
}

/// Runs one benchmark and prints its table in Markdown.
pub fn run(args: &BenchArgs) -> Result<ExitCode> {
    match &args.command {
        BenchCommand::Agent(args) => agent::run(args),
        BenchCommand::Probes(args) => probes::run(args),
        BenchCommand::Scrape(args) => scrape::run(args),
        BenchCommand::Track(args) => track::run(args),
    }
}
