//! The tests that run in guests, what they need, and why some do not run in every row of the
//! matrix.

use super::{MatrixExtent, MatrixRow, RowSet};
use crate::setup::programs::ForeignProgram::{
    self, LuaJit, Prometheus, Promtool, Python, Qemu, RedisBenchmark, RedisCli, RedisServer,
    UffdStress,
};

/// Why a test does not run in some rows.
struct TestExcuse {
    rows: RowSet,
    why: &'static str,
    /// Whether it runs there all the same when the whole matrix is asked for.
    whole_too: bool,
}

impl TestExcuse {
    /// Whether it holds in `row` when this much of the matrix is run.
    fn holds(&self, row: &MatrixRow, extent: MatrixExtent) -> bool {
        self.rows.contains(row) && !(self.whole_too && extent == MatrixExtent::Whole)
    }
}

const fn not_in(rows: RowSet, why: &'static str) -> TestExcuse {
    TestExcuse {
        rows,
        why,
        whole_too: false,
    }
}

/// Not run in `rows` before a change lands, but with `--whole`.
const fn left_to_whole(rows: RowSet) -> TestExcuse {
    TestExcuse {
        rows,
        why: "left to --whole; other rows are enough before a change lands",
        whole_too: true,
    }
}

/// A program of tests that run in guests: a file of `crates/testbed/tests`.
pub struct GuestTest {
    /// Name of the program.
    pub name: &'static str,
    /// The programs of others that it runs.
    pub programs: &'static [ForeignProgram],
    /// MiB of swap that it needs, so that pages it gives to reclaim leave memory.
    pub swap: u32,
    /// The narrow rows in which it runs, too.
    narrow: &'static [RowSet],
    /// Where none of its tests run.
    excuses: &'static [TestExcuse],
    /// Where one of its tests, or of its modules (`name::`), does not run.
    test_excuses: &'static [(&'static str, TestExcuse)],
}

impl GuestTest {
    const fn new(name: &'static str, excuses: &'static [TestExcuse]) -> Self {
        Self {
            name,
            programs: &[],
            swap: 0,
            narrow: &[],
            excuses,
            test_excuses: &[],
        }
    }

    const fn with_programs(self, programs: &'static [ForeignProgram]) -> Self {
        Self { programs, ..self }
    }

    const fn also_in(self, narrow: &'static [RowSet]) -> Self {
        Self { narrow, ..self }
    }

    const fn with_swap(self, swap: u32) -> Self {
        Self { swap, ..self }
    }

    const fn except(self, test_excuses: &'static [(&'static str, TestExcuse)]) -> Self {
        Self {
            test_excuses,
            ..self
        }
    }

    /// Why the program does not run in `row`.
    pub fn excuse(&self, row: &MatrixRow, extent: MatrixExtent) -> Option<&'static str> {
        let meant = self.narrow.iter().any(|rows| rows.contains(row));
        let narrow = (!meant).then_some(&NOT_NARROW);
        let mut excuses = self.excuses.iter().chain(narrow);
        let excuse = excuses.find(|excuse| excuse.holds(row, extent));
        excuse.map(|excuse| excuse.why)
    }

    /// Why its test called `test` does not run in `row`.
    pub fn test_excuse(
        &self,
        test: &str,
        row: &MatrixRow,
        extent: MatrixExtent,
    ) -> Option<&'static str> {
        let is_of = |name: &str| name == test || name.ends_with("::") && test.starts_with(name);
        let mut excuses = self.test_excuses.iter();
        let excuse = excuses.find(|(name, excuse)| is_of(name) && excuse.holds(row, extent));
        let whole = self.excuse(row, extent);
        whole.or(excuse.map(|(_, excuse)| excuse.why))
    }
}

static NOT_NARROW: TestExcuse = not_in(
    RowSet::Narrow,
    "what differs on this kernel is what is counted and told",
);
const NO_HOOK: TestExcuse = not_in(RowSet::Locked, "no hook can be attached");
const NO_BPF: TestExcuse = not_in(RowSet::Locked, "the strategies that work there use no BPF");
const NO_KERNEL_MEMORY: TestExcuse = not_in(RowSet::Locked, "it reads no kernel memory");
const NO_PREEMPTION: TestExcuse = not_in(RowSet::Preemptible, "it does not depend on preemption");
const ONE_FOR_RACES: TestExcuse = not_in(
    RowSet::PreemptibleButMain,
    "one preemptible kernel is enough for races",
);
const ONE_FOR_ONE_THREAD: TestExcuse = not_in(
    RowSet::PreemptibleButMain,
    "one preemptible kernel is enough for what a single thread does",
);
const ONE_FOR_TRACKER: TestExcuse = not_in(
    RowSet::AllButMain,
    "one kernel is enough for what tracker itself does",
);
const ONE_FOR_RUNGS: TestExcuse =
    not_in(RowSet::Narrow, "its mechanisms are those of 6.12 and 6.18");
