//! The flags about log lines, which go to stderr in the two formats that exporters have.

use crate::logging::{self, LogLineFormat};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tracing::Level;

/// The flags about logging.
#[derive(Args, Debug)]
pub(crate) struct LogArgs {
    /// Least important lines to log
    #[arg(long = "log.level", env = "TRACKER_LOG_LEVEL", global = true)]
    #[arg(value_enum, default_value = "info", value_name = "LEVEL")]
    level: LogLevel,
    /// Format of log lines
    #[arg(long = "log.format", env = "TRACKER_LOG_FORMAT", global = true)]
    #[arg(value_enum, default_value = "logfmt", value_name = "FORMAT")]
    format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Logfmt,
    Json,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::TRACE,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error => Self::ERROR,
        }
    }
}

impl From<LogFormat> for LogLineFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Logfmt => Self::Logfmt,
            LogFormat::Json => Self::Json,
        }
    }
}

/// Logs from here on, panics among it.
///
/// # Errors
/// If a logger was installed before.
pub(crate) fn init(args: &LogArgs) -> anyhow::Result<()> {
    logging::init(args.level.into(), args.format.into()).context("cannot set up logging")?;
    logging::tell_panics();
    Ok(())
}
