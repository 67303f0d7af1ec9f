//! `tracker compare`: the same work under each strategy, what each costs and what it gets wrong.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, value_parser};
use pages::strategy::{self, StrategyName};

use super::output::{CommandOutputs, MakeWhole, OutputArgs, OutputEntry, PrintTarget, print};
use super::values;
use crate::compare::report::{json, markdown, picture, text};
use crate::compare::{
    CompareOrder, CompareWorkload, Comparison, RunOrder, WORKLOADS, compare, launch, run, work,
};
use crate::logging::say;
use crate::print::format;
use crate::print::json::line;
use crate::print::picture::png::png;

const PLOT: &str = "Draw what each strategy costs and gets wrong, and how cost grows with the range, into this \
     file, as {} by its name, too";

/// The flags of `tracker compare`.
#[derive(Args, Debug)]
#[command(after_help = workloads_help())]
pub(crate) struct CompareArgs {
    /// Do only this workload (may be repeated)
    #[arg(
        long,
        short,
        env = "TRACKER_WORKLOAD",
        value_name = "NAME",
        value_delimiter = ','
    )]
    #[arg(value_parser = workload)]
    workload: Vec<&'static CompareWorkload>,
    /// Compare only this strategy with no tracking (may be repeated)
    #[arg(
        long,
        short,
        env = "TRACKER_STRATEGY",
        value_name = "STRATEGY",
        value_delimiter = ','
    )]
    #[arg(value_parser = value_parser!(StrategyName))]
    strategy: Vec<StrategyName>,
    /// Size of the range, instead of what each workload says; a multiple of 2 MiB
    #[arg(long, env = "TRACKER_RANGE", value_name = "SIZE", value_parser = values::size)]
    range: Option<u64>,
    /// How often each run is made, at most
    #[arg(long, env = "TRACKER_REPEAT", default_value = "5", value_name = "N")]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    repeat: u32,
    /// Repeat no run after this time; each is made once however long it takes
    #[arg(
        long,
        env = "TRACKER_LIMIT",
        default_value = "60s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    limit: Duration,
    #[command(flatten)]
    outputs: OutputArgs<CompareOutputs>,
}

/// What `tracker compare` can show.
struct CompareOutputs;

impl CommandOutputs for CompareOutputs {
    type OutputMaker = MakeWhole<Comparison>;

    const OUTPUTS: &'static [OutputEntry<Self::OutputMaker>] = &[
        OutputEntry {
            format: &format::TEXT,
            help: "",
            make: |comparison| Ok(text::text(comparison).into_bytes()),
        },
        OutputEntry {
            format: &format::JSON,
            help: "Print all numbers of all runs as one JSON object",
            make: |comparison| Ok(json::json(comparison)?.into_bytes()),
        },
        OutputEntry {
            format: &format::MARKDOWN,
            help: "Print the tables in Markdown",
            make: |comparison| Ok(markdown::markdown(comparison).into_bytes()),
        },
        OutputEntry {
            format: &format::PLOT_SVG,
            help: PLOT,
            make: |comparison| Ok(picture::svg(comparison).into_bytes()),
        },
        OutputEntry {
            format: &format::PLOT_PNG,
            help: PLOT,
            make: |comparison| Ok(png(&picture::svg(comparison))?),
        },
    ];
}

fn workload(name: &str) -> Result<&'static CompareWorkload, String> {
    CompareWorkload::named(name).ok_or_else(|| {
        let names: Vec<_> = WORKLOADS.iter().map(|workload| workload.name).collect();
        format!(
            "there is no workload `{name}`; there are {}",
            names.join(", ")
        )
    })
}

fn workloads_help() -> String {
    let mut text = "Workloads, and the point of the discussion that each makes measurable \
                    (docs/compare.md):\n"
        .to_owned();
    for workload in WORKLOADS {
        text += &format!("  {:13}  {}\n", workload.name, workload.point);
    }
    text
}

/// Compares, and shows what came of it.
///
/// # Errors
/// If this kernel has no userfaultfd at all, or what was found cannot be written.
pub(crate) fn run_all(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    // Before anything runs: what cannot be written must not be found out at the end.
    let files = args.outputs.files_to_write()?;
    let order = CompareOrder {
        workloads: if args.workload.is_empty() {
            WORKLOADS.iter().collect()
        } else {
            args.workload.clone()
        },
        strategies: if args.strategy.is_empty() {
            StrategyName::ALL.to_vec()
        } else {
            args.strategy.clone()
        },
        range: args.range,
        repeats: args.repeat,
        limit: args.limit,
    };
    let facts = strategy::gather(false)?;
    let is_watched = io::stderr().is_terminal();
    let comparison = compare(&order, facts, launch, |turn| {
        if is_watched {
            say(format_args!("turn {turn} of at most {}", order.repeats));
        }
    });
    files.write(&comparison)?;
    args.outputs.print(&comparison, PrintTarget::Ours)?;
    Ok(ExitCode::SUCCESS)
}

/// One run, for `tracker compare` itself.
#[derive(Args, Debug)]
pub(crate) struct CompareRunArgs {
    /// The workload
    #[arg(value_parser = workload)]
    workload: &'static CompareWorkload,
    /// Bytes of its range
    bytes: u64,
    /// The strategy; without, it is not tracked
    strategy: Option<StrategyName>,
}

/// Makes one run and prints what it measured.
///
/// # Errors
/// If it cannot be printed.
pub(crate) fn run_one(args: &CompareRunArgs) -> anyhow::Result<ExitCode> {
    let outcome = run(&RunOrder {
        workload: args.workload,
        bytes: args.bytes,
        strategy: args.strategy,
    });
    print(&line(&outcome)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The work of one run, for `tracker compare` itself.
#[derive(Args, Debug)]
pub(crate) struct CompareWorkArgs {
    /// The workload
    #[arg(value_parser = workload)]
    workload: &'static CompareWorkload,
    /// Bytes of its range
    bytes: u64,
}

/// Works as it is told on standard input.
///
/// # Errors
/// If a step is refused, or nobody listens.
pub(crate) fn run_work(args: &CompareWorkArgs) -> anyhow::Result<ExitCode> {
    work(args.workload, args.bytes)?;
    Ok(ExitCode::SUCCESS)
}
