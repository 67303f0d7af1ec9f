//! `tracker track`: which pages of a process are written, round by round.

mod sinks;
mod table;

use std::process::{ExitCode, ExitStatus};

use anyhow::Context as _;
use clap::Args;

use super::observer;
use super::output::{OutputArgs, PrintTarget, SinkState};
use super::pace::RoundPace;
use super::rounds::RoundsArgs;
use super::target::{self, TargetArgs};
use super::values;
use crate::logging::say;
use pages::inject::{self, LaunchedProgram};
use pages::strategy::{StrategyFacts, StrategyName};
use pages::track::{
    HugePageChange, TrackEnd, TrackOptions, TrackScope, TrackStep, TrackTree, WorkingSet,
};
use sinks::TrackOutputs;

/// The flags of `tracker track`.
#[derive(Args, Debug)]
#[command(after_help = format!("{}\n\n{}", notes(), target::STATUSES))]
pub(crate) struct TrackArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[arg(
        long,
        short,
        env = "TRACKER_STRATEGY",
        default_value = "auto",
        value_name = "STRATEGY"
    )]
    #[arg(value_parser = values::strategy, help = values::track_help())]
    strategy: values::AskedStrategy,
    #[command(flatten)]
    rounds: RoundsArgs,
    /// Tell zaps and huge pages too, where the kernel lets us; rounds take up to 20 times longer
    #[arg(long, env = "TRACKER_DETAILED")]
    detailed: bool,
    /// Track the children that it has and will have, too, as one with it: what all of them write
    /// to shared memory is seen then. A recording holds one process, and cannot be made of this
    #[arg(long, env = "TRACKER_CHILDREN")]
    children: bool,
    #[command(flatten)]
    outputs: OutputArgs<TrackOutputs>,
}

fn notes() -> String {
    let waiting = StrategyName::outside().filter(|name| name.always_waits());
    let waiting: Vec<_> = waiting.map(|name| format!("`{name}`")).collect();
    format!(
        "\
One thread of the process, that which notices least, is stopped for a moment (a fraction of a \
millisecond; it is told) while it or a child of it opens a userfaultfd, which is taken and closed \
there again; a write(2), send(2) or getrandom(2) that is stopped half way comes back short, which \
is told, too. While it is tracked, a \
userfaultfd that the process opens itself cannot register tracked memory: it gets EBUSY. When it \
creates one, all memory is given back for as long as it goes on trying; what is not registered by \
then is tracked again. Memory that belongs to a userfaultfd \
already is passed over and named. Children that it forks are tracked with --children; another \
program that it executes is, from its first instructions on as unknown.

While it is tracked, MADV_COLLAPSE fails with EINVAL where pages are armed, a first write to a huge \
page splits it, and memory that is armed before its first touch gets small pages; huge pages that \
were lost are told at the end.

While tracker itself is stopped (Ctrl-Z) no round is made; with {}, where tracker answers each \
first write, the process waits then, too.

What is mapped and not looked at is counted by reason (docs/strategies.md). Shared memory is seen \
as far as this process writes to it: what others write there, or through its file, is not. With \
--children it is as far as any of them writes to it: each is attached to in the round after it was \
forked, and what one wrote in the round in which it ended is not seen.

Pages of mappings that are new since the last round, and of those there at the start, are \
`unknown`: they were there before they were armed, so take them as written. What is written after \
the last round is not seen, nor is what was in memory that is unmapped before a round.",
        waiting.join(" and ")
    )
}

/// Tracks until the end of the process, the rounds, the time, or a signal.
///
/// # Errors
/// If the process cannot be tracked, or the output cannot be written.
pub(crate) fn run(args: &TrackArgs) -> anyhow::Result<ExitCode> {
    let prepare = |pid| Ok((observer::facts(args.strategy, pid)?, args.rounds.pace()?));
    args.target.run(prepare, |facts, pace, pid, launched| {
        track(args, &facts, pid, launched, pace)
    })
}

/// Tracks a process; returns the status of one that we started.
fn track(
    args: &TrackArgs,
    facts: &StrategyFacts,
    pid: u32,
    mut launched: Option<&mut LaunchedProgram>,
    pace: &mut RoundPace,
) -> anyhow::Result<Option<ExitStatus>> {
    if args.children && args.outputs.paths().next().is_some() {
        anyhow::bail!("a recording holds one process: use --json, or leave --children out");
    }
    // Before the process is touched: what cannot be written must not stop it.
    let outputs = args.outputs.open(match launched {
        Some(_) => PrintTarget::Beside,
        None => PrintTarget::Ours,
    })?;
    // Told only where both can be read.
    let huge_before = uffd::anon_huge_bytes(pid).ok();
    let scope = if args.children {
        TrackScope::WithChildren
    } else {
        TrackScope::Process
    };
    let (mut session, first) = TrackTree::begin(pid, facts.clone(), options(args), scope)?;
    if let Some(launched) = &mut launched {
        launched.go();
    }
    let mut set = WorkingSet::default();
    set.add(&first);
    pace.start();
    let mut header = session.header().clone();
    args.rounds.tell_arguments(&mut header);
    if launched.is_some() {
        // It was us who stopped it, and it runs by now.
        header.notes.retain(|note| !note.is_stays_stopped());
    }
    let mut outputs = outputs.begin(&header, &first)?;
    // What nobody reads is no reason to end a program that we only watch.
    let unread = match launched {
        Some(_) => TrackEnd::Done,
        None => TrackEnd::Interrupted,
    };
    let mut rounds = 0;
    let end = loop {
        let wake = pace.wait(session.lifeline().pidfd(), &session.early())?;
        // A last round even then: what was written until now is told.
        let TrackStep::Round(round) = session.step()? else {
            break TrackEnd::Exited;
        };
        rounds += 1;
        set.add(&round);
        if outputs.round(&round, &set)? == SinkState::Closed {
            break unread;
        }
        if let Some(end) = args.rounds.end(wake, rounds) {
            break end;
        }
    };
    let huge_after = uffd::anon_huge_bytes(pid).ok();
    session.end()?;
    let status = match launched {
        Some(launched) => Some(target::wait(launched, end, pace).context("lost the program")?),
        None => None,
    };
    let mut summary = set.summary(end, status.map(|status| target::code(status).into()));
    summary.huge_pages = huge_before
        .zip(huge_after)
        .map(|(before, after)| HugePageChange { before, after });
    outputs.end(&summary)?;
    if let Some(HugePageChange { before, after }) = summary.huge_pages
        && before.max(after) != 0
    {
        let (before, after) = (before >> 20, after >> 20);
        say(format_args!(
            "tracker: huge pages (AnonHugePages): {before} MiB before, {after} MiB at the end"
        ));
    }
    Ok(status)
}

fn options(args: &TrackArgs) -> TrackOptions {
    TrackOptions {
        strategy: args.strategy.0,
        detailed: args.detailed,
        max_mapping: args.rounds.max_mapping,
        interval: args.rounds.interval,
        tracker: crate::VERSION,
        inject: inject::InjectOptions::default(),
    }
}
