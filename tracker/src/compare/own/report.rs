//! What came of it: pure.

use pages::strategy::StrategyName;
use serde::Serialize;

use super::order::{OwnComparison, OwnRow, OwnTarget};
use super::run::OwnRun;
use crate::compare::numbers::MeasuredSpread;
use crate::compare::report::tables::UNTRACKED;
use crate::compare::report::words::{NOTHING, in_doubt, median_time, more, ratio, time};
use crate::print::json::line;
use crate::print::table::TableHead::{Left, Right};
use crate::print::table::TextTable;
use crate::print::words::{count, number};
use crate::print::wrap::wrapped;

/// What the columns mean.
const LEGEND: &str = "Page tables (VmPTE): the most that was seen untracked, and below it how much \
                      more; of a process, what arming took. Faults: minor ones. Times: untracked, \
                      and below it the ratio to the untracked run of the same turn, as median \
                      (least-most). Pages: of 4 KiB, reported in all rounds together. What the \
                      program really changed nobody knows: there are no false positives and \
                      negatives here.";

/// What is different with a process that cannot be repeated.
const ALTERNATING: &str = "All runs are of one process, one after the other: it does other work in \
                           each, finds what the strategies before have left (page tables stay, huge \
                           pages stay split), and differences are only as good as its work is even. \
                           Faults are for each second.";

/// For a terminal: 100 columns.
pub(crate) fn text(comparison: &OwnComparison) -> String {
    let mut text = wrapped("", 0, &headline(comparison));
    text += &format!("\n{}\n", table(comparison).text());
    for line in notes(comparison) {
        text += &wrapped("", 2, &line);
    }
    text
}

/// As Markdown.
pub(crate) fn markdown(comparison: &OwnComparison) -> String {
    let table = table(comparison).markdown();
    let mut text = format!("{}\n\n{table}\n", headline(comparison));
    for line in notes(comparison) {
        text += &format!("- {line}\n");
    }
    text
}

#[derive(Serialize)]
struct OwnJson<'a> {
    r#type: &'static str,
    tracker: &'static str,
    kernel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    interval_seconds: f64,
    untracked: &'a OwnRow,
    strategies: Vec<OwnRowJson<'a>>,
}

#[derive(Serialize)]
struct OwnRowJson<'a> {
    strategy: &'static str,
    #[serde(flatten)]
    row: &'a OwnRow,
}

/// Every number of every run.
///
/// # Errors
/// None that is known: all of it can be written as JSON.
pub(crate) fn json(comparison: &OwnComparison) -> serde_json::Result<String> {
    let (command, pid) = match &comparison.target {
        OwnTarget::Program(command) => (Some(command.as_slice()), None),
        OwnTarget::Process(pid) => (None, Some(*pid)),
    };
    let row = |(name, row): &'_ (StrategyName, OwnRow)| (name.as_str(), row.clone());
    let rows: Vec<_> = comparison.rows.iter().map(row).collect();
    line(&OwnJson {
        r#type: "compare-own",
        tracker: crate::VERSION,
        kernel: &comparison.kernel,
        command,
        pid,
        interval_seconds: comparison.interval.as_secs_f64(),
        untracked: &comparison.untracked,
        strategies: rows
            .iter()
            .map(|(strategy, row)| OwnRowJson { strategy, row })
            .collect(),
    })
}

fn headline(comparison: &OwnComparison) -> String {
    let of = match &comparison.target {
        OwnTarget::Program(command) => format!("`{}`, started for each run", command.join(" ")),
        OwnTarget::Process(pid) => format!("process {pid}, in turns"),
    };
    let runs = comparison.untracked.runs.len();
    format!(
        "Kernel {}; {of}; {} of each, in turns with untracked ones; a round each {}.",
        comparison.kernel,
        count(runs, "run"),
        time(comparison.interval.as_nanos() as f64),
    )
}

fn table(comparison: &OwnComparison) -> TextTable {
    let mut table = TextTable::new(&[
        Left("strategy"),
        Right("tables"),
        Right("faults"),
        Right("arm"),
        Right("round"),
        Right("rounds"),
        Right("pages"),
        Right("time"),
    ]);
    let is_repeated = matches!(comparison.target, OwnTarget::Program(_));
    let bare = &comparison.untracked.runs;
    if let Some(row) = untracked(bare, is_repeated) {
        table.row(row);
    }
    for (name, row) in &comparison.rows {
        if let Some(cells) = tracked(&row.runs, bare, is_repeated) {
            table.row(std::iter::once(name.to_string()).chain(cells));
        }
    }
    table
}

fn untracked(runs: &[OwnRun], is_repeated: bool) -> Option<Vec<String>> {
    let faults = median(runs, |run| faults(run, is_repeated))?;
    let tables = median(runs, |run| run.tables_most as f64)? / 1024.0;
    let lasted = MeasuredSpread::of(runs.iter().map(|run| run.lasted as f64));
    let nothing = || NOTHING.to_owned();
    Some(vec![
        UNTRACKED.to_owned(),
        format!("{} KiB", number(tables as u64)),
        number(faults as u64),
        nothing(),
        nothing(),
        nothing(),
        nothing(),
        median_time(lasted),
    ])
}

