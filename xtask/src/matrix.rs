//! What the virtual machines run: one row per kernel and way of booting it.

use std::time::Duration;

/// A kernel and a way of booting it, in which all guest tests run that are not excused.
pub struct MatrixRow {
    /// Series of the kernel.
    pub kernel: &'static str,
    /// Its arguments beyond ours.
    pub append: &'static str,
    /// The tests that do not run here.
    pub excused: &'static [&'static [TestExcuse]],
}

/// A program of guest tests (`vm_exact`) or one test in it (`vm_exact::every_row_is_exact`) that
/// does not run in a row, and why.
type TestExcuse = (&'static str, &'static str);

const NOT_LOCKED: TestExcuse = ("vm_lockdown", "this kernel is not locked down");
const PROMETHEUS: TestExcuse = (
    "prometheus",
    "one kernel is enough for what Prometheus does",
);

const EXPLAIN: TestExcuse = (
    "explain",
    "one kernel with soft-dirty bits is enough; explain_scenarios has what differs",
);

/// The tests of the agent's life for which one kernel is enough. The others are about what the
/// kernel makes of programs, and when it lets them go.
const LIFE: &[TestExcuse] = &[
    (
        "vm_life::two_agents_at_once_both_count_exactly",
        "one kernel is enough for a second agent",
    ),
    (
        "vm_life::the_programs_speak_at_level_debug_only",
        "one kernel is enough for the log",
    ),
    (
        "vm_life::full_tables_are_told_and_lose_no_total",
        "one kernel is enough for full tables",
    ),
    (
        "vm_life::totals_stay_when_processes_go",
        "one kernel is enough for totals",
    ),
];

/// What does not run with `preempt=full`.
const PREEMPTIBLE: &[TestExcuse] = &[
    ("inject_targets", "it does not depend on preemption"),
    NOT_LOCKED,
    PROMETHEUS,
    EXPLAIN,
    ("vm_life", "it does not depend on preemption"),
    ("vm_privilege", "it does not depend on preemption"),
    ("track_programs", "it does not depend on preemption"),
    ("vm_snapshot", "it does not depend on preemption"),
    ("vm_oracle", "its tracer may miss calls there"),
    (
        "strategy_exact",
        "its definitions do not depend on preemption",
    ),
    ("track", "strategy_stress is about preemption"),
    (
        "explain_scenarios::each_alone_is_explained_as_the_table_says",
        ALL_AT_ONCE,
    ),
    (
        "explain_scenarios::each_alone_is_explained_where_none_is_clean",
        ALL_AT_ONCE,
    ),
];

const ALL_AT_ONCE: &str = "events get lost only when there are many, as in all_at_once";

const ONE_THREAD: &str = "one preemptible kernel is enough for what a single thread does";

/// What runs with `preempt=full` on 6.12 only.
const PREEMPTIBLE_TOO: &[TestExcuse] = &[
    (
        "explain_scenarios",
        "one preemptible kernel is enough for lost events",
    ),
    ("vm_exact::every_row_is_exact", ONE_THREAD),
    ("vm_exact::every_rung_is_exact", ONE_THREAD),
    ("inject", "one preemptible kernel is enough for races"),
    ("vm_events", "one preemptible kernel is enough for races"),
    (
        "strategy_stress",
        "one preemptible kernel is enough for races",
    ),
];

/// What does not run with `lockdown=confidentiality`.
const LOCKED: &[TestExcuse] = &[
    PROMETHEUS,
    EXPLAIN,
    ("explain_scenarios", "no event can be seen, as on the host"),
    ("inject", "it reads no kernel memory"),
    ("inject_targets", "it reads no kernel memory"),
    ("vm_events", "no hook can be attached"),
    ("vm_exact", "no hook can be attached"),
    ("vm_life", "no hook can be attached"),
    ("vm_oracle", "no hook can be attached"),
    ("vm_privilege", "no hook can be attached"),
    ("vm_snapshot", "no hook can be attached"),
    ("track_programs", "no strategy uses BPF"),
    ("strategy_exact", "no strategy uses BPF"),
    ("strategy_stress", "no strategy uses BPF"),
    ("track", "no strategy uses BPF"),
];

