//! What is told on stderr beside any result: log lines, and sentences for people.
//!
//! ```text
//! event ──► limit (pure: too many of one kind?) ──► line (logfmt, JSON) ──► stderr (never fails)
//! ```
//!
//! Nothing here may stop or hurt what is told of: a line that cannot be written is dropped and
//! counted, a reader that stands still is not waited for, and no kind of line fills a disk.

#![forbid(unsafe_code)]

mod limit;
mod line;
mod losses;
mod panics;
mod stderr;

pub(crate) use losses::LogLoss;
pub(crate) use panics::{message, tell_panics};
pub(crate) use stderr::say;

use limit::LimitLayer;
use line::LogfmtFormat;
use stderr::LogWriter;
use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, registry};

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLineFormat {
    /// `key=value`, as most exporters do.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// Sends everything logged from here on to stderr: lines of `level` and more important ones.
///
/// Records of the `log` crate arrive too, among them the diagnostics of the eBPF programs, which
/// aya-log hands to it.
///
/// # Errors
/// If a logger was installed before.
pub(crate) fn init(level: Level, format: LogLineFormat) -> Result<(), TryInitError> {
    let lines = layer().with_writer(|| LogWriter).log_internal_errors(false);
    let lines = match format {
        LogLineFormat::Logfmt => lines.event_format(LogfmtFormat).boxed(),
        LogLineFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry()
        .with(LevelFilter::from_level(level))
        .with(LimitLayer)
        .with(lines)
        .try_init()
}

/// Tells how many lines were left out since the last call, kind by kind.
pub(crate) fn tell_left_out() {
    for (kind, left_out) in limit::take_left_out() {
        tracing::warn!(left_out, of = %kind, "lines of one kind came too fast and were left out");
    }
}
