//! From runs to what the table says: pure.

use super::measured::{PhaseMeasurement, RunMeasurement};
use super::order::{ComparedRow, ComparedRuns, ComparedSize};
use super::truth::{StepCost, WorkloadTruth};
use super::workload::CompareWorkload;

/// The median of some measurements, and their spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MeasuredSpread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl MeasuredSpread {
    /// Of at least one number.
    pub(super) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<_> = numbers.into_iter().filter(|n| n.is_finite()).collect();
        numbers.sort_by(f64::total_cmp);
        let upper = *numbers.get(numbers.len() / 2)?;
        let lower = *numbers.get((numbers.len() - 1) / 2)?;
        Some(Self {
            least: *numbers.first()?,
            median: f64::midpoint(lower, upper),
            most: *numbers.last()?,
        })
    }
}

/// Times: of the untracked process in nanoseconds, of a tracked one as ratios to that in the same
/// turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WorkTimes {
    /// For each page that is not mapped and is touched. `None`: no step does only that.
    pub first_touch: Option<MeasuredSpread>,
    /// For each page that is mapped and armed, and is written. `None`: no step does only that.
    pub write: Option<MeasuredSpread>,
    /// Of all steps.
    pub work: Option<MeasuredSpread>,
}

/// What is told of a workload without a tracker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UntrackedNumbers {
    /// Page tables that came with the work, in bytes.
    pub tables: u64,
    /// Memory that is there in the end, in bytes.
    pub resident: u64,
    pub faults: u64,
    /// Pages that changed, summed up over all phases.
    pub changed: u64,
    /// In nanoseconds.
    pub times: WorkTimes,
    pub runs: usize,
}

/// What is told of a strategy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ComparedNumbers {
    /// Page tables that arming allocated, in bytes.
    pub tables_armed: u64,
    /// Page tables in the end, more than untracked, in bytes.
    pub tables: i64,
    /// Memory of the process in the end, more than untracked, in bytes.
    pub resident: i64,
    /// Memory of the tracker, more than that of a run that tracks nothing, in bytes.
    pub tracker: i64,
    /// Faults of the process, more than untracked.
    pub faults: i64,
    pub reported: u64,
    /// Of the run that has most.
    pub false_positives: u64,
    /// Of the run that has most.
    pub false_negatives: u64,
    /// Of the run that has most, in pages of 4 KiB.
    pub in_doubt: u64,
    /// In nanoseconds.
    pub arm: Option<MeasuredSpread>,
    /// A round after nothing happened, in nanoseconds.
    pub clean: Option<MeasuredSpread>,
    /// The round after a phase that takes longest, in nanoseconds.
    pub dirty: Option<MeasuredSpread>,
    /// Ratios.
    pub times: WorkTimes,
    pub runs: usize,
}

/// What a row of the table says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RowNumbers {
    Measured(Box<ComparedNumbers>),
    /// Why not.
    NotMeasured(String),
}

/// What is told of all runs on a range of one size. `None` for the untracked process: it was not
/// measured, and nothing was.
#[derive(Debug)]
pub(crate) struct SizeNumbers {
    pub untracked: Option<UntrackedNumbers>,
    pub rows: Vec<RowNumbers>,
}

impl SizeNumbers {
    /// Whether any strategy was measured.
    pub(crate) fn has_rows(&self) -> bool {
        let measured = |row: &RowNumbers| matches!(row, RowNumbers::Measured(_));
        self.rows.iter().any(measured)
    }

    /// Of these runs.
    pub(crate) fn of(workload: &CompareWorkload, size: &ComparedSize) -> Self {
        let costs = StepCosts::of(workload, size.bytes);
        let bare = measured(&size.untracked);
        let rows = size.rows.iter().map(|row| row_numbers(row, &bare, &costs));
        Self {
            rows: rows.collect(),
            untracked: untracked(&bare, &costs),
        }
    }
}

fn measured(runs: &ComparedRuns) -> Vec<&RunMeasurement> {
    runs.iter().filter_map(|run| run.measured()).collect()
}

