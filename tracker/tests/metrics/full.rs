//! Books with a known number of processes and VMAs, for the golden scrape, the page of metrics
//! and the benchmark.
#![allow(dead_code, reason = "each of its users needs a part of it")]

use std::collections::BTreeMap;
use std::time::Duration;

use pages::track::{MappingCount, UntrackedReason};
use tracker::explain::{ReportAnswer, ReportCause, ReportVerdict};
use tracker::metrics::doc::SeriesTotals;
use tracker::metrics::{
    AgentFacts, AgentUsage, BuildInfo, CollectorRun, ExplainedTotals, HookRow, ObservedTotals,
    ProcessSight, ScrapeRows, TrackedRow, TrackingRows, encode,
};
use tracker::model::{
    CollectionInput, CounterSnapshot, FoundVma, MmSample, NodeReading, ProcessCounters,
    ProcessFacts, ProcessKey, RecordUsage, ScanResult, SeriesBooks, SeriesLimits, SeriesView,
    VmaCounters, VmaDiscovery, VmaLabel, VmaSample,
};
use tracker::probes::{CountAvailability, HOOKS, Hook, HookMechanism, ProbeLevel};
use tracker_ebpf::{RecordState, TimeHistogram, WpMode};
use uffd::Backing;

/// What each VMA counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmaFill {
    /// Faults of its mode, markers, tables of the PTE level.
    Usual,
    /// Every combination of labels.
    Everything,
}

/// A view of `processes` with `vmas` each, as many as the limits have room for.
pub fn view(limits: SeriesLimits, processes: u32, vmas: u32, fill: VmaFill) -> SeriesView {
    let mut snapshot = CounterSnapshot {
        node: NodeReading {
            durations: [Some(histogram()); 3],
            vma_records: usage(u64::from(processes * vmas), 16_384),
            mm_records: usage(u64::from(processes), 1024),
            ..NodeReading::default()
        },
        ..CounterSnapshot::default()
    };
    let mut discovery = VmaDiscovery {
        at: Duration::from_secs(1),
        ..VmaDiscovery::default()
    };
    let mut scans = Vec::new();
    for mm_id in 1..=processes {
        let process = key(mm_id);
        snapshot.mms.push(mm_sample(mm_id, process));
        discovery.facts.insert(process, facts_of(mm_id));
        for index in 0..vmas {
            let id = (mm_id - 1) * vmas + index + 1;
            let found = found(process, index);
            snapshot.vmas.push(vma_sample(id, mm_id, &found, fill));
            scans.push(scan(&found));
            discovery.vmas.push(found);
        }
    }
    let mut books = SeriesBooks::new(limits);
    books.collect(&CollectionInput {
        snapshot: &snapshot,
        discovery: Some(&discovery),
        scans: &scans,
        now: Duration::from_secs(2),
    });
    books.view()
}

/// An agent that sees everything.
pub fn facts() -> AgentFacts {
    AgentFacts {
        build: BuildInfo {
            version: "0.1.0".to_owned(),
            revision: "0123456".to_owned(),
            rustc: "rustc 1.95.0".to_owned(),
            kernel: "6.12.0".to_owned(),
        },
        ready: Some(true),
        level: ProbeLevel::Full,
        hooks: HOOKS.iter().map(hook).collect(),
        collectors: vec![CollectorRun {
            collector: "discovery",
            duration: Duration::from_millis(3),
            success: true,
            completed_unix_seconds: 1.7e9,
        }],
        availability: CountAvailability::all_exact(),
        sight: ProcessSight {
            seen: Some(70),
            refused: vec![("privilege", 3), ("stuck", 0)],
        },
        proved_unix_seconds: Some(1_700_000_000.0),
        late_vmas: Some(1),
        log_lines_lost: vec![("rate", 3), ("unwritable", 0)],
    }
}

/// What came of tracking a process; another one has ended.
pub fn tracking() -> TrackingRows {
    TrackingRows {
        budget: 0.01,
        processes: vec![tracked(1, true), tracked(2, false)],
        states: vec![("tracked", 1), ("refused", 0), ("over_max", 3)],
        failures: vec![("traced", 2)],
        written: 5000,
        cpu: vec![("round", Duration::from_secs(3))],
    }
}

fn tracked(pid: u32, live: bool) -> TrackedRow {
    TrackedRow {
        process: ProcessKey {
            pid,
            start_boottime_ns: 0,
        },
        comm: b"redis-server".to_vec(),
        selector: "comm:redis-server".to_owned(),
        strategy: "markers".to_owned(),
        stopped: None,
        notes: Vec::new(),
        ended: (!live).then_some(Duration::ZERO),
        rounds: 7,
        tracked_pages: 4096,
        shared_pages: 256,
        not_looked_at: [
            (UntrackedReason::Kernel, 6),
            (UntrackedReason::TooLarge, 512),
        ]
        .into_iter()
        .collect(),
        mapping_count: Some(MappingCount {
            now: 300,
            most: 65530,
        }),
        written_pages: 1000 + u64::from(pid),
        unknown_pages: 20,
        vanished_pages: 0,
        in_doubt_pages: 0,
        interval: Duration::from_millis(2500),
        over_budget: true,
        last_cost: Duration::from_millis(25),
        cpu: Duration::from_millis(125),
        explained: live.then(explained),
    }
}

