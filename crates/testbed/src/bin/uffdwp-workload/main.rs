//! `uffdwp-workload`: uffd-wp in all its forms, with a known number of events.
//!
//! To newcomers, `demo` shows series that move, and the rows are an introduction to userfaultfd
//! write-protection by example. To tests it is the oracle: a row prints what every metric must say,
//! and checks itself what can be seen without probes (page tables, messages, page faults, armed
//! pages).

mod area;
mod calls;
mod child;
mod client;
#[cfg(target_arch = "x86_64")]
mod code;
mod crew;
mod crowd;
mod demo;
mod fuzz;
mod handler;
mod ledger;
mod messages;
mod needs;
mod row_run;
mod rows;
mod run;
mod scenarios;
mod script;
mod signals;
mod tables;
mod writer;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use needs::MachineFacts;
use row_run::RowSize;
use run::{RowOutcome, RunSteps};

#[derive(Parser)]
#[command(
    version,
    about = "Uses userfaultfd write-protection in all its forms, with a known number of events"
)]
struct WorkloadArguments {
    #[command(subcommand)]
    command: WorkloadCommand,
}

#[derive(Subcommand)]
enum WorkloadCommand {
    /// Print every row and what it does
    List,
    /// Print what the self-test found, as one line of JSON
    Facts {
        /// Directory for files
        #[arg(long, default_value_os_t = std::env::temp_dir())]
        dir: PathBuf,
    },
    /// Run one row and print what the metrics must say afterwards, as lines of JSON
    Run(RunArguments),
    /// Write into another process, as standard input says
    #[command(hide = true)]
    WriteInto { pid: u32 },
    /// Map and touch memory as standard input says
    #[command(hide = true)]
    Script {
        /// Directory for files
        #[arg(long, default_value_os_t = std::env::temp_dir())]
        dir: PathBuf,
    },
    /// Do what is reported as written without a change, and what changes without a report, as
    /// standard input says
    #[command(hide = true)]
    Scenarios(scenarios::ScenarioArguments),
    /// Be a tracker with a known number of true and false reports, as standard input says
    #[command(hide = true)]
    Client(client::ClientArguments),
    /// Make the calls of a tracker, as standard input says
    #[command(hide = true)]
    Calls(calls::CallArguments),
    /// Map, write, protect, move and unmap at random until standard input ends
    #[command(hide = true)]
    Fuzz(fuzz::FuzzArguments),
    /// Be many processes with many VMAs until standard input ends
    #[command(hide = true)]
    Crowd(crowd::CrowdArguments),
    /// Store by code whose file or perf map is not to be trusted
    #[cfg(target_arch = "x86_64")]
    #[command(hide = true)]
    Code(code::CodeArguments),
    /// Do a little of everything, gently, until SIGTERM or SIGINT
    Demo {
        /// Directory for files
        #[arg(long, default_value_os_t = std::env::temp_dir())]
        dir: PathBuf,
    },
}

#[derive(clap::Args)]
struct RunArguments {
    /// Name of the row, as `list` prints it
    row: String,
    /// Pages of 4 KiB per area, at most 4,194,304 (16 GiB), rounded up to whole huge pages
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(2..=4 << 20))]
    pages: u64,
    /// Threads, in rows that use several
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    threads: u64,
    /// Rounds of arming and writing, in rows that repeat
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Directory for files; rows about files need one that is not on tmpfs
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Stay until SIGTERM or SIGINT
    #[arg(long)]
    hold: bool,
    /// Wait for a newline on standard input after `ready` and after `done`
    #[arg(long)]
    step: bool,
    /// Use the facts in this file, printed by `facts`, so that no self-test runs before the row
    #[arg(long)]
    facts: Option<PathBuf>,
    /// Wait for a newline before anything uses userfaultfd, even the self-test
    #[arg(long)]
    wait_for_newline: bool,
}

fn main() -> ExitCode {
    let result = match WorkloadArguments::parse().command {
        WorkloadCommand::List => list(),
        WorkloadCommand::Facts { dir } => MachineFacts::gather(&dir)
            .and_then(|facts| run::print(&facts))
            .map(|()| RowOutcome::Agrees),
        WorkloadCommand::Demo { dir } => {
            signals::block();
            demo::run(&dir).map(|()| RowOutcome::Agrees)
        }
        // It serves until its parent is gone, which is not a failure.
        WorkloadCommand::WriteInto { pid } => {
            writer::serve(pid).or(Ok(())).map(|()| RowOutcome::Agrees)
        }
        WorkloadCommand::Script { dir } => script::serve(&dir).map(|()| RowOutcome::Agrees),
        WorkloadCommand::Scenarios(arguments) => {
            scenarios::serve(&arguments).map(|()| RowOutcome::Agrees)
        }
        WorkloadCommand::Calls(arguments) => calls::serve(&arguments).map(|()| RowOutcome::Agrees),
        WorkloadCommand::Client(arguments) => {
            client::serve(&arguments).map(|()| RowOutcome::Agrees)
        }
        WorkloadCommand::Fuzz(arguments) => fuzz::run(&arguments).map(|()| RowOutcome::Agrees),
        WorkloadCommand::Crowd(arguments) => crowd::run(&arguments).map(|()| RowOutcome::Agrees),
        #[cfg(target_arch = "x86_64")]
        WorkloadCommand::Code(arguments) => code::run(&arguments).map(|()| RowOutcome::Agrees),
        WorkloadCommand::Run(arguments) => run_row(&arguments),
    };
    match result {
        Ok(RowOutcome::Agrees | RowOutcome::Skipped) => ExitCode::SUCCESS,
        Ok(RowOutcome::Differs) => {
            eprintln!("uffdwp-workload: the kernel did not do what was foretold: see checks");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("uffdwp-workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_row(arguments: &RunArguments) -> anyhow::Result<RowOutcome> {
    let Some((row, mode)) = rows::find(&arguments.row) else {
        eprintln!(
            "uffdwp-workload: no row {:?}; `uffdwp-workload list` prints them",
            arguments.row
        );
        std::process::exit(2);
    };
    if arguments.hold {
        signals::block();
    }
    run::wait_if(arguments.wait_for_newline)?;
    let &RunArguments {
        pages,
        threads,
        rounds,
        step,
        hold,
        ..
    } = arguments;
    let facts = match &arguments.facts {
        Some(file) => MachineFacts::read(file)?,
        None => MachineFacts::gather(&arguments.dir)?,
    };
    run::run(
        row,
        mode,
        RowSize {
            pages,
            threads,
            rounds,
        },
        facts,
        RunSteps { step, hold },
    )
}

fn list() -> anyhow::Result<RowOutcome> {
    let mut out = std::io::stdout().lock();
    for row in rows::ROWS {
        for &mode in row.modes {
            writeln!(out, "{:<32} {}", row.full_name(mode), row.about)?;
        }
    }
    Ok(RowOutcome::Agrees)
}

/// Touches the stack and heap that this thread will use, so that they need no page tables later.
fn warm_up() {
    let stack = [1u8; 128 << 10];
    std::hint::black_box(&stack);
    std::hint::black_box(vec![1u8; 64 << 10]);
}