fn untracked(bare: &[&RunMeasurement], costs: &StepCosts) -> Option<UntrackedNumbers> {
    let time = |of: fn(&StepCosts, &RunMeasurement) -> Option<f64>| {
        MeasuredSpread::of(bare.iter().filter_map(|run| of(costs, run)))
    };
    Some(UntrackedNumbers {
        tables: median(bare, |run| run.tables_end.saturating_sub(run.tables_before))?,
        resident: median(bare, |run| run.resident)?,
        faults: median(bare, |run| run.total(|phase| phase.faults))?,
        changed: median(bare, |run| run.total(|phase| phase.changed))?,
        times: WorkTimes {
            first_touch: time(|costs, run| costs.per_page(run, StepCost::FirstTouch)),
            write: time(|costs, run| costs.per_page(run, StepCost::Write)),
            work: time(|_, run| Some(run.work() as f64)),
        },
        runs: bare.len(),
    })
}

fn row_numbers(row: &ComparedRow, bare: &[&RunMeasurement], costs: &StepCosts) -> RowNumbers {
    if let Some(why) = row.runs.iter().find_map(|run| run.refusal()) {
        return RowNumbers::NotMeasured(why.to_owned());
    }
    let runs = measured(&row.runs);
    compared(&runs, bare, costs).map_or_else(
        || RowNumbers::NotMeasured("it was not run".to_owned()),
        |numbers| RowNumbers::Measured(Box::new(numbers)),
    )
}

fn compared(
    runs: &[&RunMeasurement],
    bare: &[&RunMeasurement],
    costs: &StepCosts,
) -> Option<ComparedNumbers> {
    let more = |of: fn(&RunMeasurement) -> u64| -> Option<i64> {
        Some(signed(median(runs, of)?) - signed(median(bare, of)?))
    };
    let ratio = |of: fn(&StepCosts, &RunMeasurement) -> Option<f64>| {
        let pairs = runs.iter().zip(bare);
        MeasuredSpread::of(pairs.filter_map(|(run, bare)| Some(of(costs, run)? / of(costs, bare)?)))
    };
    let most = |of: fn(&PhaseMeasurement) -> u64| runs.iter().map(|run| run.total(of)).max();
    Some(ComparedNumbers {
        tables_armed: median(runs, |run| {
            run.tables_armed.saturating_sub(run.tables_before)
        })?,
        tables: more(|run| run.tables_end.saturating_sub(run.tables_before))?,
        resident: more(|run| run.resident)?,
        tracker: more(|run| run.tracker)?,
        faults: more(|run| run.total(|phase| phase.faults))?,
        reported: median(runs, |run| run.total(|phase| phase.reported))?,
        false_positives: most(|phase| phase.false_positives)?,
        false_negatives: most(|phase| phase.false_negatives)?,
        in_doubt: most(|phase| phase.in_doubt)?,
        arm: MeasuredSpread::of(runs.iter().map(|run| run.arm as f64)),
        clean: MeasuredSpread::of(runs.iter().filter_map(|run| middle(&run.clean))),
        dirty: MeasuredSpread::of(runs.iter().filter_map(|run| longest(run))),
        times: WorkTimes {
            first_touch: ratio(|costs, run| costs.per_page(run, StepCost::FirstTouch)),
            write: ratio(|costs, run| costs.per_page(run, StepCost::Write)),
            work: ratio(|_, run| Some(run.work() as f64).filter(|work| *work > 0.0)),
        },
        runs: runs.len(),
    })
}

/// What the steps of a workload measure.
struct StepCosts(Vec<Vec<(Option<StepCost>, u64)>>);

impl StepCosts {
    fn of(workload: &CompareWorkload, bytes: u64) -> Self {
        if workload.phases.is_empty() {
            return Self(Vec::new());
        }
        let mut truth = WorkloadTruth::new(workload, bytes);
        let phases = workload.steps().into_iter();
        let costs = phases.map(|steps| truth.phase(&steps).costs);
        // Before arming nothing is measured; threads at the same pages share their cost.
        let alone = workload.phases.iter().map(|phase| phase.threads == 1);
        let measured = costs.skip(1).zip(alone);
        Self(
            measured
                .map(|(costs, alone)| if alone { costs } else { Vec::new() })
                .collect(),
        )
    }

