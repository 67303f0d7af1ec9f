//! Which runs are made, and in which order: strategies take turns with untracked runs.

use std::time::{Duration, Instant};

use pages::strategy::{StrategyFacts, StrategyMeans, StrategyName, verdict};
use serde::Serialize;

use super::run::{OwnPace, OwnRun, look_at, run_program};

/// Whose work it is.
#[derive(Clone, Debug)]
pub(crate) enum OwnTarget {
    /// A program and its arguments: started for each run.
    Program(Vec<String>),
    /// A process that runs: all runs are of it.
    Process(u32),
}

/// What to compare.
#[derive(Clone, Debug)]
pub(crate) struct OwnOrder {
    pub target: OwnTarget,
    pub strategies: Vec<StrategyName>,
    /// Time from one round to the next.
    pub interval: Duration,
    /// How long a process is looked at in each run.
    pub window: Duration,
    /// How often each run is made, at most.
    pub repeats: u32,
    /// After this time no turn begins but the first.
    pub limit: Duration,
}

/// All that was run.
#[derive(Debug)]
pub(crate) struct OwnComparison {
    /// The kernel's release (uname(2)).
    pub kernel: String,
    pub target: OwnTarget,
    pub interval: Duration,
    pub untracked: OwnRow,
    pub rows: Vec<(StrategyName, OwnRow)>,
}

/// The runs of one kind; why there are no more, if there are none or not as many.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct OwnRow {
    pub(super) runs: Vec<OwnRun>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_measured: Option<String>,
}

/// Makes all runs. `turn` is told the number of each turn before it begins.
pub(crate) fn compare_own(
    order: &OwnOrder,
    facts: &StrategyFacts,
    mut turn: impl FnMut(u32),
) -> OwnComparison {
    let began = Instant::now();
    let uname = rustix::system::uname();
    let mut comparison = OwnComparison {
        kernel: uname.release().to_string_lossy().into_owned(),
        target: order.target.clone(),
        interval: order.interval,
        untracked: OwnRow::default(),
        rows: rows(&order.strategies, facts),
    };
    for repeat in 0..order.repeats {
        if repeat > 0 && began.elapsed() > order.limit {
            break;
        }
        turn(repeat + 1);
        comparison.untracked.add(order, None, facts);
        if comparison.untracked.not_measured.is_some() {
            // Without it there is nothing to compare with.
            break;
        }
        for (name, row) in &mut comparison.rows {
            row.add(order, Some(*name), facts);
        }
    }
    comparison
}

impl OwnComparison {
    /// Why nothing was measured at all, if so.
    pub(crate) fn failure(&self) -> Option<&str> {
        let OwnRow { runs, not_measured } = &self.untracked;
        not_measured.as_deref().filter(|_| runs.is_empty())
    }
}

/// The rows, with what is refused before any run.
fn rows(strategies: &[StrategyName], facts: &StrategyFacts) -> Vec<(StrategyName, OwnRow)> {
    let means = StrategyMeans::from_outside(facts);
    let row = |name: &StrategyName| {
        let verdict = verdict(*name, facts, means);
        let row = OwnRow {
            runs: Vec::new(),
            not_measured: (!verdict.works).then(|| verdict.reason.to_string()),
        };
        (*name, row)
    };
    strategies.iter().map(row).collect()
}

impl OwnRow {
    /// One more run, unless one has failed.
    fn add(&mut self, order: &OwnOrder, strategy: Option<StrategyName>, facts: &StrategyFacts) {
        if self.not_measured.is_some() {
            return;
        }
        let pace = OwnPace {
            interval: order.interval,
            window: order.window,
        };
        let run = match &order.target {
            OwnTarget::Program(command) => run_program(command, strategy, facts, pace),
            OwnTarget::Process(pid) => look_at(*pid, strategy, facts, pace),
        };
        match run {
            Ok(run) => self.runs.push(run),
            Err(error) => self.not_measured = Some(error.to_string()),
        }
    }
}