fn explained() -> ExplainedTotals {
    let answer = |verdict, cause| ReportAnswer { verdict, cause };
    ExplainedTotals {
        reported: BTreeMap::from([
            (answer(ReportVerdict::Changed, ReportCause::UserStore), 700),
            (
                answer(ReportVerdict::Unchanged, ReportCause::KernelCopy),
                30,
            ),
        ]),
        missed: 3,
        verified: 9000,
        lost: 1,
        one_of: 4,
        observed: Some(ObservedTotals {
            reported: BTreeMap::from([(
                answer(ReportVerdict::Unchanged, ReportCause::UserStore),
                80,
            )]),
            missed: 2,
            verified: 400,
        }),
    }
}

fn hook(hook: &'static Hook) -> HookRow {
    HookRow {
        hook: hook.name(),
        mechanism: Some(HookMechanism::Fentry),
        firing: Some(true),
        missed: Some(0),
    }
}

/// The numbers for docs/metrics.md.
pub fn size() -> SeriesTotals {
    let limits = SeriesLimits::default();
    let (processes, vmas) = (limits.max_processes as u32, limits.max_vmas as u32);
    let series = |processes, vmas, fill| series(view(limits, processes, vmas, fill));
    SeriesTotals {
        usual: series(processes, vmas, VmaFill::Usual),
        most: series(processes, vmas, VmaFill::Everything),
        empty: series(0, 0, VmaFill::Usual),
    }
}

/// Samples in the text of a view.
pub fn series(view: SeriesView) -> usize {
    let text = encode(&rows(view, facts())).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// What one scrape shows of an agent that tracks nothing.
pub fn rows(counted: SeriesView, agent: AgentFacts) -> ScrapeRows {
    ScrapeRows {
        counted,
        vma_label: VmaLabel::default(),
        agent,
        usage: usage_of_the_agent(),
        tracking: None,
    }
}

/// What the agent itself uses.
fn usage_of_the_agent() -> AgentUsage {
    AgentUsage {
        cpu_seconds: Some(1.5),
        resident_bytes: Some(20_000_000),
        virtual_bytes: Some(90_000_000),
        open_fds: Some(60),
        max_fds: Some(1024),
        threads: Some(3),
        start_unix_seconds: Some(1_700_000_000.25),
    }
}

pub fn key(n: u32) -> ProcessKey {
    ProcessKey {
        pid: 1000 + n,
        start_boottime_ns: u64::from(n),
    }
}

fn facts_of(n: u32) -> ProcessFacts {
    ProcessFacts {
        cgroup: Some(format!("/system.slice/worker-{n}.service").into_bytes()),
        page_table_bytes: Some(4096 * u64::from(n)),
    }
}

fn found(process: ProcessKey, index: u32) -> FoundVma {
    let start = 0x7f00_0000_0000 + u64::from(index) * 0x4000_0000;
    FoundVma {
        process,
        comm: b"qemu-system-x86".to_vec(),
        start,
        end: start + 0x4000_0000,
        backing: Backing::Shmem,
        features: Some(0x8000),
        name: Some(b"/memfd:guest-ram (deleted)".to_vec()),
    }
}

fn scan(found: &FoundVma) -> ScanResult {
    ScanResult {
        process: found.process,
        start: found.start,
        armed_pages: 250_000,
        written_pages: 12_144,
        unix_seconds: 1_700_000_060.0,
    }
}

fn mm_sample(id: u32, process: ProcessKey) -> MmSample {
    MmSample {
        id,
        process,
        born_ns: u64::from(id),
        comm: *b"qemu-system-x86\0",
        state: RecordState::Live,
        tables: Default::default(),
        counters: ProcessCounters {
            freed: [3, 2, 1],
            fault_wait_ns: 1_500_000_000,
        },
    }
}

fn vma_sample(id: u32, mm_id: u32, found: &FoundVma, fill: VmaFill) -> VmaSample {
    VmaSample {
        id,
        mm_id,
        start: found.start,
        end: found.end,
        born_ns: u64::from(id),
        backing: found.backing,
        mode: WpMode::Async,
        state: RecordState::Live,
        counters: counts(fill),
    }
}

fn counts(fill: VmaFill) -> VmaCounters {
    match fill {
        VmaFill::Usual => VmaCounters {
            faults: [[0; 3], [123_456, 2345, 34]],
            markers: [262_144, 2345, 0],
            tables: [[20, 512, 0, 0, 0, 0, 0, 0], [0; 8], [0; 8]],
        },
        VmaFill::Everything => VmaCounters {
            faults: [[123_456; 3]; 2],
            markers: [262_144; 3],
            tables: [[512; 8]; 3],
        },
    }
}

fn histogram() -> TimeHistogram {
    let mut buckets = [0; 14];
    buckets[3] = 40;
    buckets[7] = 2;
    buckets[13] = 1;
    TimeHistogram {
        buckets,
        sum_ns: 31_002_500_000,
    }
}

fn usage(used: u64, capacity: u64) -> RecordUsage {
    RecordUsage { used, capacity }
}