    /// Nanoseconds for each page of all steps of a kind.
    fn per_page(&self, run: &RunMeasurement, wanted: StepCost) -> Option<f64> {
        let steps = run.phases.iter().zip(&self.0);
        let all = steps.flat_map(|(phase, costs)| phase.steps.iter().zip(costs));
        let (mut time, mut pages) = (0, 0);
        for (step, (_, touched)) in all.filter(|(_, (cost, _))| *cost == Some(wanted)) {
            time += step;
            pages += touched;
        }
        (pages > 0).then(|| time as f64 / pages as f64)
    }
}

fn longest(run: &RunMeasurement) -> Option<f64> {
    let rounds = run.phases.iter().filter_map(|phase| phase.round);
    rounds.max().map(|round| round as f64)
}

fn middle(numbers: &[u64]) -> Option<f64> {
    MeasuredSpread::of(numbers.iter().map(|number| *number as f64)).map(|spread| spread.median)
}

fn median(runs: &[&RunMeasurement], of: impl Fn(&RunMeasurement) -> u64) -> Option<u64> {
    let mut numbers: Vec<_> = runs.iter().map(|run| of(run)).collect();
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::compare::measured::RunOutcome;
    use pages::strategy::StrategyName;

    fn run(tables: u64, step: u64, reported: u64) -> RunOutcome {
        RunOutcome::Measured(RunMeasurement {
            tables_before: 4096,
            tables_armed: 4096 + tables,
            tables_end: 4096 + tables + 8192,
            resident: 1 << 20,
            arm: 1000,
            phases: vec![PhaseMeasurement {
                faults: 10,
                steps: vec![step],
                round: Some(500),
                changed: 5,
                reported,
                false_positives: reported - 5,
                false_negatives: 0,
                in_doubt: 0,
            }],
            ..RunMeasurement::default()
        })
    }

    fn size(untracked: ComparedRuns, runs: ComparedRuns) -> SizeNumbers {
        let size = ComparedSize {
            bytes: 1 << 30,
            untracked,
            rows: vec![ComparedRow {
                strategy: StrategyName::Markers,
                runs,
            }],
        };
        SizeNumbers::of(CompareWorkload::named("sparse").unwrap(), &size)
    }

    #[test]
    fn costs_are_ratios_of_the_same_turn() {
        let bare = vec![run(0, 100, 5), run(0, 200, 5), run(0, 400, 5)];
        let tracked = vec![run(4096, 200, 5), run(4096, 600, 7), run(4096, 400, 5)];
        let numbers = size(bare, tracked);
        let RowNumbers::Measured(row) = &numbers.rows[0] else {
            panic!("{numbers:?}");
        };
        let expected = MeasuredSpread {
            least: 1.0,
            median: 2.0,
            most: 3.0,
        };
        assert_eq!(row.times.work, Some(expected));
        assert_eq!(row.times.first_touch, Some(expected));
        assert_eq!(row.times.write, None, "there was only one phase");
        assert_eq!(
            (row.tables_armed, row.tables, row.resident),
            (4096, 4096, 0)
        );
        assert_eq!(
            (row.reported, row.false_positives),
            (5, 2),
            "median, and the worst"
        );
        let untracked = numbers.untracked.unwrap();
        assert_eq!((untracked.tables, untracked.changed), (8192, 5));
        let per_page = untracked.times.first_touch.unwrap().median;
        assert!((per_page - 200.0 / 1024.0).abs() < 1e-9);
    }

    #[test]
    fn of_two_numbers_the_median_is_neither() {
        let spread = MeasuredSpread::of([3.0, f64::NAN, 1.0]).unwrap();
        assert!(
            (spread.median - 2.0).abs() < 1e-9 && spread.most > 2.5,
            "{spread:?}"
        );
        assert_eq!(MeasuredSpread::of([]), None);
    }

    #[test]
    fn one_refusal_is_the_reason_of_the_row() {
        let refused = RunOutcome::NotMeasured("no memory".to_owned());
        let numbers = size(vec![run(0, 1, 5)], vec![run(0, 1, 5), refused.clone()]);
        assert_eq!(
            numbers.rows[0],
            RowNumbers::NotMeasured("no memory".to_owned())
        );
        assert!(size(vec![refused], Vec::new()).untracked.is_none());
    }
}
