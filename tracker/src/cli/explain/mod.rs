//! `tracker explain`: why each page was reported as written, and whether it was true.

mod outputs;

use std::io::{self, IsTerminal as _};
use std::process::{ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::Args;
use pages::inject::{self, LaunchedProgram};
use pages::strategy::{self, StrategyFacts, StrategyName};
use pages::track::{TrackEnd, TrackHeader};

use super::output::{OutputArgs, PrintTarget, SinkState, WholeFiles};
use super::pace::RoundPace;
use super::rounds::RoundsArgs;
use super::target::{self, TargetArgs};
use super::values;
use crate::explain::report::ExplainReport;
use crate::explain::{
    CodeNamer, EventHub, ExplainFindings, ExplainOptions, ExplainStep, Explainer, second_strategies,
};
use crate::logging::say;
use crate::probes::events::{EventOptions, EventProbes};
use outputs::{ExplainMaker, ExplainOutputs, ShownRounds};

/// Events held from round to round, at most: 1 GiB.
const EVENTS: usize = 8 << 20;
/// Measured: docs/benchmarks.md.
const COST: &str = "\
What it costs: the process takes a fault for the first write to each page after a round, as under \
track (some 1,560 instructions), and 2,400 more there for the event with its stack; a server took \
up to 1.3 times the time for a request. tracker reads what was reported and what was not \
(--content-limit), and holds 2 to 3 MiB for each GiB. docs/benchmarks.md";

/// The flags of `tracker explain`.
#[derive(Args, Debug)]
#[command(after_help = format!("{COST}\n\n{}", target::STATUSES))]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[arg(
        long,
        short,
        env = "TRACKER_STRATEGY",
        default_value = "auto",
        value_name = "STRATEGY"
    )]
    #[arg(value_parser = values::strategy, help = values::arming_help())]
    strategy: values::AskedStrategy,
    #[command(flatten)]
    rounds: RoundsArgs,
    /// Tell everything that happens to the page at this address
    #[arg(long, env = "TRACKER_PAGE", value_name = "ADDR", value_parser = values::address)]
    page: Option<u64>,
    /// Read and hash at most this much memory in a round; of a process with more, a sample of its
    /// pages
    #[arg(
        long,
        env = "TRACKER_CONTENT_LIMIT",
        default_value = "1GiB",
        value_name = "SIZE"
    )]
    #[arg(value_parser = values::size)]
    content_limit: u64,
    /// Stop all threads of the process in each round, as a debugger does, until what was reported
    /// has been read (some milliseconds; the report tells): pages that are written all the time
    /// have a verdict then. A stopped write, send or recv(MSG_WAITALL) that had moved a part comes
    /// back short; the report counts these
    #[arg(long, env = "TRACKER_FREEZE")]
    freeze: bool,
    /// Run a second strategy on the same rounds and tell where the two disagree: hash (by content),
    /// or soft-dirty, which clears the soft-dirty bits of the process in each round: whoever else
    /// uses them (CRIU) loses writes
    #[arg(long, env = "TRACKER_AGAINST", value_name = "STRATEGY", value_parser = against)]
    against: Option<StrategyName>,
    #[command(flatten)]
    outputs: OutputArgs<ExplainOutputs>,
}

fn against(text: &str) -> Result<StrategyName, String> {
    let found = second_strategies().find(|name| name.as_str() == text);
    found.ok_or_else(|| {
        let names: Vec<_> = second_strategies().map(StrategyName::as_str).collect();
        format!(
            "`{text}` cannot run beside another strategy; choose {}",
            names.join(" or ")
        )
    })
}

/// Explains until the process ends, the rounds or the time are over, or a signal comes, and reports
/// then.
///
/// # Errors
/// If the process cannot be tracked, or the report cannot be written.
pub(crate) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let prepare = || Ok((strategy::gather(false)?, args.rounds.pace()?));
    args.target.run(prepare, |facts, pace, pid, launched| {
        explain(args, facts, pid, launched, pace)
    })
}

