//! `/processes`: who uses uffd-wp and what was counted of it, for `tracker top` and scripts.

use tracker_ebpf::{FaultEntry, MarkerEvent, MeasuredTime, TableCause, TableLevel, WpMode};

use super::status::StatusParts;
use crate::explain::AnswerTally;
use crate::metrics::{TrackedRow, label};
use crate::model::{ProcessRow, SeriesDetail, VmaCounters, VmaGauges, VmaLabel, VmaRow};
use crate::probes::{CountAvailability, CountSignal};
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
        node: counted(&parts.view.node, None, parts.availability),
        processes: if parts.config.limits.detail == SeriesDetail::Node {
            // Whoever asks for that wants no names.
            Vec::new()
        } else {
            rows(parts, tracked)
        },
        vmas_folded: parts.view.folded,
    }
}

/// The processes that use uffd-wp, and those that are tracked in another way.
fn rows(parts: &StatusParts<'_>, tracked: &[TrackedRow]) -> Vec<ProcessUsage> {
    let counted = &parts.view.processes;
    let usage = |row: &ProcessRow| {
        let same = |it: &&TrackedRow| {
            (it.process.pid, it.process.start_boottime_ns) == (row.pid, row.start_boottime_ns)
        };
        ProcessUsage {
            tracked: tracked.iter().find(same).map(tracked_usage),
            ..process(row, parts)
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

fn process(row: &ProcessRow, parts: &StatusParts<'_>) -> ProcessUsage {
    let available = parts.availability;
    let mut levels = TableLevel::ALL.into_iter();
    let has_freed = levels.any(|level| available.has(CountSignal::TableFreed(level)));
    let has_waits = available.has(CountSignal::Time(MeasuredTime::FaultWait));
    ProcessUsage {
        pid: row.pid,
        start_boottime_ns: row.start_boottime_ns,
        comm: label::text(&row.comm),
        cgroup: row.cgroup.as_deref().map(label::text),
        exited: row.exited,
        page_table_bytes: row.page_table_bytes,
        page_tables_freed: has_freed.then(|| row.counts.freed.iter().sum()),
        fault_wait_seconds: has_waits.then_some(row.counts.fault_wait_ns as f64 / 1e9),
        counted: counted(&row.total, None, available),
        vmas: row.vmas.iter().map(|row| vma(row, parts)).collect(),
        other: memory(&row.other_gauges),
        tracked: None,
    }
}

fn vma(row: &VmaRow, parts: &StatusParts<'_>) -> VmaUsage {
    VmaUsage {
        vma: match parts.config.vma_label {
            VmaLabel::Number => row.number.to_string(),
            VmaLabel::Address => format!("{:#x}", row.start),
        },
        name: row.name.as_deref().map(label::text),
        backing: row.backing.as_str().to_owned(),
        mode: row.mode.map(|mode| mode.as_str().to_owned()),
        exited: row.exited,
        now: memory(&row.gauges),
        counted: counted(&row.counts, row.mode, parts.availability),
    }
}

fn memory(gauges: &VmaGauges) -> MemoryNow {
    MemoryNow {
        bytes: gauges.bytes,
        armed_pages: gauges.pages.map(|pages| pages.armed),
        written_pages: gauges.pages.map(|pages| pages.written),
    }
}

/// What of it can be counted here; of a VMA whose mode is known, only faults of that mode.
fn counted(
    counts: &VmaCounters,
    only: Option<WpMode>,
    available: &CountAvailability,
) -> CountedEvents {
    let mut told = CountedEvents::default();
    for (mode, counts) in WpMode::ALL.into_iter().zip(counts.faults) {
        for (entry, count) in FaultEntry::ALL.into_iter().zip(counts) {
            let is_meant = only.is_none_or(|only| only == mode);
            if is_meant && available.has(CountSignal::Fault(mode, entry)) {
                let faults = told.faults.get_or_insert_default();
                add(faults, mode.as_str(), entry.as_str(), count);
            }
        }
    }
    for (event, count) in MarkerEvent::ALL.into_iter().zip(counts.markers) {
        if available.has(CountSignal::Marker(event)) {
            let markers = told.markers.get_or_insert_default();
            markers.insert(event.as_str().to_owned(), count);
        }
    }
    for (level, counts) in TableLevel::ALL.into_iter().zip(counts.tables) {
        if !available.has(CountSignal::TableAllocated(level)) {
            continue;
        }
        let tables = told.page_tables_allocated.get_or_insert_default();
        for (cause, count) in TableCause::ALL.into_iter().zip(counts) {
            if count != 0 {
                add(tables, level.as_str(), cause.as_str(), count);
            }
        }
    }
    told
}

fn add(counts: &mut CountsByTwo, one: &str, two: &str, count: u64) {
    let counts = counts.entry(one.to_owned()).or_default();
    counts.insert(two.to_owned(), count);
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
    let mut pages = CountsByTwo::new();
    for (why, count) in tally {
        add(&mut pages, why.verdict.as_str(), why.cause.as_str(), *count);
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_counted_is_missing_and_not_zero() {
        let nothing = VmaCounters::default();
        let unknown = counted(&nothing, None, &CountAvailability::default());
        assert_eq!(unknown, CountedEvents::default());
        assert_eq!((unknown.faults(), unknown.page_tables()), (None, None));
        let mut available = CountAvailability::all_exact();
        let known = counted(&nothing, Some(WpMode::Sync), &available);
        assert_eq!((known.faults(), known.page_tables()), (Some(0), Some(0)));
        let modes: Vec<_> = known
            .faults
            .iter()
            .flatten()
            .map(|(mode, _)| mode)
            .collect();
        assert_eq!(modes, ["sync"]);
        let huge = CountSignal::Fault(WpMode::Sync, FaultEntry::Huge);
        available.set(huge, crate::probes::CountExactness::Absent);
        let faults = counted(&nothing, None, &available)
            .faults
            .unwrap_or_default();
        assert!(!faults["sync"].contains_key("huge") && faults["async"].contains_key("huge"));
    }
}
