//! `tracker explain`: why each page was reported as written, and whether it was true.

mod outputs;

use std::io::{self, IsTerminal as _};
use std::process::{ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::Args;
use pages::inject::{self, LaunchedProgram};
use pages::strategy::{StrategyFacts, StrategyName};
use pages::track::{TrackEnd, TrackHeader};

use super::observer;
use super::output::{OutputArgs, PrintTarget, SinkState, WholeFiles};
use super::pace::{PaceWake, RoundPace};
use super::rounds::RoundsArgs;
use super::target::{self, TargetArgs};
use super::values;
use crate::explain::report::ExplainReports;
use crate::explain::{
    CodeNamer, EventHub, ExplainFindings, ExplainOptions, ProcessExplainer, ProcessStep,
    ReportsAsked, second_strategies,
};
use crate::logging::say;
use crate::probes::events::{EventOptions, EventProbes};
use outputs::{ExplainMaker, ExplainOutputs, ShownRounds};

/// Events held from round to round, at most: 1 GiB.
const EVENTS: usize = 8 << 20;
/// Measured: docs/benchmarks.md.
const COST: &str = "\
What it costs: the process takes a fault for the first write to each page after a round, as under \
track (some 1,560 instructions), and 2,400 more there for the event with its stack; the \
thread of a server took up to 1.3 times the CPU time for a request. tracker reads what was reported and what was not \
(--content-limit), and holds up to 3 MiB for each GiB. docs/benchmarks.md";

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
    /// Whose reports: ours (memory that belongs to another userfaultfd is passed over), theirs (that
    /// memory is observed: nothing is tracked or touched, and what its tracker reports is explained),
    /// or both
    #[arg(
        long = "of",
        env = "TRACKER_OF",
        default_value = "both",
        value_name = "WHOSE"
    )]
    #[arg(value_parser = asked_of)]
    of: ReportsAsked,
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

fn asked_of(text: &str) -> Result<ReportsAsked, String> {
    let found = ReportsAsked::ALL.iter().find(|(_, word)| *word == text);
    found.map(|(asked, _)| *asked).ok_or_else(|| {
        let words: Vec<_> = ReportsAsked::ALL.iter().map(|(_, word)| *word).collect();
        format!("choose {}", words.join(", "))
    })
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
    // Where nothing is tracked, no strategy is needed.
    let tracks = args.of != ReportsAsked::Theirs;
    let strategy = values::AskedStrategy(args.strategy.0.filter(|_| tracks));
    let prepare = |pid: Option<u32>| {
        let facts = observer::facts(strategy, pid.filter(|_| tracks))?;
        Ok((facts, args.rounds.pace()?))
    };
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
    let mut explainer = ProcessExplainer::begin(pid, facts, Some(&hub), options(args), args.of)?;
    if let Some(refused) = explainer.refused() {
        say(format_args!(
            "tracker: only memory that belongs to another tracker is explained: {refused}"
        ));
    }
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
    let makers = args.outputs.printed().rounds;
    let mut shown = ShownRounds::new(makers, target);
    shown.show(explainer.findings(), &header)?;
    let end = rounds(args, &mut explainer, pace, unread, |explainer| {
        shown.show(explainer.findings(), &header)
    })?;
    let mut findings = explainer.end()?;
    for findings in &mut findings {
        findings.header = header(findings.header.clone());
        findings.end = Some(args.rounds.ended(end));
    }
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
    explainer: &mut ProcessExplainer<'_>,
    pace: &mut RoundPace,
    unread: TrackEnd,
    mut show: impl FnMut(&ProcessExplainer<'_>) -> anyhow::Result<SinkState>,
) -> anyhow::Result<TrackEnd> {
    let mut rounds = 0;
    loop {
        let early = explainer.early().into_iter().chain(explainer.arming());
        let early: Vec<_> = early.collect();
        let wake = pace.wait(explainer.lifeline().pidfd(), &early)?;
        if wake == PaceWake::Early && !is_round_wanted(explainer)? {
            explainer.catch_up()?;
            continue;
        }
        // A last round even then: what was written until now is explained.
        if matches!(explainer.step()?, ProcessStep::Exited) {
            return Ok(TrackEnd::Exited);
        }
        explainer.delayed(pace.delay());
        rounds += 1;
        if show(explainer)? == SinkState::Closed {
            return Ok(unread);
        }
        if let Some(end) = args.rounds.end(wake, rounds) {
            return Ok(end);
        }
    }
}

/// Whether a round is wanted before it is due, and not only a look at what their tracker has armed.
fn is_round_wanted(explainer: &ProcessExplainer<'_>) -> io::Result<bool> {
    explainer.early().map_or(Ok(false), RoundPace::is_ready)
}

/// Prints the report and writes it to files.
fn show(
    args: &ExplainArgs,
    findings: &[ExplainFindings],
    files: WholeFiles<ExplainMaker>,
    target: PrintTarget,
) -> anyhow::Result<()> {
    let reports = ExplainReports::new(findings);
    args.outputs.print(&reports, target)?;
    files.write(&reports)
}
