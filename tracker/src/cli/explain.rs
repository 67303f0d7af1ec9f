//! `tracker explain`: why each page was reported as written, and whether it was true.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::Args;

use super::output::print;
use super::pace::{Pace, Wake};
use super::replace::replace;
use super::rounds::RoundsArgs;
use super::target::{self, TargetArgs};
use super::values;
use crate::explain::report::{self, Report};
use crate::explain::{AGAINST, Explainer, Findings, Hub, Options, Step};
use crate::probes::events::{self, EventProbes};
use pages::inject::{self, LaunchedProgram};
use pages::strategy::{self, StrategyFacts, StrategyName};
use pages::track::{TrackEnd, TrackHeader};

/// Events held from round to round, at most: 1 GiB.
const EVENTS: usize = 8 << 20;
/// Measured: docs/benchmarks.md.
const COST: &str = "\
What it costs: the process takes a fault for the first write to each page after a round, as under track (some 1,560 \
instructions), and 2,170 more there for the event with its stack; a server took up to 1.3 times the time for a request. \
tracker reads what was reported and what was not (--content-limit), and holds 2 to 3 MiB for each GiB. docs/benchmarks.md";

/// The flags of `tracker explain`.
#[derive(Args, Debug)]
#[command(after_help = format!("{COST}\n\n{}", target::STATUSES))]
pub struct ExplainArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// How to track: markers, sync, prefault, missing-zeropage, none-is-clean, or auto
    #[arg(long, short, env = "TRACKER_STRATEGY", default_value = "auto", value_name = "STRATEGY", value_parser = values::strategy)]
    strategy: values::Strategy,
    #[command(flatten)]
    rounds: RoundsArgs,
    /// Tell everything that happens to the page at this address
    #[arg(long, env = "TRACKER_PAGE", value_name = "ADDR", value_parser = values::address)]
    page: Option<u64>,
    /// Read and hash at most this much memory in a round; of a process with more, a sample of its pages
    #[arg(long, env = "TRACKER_CONTENT_LIMIT", default_value = "1GiB", value_name = "SIZE", value_parser = values::size)]
    content_limit: u64,
    /// Stop the process in each round, as a debugger does, until what was reported has been read (some milliseconds; the
    /// report tells): pages that are written all the time have a verdict then
    #[arg(long, env = "TRACKER_FREEZE")]
    freeze: bool,
    /// Run a second strategy on the same rounds and tell where the two disagree: hash (by content), or soft-dirty, which
    /// clears the soft-dirty bits of the process in each round: whoever else uses them (CRIU) loses writes
    #[arg(long, env = "TRACKER_AGAINST", value_name = "STRATEGY", value_parser = against)]
    against: Option<StrategyName>,
    /// Print one JSON object a line: a header, VMAs by verdict and cause, a summary
    #[arg(long, env = "TRACKER_JSON")]
    json: bool,
    /// Write a report with pictures to this file, too; it must not exist
    #[arg(long, env = "TRACKER_HTML", value_name = "FILE")]
    html: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, env = "TRACKER_FORCE", requires = "html")]
    force: bool,
}

fn against(text: &str) -> Result<StrategyName, String> {
    let offered = AGAINST.into_iter().find(|name| name.as_str() == text);
    offered.ok_or_else(|| {
        let names: Vec<_> = AGAINST.iter().map(|name| name.as_str()).collect();
        format!(
            "`{text}` cannot run beside another strategy; choose {}",
            names.join(" or ")
        )
    })
}

