//! What the virtual machines run: one line per kernel and way of booting it.

use std::time::Duration;

/// One way to boot, in which all of `tracker/tests/vm_*.rs` run.
pub struct Row {
    /// The kernel's series.
    pub kernel: &'static str,
    /// Further kernel arguments.
    pub append: &'static str,
    /// Guest tests that do not run here: a name (`vm_exact`), and why.
    pub excused: &'static [(&'static str, &'static str)],
}

/// The matrix. `preempt=full` makes recursion misses possible that the default hides: a program
/// preempted on a CPU makes its next entry there a miss.
pub const ROWS: [Row; 6] = [
    Row {
        kernel: "6.1",
        append: "",
        excused: &[],
    },
    Row {
        kernel: "6.12",
        append: "",
        excused: &[],
    },
    Row {
        kernel: "6.18",
        append: "",
        excused: &[],
    },
    Row {
        kernel: "6.1",
        append: "preempt=full",
        excused: &[],
    },
    Row {
        kernel: "6.12",
        append: "preempt=full",
        excused: &[],
    },
    Row {
        kernel: "6.18",
        append: "preempt=full",
        excused: &[],
    },
];

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
            .find(|(test, _)| *test == name)
            .map(|(_, why)| *why)
    }
}

#[cfg(test)]
mod tests {
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
    fn an_excuse_is_for_one_test_only() {
        let row = Row {
            kernel: "6.1",
            append: "a=b",
            excused: &[("vm_slow", "why")],
        };
        assert_eq!(row.excuse("vm_slow"), Some("why"));
        assert_eq!(row.excuse("vm_slower"), None);
        assert_eq!(row.label(), "6.1 a=b");
    }
}
