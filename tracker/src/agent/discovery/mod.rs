//! Finds every uffd-wp VMA of the machine.
//!
//! Two routes: the BPF iterator `iter/task_vma` ([`iter`]), which walks VMAs in the kernel, and
//! smaps ([`smaps`]), which needs no BPF but walks page tables and so looks only where it must.
//! [`fallback`] takes the second while the first one fails.

mod describe;
mod fallback;
mod iter;
mod look;
mod smaps;

pub use describe::describe;
pub use fallback::Fallback;
pub use iter::{IterRoute, ReadIter};
pub use smaps::SmapsRoute;

use crate::model::Discovery;
use crate::model::sample::ProcessKey;
use std::time::Duration;

/// A way to find uffd-wp VMAs.
pub trait Discover: Send {
    /// Its name, for `/status`.
    fn route(&self) -> &'static str;
    /// Finds them. `at` is the time on the agent's clock.
    ///
    /// # Errors
    /// In words, when nothing can be said at all; a process that cannot be read is no error.
    fn discover(&mut self, at: Duration) -> Result<Found, String>;
}

/// What one discovery came to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The VMAs, for the model.
    pub discovery: Discovery,
    /// Processes there are.
    pub processes: usize,
    /// One message for each process that could not be read.
    pub refusals: Vec<String>,
    /// Why the route that was to be taken failed, if this is another one's.
    pub fallen_back: Option<String>,
}

/// `start_boottime` as `/proc` shows it: in clock ticks, of which `USER_HZ` is 100 on all that run
/// uffd-wp (`nsec_to_clock_t` rounds down).
const TICK_NS: u64 = 10_000_000;

/// The key of a process as `/proc/PID/stat` gives it.
pub fn key(pid: u32, start_ticks: u64) -> ProcessKey {
    ProcessKey {
        pid,
        start_boottime_ns: start_ticks.saturating_mul(TICK_NS),
    }
}

/// The key that joins what BPF sees (nanoseconds) with what `/proc` shows (ticks).
pub fn rounded(process: ProcessKey) -> ProcessKey {
    key(process.pid, process.start_boottime_ns / TICK_NS)
}

/// The key of a running process.
///
/// # Errors
/// If it is gone, or `/proc/PID/stat` cannot be read or understood.
pub fn key_of(pid: u32) -> Result<ProcessKey, uffd::UffdError> {
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
