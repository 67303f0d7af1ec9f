//! What the virtual machines run: one line per kernel and way of booting it.

use std::time::Duration;

/// One way to boot, in which all guest tests run that are not excused.
pub struct Row {
    /// The kernel's series.
    pub kernel: &'static str,
    /// Further kernel arguments.
    pub append: &'static str,
    /// Guest tests that do not run here: a name (`vm_exact`), and why.
    pub excused: &'static [&'static [Excuse]],
}

/// A guest test that does not run in a row, and why.
type Excuse = (&'static str, &'static str);

const NOT_LOCKED: Excuse = ("vm_lockdown", "this kernel is not locked down");
const PROMETHEUS: Excuse = (
    "prometheus",
    "one kernel is enough for what Prometheus does",
);

const EXPLAIN: Excuse = (
    "explain",
    "one kernel with soft-dirty bits is enough; explain_scenarios has what differs",
);

/// What does not run with `preempt=full`.
const PREEMPTIBLE: &[Excuse] = &[
    ("inject_targets", "it does not depend on preemption"),
    NOT_LOCKED,
    PROMETHEUS,
    EXPLAIN,
    ("vm_life", "it does not depend on preemption"),
    ("vm_privilege", "it does not depend on preemption"),
    ("track_programs", "it does not depend on preemption"),
    ("vm_snapshot", "it does not depend on preemption"),
    ("vm_oracle", "the tracer itself may miss calls there"),
    (
        "strategy_exact",
        "its definitions do not depend on preemption",
    ),
    ("track", "strategy_stress is about preemption"),
];

/// What runs with `preempt=full` on one kernel only.
const PREEMPTIBLE_TOO: &[Excuse] = &[
    (
        "explain_scenarios",
        "one preemptible kernel is enough for events that get lost",
    ),
    ("inject", "one preemptible kernel is enough for races"),
    ("vm_events", "one preemptible kernel is enough for races"),
    (
        "strategy_stress",
        "one preemptible kernel is enough for races",
    ),
];

/// What does not run with `lockdown=confidentiality`.
const LOCKED: &[Excuse] = &[
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

/// The matrix. `preempt=full` makes recursion misses possible that the default hides: a program
/// preempted on a CPU makes its next entry there a miss.
pub const ROWS: [Row; 7] = [
    Row {
        kernel: "6.1",
        append: "",
        excused: &[&[NOT_LOCKED, PROMETHEUS, EXPLAIN]],
    },
    Row {
        kernel: "6.12",
        append: "",
        excused: &[&[NOT_LOCKED]],
    },
    Row {
        kernel: "6.18",
        append: "",
        excused: &[&[NOT_LOCKED, PROMETHEUS, EXPLAIN]],
    },
    Row {
        kernel: "6.1",
        append: "preempt=full",
        excused: &[PREEMPTIBLE, PREEMPTIBLE_TOO],
    },
    Row {
        kernel: "6.12",
        append: "preempt=full",
        excused: &[PREEMPTIBLE],
    },
    Row {
        kernel: "6.18",
        append: "preempt=full",
        excused: &[PREEMPTIBLE, PREEMPTIBLE_TOO],
    },
    Row {
        kernel: "6.12",
        append: "lockdown=confidentiality",
        excused: &[LOCKED],
    },
];

/// Programs that a guest test runs besides tracker's own.
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

/// MiB of swap that a guest test has: pages that a test gives to reclaim stay in others.
pub fn swap(test: &str) -> u32 {
    match test {
        "explain_scenarios" => 256,
        _ => 0,
    }
}

/// The kernel's own tests that run under the agent: on which series, and which programs. One of each:
/// `cargo xtask selftests` runs the others, which take longer and are for a change of a hook.
pub const SELFTESTS: (&str, &[&str]) = ("6.12", &["pagemap_ioctl"]);

/// How long one test program may take in a guest, the boot included.
pub const TIMEOUT: Duration = Duration::from_secs(900);

impl Row {
    /// How tables call it.
    pub fn label(&self) -> String {
        format!("{} {}", self.kernel, self.append).trim().to_owned()
    }

    /// Why the test program `name` does not run in this row, if so.
    pub fn excuse(&self, name: &str) -> Option<&'static str> {
        self.excused
            .iter()
            .copied()
            .flatten()
            .find(|(test, _)| *test == name)
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
        let tests = crate::cargo::guest_test_names().unwrap();
        for (name, _) in ROWS
            .iter()
            .flat_map(|row| row.excused.iter().copied().flatten())
        {
            assert!(tests.iter().any(|test| test == name), "{name}");
        }
        for test in &tests {
            assert!(ROWS.iter().any(|row| row.excuse(test).is_none()), "{test}");
        }
    }

    #[test]
    fn the_kernels_own_tests_are_known() {
        let (kernel, programs) = SELFTESTS;
        assert!(ROWS.iter().any(|row| row.label() == kernel));
        for name in programs {
            let known = |program: &crate::selftests::Program| program.name == *name;
            assert!(crate::selftests::PROGRAMS.iter().any(known), "{name}");
        }
    }

    #[test]
    fn an_excuse_is_for_one_test_only() {
        let row = Row {
            kernel: "6.1",
            append: "a=b",
            excused: &[&[("vm_slow", "why")]],
        };
        assert_eq!(row.excuse("vm_slow"), Some("why"));
        assert_eq!(row.excuse("vm_slower"), None);
        assert_eq!(row.label(), "6.1 a=b");
    }
}
