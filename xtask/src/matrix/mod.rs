//! What the virtual machines run: kernels, ways of booting them, and tests.

mod guest_tests;

use std::time::Duration;

pub use self::guest_tests::{GUEST_TESTS, GuestTest};
use crate::selftests::{self, KernelSelftest};

/// A way of booting a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootMode {
    /// As Debian boots it.
    Plain,
    /// With recursion misses that the default hides: while a BPF program is preempted, its next
    /// entry on that CPU is a miss.
    Preemptible,
    /// Nobody may read the kernel's memory, not even root.
    Locked,
}

impl BootMode {
    /// The kernel argument for it.
    pub fn argument(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Preemptible => Some("preempt=full"),
            Self::Locked => Some("lockdown=confidentiality"),
        }
    }
}

/// A kernel and a way of booting it, in which all guest tests run that are not excused.
#[derive(Debug)]
pub struct MatrixRow {
    /// Series of the kernel.
    pub kernel: &'static str,
    /// How it is booted.
    pub mode: BootMode,
}

impl MatrixRow {
    /// Its name in tables.
    pub fn label(&self) -> String {
        match self.mode.argument() {
            Some(argument) => format!("{} {argument}", self.kernel),
            None => self.kernel.to_owned(),
        }
    }
}

/// How much of the matrix is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixExtent {
    /// What must pass before a change lands.
    Landing,
    /// All that can run.
    Whole,
}

/// The series that the matrix boots.
pub const KERNELS: [&str; 5] = ["6.1", "6.12", "6.18", REALTIME, NEWEST];

/// The matrix.
pub const ROWS: [MatrixRow; 9] = [
    row("6.1", BootMode::Plain),
    row("6.12", BootMode::Plain),
    row("6.18", BootMode::Plain),
    row("6.1", BootMode::Preemptible),
    row("6.12", BootMode::Preemptible),
    row("6.18", BootMode::Preemptible),
    row("6.12", BootMode::Locked),
    row(REALTIME, BootMode::Plain),
    row(NEWEST, BootMode::Plain),
];

const fn row(kernel: &'static str, mode: BootMode) -> MatrixRow {
    MatrixRow { kernel, mode }
}

/// The kernel that runs what one kernel is enough for.
const MAIN_KERNEL: &str = "6.12";

/// The row of an image that is given by path: it runs what the main kernel runs as Debian boots it.
pub static IMAGE_ROW: MatrixRow = row(MAIN_KERNEL, BootMode::Plain);

/// The kernel with PREEMPT_RT.
const REALTIME: &str = "6.12-rt";

/// The newest kernel that Debian has.
const NEWEST: &str = "7.3";

/// Kernels that run only the tests which say so: what differs there is what is counted.
const NARROW: [&str; 2] = [REALTIME, NEWEST];

/// Rows in which a test does not run.
#[derive(Clone, Copy)]
enum RowSet {
    /// All but that of [`MAIN_KERNEL`] as Debian boots it.
    AllButMain,
    /// All but those of [`MAIN_KERNEL`] and [`NEWEST`] as Debian boots them.
    AllButMainAndNewest,
    /// All of other kernels than [`MAIN_KERNEL`].
    OtherKernels,
    /// As Debian boots them.
    Plain,
    Preemptible,
    /// The preemptible ones of other kernels than [`MAIN_KERNEL`].
    PreemptibleButMain,
    Locked,
    NotLocked,
    /// That with PREEMPT_RT.
    Realtime,
    /// That of [`NEWEST`].
    Newest,
    /// Those of [`NARROW`].
    Narrow,
}

impl RowSet {
    fn contains(self, row: &MatrixRow) -> bool {
        let main = row.kernel == MAIN_KERNEL;
        match self {
            Self::AllButMain => !(main && row.mode == BootMode::Plain),
            Self::AllButMainAndNewest => {
                Self::AllButMain.contains(row) && !Self::Newest.contains(row)
            }
            Self::OtherKernels => !main,
            Self::Plain => row.mode == BootMode::Plain,
            Self::Preemptible => row.mode == BootMode::Preemptible,
            Self::PreemptibleButMain => row.mode == BootMode::Preemptible && !main,
            Self::Locked => row.mode == BootMode::Locked,
            Self::NotLocked => row.mode != BootMode::Locked,
            Self::Realtime => row.kernel == REALTIME,
            Self::Newest => row.kernel == NEWEST,
            Self::Narrow => NARROW.contains(&row.kernel),
        }
    }
}

/// The kernel's own tests that run under the agent, and the series on which they do. One of each is
/// enough here; `cargo xtask selftests` runs the others, which take longer, after a change of a
/// hook.
pub const SELFTESTS: (&str, &[&KernelSelftest]) = (MAIN_KERNEL, &[&selftests::PAGEMAP_IOCTL]);

/// How long one test program may take in a guest, with the boot.
pub const TIMEOUT: Duration = Duration::from_secs(900);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_booted_both_ways() {
        for kernel in KERNELS
            .into_iter()
            .filter(|kernel| !NARROW.contains(kernel))
        {
            for mode in [BootMode::Plain, BootMode::Preemptible] {
                assert!(
                    ROWS.iter()
                        .any(|row| row.kernel == kernel && row.mode == mode)
                );
            }
        }
    }

    #[test]
    fn the_kernels_own_tests_have_a_column() {
        let (kernel, _) = SELFTESTS;
        assert!(ROWS.iter().any(|row| row.label() == kernel));
    }
}
