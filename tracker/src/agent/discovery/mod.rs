//! Finds every uffd-wp VMA of the machine.
//!
//! There are two routes: the BPF iterator `iter/task_vma` (`iter.rs`) walks VMAs in the kernel;
//! smaps (`smaps.rs`) needs no BPF, but walks page tables and so looks only where it must.
//! `fallback.rs` takes the second while the first one fails.

mod describe;
mod fallback;
mod iter;
mod look;
mod smaps;

use describe::describe;
pub use fallback::FallbackRoute;
pub(super) use iter::IterRoute;
pub use smaps::SmapsRoute;

use crate::model::{ProcessKey, VmaDiscovery};
use crate::probes::ProbeError;
use std::io;
use std::time::Duration;

/// A way to find uffd-wp VMAs.
pub trait DiscoveryRoute: Send {
    /// Its name, for `/status`.
    fn route(&self) -> &'static str;
    /// Finds them. `at` is the time on the agent's clock.
    ///
    /// # Errors
    /// If nothing can be said at all; a process that cannot be read is no error.
    fn discover(&mut self, at: Duration) -> Result<DiscoveryOutcome, DiscoveryError>;
}

/// What one discovery came to.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryOutcome {
    /// The VMAs, for the books.
    pub discovery: VmaDiscovery,
    /// Processes that it looked at.
    pub processes: usize,
    /// One message for each process that could not be read.
    pub refusals: Vec<String>,
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

/// The key that joins what BPF sees (nanoseconds) with what `/proc` shows (ticks).
pub(super) fn rounded(process: ProcessKey) -> ProcessKey {
    key(process.pid, process.start_boottime_ns / TICK_NS)
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
        assert_eq!(rounded(from_bpf), key(7, 1_234));
        assert_eq!(rounded(rounded(from_bpf)), rounded(from_bpf));
    }
}
