//! Which runs are made, and in which order: strategies take turns with untracked runs, so that what
//! else happens on the machine happens to all of them.

use std::time::{Duration, Instant};

use pages::strategy::{
    StrategyFacts, StrategyMeans, StrategyName, StrategyOutcome, VerdictReason, verdict,
};
use uffd::Backing;

use super::measured::RunOutcome;
use super::run::RunOrder;
use super::workload::CompareWorkload;

/// How much longer than the time that is left a run may take that has begun.
const GRACE: Duration = Duration::from_secs(15);
/// Why a run was not made.
const TIME_OVER: &str = "the time for it was over before it began: give more with --limit, or \
                         compare fewer workloads or strategies, or smaller ranges";
/// Of a run that took this long, no larger range is tried.
const SLOW: Duration = Duration::from_secs(4);

/// What to compare.
#[derive(Clone, Debug)]
pub(crate) struct CompareOrder {
    pub workloads: Vec<&'static CompareWorkload>,
    /// The strategies.
    pub strategies: Vec<StrategyName>,
    /// How large ranges are, instead of what each workload says.
    pub range: Option<u64>,
    /// How often each run is made, at most.
    pub repeats: u32,
    /// After this time no run begins.
    pub limit: Duration,
}

/// All that was run.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The kernel's release (uname(2)).
    pub kernel: String,
    /// What strategies can do here.
    pub facts: StrategyFacts,
    pub strategies: Vec<StrategyName>,
    pub workloads: Vec<ComparedWorkload>,
}

/// A workload with its runs.
#[derive(Debug)]
pub(crate) struct ComparedWorkload {
    pub workload: &'static CompareWorkload,
    pub sizes: Vec<ComparedSize>,
}

/// The runs of a workload on a range of one size.
#[derive(Debug)]
pub(crate) struct ComparedSize {
    pub bytes: u64,
    pub untracked: ComparedRuns,
    pub rows: Vec<ComparedRow>,
}

/// A strategy on a range of one size.
#[derive(Debug)]
pub(crate) struct ComparedRow {
    pub strategy: StrategyName,
    pub runs: ComparedRuns,
}

/// The runs of one kind; the first that has no numbers is the last one.
pub(crate) type ComparedRuns = Vec<RunOutcome>;

impl Comparison {
    /// What is to be run, before any run.
    fn new(order: &CompareOrder, facts: StrategyFacts) -> Self {
        let means = StrategyMeans::from_outside(&facts);
        let row = |strategy: StrategyName, backing| ComparedRow {
            strategy,
            runs: refusal(strategy, backing, &facts, means)
                .map(RunOutcome::NotMeasured)
                .into_iter()
                .collect(),
        };
        let workload = |workload: &&'static CompareWorkload| {
            let asked = order.range.map(|range| vec![range]);
            let sizes = asked.unwrap_or_else(|| workload.sizes.to_vec());
            let backing = workload.memory.backing();
            let size = |bytes| ComparedSize {
                bytes,
                untracked: Vec::new(),
                rows: order
                    .strategies
                    .iter()
                    .map(|strategy| row(*strategy, backing))
                    .collect(),
            };
            ComparedWorkload {
                workload,
                sizes: sizes.into_iter().map(size).collect(),
            }
        };
        let workloads = order.workloads.iter().map(workload).collect();
        let uname = rustix::system::uname();
        Self {
            kernel: uname.release().to_string_lossy().into_owned(),
            facts,
            strategies: order.strategies.clone(),
            workloads,
        }
    }
}

/// Makes all runs. `run` makes one, within so much time; `turn` is told the number of each turn
/// before it begins; `elapsed` tells for how long it has been going on.
pub(crate) fn compare(
    order: &CompareOrder,
    facts: StrategyFacts,
    elapsed: impl Fn() -> Duration,
    mut run: impl FnMut(&RunOrder, Duration) -> RunOutcome,
    mut turn: impl FnMut(u32),
) -> Comparison {
    let mut comparison = Comparison::new(order, facts);
    for repeat in 0..order.repeats {
        if repeat > 0 && elapsed() > order.limit {
            break;
        }
        turn(repeat + 1);
        let workloads = comparison.workloads.len();
        for (index, compared) in comparison.workloads.iter_mut().enumerate() {
            // In the first turn each has its share, and what those before have left of theirs.
            let until = match repeat {
                0 => share(order.limit, index + 1, workloads),
                _ => order.limit,
            };
            compared.turn(|order| {
                let left = until.checked_sub(elapsed());
                left.map(|left| run(order, left + GRACE))
            });
        }
    }
    comparison
}

/// The time by which so many of all workloads are to be done.
fn share(limit: Duration, done: usize, all: usize) -> Duration {
    let (done, all) = (u32::try_from(done), u32::try_from(all));
    limit * done.unwrap_or(1) / all.unwrap_or(1).max(1)
}

