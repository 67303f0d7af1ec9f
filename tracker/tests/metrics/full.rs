//! Models with a known number of processes and VMAs, for the golden scrape, the page of metrics
//! and the benchmark.
#![allow(dead_code, reason = "each of its users needs a part of it")]

use std::time::Duration;

use tracker::metrics::doc::Size;
use tracker::metrics::{
    AgentFacts, Availability, BuildInfo, CollectorFacts, ExplainRow, HookFacts, Scrape, SelfStats,
    TrackFacts, TrackRow, encode,
};
use tracker::model::sample::{FoundVma, MmSample, ProcessKey, Snapshot, Usage, VmaSample};
use tracker::model::{Counts, Discovery, Input, Limits, Model, ProcessFacts, ScanResult, View};
use tracker_ebpf::{RecordState, TimeHistogram, WpMode};
use uffd::Backing;

/// What each VMA counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Faults of its mode, markers, tables of the PTE level.
    Usual,
    /// Every combination.
    Everything,
}

/// A view of `processes` with `vmas` each, as many as the limits have room for.
pub fn view(limits: Limits, processes: u32, vmas: u32, fill: Fill) -> View {
    let mut snapshot = Snapshot {
        durations: [Some(histogram()); 3],
        vma_records: usage(u64::from(processes * vmas), 16_384),
        mm_records: usage(u64::from(processes), 1024),
        ..Snapshot::default()
    };
    let mut discovery = Discovery {
        at: Duration::from_secs(1),
        ..Discovery::default()
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
    let mut model = Model::new(limits);
    model.collect(&Input {
        snapshot: &snapshot,
        discovery: Some(&discovery),
        scans: &scans,
        now: Duration::from_secs(2),
    });
    model.view()
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
        level: "full".to_owned(),
        hooks: (0..HOOKS).map(hook).collect(),
        maps: vec![("scopes".to_owned(), usage(2, 1024))],
        collectors: vec![CollectorFacts {
            collector: "discovery".to_owned(),
            duration: Duration::from_millis(3),
            success: true,
        }],
        availability: Availability::all_exact(),
        track: None,
    }
}

/// One that tracks a process; another one has ended.
pub fn tracking() -> AgentFacts {
    let row = |pid: u32, live| TrackRow {
        pid,
        comm: b"redis-server".to_vec(),
        strategy: "markers".to_owned(),
        live,
        rounds: 7,
        written: 1000 + u64::from(pid),
        unknown: 20,
        vanished: 0,
        tracked: 4096,
        interval: Duration::from_millis(2500),
        cpu: Duration::from_millis(125),
        explained: live.then(|| ExplainRow {
            reported: vec![
                ("changed", "user-store", 700),
                ("unchanged", "kernel-copy", 30),
            ],
            missed: 3,
            verified: 9000,
            lost: 1,
            one_of: 4,
        }),
    };
    let track = TrackFacts {
        budget: 0.01,
        processes: vec![row(1, true), row(2, false)],
        states: vec![("tracked", 1), ("refused", 0), ("over_max", 3)],
        failures: vec![("traced", 2)],
        written: 5000,
        cpu: vec![("round", Duration::from_secs(3))],
    };
    AgentFacts {
        track: Some(track),
        ..facts()
    }
}

const HOOKS: usize = 30;

fn hook(n: usize) -> HookFacts {
    HookFacts {
        hook: format!("hook_{n}"),
        mechanism: "fentry".to_owned(),
        attached: true,
        missed: Some(0),
    }
}

/// The numbers for docs/metrics.md.
pub fn size() -> Size {
    let limits = Limits::default();
    let (processes, vmas) = (limits.max_processes as u32, limits.max_vmas as u32);
    let series = |processes, vmas, fill| series(view(limits, processes, vmas, fill));
    Size {
        usual: series(processes, vmas, Fill::Usual),
        most: series(processes, vmas, Fill::Everything),
        empty: series(0, 0, Fill::Usual),
    }
}

/// Samples in the text of a view.
pub fn series(view: View) -> usize {
    let text = encode(&Scrape::new(view, facts(), stats())).map(|e| e.body);
    let text = text.unwrap_or_default();
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// What the agent itself uses.
pub fn stats() -> SelfStats {
    SelfStats {
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
        freed: [3, 2, 1],
        fault_wait_ns: 1_500_000_000,
    }
}

fn vma_sample(id: u32, mm_id: u32, found: &FoundVma, fill: Fill) -> VmaSample {
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

fn counts(fill: Fill) -> Counts {
    match fill {
        Fill::Usual => Counts {
            faults: [[0; 3], [123_456, 2345, 34]],
            markers: [262_144, 2345, 0],
            tables: [[20, 512, 0, 0, 0, 0, 0, 0], [0; 8], [0; 8]],
        },
        Fill::Everything => Counts {
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

fn usage(used: u64, capacity: u64) -> Usage {
    Usage { used, capacity }
}
