//! `tracker compare`: the same work under each strategy, what each costs and what it gets wrong.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, value_parser};
use pages::strategy::{self, StrategyName};

use super::output::{CommandOutputs, MakeWhole, OutputArgs, OutputEntry, PrintTarget, print};
use super::values;
use crate::compare::own;
use crate::compare::report::{json, markdown, picture, text};
use crate::compare::{
    CompareOrder, CompareWorkload, Comparison, OwnComparison, OwnOrder, OwnTarget, RunOrder,
    WORKLOADS, compare, compare_own, launch, run, work,
};
use crate::logging::say;
use crate::print::format;
use crate::print::json::line;
use crate::print::picture::png::png;
use crate::probes::fault_time::FaultTimeProbes;

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
    /// Begin no run after this time. Each workload has its share of it; what was left out is told
    #[arg(
        long,
        env = "TRACKER_LIMIT",
        default_value = "90s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    limit: Duration,
    /// Compare the strategies on this process instead, each for a while: it cannot be repeated
    #[arg(long, short, env = "TRACKER_PID", value_name = "PID")]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    #[arg(conflicts_with_all = ["workload", "range", "command"])]
    pid: Option<u32>,
    /// With --pid: how long each strategy has it in each turn
    #[arg(
        long,
        env = "TRACKER_WINDOW",
        default_value = "5s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    window: Duration,
    /// With --pid or CMD: time from one round to the next
    #[arg(
        long,
        short,
        env = "TRACKER_INTERVAL",
        default_value = "1s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    interval: Duration,
    #[command(flatten)]
    outputs: OutputArgs<CompareOutputs>,
    /// Compare the strategies on this program instead: it is started for each run, with nothing to
    /// read, and what it prints is thrown away
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["workload", "range"])]
    command: Vec<String>,
}

const NO_PICTURE: &str = "a picture has false positives and negatives, which nobody knows of a \
                          program of yours: leave --plot out";

/// What `tracker compare` has compared.
enum ComparedResult {
    /// Workloads of ours.
    Workloads(Comparison),
    /// A program of the user's.
    Own(OwnComparison),
}

impl ComparedResult {
    /// The picture, as SVG.
    fn picture(&self) -> anyhow::Result<String> {
        match self {
            Self::Workloads(comparison) => Ok(picture::svg(comparison)),
            Self::Own(_) => anyhow::bail!(NO_PICTURE),
        }
    }
}

/// What `tracker compare` can show.
struct CompareOutputs;

impl CommandOutputs for CompareOutputs {
    type OutputMaker = MakeWhole<ComparedResult>;

    const OUTPUTS: &'static [OutputEntry<Self::OutputMaker>] = &[
        OutputEntry {
            format: &format::TEXT,
            help: "",
            make: |result| {
                Ok(match result {
                    ComparedResult::Workloads(comparison) => text::text(comparison),
                    ComparedResult::Own(comparison) => own::report::text(comparison),
                }
                .into_bytes())
            },
        },
        OutputEntry {
            format: &format::JSON,
            help: "Print all numbers of all runs as one JSON object",
            make: |result| {
                Ok(match result {
                    ComparedResult::Workloads(comparison) => json::json(comparison)?,
                    ComparedResult::Own(comparison) => own::report::json(comparison)?,
                }
                .into_bytes())
            },
        },
        OutputEntry {
            format: &format::MARKDOWN,
            help: "Print the tables in Markdown",
            make: |result| {
                Ok(match result {
                    ComparedResult::Workloads(comparison) => markdown::markdown(comparison),
                    ComparedResult::Own(comparison) => own::report::markdown(comparison),
                }
                .into_bytes())
            },
        },
        OutputEntry {
            format: &format::PLOT_SVG,
            help: PLOT,
            make: |result| Ok(result.picture()?.into_bytes()),
        },
        OutputEntry {
            format: &format::PLOT_PNG,
            help: PLOT,
            make: |result| Ok(png(&result.picture()?)?),
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
/// If this kernel has no userfaultfd at all, what was found cannot be written, or there is no such
/// program or process.
pub(crate) fn run_all(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let target = match args.pid {
        Some(pid) => Some(OwnTarget::Process(pid)),
        None if args.command.is_empty() => None,
        None => Some(OwnTarget::Program(args.command.clone())),
    };
    if target.is_some() && args.outputs.paths().next().is_some() {
        anyhow::bail!(NO_PICTURE);
    }
    // Before anything runs: what cannot be written must not be found out at the end.
    let files = args.outputs.files_to_write()?;
    let strategies = if args.strategy.is_empty() {
        StrategyName::ALL.to_vec()
    } else {
        args.strategy.clone()
    };
    // Trying the strategies takes its time, too.
    let began = Instant::now();
    let observed = strategies.iter().any(|name| name.is_observed());
    let observer = observed.then(FaultTimeProbes::shared);
    let mut facts = strategy::gather_observed(false, observer)?;
    // What was attached to try it must not cost the others.
    facts.observer = observed.then(FaultTimeProbes::shared);
    let is_watched = io::stderr().is_terminal();
    let turn = |turn| {
        if is_watched {
            say(format_args!("turn {turn} of at most {}", args.repeat));
        }
    };
    let result = match target {
        Some(target) => {
            let order = OwnOrder {
                target,
                strategies,
                interval: args.interval,
                window: args.window,
                repeats: args.repeat,
                limit: args.limit,
            };
            ComparedResult::Own(compare_own(&order, &facts, turn))
        }
        None => {
            let order = args.workloads(strategies);
            let elapsed = || began.elapsed();
            ComparedResult::Workloads(compare(&order, facts, elapsed, launch, turn))
        }
    };
    files.write(&result)?;
    args.outputs.print(&result, PrintTarget::Ours)?;
    match &result {
        ComparedResult::Own(comparison) => comparison.failure().map_or(Ok(()), |why| {
            Err(anyhow::anyhow!("nothing is compared: {why}"))
        })?,
        ComparedResult::Workloads(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

impl CompareArgs {
    /// The workloads that are asked for.
    fn workloads(&self, strategies: Vec<StrategyName>) -> CompareOrder {
        CompareOrder {
            workloads: if self.workload.is_empty() {
                WORKLOADS.iter().collect()
            } else {
                self.workload.clone()
            },
            strategies,
            range: self.range,
            repeats: self.repeat,
            limit: self.limit,
        }
    }
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