fn tracked(runs: &[OwnRun], bare: &[OwnRun], is_repeated: bool) -> Option<Vec<String>> {
    let of = |what: fn(&OwnRun) -> f64| median(runs, what);
    let tables = if is_repeated {
        of(|run| run.tables_most as f64)? - median(bare, |run| run.tables_most as f64)?
    } else {
        of(|run| run.tables_armed as f64)?
    };
    let faults = |runs| median(runs, |run| faults(run, is_repeated));
    let spread =
        |what: fn(&OwnRun) -> u64| MeasuredSpread::of(runs.iter().map(|run| what(run) as f64));
    let rounds = runs.iter().flat_map(|run| &run.rounds);
    let slower = runs.iter().zip(bare);
    let slower = slower.map(|(run, bare)| run.lasted as f64 / bare.lasted as f64);
    Some(vec![
        format!("{} KiB", more((tables / 1024.0) as i64)),
        more((faults(runs)? - faults(bare)?) as i64),
        median_time(spread(|run| run.arm)),
        median_time(MeasuredSpread::of(rounds.map(|round| *round as f64))),
        number(of(|run| run.rounds.len() as f64)? as u64),
        number(of(|run| run.reported as f64)? as u64),
        if is_repeated {
            ratio(MeasuredSpread::of(slower))
        } else {
            NOTHING.to_owned()
        },
    ])
}

/// Faults of a run; of a process that goes on, for each second.
fn faults(run: &OwnRun, is_repeated: bool) -> f64 {
    let seconds = run.lasted as f64 / 1e9;
    let per = if is_repeated { 1.0 } else { seconds.max(1e-9) };
    run.faults as f64 / per
}

fn median(runs: &[OwnRun], of: impl Fn(&OwnRun) -> f64) -> Option<f64> {
    MeasuredSpread::of(runs.iter().map(of)).map(|spread| spread.median)
}

fn notes(comparison: &OwnComparison) -> Vec<String> {
    let named = comparison.rows.iter();
    let named = named.map(|(name, row)| (name.to_string(), row));
    let all: Vec<_> = std::iter::once(("untracked".to_owned(), &comparison.untracked))
        .chain(named)
        .collect();
    let mut notes: Vec<String> = Vec::new();
    for (name, row) in &all {
        if let Some(why) = &row.not_measured {
            let after = match row.runs.len() {
                0 => String::new(),
                runs => format!(" after {}", count(runs, "run")),
            };
            notes.push(format!("{name} not measured{after}: {why}"));
        }
        let failed: Vec<i32> = row.runs.iter().filter_map(|run| run.status).collect();
        if let Some(status) = failed.iter().find(|status| **status != 0) {
            notes.push(format!("{name}: the program ended with status {status}"));
        }
        if let Some(pages @ 1..) = row.runs.iter().map(|run| run.in_doubt).max() {
            notes.push(in_doubt(name, pages));
        }
        let unseen = row.runs.iter().map(|run| run.not_looked_at).max();
        if let Some(pages @ 1..) = unseen {
            let pages = number(pages);
            notes.push(format!("{name}: {pages} mapped pages were not looked at"));
        }
    }
    notes.push(LEGEND.to_owned());
    if matches!(comparison.target, OwnTarget::Process(_)) {
        notes.push(ALTERNATING.to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use super::*;
    use crate::print::wrap::WIDTH;

    fn comparison(target: OwnTarget) -> OwnComparison {
        let run = |lasted, faults| OwnRun {
            lasted,
            faults,
            tables_most: 80 << 10,
            status: Some(0),
            ..OwnRun::default()
        };
        let tracked = OwnRun {
            arm: 2_000_000,
            tables_armed: 40 << 10,
            rounds: vec![1_000_000; 3],
            reported: 12,
            in_doubt: 5,
            tracked: 5000,
            not_looked_at: 7,
            status: Some(3),
            ..run(3_000_000_000, 1500)
        };
        let row = |runs| OwnRow {
            runs,
            not_measured: None,
        };
        let refused = OwnRow {
            runs: Vec::new(),
            not_measured: Some("it waits".to_owned()),
        };
        OwnComparison {
            kernel: "6.12".to_owned(),
            target,
            interval: Duration::from_millis(100),
            untracked: row(vec![run(2_000_000_000, 1000)]),
            rows: vec![
                (StrategyName::Markers, row(vec![tracked])),
                (StrategyName::Sync, refused),
            ],
        }
    }

    #[test]
    fn a_program_is_compared_by_the_time_it_takes() {
        let comparison = comparison(OwnTarget::Program(vec!["make".into(), "-j2".into()]));
        let shown = text(&comparison);
        for part in [
            "`make -j2`, started for each run",
            "80 KiB",
            "+500",
            "1.50 (1.50-1.50)",
            "markers: the program ended with status 3",
            "markers: events were lost in a run, so 5 pages were reported without knowing",
            "markers: 7 mapped pages were not looked at",
            "sync not measured: it waits",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(
            shown.lines().all(|line| line.chars().count() <= WIDTH),
            "{shown}"
        );
        let json: serde_json::Value = serde_json::from_str(&json(&comparison).unwrap()).unwrap();
        assert_eq!(json["strategies"][0]["runs"][0]["reported"], 12);
        assert_eq!(json["strategies"][1]["not_measured"], "it waits");
        assert!(markdown(&comparison).contains("| markers |"));
    }

    #[test]
    fn a_process_has_no_time_and_its_faults_are_a_rate() {
        let shown = text(&comparison(OwnTarget::Process(7)));
        assert!(shown.contains("process 7, in turns"), "{shown}");
        assert!(shown.contains("All runs are of one process"), "{shown}");
        assert!(!shown.contains("1.50 (1.50-1.50)"), "{shown}");
    }
}