impl ComparedWorkload {
    /// One run of each kind; `run` makes none if the time is over.
    fn turn(&mut self, mut run: impl FnMut(&RunOrder) -> Option<RunOutcome>) {
        let mut slow: Vec<(Option<StrategyName>, u64)> = Vec::new();
        let workload = self.workload;
        for size in &mut self.sizes {
            let bytes = size.bytes;
            let mut one = |strategy: Option<StrategyName>, runs: &mut ComparedRuns| {
                if runs.last().is_some_and(RunOutcome::is_refused) {
                    return;
                }
                if let Some((_, smaller)) = slow.iter().find(|(slow, _)| *slow == strategy) {
                    let why = format!(
                        "a range of {} MiB took more than {} s",
                        smaller >> 20,
                        SLOW.as_secs()
                    );
                    runs.push(RunOutcome::NotMeasured(why));
                    return;
                }
                let began = Instant::now();
                match run(&RunOrder {
                    workload,
                    bytes,
                    strategy,
                }) {
                    Some(outcome) => runs.push(outcome),
                    None if runs.is_empty() => {
                        runs.push(RunOutcome::NotMeasured(TIME_OVER.to_owned()));
                    }
                    None => (),
                }
                if began.elapsed() > SLOW {
                    slow.push((strategy, bytes));
                }
            };
            one(None, &mut size.untracked);
            // Without the untracked run there is nothing to compare with.
            let missing = size
                .untracked
                .last()
                .filter(|run| run.is_refused())
                .cloned();
            for row in &mut size.rows {
                match &missing {
                    Some(missing) => row.runs = vec![missing.clone()],
                    None => one(Some(row.strategy), &mut row.runs),
                }
            }
        }
    }
}

/// Why a strategy cannot track this memory here; `None`: it can.
fn refusal(
    strategy: StrategyName,
    backing: Backing,
    facts: &StrategyFacts,
    means: StrategyMeans,
) -> Option<String> {
    let verdict = verdict(strategy, facts, means);
    if verdict.backings.contains(&backing) {
        return None;
    }
    let mut trials = facts.trials.iter();
    let trial = trials.find(|trial| (trial.strategy, trial.backing) == (strategy, backing));
    match (verdict.reason, trial.map(|trial| &trial.outcome)) {
        (VerdictReason::Tried(_), Some(StrategyOutcome::Fails(why))) => Some(why.to_string()),
        (VerdictReason::Tried(_), Some(StrategyOutcome::Untried(why))) => Some(why.to_string()),
        (reason, _) => Some(reason.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::measured::RunMeasurement;
    use super::super::sample;
    use super::*;

    fn order(repeats: u32) -> CompareOrder {
        CompareOrder {
            workloads: vec![CompareWorkload::named("sparse").unwrap()],
            strategies: StrategyName::ALL.to_vec(),
            range: Some(64 << 20),
            repeats,
            limit: Duration::from_secs(60),
        }
    }

    #[test]
    fn runs_take_turns_and_what_is_refused_is_not_run() {
        let mut made = Vec::new();
        let run = |order: &RunOrder, _| {
            made.push(order.strategy);
            RunOutcome::Measured(RunMeasurement::default())
        };
        let comparison = compare(&order(2), sample::facts(), || Duration::ZERO, run, |_| ());
        // Nobody sees page faults here.
        let outside = StrategyName::outside().filter(|name| !name.is_observed());
        let outside: Vec<_> = outside.map(Some).collect();
        let turn = [vec![None], outside].concat();
        assert_eq!(made, [turn.clone(), turn].concat());
        let rows = &comparison.workloads[0].sizes[0].rows;
        let own = rows
            .iter()
            .find(|row| row.strategy.is_in_process())
            .unwrap();
        assert!(own.runs[0].is_refused());
    }

    #[test]
    fn without_an_untracked_run_there_is_no_other() {
        let mut made = 0;
        let run = |_: &RunOrder, _| {
            made += 1;
            RunOutcome::NotMeasured("no memory".to_owned())
        };
        let comparison = compare(&order(3), sample::facts(), || Duration::ZERO, run, |_| ());
        assert_eq!(made, 1);
        let size = &comparison.workloads[0].sizes[0];
        assert!(
            size.rows
                .iter()
                .all(|row| row.runs.len() == 1 && row.runs[0].is_refused())
        );
    }

    #[test]
    fn each_workload_has_its_share_of_the_time_and_what_is_left_out_is_told() {
        let mut order = order(2);
        order.workloads = ["sparse", "dense"]
            .map(|name| CompareWorkload::named(name).unwrap())
            .to_vec();
        let spent = std::cell::Cell::new(Duration::ZERO);
        let run = |_: &RunOrder, left: Duration| {
            assert!(left <= order.limit + GRACE);
            spent.set(spent.get() + Duration::from_secs(13));
            RunOutcome::Measured(RunMeasurement::default())
        };
        let comparison = compare(&order, sample::facts(), || spent.get(), run, |_| ());
        let measured = |index: usize| {
            let size = &comparison.workloads[index].sizes[0];
            let rows = size.rows.iter().map(|row| &row.runs);
            let runs = rows.chain([&size.untracked]).flatten();
            runs.filter(|run| !run.is_refused()).count()
        };
        assert_eq!((measured(0), measured(1)), (3, 2), "39 s, and 26 s");
        let size = &comparison.workloads[0].sizes[0];
        let mut rows = size.rows.iter();
        let late = rows.find(|row| row.strategy == StrategyName::Hash).unwrap();
        assert_eq!(late.runs, [RunOutcome::NotMeasured(TIME_OVER.to_owned())]);
        assert_eq!(size.untracked.len(), 1, "nothing is repeated");
    }
}
