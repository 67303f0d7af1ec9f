//! `tracker agent`: the flags, and the run until a signal.

use super::listen::ListenAddress;
use super::{probes, values};
use crate::agent::http::{AllowedHost, ListenPlaces};
use crate::agent::{self, AgentConfig, AgentPace, ProcessSelector, TrackingConfig};
use crate::model::{SeriesDetail, SeriesLimits, VmaLabel};
use crate::probes::ProbeLevel;
use clap::{ArgAction, Args, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The flags of `tracker agent`.
#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    /// Where to serve: ADDR:PORT, [IPV6]:PORT, or :PORT for all addresses of both families. May be
    /// given more than once
    #[arg(
        long = "web.listen-address",
        alias = "listen",
        env = "TRACKER_WEB_LISTEN_ADDRESS"
    )]
    #[arg(action = ArgAction::Append, value_delimiter = ',')]
    #[arg(default_value = "127.0.0.1:19943", value_name = "ADDR:PORT")]
    listen: Vec<ListenAddress>,
    /// Serve the TCP sockets that the service manager listens on (a .socket unit), and no others
    #[arg(
        long = "web.systemd-socket",
        env = "TRACKER_WEB_SYSTEMD_SOCKET",
        conflicts_with = "listen"
    )]
    systemd_socket: bool,
    /// File with TLS certificates and names and passwords (basic auth), in the format of the
    /// Prometheus exporter-toolkit. Read again when it or a file that it names changes, and on SIGHUP
    #[arg(
        long = "web.config.file",
        env = "TRACKER_WEB_CONFIG_FILE",
        value_name = "FILE"
    )]
    web: Option<PathBuf>,
    /// Path of the metrics
    #[arg(long = "web.telemetry-path", env = "TRACKER_WEB_TELEMETRY_PATH")]
    #[arg(default_value = "/metrics", value_name = "PATH", value_parser = values::telemetry_path)]
    telemetry_path: String,

    /// Name of this machine under which clients may ask (the header Host), besides localhost, its
    /// host name, those of /etc/hosts and all IP addresses; `*` is any. A page in a browser that
    /// has its own name point to this machine (DNS rebinding) gets nothing. May be given more than
    /// once
    #[arg(
        long = "web.allowed-host",
        env = "TRACKER_WEB_ALLOWED_HOST",
        value_name = "NAME"
    )]
    #[arg(action = ArgAction::Append, value_delimiter = ',')]
    allowed_hosts: Vec<AllowedHost>,

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
    /// What names a VMA in /metrics: a number, or its first address. With addresses /metrics and
    /// /status tell whoever can ask where the memory of any process is, which makes its address
    /// space layout randomization void: only where nobody else can ask
    #[arg(
        long,
        env = "TRACKER_VMA_LABEL",
        value_enum,
        default_value = "number",
        value_name = "WHAT"
    )]
    vma_label: VmaLabelArg,
    /// Keep names of processes, cgroups and paths out of everything that is served; the log has them
    #[arg(long, env = "TRACKER_REDACT")]
    redact: bool,
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
    #[arg(
        long,
        env = "TRACKER_LINGER",
        default_value = "2m",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    linger: Duration,
    /// Share of one CPU core for PAGEMAP_SCAN; 0% scans nothing
    #[arg(
        long,
        env = "TRACKER_SCAN_BUDGET",
        default_value = "1%",
        value_name = "PERCENT"
    )]
    #[arg(value_parser = values::share)]
    scan_budget: f64,
    /// Least time from one scan of all VMAs to the next
    #[arg(
        long,
        env = "TRACKER_SCAN_INTERVAL",
        default_value = "10s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    scan_interval: Duration,
    /// Time from one reading of the counters to the next; each scrape reads them, too
    #[arg(
        long,
        env = "TRACKER_COLLECT_INTERVAL",
        default_value = "5s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    collect_interval: Duration,
    /// Share of one CPU core for the search for uffd-wp VMAs; raised up to 2% where searches would
    /// otherwise be more than 30 s apart
    #[arg(
        long,
        env = "TRACKER_DISCOVER_BUDGET",
        default_value = "0.2%",
        value_name = "PERCENT"
    )]
    #[arg(value_parser = values::positive_share)]
    discover_budget: f64,
    /// Least time from one search for uffd-wp VMAs to the next
    #[arg(
        long,
        env = "TRACKER_DISCOVER_INTERVAL",
        default_value = "5s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    discover_interval: Duration,
    /// Time from one self-test to the next: the agent has the kernel do what each hook sees, on
    /// memory of its own, and looks whether the hook fires; one that does not lowers the level
    #[arg(
        long,
        env = "TRACKER_SELF_TEST_INTERVAL",
        default_value = "1m",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    self_test_interval: Duration,

    #[command(flatten)]
    tracking: TrackingArgs,
}

