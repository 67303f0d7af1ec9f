//! `/status`: everything about the agent itself, as JSON.

use super::config::AgentConfig;
use super::discover_loop::DiscoveryState;
use super::http::AgentReadiness;
use super::loops::AgentLoop;
use super::scan::ScanState;
use crate::metrics::{BuildInfo, counts};
use crate::model::{NodeReading, SeriesView, VmaCounters};
use crate::probes::{CountAvailability, ProbeReport};
use serde_json::{Map, Value, json};
use std::time::Duration;
use tracker_ebpf::RecordLoss;

/// What the status is made of.
pub struct StatusParts<'a> {
    /// What the agent was asked to do.
    pub config: &'a AgentConfig,
    /// Time since the start.
    pub uptime: Duration,
    /// What was built.
    pub build: &'a BuildInfo,
    /// Level and hooks.
    pub report: &'a ProbeReport,
    /// What can be counted.
    pub availability: &'a CountAvailability,
    /// What was counted.
    pub view: &'a SeriesView,
    /// The last discovery.
    pub discovery: &'a DiscoveryState,
    /// Where the background scan is.
    pub scan: &'a ScanState,
    /// The loop that is overdue the longest, and for how long.
    pub latest_loop: (AgentLoop, Duration),
    /// The answer of `/readyz`.
    pub ready: &'a AgentReadiness,
    /// Lines of the log that were not written, by reason.
    pub log_lines_lost: &'a [(&'static str, u64)],
}

/// All of it; `tracking` are the processes that are tracked, `None` without `--track`.
pub fn status(parts: &StatusParts<'_>, tracking: Option<Value>) -> Value {
    let StatusParts {
        config,
        build,
        report,
        view,
        ready,
        ..
    } = parts;
    json!({
        "version": build.version,
        "revision": build.revision,
        "kernel": build.kernel,
        "uptime_seconds": parts.uptime.as_secs_f64(),
        "ready": {"ready": ready.ready, "reason": ready.reason},
        "level": {
            "level": report.level,
            "required": config.require_level,
            "reason": report.reason,
        },
        "hooks": report.hooks,
        "counts": counts(parts.availability),
        "missing_capabilities": report.missing_capabilities,
        "advice": report.advice,
        "maps": maps(&view.reading),
        "losses": losses(&view.reading),
        "counted": {
            "node": sums(&view.node),
            "other": sums(&view.other),
            "retired": sums(&view.retired),
        },
        "bounds": bounds(config, view),
        "discovery": parts.discovery,
        "overdue_loop": {
            "loop": parts.latest_loop.0.as_str(),
            "seconds": parts.latest_loop.1.as_secs_f64(),
        },
        "log_lines_lost": log_lines_lost(parts.log_lines_lost),
        "scan": {
            "budget_share": config.pace.budget,
            "interval_seconds": config.pace.scan.as_secs_f64(),
            "oldest_unix_seconds": view.oldest_scan_unix_seconds,
            "state": parts.scan,
        },
        "tracking": tracking,
    })
}

/// own + other + retired = node, family by family.
fn sums(counts: &VmaCounters) -> Value {
    json!({
        "faults": counts.total_faults(),
        "markers": counts.markers.iter().sum::<u64>(),
        "page_tables_allocated": counts.tables.iter().flatten().sum::<u64>(),
    })
}

fn maps(reading: &NodeReading) -> Map<String, Value> {
    let tables = reading.record_tables().into_iter();
    tables
        .map(|(name, usage)| {
            let usage = json!({"used": usage.used, "capacity": usage.capacity});
            (name.to_owned(), usage)
        })
        .collect()
}

fn losses(reading: &NodeReading) -> Map<String, Value> {
    let counts = RecordLoss::ALL.into_iter().zip(reading.losses);
    counts
        .map(|(loss, count)| (loss.as_str().to_owned(), count.into()))
        .collect()
}

fn log_lines_lost(lost: &[(&'static str, u64)]) -> Map<String, Value> {
    let lost = lost.iter();
    lost.map(|(reason, lines)| ((*reason).to_owned(), (*lines).into()))
        .collect()
}

fn bounds(config: &AgentConfig, view: &SeriesView) -> Value {
    let limits = &config.limits;
    json!({
        "detail": limits.detail.as_str(),
        "vma_label": config.vma_label.as_str(),
        "max_processes": limits.max_processes,
        "max_vmas": limits.max_vmas,
        "linger_seconds": limits.linger.as_secs_f64(),
        "processes_shown": view.processes.len(),
        "vmas_shown": view.processes.iter().map(|p| p.vmas.len()).sum::<usize>(),
        "vmas_folded": view.folded,
    })
}