/// Explains until the end of the process, the rounds, the time, or a signal, and reports then.
///
/// # Errors
/// If the process cannot be tracked, or the report cannot be written.
pub fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
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
    pace: &mut Pace,
) -> anyhow::Result<Option<ExitStatus>> {
    // Before the process is touched.
    if let Some(path) = &args.html {
        writable(path, args.force)?;
    }
    let options = Options {
        track: pages::track::TrackOptions {
            strategy: args.strategy.0,
            detailed: false,
            max_mapping: args.rounds.max_mapping,
            interval: args.rounds.interval,
            tracker: crate::VERSION,
            inject: inject::InjectOptions::default(),
        },
        content_limit: args.content_limit,
        page: args.page,
        against: args.against,
        freeze: args.freeze,
        findings: true,
    };
    let events = EventProbes::attach(&events::EventOptions::default());
    let hub = Hub::new(events, EVENTS).context("cannot read the kernel's events")?;
    let (mut explainer, _) = Explainer::begin(pid, facts, Some(&hub), options)?;
    if let Some(launched) = &mut launched {
        launched.go();
    }
    pace.start();
    let live = Live::begin(explainer.header());
    let mut rounds = 0;
    let end = loop {
        let wake = pace.wait(explainer.lifeline().pidfd())?;
        // A last round even then: what was written until now is explained.
        let Step::Round(_) = explainer.step()? else {
            break TrackEnd::Exited;
        };
        rounds += 1;
        live.round(explainer.findings());
        match wake {
            Wake::Signal => break TrackEnd::Interrupted,
            Wake::Over => break TrackEnd::Done,
            _ if args.rounds.rounds == Some(rounds) => break TrackEnd::Done,
            Wake::Tick | Wake::Exit => (),
        }
    };
    let mut findings = explainer.end()?;
    let Some(launched) = launched else {
        tell(args, &findings, false)?;
        return Ok(None);
    };
    // It was us who stopped it.
    let notes = &mut findings.header.notes;
    notes.retain(|note| !note.is_stays_stopped());
    // The report does not wait for a program that may run for ever.
    let runs_on = end == TrackEnd::Done;
    if runs_on {
        tell(args, &findings, true)?;
        if !args.json && io::stderr().is_terminal() {
            eprintln!("tracker: the program runs on, and its status is awaited; Ctrl-C ends it");
        }
    }
    let status = target::wait(launched, end, pace).context("lost the program")?;
    if !runs_on {
        tell(args, &findings, true)?;
    }
    Ok(Some(status))
}

/// What cannot be written must not be found out at the end.
fn writable(path: &Path, force: bool) -> anyhow::Result<()> {
    if !force && path.exists() {
        anyhow::bail!("{} exists; --force replaces it", path.display());
    }
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    if parent.is_some_and(|parent| !parent.is_dir()) || path.is_dir() {
        anyhow::bail!(
            "cannot write {}: there is no such directory, or it is one",
            path.display()
        );
    }
    Ok(())
}

/// Prints the report. `beside`: a program of the user's has standard output.
fn tell(args: &ExplainArgs, findings: &Findings, beside: bool) -> anyhow::Result<()> {
    let report = Report::new(findings);
    let text = if args.json {
        report::json::lines(&report)?
    } else {
        let story = report::story::story(findings).map(|story| format!("\n{story}"));
        report::text::text(&report) + &story.unwrap_or_default()
    };
    if beside {
        eprint!("{text}");
    } else {
        print(&text)?;
    }
    if let Some(path) = &args.html {
        let page = report::html::page(&report).context("cannot make the page")?;
        replace(path, page.as_bytes())?;
    }
    Ok(())
}

/// A line for each round, for people who wait.
struct Live(bool);

impl Live {
    fn begin(header: &TrackHeader) -> Self {
        let live = Self(io::stderr().is_terminal());
        if live.0 {
            eprintln!(
                "Explaining process {} ({}), tracked with {}; Ctrl-C ends it and prints the report.",
                header.pid, header.comm, header.strategy
            );
            eprintln!("{}", report::live::head());
        }
        live
    }

    fn round(&self, findings: &Findings) {
        if let Some(round) = findings.rounds.last().filter(|_| self.0) {
            eprintln!("{}", report::live::line(round));
        }
    }
}
