//! The tables: what is exact, what was timed, and how cost grows with the range.

use pages::strategy::StrategyName;

use super::words::{NOTHING, bytes, median_time, more, more_bytes, ratio};
use crate::compare::numbers::{ComparedNumbers, RowNumbers, SizeNumbers, UntrackedNumbers};
use crate::compare::order::{ComparedSize, ComparedWorkload};
use crate::print::table::TableHead::{Left, Right};
use crate::print::table::TextTable;
use crate::print::words::number;

/// The name of the first row.
pub(in crate::compare) const UNTRACKED: &str = "(untracked)";

/// The tables of a workload, and why some strategies are not in them.
pub(super) struct WorkloadTables {
    pub tables: Vec<TextTable>,
    /// Strategies, and why they have no row.
    pub not_measured: Vec<(StrategyName, String)>,
    /// Why there is no row at all.
    pub nothing: Option<String>,
    /// Strategies that reported pages since events were lost, and how many.
    pub in_doubt: Vec<(StrategyName, u64)>,
}

impl WorkloadTables {
    /// Of all its runs.
    pub(super) fn of(compared: &ComparedWorkload) -> Self {
        let workload = compared.workload;
        if compared.sizes.len() > 1 {
            return growth(compared);
        }
        let mut tables = Self {
            tables: Vec::new(),
            not_measured: Vec::new(),
            nothing: None,
            in_doubt: Vec::new(),
        };
        for size in &compared.sizes {
            tables.add(size, &SizeNumbers::of(workload, size));
        }
        tables
    }

    fn add(&mut self, size: &ComparedSize, numbers: &SizeNumbers) {
        let Some(untracked) = &numbers.untracked else {
            let why = size.untracked.iter().find_map(|run| run.refusal());
            self.nothing = Some(why.unwrap_or("it was not run").to_owned());
            return;
        };
        let (mut exact, mut timed) = (exact_heads(), timed_heads());
        exact.row(exact_untracked(untracked));
        timed.row(timed_untracked(untracked));
        for (row, numbers) in size.rows.iter().zip(&numbers.rows) {
            match numbers {
                RowNumbers::Measured(numbers) => {
                    exact.row(exact_row(row.strategy, numbers));
                    timed.row(timed_row(row.strategy, numbers));
                    if numbers.in_doubt != 0 {
                        self.in_doubt.push((row.strategy, numbers.in_doubt));
                    }
                }
                RowNumbers::NotMeasured(why) => {
                    self.not_measured.push((row.strategy, why.clone()));
                }
            }
        }
        self.tables.extend([exact, timed]);
    }
}

fn exact_heads() -> TextTable {
    TextTable::new(&[
        Left("strategy"),
        Right("tables"),
        Right("by arming"),
        Right("memory"),
        Right("tracker"),
        Right("faults"),
        Right("pages"),
        Right("false pos."),
        Right("false neg."),
    ])
}

fn exact_untracked(numbers: &UntrackedNumbers) -> Vec<String> {
    vec![
        UNTRACKED.to_owned(),
        kib(numbers.tables),
        NOTHING.to_owned(),
        bytes(numbers.resident),
        NOTHING.to_owned(),
        number(numbers.faults),
        number(numbers.changed),
        NOTHING.to_owned(),
        NOTHING.to_owned(),
    ]
}

fn exact_row(strategy: StrategyName, numbers: &ComparedNumbers) -> Vec<String> {
    vec![
        strategy.to_string(),
        more_kib(numbers.tables),
        more_kib(signed(numbers.tables_armed)),
        more_bytes(numbers.resident),
        more_bytes(numbers.tracker),
        more(numbers.faults),
        number(numbers.reported),
        number(numbers.false_positives),
        number(numbers.false_negatives),
    ]
}

fn timed_heads() -> TextTable {
    TextTable::new(&[
        Left("strategy"),
        Right("arm"),
        Right("first touch"),
        Right("write"),
        Right("clean"),
        Right("dirty"),
        Right("all work"),
    ])
}

fn timed_untracked(numbers: &UntrackedNumbers) -> Vec<String> {
    let times = &numbers.times;
    vec![
        UNTRACKED.to_owned(),
        NOTHING.to_owned(),
        median_time(times.first_touch),
        median_time(times.write),
        NOTHING.to_owned(),
        NOTHING.to_owned(),
        median_time(times.work),
    ]
}

fn timed_row(strategy: StrategyName, numbers: &ComparedNumbers) -> Vec<String> {
    let times = &numbers.times;
    vec![
        strategy.to_string(),
        median_time(numbers.arm),
        ratio(times.first_touch),
        ratio(times.write),
        median_time(numbers.clean),
        median_time(numbers.dirty),
        ratio(times.work),
    ]
}

/// How the time to arm and the page tables that it takes grow with the range: a column for each
/// size.
fn growth(compared: &ComparedWorkload) -> WorkloadTables {
    let numbers: Vec<_> = compared
        .sizes
        .iter()
        .map(|size| SizeNumbers::of(compared.workload, size))
        .collect();
    let mut shown = WorkloadTables {
        tables: Vec::new(),
        not_measured: Vec::new(),
        nothing: None,
        in_doubt: Vec::new(),
    };
    for (what, cell) in GROWING {
        let sizes: Vec<_> = compared
            .sizes
            .iter()
            .map(|size| bytes(size.bytes))
            .collect();
        let heads = sizes.iter().map(|size| Right(size));
        let heads: Vec<_> = std::iter::once(Left(what)).chain(heads).collect();
        shown.tables.push(TextTable::new(&heads));
        for (index, row) in compared
            .sizes
            .iter()
            .take(1)
            .flat_map(|size| size.rows.iter().enumerate())
        {
            let rows = numbers.iter().map(|size| size.rows.get(index));
            let cells: Vec<_> = rows
                .map(|row| match row {
                    Some(RowNumbers::Measured(row)) => cell(row),
                    _ => NOTHING.to_owned(),
                })
                .collect();
            let some = cells.iter().any(|cell| cell != NOTHING);
            if let Some(table) = shown.tables.last_mut().filter(|_| some) {
                table.row(std::iter::once(row.strategy.to_string()).chain(cells));
            }
        }
    }
    for (index, row) in compared
        .sizes
        .iter()
        .take(1)
        .flat_map(|size| size.rows.iter().enumerate())
    {
        let why = numbers.iter().find_map(|size| match size.rows.get(index) {
            Some(RowNumbers::NotMeasured(why)) => Some(why.clone()),
            _ => None,
        });
        shown
            .not_measured
            .extend(why.map(|why| (row.strategy, why)));
    }
    shown
}

/// How a number that grows is shown.
type GrowthCell = fn(&ComparedNumbers) -> String;

/// What grows with the range, and how a cell shows it.
const GROWING: [(&str, GrowthCell); 2] = [
    ("time to arm", |row| median_time(row.arm)),
    ("tables by arming", |row| more_kib(signed(row.tables_armed))),
];

/// Page tables in KiB: a table has 4 of them, and each counts.
fn kib(bytes: u64) -> String {
    format!("{} KiB", number(bytes / 1024))
}

fn more_kib(bytes: i64) -> String {
    format!("{} KiB", more(bytes / 1024))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
