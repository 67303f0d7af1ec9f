//! `/status`: everything about the agent itself, as JSON.

use super::config::Config;
use super::discover_loop::DiscoveryState;
use super::http::Readiness;
use super::scan::ScanState;
use crate::metrics::AgentFacts;
use crate::model::sample::Usage;
use crate::model::{Counts, View, words};
use crate::probes::ProbeReport;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tracker_ebpf::RecordLoss;

/// What it is made of.
pub struct Parts<'a> {
    /// Options.
    pub config: &'a Config,
    /// Time since the start.
    pub uptime: Duration,
    /// Level and hooks.
    pub report: &'a ProbeReport,
    /// What the agent says about itself on `/metrics`.
    pub facts: &'a AgentFacts,
    /// What was counted.
    pub view: &'a View,
    /// The last discovery.
    pub discovery: &'a DiscoveryState,
    /// The scan.
    pub scan: &'a ScanState,
    /// The answer of `/readyz`.
    pub ready: &'a Readiness,
    /// The processes that are tracked; none without `--track`.
    pub tracking: Option<Value>,
}

/// The whole of it.
pub fn status(parts: &Parts<'_>) -> Value {
    let Parts {
        config,
        report,
        view,
        facts,
        ready,
        ..
    } = parts;
    json!({
        "version": facts.build.version,
        "revision": facts.build.revision,
        "kernel": facts.build.kernel,
        "uptime_seconds": parts.uptime.as_secs_f64(),
        "ready": {"ready": ready.ready, "reason": ready.reason},
        "level": {"level": report.level, "required": config.require_level, "reason": report.reason},
        "hooks": report.hooks,
        "counts": report.counts,
        "missing_capabilities": report.missing_capabilities,
        "advice": report.advice,
        "maps": maps(view, facts),
        "losses": losses(view),
        "counted": {
            "node": sums(&view.node),
            "other": sums(&view.other),
            "retired": sums(&view.retired),
        },
        "bounds": bounds(config, view),
        "discovery": parts.discovery,
        "scan": {
            "budget_share": config.pace.budget,
            "interval_seconds": config.pace.scan.as_secs_f64(),
            "oldest_unix_seconds": view.oldest_scan_unix_seconds,
            "state": parts.scan,
        },
        "tracking": parts.tracking,
    })
}

/// own + other + retired = node, family by family.
fn sums(counts: &Counts) -> Value {
    json!({
        "faults": counts.total_faults(),
        "markers": counts.markers.iter().sum::<u64>(),
        "page_tables_allocated": counts.tables.iter().flatten().sum::<u64>(),
    })
}

fn maps(view: &View, facts: &AgentFacts) -> Map<String, Value> {
    let usage = |usage: &Usage| json!({"used": usage.used, "capacity": usage.capacity});
    let mut maps: Map<_, _> = facts
        .maps
        .iter()
        .map(|(name, used)| (name.clone(), usage(used)))
        .collect();
    maps.insert("vma_records".into(), usage(&view.vma_records));
    maps.insert("mm_records".into(), usage(&view.mm_records));
    maps
}

fn losses(view: &View) -> Map<String, Value> {
    let counts = RecordLoss::ALL.into_iter().zip(view.losses);
    counts
        .map(|(loss, count)| (words::loss(loss).to_owned(), count.into()))
        .collect()
}

fn bounds(config: &Config, view: &View) -> Value {
    let limits = &config.limits;
    json!({
        "detail": limits.detail.as_str(),
        "max_processes": limits.max_processes,
        "max_vmas": limits.max_vmas,
        "linger_seconds": limits.linger.as_secs_f64(),
        "processes_shown": view.processes.len(),
        "vmas_shown": view.processes.iter().map(|p| p.vmas.len()).sum::<usize>(),
        "vmas_folded": view.folded,
    })
}
