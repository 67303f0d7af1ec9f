//! `tracker compare`: the relations between its numbers that must hold on every kernel. What the
//! kernel cannot do is skipped, with the reason.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::{Command, Stdio};

use pages::strategy::StrategyName;
use serde_json::Value;
use testbed::program;
use testbed::script::{ANON, FACTS, ScriptProcess};
use uffd::WrittenMeaning;

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// One run of each kind.
struct ComparedOnce(Value);

impl ComparedOnce {
    fn new(workload: &str, range: u64, strategies: &[StrategyName]) -> Self {
        let range = format!("{}MiB", range / MIB);
        let names: Vec<_> = strategies.iter().map(|name| name.as_str()).collect();
        // In an emulated guest everything takes long, and nothing may be left out.
        let arguments = [
            "--json", "--repeat", "1", "--limit", "10m", "--range", &range,
        ];
        let mut command = Command::new(program("tracker"));
        command
            .args([
                "compare",
                "--workload",
                workload,
                "--strategy",
                &names.join(","),
            ])
            .args(arguments);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }

    fn size(&self) -> &Value {
        &self.0["workloads"][0]["sizes"][0]
    }

    /// The row of a strategy; `None`: it cannot do it here, and says why.
    fn row(&self, name: StrategyName) -> Option<&Value> {
        let rows = self.size()["rows"].as_array().unwrap();
        let row = rows
            .iter()
            .find(|row| row["strategy"] == name.as_str())
            .unwrap();
        match row["not_measured"].as_str() {
            Some(why) => {
                eprintln!("skipped: {name}: {why}");
                assert!(
                    !why.is_empty() && !why.contains("no answer"),
                    "{name}: {why}"
                );
                None
            }
            None => Some(row),
        }
    }

    /// Pages that a strategy reports and should not, and those that it does not and should. What is
    /// reported since events were lost is no mistake; `strategy_exact` asks that it is rare.
    fn wrong(&self, name: StrategyName) -> Option<(u64, u64)> {
        let row = self.row(name)?;
        let count = |key: &str| row[key].as_u64().unwrap();
        let in_doubt = count("in_doubt");
        if in_doubt != 0 {
            eprintln!("{name}: {in_doubt} pages in doubt");
            return Some((0, count("false_negatives")));
        }
        Some((count("false_positives"), count("false_negatives")))
    }

    /// Every strategy of a list either cannot do it or makes no mistake.
    fn assert_exact(&self, names: &[StrategyName]) {
        for name in names {
            assert_eq!(
                self.wrong(*name).unwrap_or((0, 0)),
                (0, 0),
                "{name}: {}",
                self.0
            );
        }
    }
}

/// Whatever is done to memory of these kinds, they report what changed and nothing else.
const EXACT: &[StrategyName] = &[StrategyName::Markers, StrategyName::Hash];
/// ... and `none-is-clean`, and `fault-time`, which costs as little and is to be as exact.
const WITH_FAULT_TIME: &[StrategyName] = &[
    StrategyName::Markers,
    StrategyName::Hash,
    StrategyName::NoneIsClean,
    StrategyName::FaultTime,
];

#[test]
fn markers_take_a_table_for_each_2_mib_and_none_is_clean_none() {
    let range = 128 * MIB;
    let compared = ComparedOnce::new("sparse", range, WITH_FAULT_TIME);
    let tables =
        |name| Some(compared.row(name)?["tables_armed_bytes"].as_u64().unwrap() / (4 * KIB));
    if let Some(tables) = tables(StrategyName::Markers) {
        // The upper levels: one table for each GiB that the range touches, and one for these.
        let lowest = range / (2 * MIB);
        assert!((lowest..=lowest + 3).contains(&tables), "{tables}");
    }
    for name in [StrategyName::NoneIsClean, StrategyName::FaultTime] {
        assert_eq!(tables(name).unwrap_or(0), 0, "{name}");
    }
    compared.assert_exact(WITH_FAULT_TIME);
}

#[test]
fn untouched_shmem_that_is_read_is_all_false_positives_where_none_is_clean() {
    let range = 8 * MIB;
    let compared = ComparedOnce::new("shmem-read", range, WITH_FAULT_TIME);
    if let Some(wrong) = compared.wrong(StrategyName::NoneIsClean) {
        assert_eq!(wrong, (range / (4 * KIB), 0));
    }
    compared.assert_exact(EXACT);
    compared.assert_exact(&[StrategyName::FaultTime]);
}

/// Of 4 tables the lower two are emptied, and in the first of them pages are read before the round.
#[test]
fn zaps_of_anonymous_memory_are_missed_where_none_is_clean() {
    let range = 8 * MIB;
    let compared = ComparedOnce::new("free-list", range, WITH_FAULT_TIME);
    if let Some(wrong) = compared.wrong(StrategyName::NoneIsClean) {
        assert_eq!(wrong, (0, range / 2 / (4 * KIB)), "the lower half, once");
    }
    // A table that is freed takes its markers along, and a scan that does not take what is not
    // there for written misses all of its pages.
    let kernel = FACTS.behaviour;
    let forgets = kernel.dontneed_frees_tables && kernel.written != Some(WrittenMeaning::Fixed);
    let missed = if forgets { 2 * MIB / (4 * KIB) } else { 0 };
    if let Some(wrong) = compared.wrong(StrategyName::Markers) {
        assert_eq!(wrong, (0, missed), "{kernel:?}");
    }
    compared.assert_exact(&[StrategyName::Hash, StrategyName::FaultTime]);
}

