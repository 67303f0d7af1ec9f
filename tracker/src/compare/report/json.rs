//! For programs: one document with every number of every run.

use serde::Serialize;

use super::words;
use crate::compare::measured::RunOutcome;
use crate::compare::numbers::{
    ComparedNumbers, MeasuredSpread, RowNumbers, SizeNumbers, WorkTimes,
};
use crate::compare::order::Comparison;
use crate::print::json::line;

#[derive(Serialize)]
struct ComparisonJson<'a> {
    r#type: &'static str,
    tracker: &'static str,
    kernel: &'a str,
    strategies: Vec<StrategyJson>,
    workloads: Vec<WorkloadJson<'a>>,
}

#[derive(Serialize)]
struct StrategyJson {
    strategy: String,
    about: String,
}

#[derive(Serialize)]
struct WorkloadJson<'a> {
    workload: &'static str,
    what: &'static str,
    point: &'static str,
    memory: &'static str,
    sizes: Vec<SizeJson<'a>>,
}

#[derive(Serialize)]
struct SizeJson<'a> {
    range_bytes: u64,
    untracked_runs: &'a [RunOutcome],
    rows: Vec<RowJson<'a>>,
}

#[derive(Serialize)]
struct RowJson<'a> {
    strategy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_measured: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    numbers: Option<NumbersJson>,
    runs: &'a [RunOutcome],
}

#[derive(Serialize)]
struct NumbersJson {
    tables_armed_bytes: u64,
    tables_more_bytes: i64,
    memory_more_bytes: i64,
    tracker_more_bytes: i64,
    faults_more: i64,
    reported: u64,
    false_positives: u64,
    false_negatives: u64,
    in_doubt: u64,
    arm_ns: Option<SpreadJson>,
    clean_round_ns: Option<SpreadJson>,
    dirty_round_ns: Option<SpreadJson>,
    first_touch_ratio: Option<SpreadJson>,
    write_ratio: Option<SpreadJson>,
    work_ratio: Option<SpreadJson>,
}

#[derive(Serialize)]
struct SpreadJson {
    least: f64,
    median: f64,
    most: f64,
}

impl From<MeasuredSpread> for SpreadJson {
    fn from(spread: MeasuredSpread) -> Self {
        let MeasuredSpread {
            least,
            median,
            most,
        } = spread;
        Self {
            least,
            median,
            most,
        }
    }
}

impl From<&ComparedNumbers> for NumbersJson {
    fn from(row: &ComparedNumbers) -> Self {
        let WorkTimes {
            first_touch,
            write,
            work,
        } = row.times;
        let spread = |spread: Option<MeasuredSpread>| spread.map(SpreadJson::from);
        Self {
            tables_armed_bytes: row.tables_armed,
            tables_more_bytes: row.tables,
            memory_more_bytes: row.resident,
            tracker_more_bytes: row.tracker,
            faults_more: row.faults,
            reported: row.reported,
            false_positives: row.false_positives,
            false_negatives: row.false_negatives,
            in_doubt: row.in_doubt,
            arm_ns: spread(row.arm),
            clean_round_ns: spread(row.clean),
            dirty_round_ns: spread(row.dirty),
            first_touch_ratio: spread(first_touch),
            write_ratio: spread(write),
            work_ratio: spread(work),
        }
    }
}

/// The document.
///
/// # Errors
/// None that our types allow.
pub(crate) fn json(comparison: &Comparison) -> serde_json::Result<String> {
    let strategies = words::strategies(comparison).into_iter();
    line(&ComparisonJson {
        r#type: "comparison",
        tracker: crate::VERSION,
        kernel: &comparison.kernel,
        strategies: strategies
            .map(|(strategy, about)| StrategyJson { strategy, about })
            .collect(),
        workloads: comparison.workloads.iter().map(workload).collect(),
    })
}

fn workload(compared: &crate::compare::order::ComparedWorkload) -> WorkloadJson<'_> {
    let sizes = compared.sizes.iter().map(|size| {
        let numbers = SizeNumbers::of(compared.workload, size);
        let rows = size.rows.iter().zip(numbers.rows).map(|(row, numbers)| {
            let (not_measured, numbers) = match numbers {
                RowNumbers::Measured(numbers) => (None, Some(NumbersJson::from(&*numbers))),
                RowNumbers::NotMeasured(why) => (Some(why), None),
            };
            RowJson {
                strategy: row.strategy.as_str(),
                not_measured,
                numbers,
                runs: &row.runs,
            }
        });
        SizeJson {
            range_bytes: size.bytes,
            untracked_runs: &size.untracked,
            rows: rows.collect(),
        }
    });
    WorkloadJson {
        workload: compared.workload.name,
        what: compared.workload.what,
        point: compared.workload.point,
        memory: compared.workload.memory.words(),
        sizes: sizes.collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::compare::sample;

    #[test]
    fn every_row_has_numbers_or_a_reason() {
        let text = json(&sample::comparison()).unwrap();
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut rows = 0;
        for workload in read["workloads"].as_array().unwrap() {
            for size in workload["sizes"].as_array().unwrap() {
                for row in size["rows"].as_array().unwrap() {
                    rows += 1;
                    let reason = row["not_measured"].is_string();
                    assert_ne!(reason, row["false_positives"].is_u64(), "{row}");
                }
            }
        }
        assert!(rows > 100);
    }
}