/// The flags that decide which processes are tracked, and at what cost.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Tracking")]
pub(crate) struct TrackingArgs {
    /// Track the pages that these processes write: pid:1234, comm:redis-server (the name in
    /// /proc/PID/comm) or cgroup:/system.slice/redis.service (that control group and those below
    /// it); 1234 and redis-server alone mean pid and comm. May be given more than once, or several
    /// with commas. Processes are looked for at each discovery; one that no longer matches is let
    /// go. Attaching stops a process for a moment (a fraction of a millisecond), and while it is
    /// tracked it cannot register that memory with a userfaultfd of its own (EBUSY)
    #[arg(long, env = "TRACKER_TRACK", value_name = "SELECTOR")]
    #[arg(action = ArgAction::Append, value_delimiter = ',')]
    track: Vec<ProcessSelector>,
    /// Track these processes, and compare the content of each reported page with what it was:
    /// counts how many did not change, and what made the kernel report them
    /// (uffdwp_reported_pages_total). Reads all memory they have in each round, within
    /// --track-budget; see `tracker explain` for one process in depth
    #[arg(long, env = "TRACKER_EXPLAIN", value_name = "SELECTOR")]
    #[arg(action = ArgAction::Append, value_delimiter = ',')]
    explain: Vec<ProcessSelector>,
    /// Read and hash at most this much memory in a round of an explained process; if it has more, a
    /// sample of its pages
    #[arg(
        long,
        env = "TRACKER_CONTENT_LIMIT",
        default_value = "64MiB",
        value_name = "SIZE"
    )]
    #[arg(value_parser = values::size)]
    content_limit: u64,
    /// Time from one round to the next, for each tracked process
    #[arg(
        long,
        env = "TRACKER_TRACK_INTERVAL",
        default_value = "1s",
        value_name = "TIME"
    )]
    #[arg(value_parser = values::duration)]
    track_interval: Duration,
    /// Share of one CPU core for tracking all processes; rounds that cost more come less often,
    /// which the log, /status and uffdwp_track_interval_seconds tell
    #[arg(
        long,
        env = "TRACKER_TRACK_BUDGET",
        default_value = "1%",
        value_name = "PERCENT"
    )]
    #[arg(value_parser = values::positive_share)]
    track_budget: f64,
    #[arg(
        long,
        env = "TRACKER_TRACK_STRATEGY",
        default_value = "auto",
        value_name = "STRATEGY"
    )]
    #[arg(value_parser = values::strategy, help = values::agent_help())]
    track_strategy: values::AskedStrategy,
    /// How many processes to track at a time: those selected by pid, then one of each user, then a
    /// second of each, and so on. Further ones that match are counted, and named in the log and in
    /// /status
    #[arg(long, env = "TRACKER_TRACK_MAX", default_value_t = 8, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    track_max: u32,
}

impl TrackingArgs {
    /// As the other flags have it: `discover_interval`, `linger` and `self_test_interval`.
    fn config(&self, agent: &AgentArgs) -> Option<TrackingConfig> {
        let any = !self.track.is_empty() || !self.explain.is_empty();
        any.then(|| TrackingConfig {
            selectors: self.track.clone(),
            explain: self.explain.clone(),
            content_limit: self.content_limit,
            interval: self.track_interval,
            budget: self.track_budget,
            strategy: self.track_strategy.0,
            most: self.track_max as usize,
            retry: agent.discover_interval,
            linger: agent.linger,
            self_test: agent.self_test_interval,
        })
    }
}

/// The flags that decide which hooks are attached and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct HookArgs {
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
    /// Room for VMAs that are counted at once; 0.3 KiB each, and 64 bytes more for each CPU
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

impl From<LevelArg> for ProbeLevel {
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

impl From<DetailArg> for SeriesDetail {
    fn from(detail: DetailArg) -> Self {
        match detail {
            DetailArg::Node => Self::Node,
            DetailArg::Process => Self::Process,
            DetailArg::Vma => Self::Vma,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VmaLabelArg {
    Number,
    Address,
}

impl From<VmaLabelArg> for VmaLabel {
    fn from(label: VmaLabelArg) -> Self {
        match label {
            VmaLabelArg::Number => Self::Number,
            VmaLabelArg::Address => Self::Address,
        }
    }
}

impl AgentArgs {
    fn config(&self) -> AgentConfig {
        AgentConfig {
            listen: if self.systemd_socket {
                ListenPlaces::Passed
            } else {
                let places = self.listen.iter().map(ListenAddress::candidates);
                ListenPlaces::Bind(places.collect())
            },
            web: self.web.clone(),
            telemetry_path: self.telemetry_path.clone(),
            vma_label: self.vma_label.into(),
            redact: self.redact,
            allowed_hosts: self.allowed_hosts.clone(),
            require_level: self.require_level.into(),
            limits: SeriesLimits {
                detail: self.detail.into(),
                max_vmas: self.max_vmas as usize,
                max_processes: self.max_processes as usize,
                linger: self.linger,
            },
            pace: AgentPace {
                collect: self.collect_interval,
                discover: self.discover_interval,
                discover_budget: self.discover_budget,
                self_test: self.self_test_interval,
                scan: self.scan_interval,
                budget: self.scan_budget,
            },
            track: self.tracking.config(self),
        }
    }
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// If the address cannot be served or the probes refuse an option.
pub(crate) fn run(args: &AgentArgs) -> anyhow::Result<ExitCode> {
    agent::run(args.config(), || {
        probes::attach(&args.hooks).map(Into::into)
    })?;
    Ok(ExitCode::SUCCESS)
}
