//! `/processes`: who uses uffd-wp and what was counted of it, for `tracker top` and scripts.

use std::collections::BTreeMap;

use tracker_ebpf::{FaultEntry, MarkerEvent, TableCause, TableLevel, WpMode};

use super::status::StatusParts;
use crate::explain::AnswerTally;
use crate::metrics::{TrackedRow, label};
use crate::model::{ProcessRow, SeriesDetail, VmaCounters, VmaGauges, VmaLabel, VmaRow};
use crate::probes::ProbeLevel;
use crate::top::usage::{
    CountedEvents, CountsByTwo, MemoryNow, NodeUsage, ProcessUsage, TrackedUsage, VmaUsage,
};

/// All of it; `tracked` are the processes that the agent tracks itself.
pub(super) fn processes(parts: &StatusParts<'_>, tracked: &[TrackedRow]) -> NodeUsage {
    let report = parts.report;
    let missing = report.hooks.iter().filter(|hook| hook.plan.is_missing());
    NodeUsage {
        version: parts.build.version.clone(),
        kernel: parts.build.kernel.clone(),
        uptime_seconds: parts.uptime.as_secs_f64(),
        level: report.level.as_str().to_owned(),
        level_reason: report.reason.clone(),
        ready: parts.ready.ready,
        ready_reason: parts.ready.reason.clone(),
        hooks_missing: missing
            .map(|hook| hook.plan.hook.name().to_owned())
            .collect(),
        is_counted: report.level != ProbeLevel::Observe,
        node: counted(&parts.view.node),
        processes: if parts.config.limits.detail == SeriesDetail::Node {
            // Whoever asks for that wants no names.
            Vec::new()
        } else {
            rows(&parts.view.processes, tracked, parts.config.vma_label)
        },
        vmas_folded: parts.view.folded,
    }
}

/// The processes that use uffd-wp, and those that are tracked in another way.
fn rows(counted: &[ProcessRow], tracked: &[TrackedRow], named: VmaLabel) -> Vec<ProcessUsage> {
    let usage = |row: &ProcessRow| {
        let same = |it: &&TrackedRow| {
            (it.process.pid, it.process.start_boottime_ns) == (row.pid, row.start_boottime_ns)
        };
        ProcessUsage {
            tracked: tracked.iter().find(same).map(tracked_usage),
            ..process(row, named)
        }
    };
    let is_counted = |pid| counted.iter().any(|row| row.pid == pid);
    let others = tracked.iter().filter(|row| !is_counted(row.process.pid));
    let others = others.map(|row| ProcessUsage {
        pid: row.process.pid,
        start_boottime_ns: row.process.start_boottime_ns,
        comm: label::text(&row.comm),
        exited: !row.is_live(),
        tracked: Some(tracked_usage(row)),
        ..ProcessUsage::default()
    });
    counted.iter().map(usage).chain(others).collect()
}

fn process(row: &ProcessRow, named: VmaLabel) -> ProcessUsage {
    ProcessUsage {
        pid: row.pid,
        start_boottime_ns: row.start_boottime_ns,
        comm: label::text(&row.comm),
        cgroup: row.cgroup.as_deref().map(label::text),
        exited: row.exited,
        page_table_bytes: row.page_table_bytes,
        page_tables_freed: row.counts.freed.iter().sum(),
        fault_wait_seconds: row.counts.fault_wait_ns as f64 / 1e9,
        counted: counted(&row.total),
        vmas: row.vmas.iter().map(|row| vma(row, named)).collect(),
        other: memory(&row.other_gauges),
        tracked: None,
    }
}

fn vma(row: &VmaRow, named: VmaLabel) -> VmaUsage {
    VmaUsage {
        vma: match named {
            VmaLabel::Number => row.number.to_string(),
            VmaLabel::Address => format!("{:#x}", row.start),
        },
        name: row.name.as_deref().map(label::text),
        backing: row.backing.as_str().to_owned(),
        mode: row.mode.map(|mode| mode.as_str().to_owned()),
        exited: row.exited,
        now: memory(&row.gauges),
        counted: counted(&row.counts),
    }
}

fn memory(gauges: &VmaGauges) -> MemoryNow {
    MemoryNow {
        bytes: gauges.bytes,
        armed_pages: gauges.pages.map(|pages| pages.armed),
        written_pages: gauges.pages.map(|pages| pages.written),
    }
}

fn counted(counts: &VmaCounters) -> CountedEvents {
    let faults = WpMode::ALL
        .into_iter()
        .zip(counts.faults)
        .flat_map(|(mode, counts)| {
            let entries = FaultEntry::ALL.into_iter().zip(counts);
            entries.map(move |(entry, count)| (mode.as_str(), entry.as_str(), count))
        });
    let tables = TableLevel::ALL
        .into_iter()
        .zip(counts.tables)
        .flat_map(|(level, counts)| {
            let causes = TableCause::ALL.into_iter().zip(counts);
            causes.map(move |(cause, count)| (level.as_str(), cause.as_str(), count))
        });
    let markers = MarkerEvent::ALL.into_iter().zip(counts.markers);
    let markers = markers.filter(|(_, count)| *count != 0);
    CountedEvents {
        faults: by_two(faults),
        markers: markers
            .map(|(event, count)| (event.as_str().to_owned(), count))
            .collect(),
        page_tables_allocated: by_two(tables),
    }
}

fn by_two<'a>(counts: impl Iterator<Item = (&'a str, &'a str, u64)>) -> CountsByTwo {
    let mut found = CountsByTwo::new();
    for (one, two, count) in counts.filter(|(_, _, count)| *count != 0) {
        let counts: &mut BTreeMap<_, _> = found.entry(one.to_owned()).or_default();
        counts.insert(two.to_owned(), count);
    }
    found
}

fn tracked_usage(row: &TrackedRow) -> TrackedUsage {
    let explained = row.explained.as_ref();
    let observed = explained.and_then(|it| it.observed.as_ref());
    TrackedUsage {
        strategy: row.strategy.clone(),
        rounds: row.rounds,
        interval_seconds: row.interval.as_secs_f64(),
        over_budget: row.over_budget,
        tracked_pages: row.tracked_pages,
        not_looked_at_pages: row.not_looked_at.total(),
        written_pages: row.written_pages,
        reported: explained.map(|it| answers(&it.reported)),
        missed_pages: explained.map(|it| it.missed + observed.map_or(0, |it| it.missed)),
        observed: observed.map(|it| answers(&it.reported)),
    }
}

fn answers(tally: &AnswerTally) -> CountsByTwo {
    by_two(
        tally
            .iter()
            .map(|(why, pages)| (why.verdict.as_str(), why.cause.as_str(), *pages)),
    )
}
