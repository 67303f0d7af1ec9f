//! What is reported as written without a change, what changes without a report, and how both are
//! explained: each scenario alone, and all of them at once in one process.
//!
//! Runs on the host and in guests. What the kernel cannot do is skipped, with the reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "explain_scenarios/came.rs"]
mod came;
#[path = "explain_scenarios/explained.rs"]
mod explained;
#[path = "explain_scenarios/reported.rs"]
mod reported;
#[path = "explain_scenarios/table.rs"]
mod table;
#[path = "explain_scenarios/target.rs"]
mod target;

use std::collections::BTreeSet;

use table::{KernelClass, TABLE};
use target::ScenarioSetup;
use testbed::script::{ANON, refused};

#[test]
fn every_scenario_has_a_row_and_every_row_a_scenario() {
    let rows = TABLE
        .iter()
        .map(|row| row.scenario.to_owned())
        .collect::<BTreeSet<_>>();
    assert_eq!(rows, target::names().into_iter().collect());
    assert_eq!(rows.len(), TABLE.len());
}

#[test]
fn each_alone_is_reported_as_the_table_says() {
    alone(reported::differences, KernelClass::here());
}

#[test]
fn all_at_once_are_reported_as_the_table_says() {
    mixed(reported::differences, KernelClass::here());
}

#[test]
fn each_alone_is_explained_as_the_table_says() {
    alone(explained::differences, KernelClass::here());
}

#[test]
fn all_at_once_are_explained_as_the_table_says() {
    mixed(explained::differences, KernelClass::here());
}

#[test]
fn each_alone_is_explained_where_none_is_clean() {
    alone(explained::differences, KernelClass::NoneIsClean);
}

#[test]
fn each_alone_is_explained_at_fault_time() {
    alone(explained::differences, KernelClass::FaultTime);
}

/// Runs scenarios; returns how many pages they were about, and what was wrong.
type FindDifferences = fn(&[&str], ScenarioSetup, KernelClass) -> (u64, Vec<String>);

fn alone(differences: FindDifferences, class: KernelClass) {
    let Some(seed) = begin(class) else { return };
    let how = ScenarioSetup {
        seed,
        pages: 64,
        threads: 1,
    };
    let names = target::names();
    let wrong: Vec<_> = names
        .iter()
        .flat_map(|name| differences(&[name], how, class).1)
        .collect();
    assert!(
        wrong.is_empty(),
        "EXPLAIN_SEED={seed}\n{}",
        wrong.join("\n")
    );
}

fn mixed(differences: FindDifferences, class: KernelClass) {
    let Some(seed) = begin(class) else { return };
    let how = ScenarioSetup {
        seed,
        pages: 3072,
        threads: 4,
    };
    let (pages, wrong) = differences(&[], how, class);
    assert!(
        wrong.is_empty(),
        "EXPLAIN_SEED={seed}\n{}",
        wrong.join("\n")
    );
    assert!(pages >= 100_000, "{pages} pages");
}

/// The seed; `None` if nothing can be tracked here.
fn begin(class: KernelClass) -> Option<u64> {
    if let Some(why) = refused(class.strategy(), ANON) {
        eprintln!("skipped: {why}");
        return None;
    }
    let given = std::env::var("EXPLAIN_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("EXPLAIN_SEED={seed}, class {class:?}");
    Some(seed)
}
