//! `tracker agent`: the flags, and the run until a signal.

use super::listen::ListenAddress;
use super::{probes, values};
use crate::agent::{self, Config, Pace};
use crate::model::{Detail, Limits};
use crate::probes::Level;
use clap::{ArgAction, Args, ValueEnum};
use std::process::ExitCode;
use std::time::Duration;

/// The flags of `tracker agent`.
#[derive(Args, Debug)]
pub struct AgentArgs {
    /// Where to serve: ADDR:PORT, [IPV6]:PORT, or :PORT for all addresses
    #[arg(
        long = "web.listen-address",
        alias = "listen",
        env = "TRACKER_WEB_LISTEN_ADDRESS"
    )]
    #[arg(default_value = "127.0.0.1:19943", value_name = "ADDR:PORT")]
    listen: ListenAddress,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", env = "TRACKER_WEB_TELEMETRY_PATH")]
    #[arg(default_value = "/metrics", value_name = "PATH", value_parser = values::telemetry_path)]
    telemetry_path: String,

    #[command(flatten)]
    pub(super) hooks: HookArgs,
    /// Least level at which /readyz says ready; the agent runs and serves at any level
    #[arg(
        long,
        env = "TRACKER_REQUIRE_LEVEL",
        value_enum,
        default_value = "observe",
        value_name = "LEVEL"
    )]
    require_level: LevelArg,

    /// Depth of the series: per node, per process, or per VMA
    #[arg(
        long,
        env = "TRACKER_DETAIL",
        value_enum,
        default_value = "vma",
        value_name = "DEPTH"
    )]
    detail: DetailArg,
    /// VMAs per process with series of their own; the rest is vma="other"
    #[arg(long, env = "TRACKER_MAX_VMAS", default_value_t = 16, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_vmas: u32,
    /// Processes with series of their own; the rest is pid="other"
    #[arg(
        long,
        env = "TRACKER_MAX_PROCESSES",
        default_value_t = 32,
        value_name = "N"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_processes: u32,
    /// How long series stay after their VMA or process is gone
    #[arg(long, env = "TRACKER_LINGER", default_value = "2m", value_name = "TIME", value_parser = values::duration)]
    linger: Duration,
    /// Share of one CPU core for PAGEMAP_SCAN; 0% scans nothing
    #[arg(long, env = "TRACKER_SCAN_BUDGET", default_value = "1%", value_name = "PERCENT", value_parser = values::share)]
    scan_budget: f64,
    /// Least time from one scan of all VMAs to the next
    #[arg(long, env = "TRACKER_SCAN_INTERVAL", default_value = "10s", value_name = "TIME", value_parser = values::duration)]
    scan_interval: Duration,
    /// Time from one reading of the counters to the next; each scrape reads them too
    #[arg(long, env = "TRACKER_COLLECT_INTERVAL", default_value = "5s", value_name = "TIME", value_parser = values::duration)]
    collect_interval: Duration,
    /// Least time from one search for uffd-wp VMAs to the next; it takes at most 2% of one core
    #[arg(long, env = "TRACKER_DISCOVER_INTERVAL", default_value = "5s", value_name = "TIME", value_parser = values::duration)]
    discover_interval: Duration,
}

/// The flags that decide which hooks are attached and how.
#[derive(Args, Clone, Debug)]
pub struct HookArgs {
    /// Do not attach this hook; may be given more than once
    #[arg(long = "no-hook", env = "TRACKER_NO_HOOK", value_name = "NAME")]
    #[arg(action = ArgAction::Append, value_delimiter = ',')]
    pub no_hook: Vec<String>,
    /// Attach one hook, or all, by this mechanism or not at all; may be given more than once
    #[arg(
        long = "force-mechanism",
        env = "TRACKER_FORCE_MECHANISM",
        value_name = "HOOK=MECHANISM|MECHANISM"
    )]
    #[arg(action = ArgAction::Append, value_delimiter = ',')]
    pub force_mechanism: Vec<String>,
    /// Room for VMAs that are counted at once; 0.3 KiB each and 64 bytes more for each CPU
    #[arg(
        long,
        env = "TRACKER_VMA_RECORDS",
        default_value_t = 16_384,
        value_name = "N"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub vma_records: u32,
    /// Room for processes that are counted at once; 0.3 KiB each
    #[arg(
        long,
        env = "TRACKER_PROCESS_RECORDS",
        default_value_t = 1_024,
        value_name = "N"
    )]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub process_records: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(super) enum LevelArg {
    /// No function hook: the BPF iterator, PAGEMAP_SCAN and smaps
    Observe,
    /// Some hook is absent
    Partial,
    /// Every hook is attached, or this kernel does nothing there
    Full,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Observe => Self::Observe,
            LevelArg::Partial => Self::Partial,
            LevelArg::Full => Self::Full,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DetailArg {
    Node,
    Process,
    Vma,
}

impl From<DetailArg> for Detail {
    fn from(detail: DetailArg) -> Self {
        match detail {
            DetailArg::Node => Self::Node,
            DetailArg::Process => Self::Process,
            DetailArg::Vma => Self::Vma,
        }
    }
}

impl AgentArgs {
    fn config(&self) -> Config {
        Config {
            listen: self.listen.candidates(),
            telemetry_path: self.telemetry_path.clone(),
            require_level: self.require_level.into(),
            limits: Limits {
                detail: self.detail.into(),
                max_vmas: self.max_vmas as usize,
                max_processes: self.max_processes as usize,
                linger: self.linger,
            },
            pace: Pace {
                collect: self.collect_interval,
                discover: self.discover_interval,
                scan: self.scan_interval,
                budget: self.scan_budget,
            },
        }
    }
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// If the address cannot be served or the probes refuse an option.
pub fn run(args: &AgentArgs) -> anyhow::Result<ExitCode> {
    agent::run(args.config(), || {
        probes::attach(&args.hooks).map(Into::into)
    })?;
    Ok(ExitCode::SUCCESS)
}
