//! `cargo xtask bench scrape`: what a scrape costs, in instructions of an emulated CPU.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    ConsentArgs, cargo,
    cmd::guest_programs,
    setup::{self, SetupExtent, kernels::KernelChoice},
    sh,
    vm::{BootReport, GuestAccel, VmRun},
};

/// The criterion benchmark that runs in the guest, where a nanosecond is an instruction.
const BENCH: &str = "scrape";

#[derive(Args)]
pub struct BenchScrapeArgs {
    #[command(flatten)]
    consent: ConsentArgs,
    /// A series or the path of an image
    #[arg(long, default_value = "6.12", value_parser = KernelChoice::parse)]
    kernel: KernelChoice,
}

/// Runs the benchmark and prints a table in Markdown.
pub fn run(args: &BenchScrapeArgs) -> Result<ExitCode> {
    setup::prepare(SetupExtent::Vm, &args.consent.consent())?;
    let kernel = args.kernel.prepare()?;
    let mut run = VmRun::new(&format!("bench-{}-scrape", kernel.label), &kernel);
    run.accel = GuestAccel::CountInstructions;
    run.timeout = Duration::from_secs(1200);
    run.files = guest_programs(&cargo::benches(cargo::TRACKER, BENCH)?, "/bin")?;
    // Instructions vary less than time: few samples are enough.
    run.command = Some(format!(
        "cd /tmp && {BENCH} --bench --noplot --color never --sample-size 10 --warm-up-time 0.1 \
         --measurement-time 0.5"
    ));
    let progress = sh::ProgressLine::start("measuring a scrape");
    let report = run.run(|line| progress.detail(line));
    let status = report.as_ref().ok().map(BootReport::verdict);
    progress.finish(matches!(status, Some(Ok(0))));
    let report = report?;
    let measures: Vec<_> = report.lines.iter().filter_map(|line| parse(line)).collect();
    if report.verdict()? != 0 || measures.is_empty() {
        bail!("{BENCH} measured nothing; see {}", report.log.display());
    }
    let size = report
        .lines
        .iter()
        .find_map(|line| line.strip_prefix("scrape: "));
    println!(
        "Kernel {}, `cargo xtask bench scrape`, {}:\n\n| step | instructions |\n|---|---:|",
        kernel.release,
        size.context("the benchmark did not say how large the scrape is")?
    );
    for (name, instructions) in measures {
        println!("| {name} | {instructions:.0} |");
    }
    Ok(ExitCode::SUCCESS)
}

/// The middle estimate, in nanoseconds, of a line that criterion prints:
/// `NAME  time:   [1.0 ms 2.0 ms 3.0 ms]`.
fn parse(line: &str) -> Option<(String, f64)> {
    let (name, rest) = line.split_once("time:")?;
    let (estimates, _) = rest.trim().strip_prefix('[')?.split_once(']')?;
    let mut words = estimates.split_whitespace().skip(2);
    let value: f64 = words.next()?.parse().ok()?;
    let scale = match words.next()? {
        "ps" => 1e-3,
        "ns" => 1.0,
        "µs" | "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return None,
    };
    // The progress line before the name ends in an escape sequence.
    let name = name.trim().rsplit(['\r', '\x1b']).next()?;
    let name = name.strip_prefix("[2K").unwrap_or(name);
    Some((name.to_owned(), value * scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_estimate_counts_in_nanoseconds() {
        let line =
            "Benchmarking\r\x1b[2Kscrape/rows to text     time:   [25.1 ms 25.25 ms 25.9 ms]";
        assert_eq!(
            parse(line),
            Some(("scrape/rows to text".to_owned(), 25_250_000.0))
        );
        assert_eq!(parse("Benchmarking scrape/rows to text: Warming up"), None);
    }
}
