//! A process that does to one mapping per scenario what is reported as written without a change,
//! what changes without a report, and what is both or neither.
//! `crates/testbed/tests/explain_scenarios/` says what must come of each.
//!
//! | line | answer |
//! |---|---|
//! | | `excused NAME PART WHY` for each scenario that cannot run here, then `ready` |
//! | `act` | `acted NAME START END PAGES` or `refused NAME WHY` for each other, then `done` |
//!
//! PART is `kernel` or `machine`, whichever cannot do it. PAGES are the pages to which something
//! was done: numbers of 4 KiB pages from START on, `1,5-9` with the end, or `-` for none. The seed
//! decides addresses, pages, contents and the order of everything; nothing tells scenarios apart.

mod forks;
mod ground;
mod huge;
mod kernel;
mod ksm;
mod moves;
mod pinned;
mod quiet;
mod reclaim;
mod ring;
mod shared;
mod stores;
mod zaps;

use std::io::{Write as _, stdin, stdout};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::needs::SkipReason;
use ground::{GroundMaker, ScenarioGround};

/// What is done after tracking began; returns the mapping, which may be elsewhere by then.
type ScenarioAct = Box<dyn FnOnce() -> Result<ScenarioGround> + Send>;

/// A way to write, or not to.
struct TestScenario {
    /// Name in the table of the test.
    name: &'static str,
    /// Maps and fills memory, and returns what will be done to it.
    prepare: fn(&mut GroundMaker) -> Result<ScenarioAct>,
}

const fn scenario(
    name: &'static str,
    prepare: fn(&mut GroundMaker) -> Result<ScenarioAct>,
) -> TestScenario {
    TestScenario { name, prepare }
}

const SUBJECTS: [&[TestScenario]; 11] = [
    stores::SCENARIOS,
    kernel::SCENARIOS,
    pinned::SCENARIOS,
    zaps::SCENARIOS,
    reclaim::SCENARIOS,
    huge::SCENARIOS,
    ksm::SCENARIOS,
    moves::SCENARIOS,
    forks::SCENARIOS,
    shared::SCENARIOS,
    quiet::SCENARIOS,
];

/// The command line of `scenarios`.
#[derive(clap::Args)]
pub struct ScenarioArguments {
    /// Names of scenarios [default: all]
    names: Vec<String>,
    /// Decides addresses, pages, contents and order
    #[arg(long)]
    seed: u64,
    /// Pages of 4 KiB per scenario, where their number does not matter
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(8..=1 << 20))]
    pages: u64,
    /// Threads that act
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    /// Allow changes of the machine's settings
    #[arg(long)]
    machine: bool,
    /// Only print the names
    #[arg(long)]
    list: bool,
    /// Directory for files
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
}

/// Serves until standard input ends.
pub fn serve(arguments: &ScenarioArguments) -> Result<()> {
    if arguments.list {
        let names = SUBJECTS.iter().copied().flatten().map(|it| it.name);
        return say(names.map(str::to_owned));
    }
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let mut chosen = choose(&arguments.names)?;
    random.shuffle(&mut chosen);
    let mut grounds = GroundMaker::new(arguments, random.fork())?;
    let (mut acts, mut excused) = (Vec::new(), Vec::new());
    for TestScenario { name, prepare } in chosen {
        match prepare(&mut grounds) {
            Ok(act) => acts.push((*name, act)),
            Err(error) => match error.downcast::<SkipReason>() {
                Ok(skip) => excused.push(format!("excused {name} {} {skip}", skip.part())),
                Err(error) => return Err(error.context(*name)),
            },
        }
    }
    random.shuffle(&mut acts);
    excused.push("ready".to_owned());
    say(excused)?;
    for line in stdin().lines() {
        match line.context("cannot read what to do")?.as_str() {
            "act" => say(act(std::mem::take(&mut acts), arguments.threads))?,
            other => bail!("there is no {other}"),
        }
    }
    Ok(())
}

fn choose(names: &[String]) -> Result<Vec<&'static TestScenario>> {
    let all = || SUBJECTS.iter().copied().flatten();
    if names.is_empty() {
        return Ok(all().collect());
    }
    let find = |name: &String| {
        let found = all().find(|scenario| scenario.name == name);
        found.with_context(|| format!("there is no scenario {name}"))
    };
    names.iter().map(find).collect()
}

/// Does all acts: each thread takes the next one until none is left.
fn act(acts: Vec<(&'static str, ScenarioAct)>, threads: u64) -> Vec<String> {
    let (left, lines) = (Mutex::new(acts), Mutex::new(Vec::new()));
    let next = || left.lock().ok()?.pop();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((name, act)) = next() {
                    let line = match act() {
                        Ok(ground) => format!("acted {name} {ground}"),
                        Err(error) => format!("refused {name} {error:#}"),
                    };
                    lines.lock().map(|mut lines| lines.push(line)).ok();
                }
            });
        }
    });
    let mut lines = lines.into_inner().unwrap_or_default();
    lines.push("done".to_owned());
    lines
}

fn say(lines: impl IntoIterator<Item = String>) -> Result<()> {
    let mut out = stdout().lock();
    for line in lines {
        writeln!(out, "{line}").context("cannot answer")?;
    }
    out.flush().context("cannot answer")
}