const ONE_FOR_SWITCHES: TestExcuse = not_in(
    RowSet::Narrow,
    "ftrace and kprobes are switched off as on 6.12 and 6.18, or cannot be",
);
const ONE_FOR_REPORTS: TestExcuse = not_in(
    RowSet::AllButMain,
    "what is explained is reported by the same table; one kernel shows that without events",
);
const ALL_AT_ONCE: TestExcuse = not_in(
    RowSet::Preemptible,
    "events get lost only when there are many, as in all_at_once",
);

const BETWEEN_LOOKS: TestExcuse = not_in(
    RowSet::Preemptible,
    "events get lost only when there are many, as between two looks",
);

/// One kernel is enough before a change lands: what differs elsewhere is what the exact tests of
/// hooks and strategies look at.
const MAIN_LANDS: TestExcuse = left_to_whole(RowSet::AllButMain);
/// What differs on the newest kernel is looked at, too.
const MAIN_AND_NEWEST_LAND: TestExcuse = left_to_whole(RowSet::AllButMainAndNewest);

/// All programs of tests that run in guests.
pub const GUEST_TESTS: [GuestTest; 25] = [
    GuestTest::new(
        "compare",
        &[
            not_in(
                RowSet::Preemptible,
                "strategy_stress is about preemption, and has the lost write too",
            ),
            NO_BPF,
            MAIN_LANDS,
        ],
    ),
    GuestTest::new(
        "explain",
        &[not_in(
            RowSet::AllButMain,
            "one kernel with soft-dirty bits is enough; explain_scenarios has what differs",
        )],
    ),
    GuestTest::new(
        "explain_scenarios",
        &[
            not_in(RowSet::Locked, "no event can be seen, as on the host"),
            not_in(
                RowSet::PreemptibleButMain,
                "one preemptible kernel is enough for lost events",
            ),
        ],
    )
    .with_swap(256)
    .except(&[
        ("each_alone_is_explained_as_the_table_says", ALL_AT_ONCE),
        ("each_alone_is_explained_as_the_table_says", MAIN_LANDS),
        ("each_alone_is_reported_as_the_table_says", ONE_FOR_REPORTS),
        (
            "all_at_once_are_reported_as_the_table_says",
            ONE_FOR_REPORTS,
        ),
        (
            "each_alone_is_explained_at_fault_time",
            not_in(
                RowSet::AllButMain,
                "one kernel is enough for fault-time; strategy_exact tries it on the others",
            ),
        ),
        (
            "each_alone_is_explained_where_none_is_clean",
            not_in(
                RowSet::AllButMain,
                "one kernel is enough for none-is-clean, and 6.1 refuses it",
            ),
        ),
    ]),
    GuestTest::new(
        "explain_theirs",
        &[
            not_in(RowSet::Locked, "no event can be seen, as on the host"),
            not_in(
                RowSet::PreemptibleButMain,
                "one preemptible kernel is enough for lost events",
            ),
            left_to_whole(RowSet::OtherKernels),
        ],
    )
    .except(&[
        (
            "each_client_is_explained_as_the_table_says_and_is_told_the_same_as_alone",
            BETWEEN_LOOKS,
        ),
        (
            "each_report_of_theirs_has_the_verdict_and_cause_of_the_table",
            BETWEEN_LOOKS,
        ),
        (
            "what_is_not_armed_again_counts_with_its_content_at_the_end",
            BETWEEN_LOOKS,
        ),
        ("what_was_theirs_is_never_taken_over", BETWEEN_LOOKS),
        ("ways::", BETWEEN_LOOKS),
    ]),
    GuestTest::new("inject", &[NO_PREEMPTION, NO_KERNEL_MEMORY, MAIN_LANDS])
        .with_programs(&[Python]),
    GuestTest::new(
        "inject_harmless",
        &[NO_PREEMPTION, NO_KERNEL_MEMORY, MAIN_LANDS],
    ),
    GuestTest::new(
        "inject_targets",
        &[NO_PREEMPTION, NO_KERNEL_MEMORY, MAIN_LANDS],
    ),
    GuestTest::new("judge", &[NO_PREEMPTION, NO_BPF, MAIN_LANDS]).with_programs(&[
        RedisServer,
        RedisBenchmark,
        RedisCli,
        Python,
        LuaJit,
    ]),
    GuestTest::new(
        "prometheus",
        &[not_in(
            RowSet::AllButMain,
            "one kernel is enough for what Prometheus does",
        )],
    )
    .with_programs(&[Prometheus, Promtool]),
    GuestTest::new("sharing", &[NO_PREEMPTION, NO_BPF, MAIN_LANDS]),
    GuestTest::new(
        "strategy_exact",
        &[
            not_in(
                RowSet::Preemptible,
                "its definitions do not depend on preemption",
            ),
            NO_BPF,
        ],
    )
    .also_in(&[RowSet::Newest]),
    GuestTest::new(
        "strategy_stress",
        &[ONE_FOR_RACES, NO_BPF, left_to_whole(RowSet::Plain)],
    )
    .with_swap(256),
    GuestTest::new(
        "track",
        &[
            not_in(RowSet::Preemptible, "strategy_stress is about preemption"),
            NO_BPF,
            MAIN_LANDS,
        ],
    )
    .also_in(&[RowSet::Newest])
    .except(&[
        ("charged::", ONE_FOR_TRACKER),
        ("guard::", ONE_FOR_TRACKER),
        ("mapping_limit::", ONE_FOR_TRACKER),
        ("patience::", ONE_FOR_TRACKER),
        ("retries::", ONE_FOR_TRACKER),
        ("tree::", ONE_FOR_TRACKER),
    ]),
    GuestTest::new("track_programs", &[NO_PREEMPTION, NO_BPF, MAIN_LANDS]).with_programs(&[
        RedisServer,
        RedisBenchmark,
        RedisCli,
        Python,
        Qemu,
    ]),
    GuestTest::new("vm_audit", &[NO_PREEMPTION, NO_HOOK, MAIN_LANDS]),
    GuestTest::new("vm_events", &[ONE_FOR_RACES, NO_HOOK])
        .also_in(&[RowSet::Realtime, RowSet::Newest]),
    GuestTest::new("vm_exact", &[NO_HOOK])
        .also_in(&[RowSet::Realtime, RowSet::Newest])
        .except(&[
            (
                "every_row_is_exact",
                not_in(
                    RowSet::Preemptible,
                    "that with PREEMPT_RT is preemptible everywhere, and has every row",
                ),
            ),
            (
                "a_kernel_without_owners_of_address_spaces_is_exact",
                not_in(RowSet::AllButMain, "one kernel is enough to hide a member"),
            ),
            ("every_rung_is_exact", ONE_FOR_ONE_THREAD),
            ("every_rung_is_exact", ONE_FOR_RUNGS),
        ]),
    // The others are about what the kernel makes of programs, and when it lets them go.
    GuestTest::new("vm_life", &[NO_PREEMPTION, NO_HOOK, MAIN_LANDS]).except(&[
        (
            "two_agents_at_once_both_count_exactly",
            not_in(
                RowSet::AllButMain,
                "one kernel is enough for a second agent",
            ),
        ),
        (
            "the_programs_speak_at_level_debug_only",
            not_in(RowSet::AllButMain, "one kernel is enough for the log"),
        ),
        (
            "full_tables_are_told_and_lose_no_total",
            not_in(RowSet::AllButMain, "one kernel is enough for full tables"),
        ),
        (
            "totals_stay_when_processes_go",
            not_in(RowSet::AllButMain, "one kernel is enough for totals"),
        ),
    ]),
    GuestTest::new(
        "vm_lockdown",
        &[not_in(RowSet::NotLocked, "this kernel is not locked down")],
    ),
    GuestTest::new(
        "vm_oracle",
        &[
            not_in(RowSet::Preemptible, "its tracer may miss calls there"),
            NO_HOOK,
            MAIN_LANDS,
        ],
    ),
    GuestTest::new("vm_privilege", &[NO_PREEMPTION, NO_HOOK, MAIN_LANDS]),
    GuestTest::new("vm_proof", &[NO_PREEMPTION, NO_HOOK, MAIN_AND_NEWEST_LAND])
        .also_in(&[RowSet::Realtime, RowSet::Newest])
        .except(&[
            (
                "hooks_that_are_switched_off_are_told_until_they_are_back",
                ONE_FOR_SWITCHES,
            ),
            (
                "hooks_of_events_that_fall_silent_are_told_until_they_are_back",
                ONE_FOR_SWITCHES,
            ),
            (
                "what_fault_time_is_not_told_is_reported_as_written",
                ONE_FOR_SWITCHES,
            ),
            (
                "hooks_that_are_switched_off_at_the_start_are_attached_when_they_are_back",
                ONE_FOR_SWITCHES,
            ),
        ]),
    GuestTest::new("vm_snapshot", &[NO_PREEMPTION, NO_HOOK, MAIN_LANDS]).with_programs(&[Qemu]),
    GuestTest::new("vm_stress", &[NO_PREEMPTION, NO_HOOK, MAIN_AND_NEWEST_LAND])
        .with_programs(&[UffdStress])
        .also_in(&[RowSet::Newest]),
    GuestTest::new("vm_splits", &[NO_PREEMPTION, NO_HOOK]),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::fs;

    use super::*;
    use crate::{
        cargo,
        matrix::{
            BootMode,
            MatrixExtent::{Landing, Whole},
            ROWS, row,
        },
        paths,
    };

    #[test]
    fn every_test_is_there_and_runs_somewhere() {
        for (program, extent) in GUEST_TESTS
            .iter()
            .flat_map(|test| [(test, Landing), (test, Whole)])
        {
            let file = paths::root().join(format!("{}/{}.rs", cargo::TESTBED_TESTS, program.name));
            let source = fs::read_to_string(file).unwrap();
            let runs = |row: &&MatrixRow| program.excuse(row, extent).is_none();
            assert!(ROWS.iter().any(|row| runs(&row)), "{}", program.name);
            for (test, _) in program.test_excuses {
                let item = match test.strip_suffix("::") {
                    Some(module) => format!("mod {module};"),
                    None => format!("fn {test}()"),
                };
                assert!(source.contains(&item), "{test}");
                let mut rows = ROWS.iter().filter(runs);
                assert!(
                    rows.any(|row| program.test_excuse(test, row, extent).is_none()),
                    "{test}"
                );
            }
        }
    }

    #[test]
    fn every_test_of_guests_is_in_the_table() {
        for entry in fs::read_dir(paths::root().join(cargo::TESTBED_TESTS)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let Some(name) = file
                .strip_suffix(".rs")
                .filter(|name| name.starts_with("vm_"))
            else {
                continue;
            };
            assert!(GUEST_TESTS.iter().any(|test| test.name == name), "{name}");
        }
    }

    #[test]
    fn what_is_left_to_the_whole_matrix_runs_there() {
        let test = GuestTest::new("vm_one", &[MAIN_LANDS]);
        let (main, other) = (row("6.12", BootMode::Plain), row("6.18", BootMode::Plain));
        assert_eq!(test.excuse(&main, Landing), None);
        assert_eq!(test.excuse(&other, Landing), Some(MAIN_LANDS.why));
        assert_eq!(test.excuse(&other, Whole), None);
    }

    #[test]
    fn an_excuse_is_for_one_program_or_one_test_only() {
        let mixed = GuestTest::new("vm_mixed", &[NO_HOOK])
            .except(&[("slow", ALL_AT_ONCE), ("slow::", ALL_AT_ONCE)]);
        let preemptible = row("6.1", BootMode::Preemptible);
        assert_eq!(preemptible.label(), "6.1 preempt=full");
        assert_eq!(mixed.excuse(&preemptible, Whole), None);
        assert_eq!(
            mixed.test_excuse("slow", &preemptible, Whole),
            Some(ALL_AT_ONCE.why)
        );
        assert_eq!(
            mixed.test_excuse("slow::one", &preemptible, Whole),
            Some(ALL_AT_ONCE.why)
        );
        assert_eq!(mixed.test_excuse("slower", &preemptible, Whole), None);
        let locked = row("6.12", BootMode::Locked);
        assert_eq!(mixed.excuse(&locked, Whole), Some(NO_HOOK.why));
        assert_eq!(
            mixed.test_excuse("slower", &locked, Whole),
            Some(NO_HOOK.why)
        );
    }
}