/// Explains a process; returns the status of one that we started.
fn explain(
    args: &ExplainArgs,
    facts: StrategyFacts,
    pid: u32,
    mut launched: Option<&mut LaunchedProgram>,
    pace: &mut RoundPace,
) -> anyhow::Result<Option<ExitStatus>> {
    // Before the process is touched: what cannot be written must not be found out at the end.
    let files = args.outputs.files_to_write()?;
    if args.freeze {
        say(format_args!(
            "tracker: --freeze stops all threads of the process in each round: a write, send or \
             recv(MSG_WAITALL) that is met half way comes back short; the report counts them"
        ));
    }
    let events = EventProbes::attach(&EventOptions::default());
    let hub = EventHub::new(events, EVENTS).context("cannot read the kernel's events")?;
    let (mut explainer, _) = Explainer::begin(pid, facts, Some(&hub), options(args))?;
    if let Some(launched) = &mut launched {
        launched.go();
    }
    pace.start();
    // What nobody reads is no reason to end a program that we only watch.
    let (target, unread) = match launched {
        Some(_) => (PrintTarget::Beside, TrackEnd::Done),
        None => (PrintTarget::Ours, TrackEnd::Interrupted),
    };
    let header = |mut header: TrackHeader| {
        args.rounds.tell_arguments(&mut header);
        if launched.is_some() {
            // It was us who stopped it, and it runs by now.
            header.notes.retain(|note| !note.is_stays_stopped());
        }
        header
    };
    let first = header(explainer.header().clone());
    let makers = args.outputs.printed().rounds;
    let mut shown = ShownRounds::begin(makers, target, &first, explainer.findings())?;
    let end = rounds(args, &mut explainer, pace, &mut shown, unread)?;
    let mut findings = explainer.end()?;
    findings.header = header(findings.header);
    findings.end = Some(args.rounds.ended(end));
    let Some(launched) = launched else {
        show(args, &findings, files, target)?;
        return Ok(None);
    };
    // The report does not wait for a program that may run for ever.
    let mut files = Some(files);
    if let Some(files) = files.take_if(|_| end == TrackEnd::Done) {
        show(args, &findings, files, target)?;
        if args.outputs.is_for_people() && io::stderr().is_terminal() {
            say(format_args!(
                "tracker: the program runs on, and its status is awaited; Ctrl-C ends it"
            ));
        }
    }
    let status = target::wait(launched, end, pace).context("lost the program")?;
    if let Some(files) = files {
        show(args, &findings, files, target)?;
    }
    Ok(Some(status))
}

fn options(args: &ExplainArgs) -> ExplainOptions {
    ExplainOptions {
        track: pages::track::TrackOptions {
            strategy: args.strategy.0,
            detailed: false,
            max_mapping: args.rounds.max_mapping,
            interval: args.rounds.interval,
            inject: inject::InjectOptions::default(),
            tracker: crate::VERSION,
        },
        content_limit: args.content_limit,
        page: args.page,
        against: args.against,
        freeze: args.freeze,
        findings: Some(CodeNamer::own()),
    }
}

/// Makes the rounds; returns why they ended: for `unread` if nobody reads them any more.
fn rounds(
    args: &ExplainArgs,
    explainer: &mut Explainer,
    pace: &mut RoundPace,
    shown: &mut ShownRounds,
    unread: TrackEnd,
) -> anyhow::Result<TrackEnd> {
    let mut rounds = 0;
    loop {
        let wake = pace.wait(explainer.lifeline().pidfd())?;
        // A last round even then: what was written until now is explained.
        let ExplainStep::Round(_) = explainer.step()? else {
            return Ok(TrackEnd::Exited);
        };
        explainer.delayed(pace.delay());
        rounds += 1;
        if shown.round(explainer.findings())? == SinkState::Closed {
            return Ok(unread);
        }
        if let Some(end) = args.rounds.end(wake, rounds) {
            return Ok(end);
        }
    }
}

/// Prints the report and writes it to files.
fn show(
    args: &ExplainArgs,
    findings: &ExplainFindings,
    files: WholeFiles<ExplainMaker>,
    target: PrintTarget,
) -> anyhow::Result<()> {
    let report = ExplainReport::new(findings);
    args.outputs.print(&report, target)?;
    files.write(&report)
}