/// What was written since the last round and then unmapped leaves no trace in the page table.
#[test]
fn written_shmem_that_is_unmapped_is_reported_when_it_is_read_again() {
    let compared = ComparedOnce::new("shmem-zap", 4 * MIB, WITH_FAULT_TIME);
    compared.assert_exact(&[StrategyName::FaultTime]);
    if let Some((positives, negatives)) = compared.wrong(StrategyName::NoneIsClean) {
        let written = 4 * MIB / (4 * KIB) / 100 + 1;
        assert_eq!((positives, negatives), (written, written), "one round late");
    }
}

#[test]
fn an_exact_strategy_is_exact_whatever_is_done() {
    for (workload, mib) in [
        ("dense", 4),
        ("read-mostly", 4),
        ("shmem-zap", 4),
        ("fork", 4),
        ("growing-heap", 64),
        ("thp", 16),
        ("hugetlb", 8),
    ] {
        ComparedOnce::new(workload, mib * MIB, EXACT).assert_exact(EXACT);
    }
}

#[test]
fn a_write_between_table_and_bit_is_not_lost() {
    let all = StrategyName::outside().filter(|name| *name != StrategyName::SoftDirty);
    let all: Vec<_> = all.collect();
    let compared = ComparedOnce::new("lost-write", 4 * MIB, &all);
    for name in all {
        let missed = compared.wrong(name).map_or(0, |wrong| wrong.1);
        assert_eq!(missed, 0, "{name}: {}", compared.0);
    }
}

#[test]
fn a_workload_that_is_not_there_is_told_with_those_that_are() {
    let mut command = Command::new(program("tracker"));
    let output = command
        .args(["compare", "--workload", "spares"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("there are sparse, dense"), "{said}");
}

/// What `tracker compare` finds out about a program or a process of the user's.
fn compared_own(arguments: &[&str]) -> Value {
    let (compared, said) = told_of_own(arguments);
    assert_eq!(said, None, "{compared}");
    compared
}

/// The same, with what is said on stderr if it fails.
fn told_of_own(arguments: &[&str]) -> (Value, Option<String>) {
    let mut command = Command::new(program("tracker"));
    let strategies = "markers,none-is-clean,hash,mprotect";
    let own = [
        "compare",
        "--json",
        "--repeat",
        "1",
        "--strategy",
        strategies,
    ];
    command
        .args(own)
        .args(["--interval", "50ms", "--window", "200ms"]);
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let compared = serde_json::from_slice(&output.stdout);
    let failed = (!output.status.success()).then(|| said.clone());
    (compared.unwrap_or_else(|_| panic!("{said}")), failed)
}

#[test]
fn a_program_of_the_users_is_started_for_each_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("runs");
    let script = format!("echo run >> {}; sleep 0.3; exit 3", file.display());
    let compared = compared_own(&["--", "sh", "-c", &script]);
    let untracked = &compared["untracked"]["runs"][0];
    assert_eq!(
        (&untracked["status"], &untracked["rounds"]),
        (&3.into(), &Value::Array(Vec::new()))
    );
    let mut runs = 1;
    for row in compared["strategies"].as_array().unwrap() {
        let name = row["strategy"].as_str().unwrap();
        if let Some(why) = row["not_measured"].as_str() {
            eprintln!("skipped: {name}: {why}");
            continue;
        }
        assert_ne!(name, "mprotect", "only in the process itself");
        assert_eq!(row["runs"][0]["status"], 3, "{compared}");
        assert_ne!(
            row["runs"][0]["rounds"].as_array().unwrap().len(),
            0,
            "{compared}"
        );
        runs += 1;
    }
    let made = std::fs::read_to_string(file).unwrap();
    assert_eq!(made.lines().count(), runs, "{compared}");
}

#[test]
fn a_process_has_each_strategy_for_a_while() {
    let mut script = ScriptProcess::start();
    let (number, _) = script.map(ANON, 64);
    script.say(&format!("store {number} 1 1 0-63"));
    let compared = compared_own(&["--pid", &script.pid().to_string()]);
    assert_eq!(compared["pid"], script.pid());
    for row in compared["strategies"].as_array().unwrap() {
        match row["not_measured"].as_str() {
            Some(why) => eprintln!("skipped: {}: {why}", row["strategy"]),
            None => assert!(
                row["runs"][0]["tracked"].as_u64().unwrap() >= 64,
                "{compared}"
            ),
        }
    }
    assert_eq!(
        script.say(&format!("store {number} 2 1 0-63")),
        "ok",
        "nobody holds it"
    );
}

#[test]
fn a_program_that_is_not_there_is_told_and_a_picture_of_one_refused() {
    // Pids are at most 2^22.
    let missing = [
        (&["--", "/no/such/program"][..], "cannot start it"),
        (&["--pid", "4194305"], "process 4194305 does not exist"),
    ];
    for (arguments, why) in missing {
        let (compared, said) = told_of_own(arguments);
        let told = compared["untracked"]["not_measured"].as_str().unwrap();
        assert!(told.contains(why), "{told}");
        assert!(said.unwrap().contains(why), "{why}");
    }
    let mut command = Command::new(program("tracker"));
    let output = command.args(["compare", "--plot", "x.png", "--", "true"]);
    let output = output.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("nobody knows"),
        "{said}"
    );
}