/// The matrix. `preempt=full` makes recursion misses possible that the default hides: while a BPF
/// program is preempted, its next entry on that CPU is a miss.
pub const ROWS: [MatrixRow; 7] = [
    MatrixRow {
        kernel: "6.1",
        append: "",
        excused: &[&[NOT_LOCKED, PROMETHEUS, EXPLAIN], LIFE],
    },
    MatrixRow {
        kernel: "6.12",
        append: "",
        excused: &[&[NOT_LOCKED]],
    },
    MatrixRow {
        kernel: "6.18",
        append: "",
        excused: &[&[NOT_LOCKED, PROMETHEUS, EXPLAIN], LIFE],
    },
    MatrixRow {
        kernel: "6.1",
        append: "preempt=full",
        excused: &[PREEMPTIBLE, PREEMPTIBLE_TOO],
    },
    MatrixRow {
        kernel: "6.12",
        append: "preempt=full",
        excused: &[PREEMPTIBLE],
    },
    MatrixRow {
        kernel: "6.18",
        append: "preempt=full",
        excused: &[PREEMPTIBLE, PREEMPTIBLE_TOO],
    },
    MatrixRow {
        kernel: "6.12",
        append: "lockdown=confidentiality",
        excused: &[LOCKED],
    },
];

/// The programs of others that a guest test runs.
pub fn programs(test: &str) -> &'static [&'static str] {
    match test {
        "prometheus" => &["prometheus", "promtool"],
        "inject" => &["python3"],
        "track_programs" => &[
            "redis-server",
            "redis-benchmark",
            "redis-cli",
            "python3",
            "qemu-system-x86_64",
        ],
        "vm_snapshot" => &["qemu-system-x86_64"],
        _ => &[],
    }
}

/// MiB of swap that a guest test needs, so that the pages it gives to reclaim leave memory.
pub fn swap(test: &str) -> u32 {
    match test {
        "explain_scenarios" => 256,
        _ => 0,
    }
}

/// The kernel's own tests that run under the agent: the series, and the programs. One of each is
/// enough here; `cargo xtask selftests` runs the others, which take longer, after a change of a
/// hook.
pub const SELFTESTS: (&str, &[&str]) = ("6.12", &["pagemap_ioctl"]);

/// How long one test program may take in a guest, with the boot.
pub const TIMEOUT: Duration = Duration::from_secs(900);

impl MatrixRow {
    /// Its name in tables.
    pub fn label(&self) -> String {
        format!("{} {}", self.kernel, self.append).trim().to_owned()
    }

    /// Why `name`, a program of guest tests or `PROGRAM::TEST`, does not run in this row.
    pub fn excuse(&self, name: &str) -> Option<&'static str> {
        let program = name.split_once("::").map_or(name, |(program, _)| program);
        self.excused
            .iter()
            .copied()
            .flatten()
            .find(|(excused, _)| *excused == name || *excused == program)
            .map(|(_, why)| *why)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn every_kernel_is_booted_both_ways() {
        for kernel in crate::setup::kernels::MATRIX {
            for append in ["", "preempt=full"] {
                assert!(
                    ROWS.iter()
                        .any(|row| row.kernel == kernel && row.append == append)
                );
            }
        }
    }

    #[test]
    fn every_excused_test_is_there_and_runs_somewhere() {
        let programs = crate::cargo::guest_test_names().unwrap();
        let excused = ROWS
            .iter()
            .flat_map(|row| row.excused.iter().copied().flatten());
        let excused = excused.map(|(name, _)| *name);
        for name in excused.chain(programs.iter().map(String::as_str)) {
            let (program, test) = name.split_once("::").unwrap_or((name, ""));
            assert!(programs.iter().any(|known| known == program), "{name}");
            let source =
                crate::paths::root().join(format!("{}/{program}.rs", crate::cargo::GUEST_TESTS));
            let source = std::fs::read_to_string(source).unwrap();
            assert!(
                test.is_empty() || source.contains(&format!("fn {test}()")),
                "{name}"
            );
            assert!(ROWS.iter().any(|row| row.excuse(name).is_none()), "{name}");
        }
    }

    #[test]
    fn the_kernels_own_tests_are_known() {
        let (kernel, programs) = SELFTESTS;
        assert!(ROWS.iter().any(|row| row.label() == kernel));
        for name in programs {
            let known = |program: &crate::selftests::KernelSelftest| program.name == *name;
            assert!(crate::selftests::PROGRAMS.iter().any(known), "{name}");
        }
    }

    #[test]
    fn an_excuse_is_for_one_program_or_one_test_only() {
        let row = MatrixRow {
            kernel: "6.1",
            append: "a=b",
            excused: &[&[("vm_slow", "why"), ("vm_mixed::slow", "why not")]],
        };
        assert_eq!(row.excuse("vm_slow"), Some("why"));
        assert_eq!(row.excuse("vm_slow::each"), Some("why"));
        assert_eq!(row.excuse("vm_slower"), None);
        assert_eq!(row.excuse("vm_mixed"), None);
        assert_eq!(row.excuse("vm_mixed::slow"), Some("why not"));
        assert_eq!(row.excuse("vm_mixed::slower"), None);
        assert_eq!(row.label(), "6.1 a=b");
    }
}
