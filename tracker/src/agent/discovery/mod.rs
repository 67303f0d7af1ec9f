//! Finds every uffd-wp VMA of the machine.
//!
//! There are two routes: the BPF iterator `iter/task_vma` (`iter.rs`) walks VMAs in the kernel;
//! smaps (`smaps.rs`) needs no BPF, but walks page tables and so looks only where it must.
//! `fallback.rs` takes the second while the first one fails.

mod describe;
mod described;
mod fallback;
mod iter;
mod look;
mod refusal;
mod smaps;

use describe::describe;
pub use fallback::FallbackRoute;
pub(super) use iter::IterRoute;
pub use refusal::{DiscoveryRefusal, SightObstacle};
pub use smaps::SmapsRoute;

pub use super::looks::{LookFailure, LookWatch, LookedAt};
use crate::model::{ProcessKey, VmaDiscovery};
use crate::probes::ProbeError;
use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;
use std::time::Duration;

/// A way to find uffd-wp VMAs.
pub trait DiscoveryRoute: Send {
    /// Its name, for `/status`.
    fn route(&self) -> &'static str;
    /// Finds them. `at` is the time on the agent's clock; whatever may wait for a process is done
    /// under `watch`.
    ///
    /// # Errors
    /// If nothing can be said at all; a process that cannot be read is no error.
    fn discover(
        &mut self,
        at: Duration,
        watch: &LookWatch,
    ) -> Result<DiscoveryOutcome, DiscoveryError>;
}

/// What one discovery came to.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryOutcome {
    /// The VMAs, for the books.
    pub discovery: VmaDiscovery,
    /// Processes that it saw, the agent itself not among them.
    pub processes: usize,
    /// Whether it sees VMAs of all processes, whatever `/proc` refuses.
    pub sees_all: bool,
    /// Processes that could not be looked at, or not in all.
    pub refusals: Vec<DiscoveryRefusal>,
    /// Why the route that was to be taken failed, if this comes from another one.
    pub fallen_back: Option<String>,
}

/// Why nothing could be discovered at all.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The BPF iterator failed.
    #[error("cannot read the BPF iterator task_vma: {0}")]
    Iterator(ProbeError),
    /// There is no list of processes.
    #[error("cannot list /proc: {0}; discovery needs it mounted")]
    ListProcesses(io::Error),
    /// The BPF iterator does not answer, or this thread took too long.
    #[error("discovery: {0}")]
    Look(#[from] LookFailure),
    /// Neither route worked.
    #[error("{first}; {second}")]
    BothRoutes {
        /// Why the preferred route failed.
        first: Box<Self>,
        /// Why the other one failed.
        second: Box<Self>,
    },
}

/// A clock tick: `/proc` shows `start_boottime` in ticks, rounded down (`nsec_to_clock_t`);
/// `USER_HZ` is 100 on every architecture that has uffd-wp.
const TICK_NS: u64 = 10_000_000;

/// The key of a process as `/proc/PID/stat` gives it.
pub fn key(pid: u32, start_ticks: u64) -> ProcessKey {
    ProcessKey {
        pid,
        start_boottime_ns: start_ticks.saturating_mul(TICK_NS),
    }
}

/// The key that joins what BPF sees (nanoseconds since the boot) with what `/proc` shows (ticks,
/// since the boot as our time namespace has it).
pub(super) fn rounded(process: ProcessKey) -> ProcessKey {
    rounded_by(process, *BOOT_OFFSET_NS)
}

static BOOT_OFFSET_NS: LazyLock<i64> = LazyLock::new(uffd::boot_time_offset_ns);

fn rounded_by(process: ProcessKey, offset: i64) -> ProcessKey {
    let start = process.start_boottime_ns.saturating_add_signed(offset);
    key(process.pid, start / TICK_NS)
}

/// How many different processes were refused, by reason.
pub fn refused(
    refusals: &[DiscoveryRefusal],
) -> [(SightObstacle, usize); SightObstacle::ALL.len()] {
    let first: BTreeMap<_, _> = refusals
        .iter()
        .rev()
        .map(|one| (one.pid, one.obstacle))
        .collect();
    SightObstacle::ALL.map(|one| (one, first.values().filter(|other| **other == one).count()))
}

/// The key of a running process.
///
/// # Errors
/// If it is gone, or `/proc/PID/stat` cannot be read or understood.
pub(super) fn key_of(pid: u32) -> Result<ProcessKey, uffd::UffdError> {
    uffd::stat(pid).map(|stat| key(pid, stat.start_time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_both_routes_are_the_same() {
        let from_bpf = ProcessKey {
            pid: 7,
            start_boottime_ns: 12_345_678_901,
        };
        assert_eq!(rounded_by(from_bpf, 0), key(7, 1_234));
        assert_eq!(
            rounded_by(rounded_by(from_bpf, 0), 0),
            rounded_by(from_bpf, 0)
        );
    }

    #[test]
    fn a_time_namespace_moves_what_proc_shows() {
        let from_bpf = ProcessKey {
            pid: 7,
            start_boottime_ns: 12_345_678_901,
        };
        assert_eq!(rounded_by(from_bpf, 100_000_000_000), key(7, 11_234));
        assert_eq!(rounded_by(from_bpf, -12_000_000_000), key(7, 34));
    }

    #[test]
    fn a_process_that_is_refused_twice_is_one() {
        let refusal = |pid, obstacle| DiscoveryRefusal {
            pid,
            obstacle,
            message: String::new(),
        };
        let refusals = [
            refusal(7, SightObstacle::Privilege),
            refusal(7, SightObstacle::Unexpected),
            refusal(8, SightObstacle::Privilege),
            refusal(9, SightObstacle::Stuck),
        ];
        let counts = refused(&refusals).map(|(_, count)| count);
        assert_eq!(counts, [0, 0, 2, 1, 0]);
        assert!(SightObstacle::ALL.map(SightObstacle::as_str).is_sorted());
    }
}
