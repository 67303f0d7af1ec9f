//! What the agent itself uses, read from `/proc`: the families `process_*` of all Prometheus
//! clients.

use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::metrics::AgentUsage;

/// One file under `/proc` could not be read or understood; what it says is not exported.
#[derive(Debug, thiserror::Error)]
pub enum AgentUsageError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}; process_* metrics will be missing, is /proc mounted?")]
    Read {
        /// The path of the file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It is not as proc(5) describes it.
    #[error("{path} is not as proc(5) describes it; process_* metrics will be missing")]
    Format {
        /// The path of the file.
        path: PathBuf,
    },
}

/// Reads `/proc/self`. When this process started is not in it: see [`started`].
///
/// # Errors
/// The first file that could not be read or understood.
pub fn read() -> Result<AgentUsage, AgentUsageError> {
    let stat_path = Path::new("/proc/self/stat");
    let stat = OwnStat::parse(&read_file(stat_path)?).ok_or_else(|| malformed(stat_path))?;
    Ok(AgentUsage {
        cpu_seconds: Some(seconds(stat.cpu_ticks)),
        resident_bytes: Some(stat.resident_pages * rustix::param::page_size() as u64),
        virtual_bytes: Some(stat.virtual_bytes),
        open_fds: Some(open_fds()?),
        max_fds: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        threads: Some(stat.threads),
        start_unix_seconds: None,
    })
}

/// When this process started, in seconds since the Unix epoch, by the clock as it is now: to be
/// asked once, so that no later step of the clock looks like another start.
///
/// # Errors
/// If `/proc/self/stat` cannot be read or understood.
pub fn started() -> Result<f64, AgentUsageError> {
    let stat_path = Path::new("/proc/self/stat");
    let stat = OwnStat::parse(&read_file(stat_path)?).ok_or_else(|| malformed(stat_path))?;
    let since_boot = clock_seconds(ClockId::Boottime);
    Ok(clock_seconds(ClockId::Realtime) - since_boot + seconds(stat.start_ticks))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "seconds since 1970 fit a double"
)]
fn clock_seconds(clock: ClockId) -> f64 {
    let now = clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn read_file(path: &Path) -> Result<Vec<u8>, AgentUsageError> {
    fs::read(path).map_err(|source| AgentUsageError::Read {
        path: path.to_owned(),
        source,
    })
}

fn malformed(path: &Path) -> AgentUsageError {
    AgentUsageError::Format {
        path: path.to_owned(),
    }
}

/// The descriptors that are open, without the one that lists them.
fn open_fds() -> Result<u64, AgentUsageError> {
    let path = Path::new("/proc/self/fd");
    let entries = fs::read_dir(path).map_err(|source| AgentUsageError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok((entries.count() as u64).saturating_sub(1))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "clock ticks since boot fit a double"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Those fields of `/proc/PID/stat` that are used.
#[derive(Debug, PartialEq, Eq)]
struct OwnStat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl OwnStat {
    /// Fields are counted after the last `)`: the name can hold anything.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let after_name = bytes.iter().rposition(|byte| *byte == b')')? + 1;
        let text = std::str::from_utf8(&bytes[after_name..]).ok()?;
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and the first field here is its third.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn stat_is_read_after_the_last_parenthesis() {
        let line = b"7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 50 7 0 0 20 0 9 0 1234 8192 33 1\n";
        let stat = OwnStat {
            cpu_ticks: 57,
            threads: 9,
            start_ticks: 1234,
            virtual_bytes: 8192,
            resident_pages: 33,
        };
        assert_eq!(OwnStat::parse(line), Some(stat));
        assert_eq!(OwnStat::parse(b"7 (a) S 1"), None);
        assert_eq!(OwnStat::parse(b""), None);
    }

    #[test]
    fn this_process_is_plausible() {
        let stats = read().unwrap();
        assert!(stats.resident_bytes.unwrap() > 100_000);
        assert!(stats.open_fds.unwrap() >= 3);
        let age = clock_seconds(ClockId::Realtime) - started().unwrap();
        assert!((-1.0..1e6).contains(&age), "{age}");
    }
}
