//! Every family, in the order of the exposition and of docs/metrics.md.

mod agent;
mod explain;
mod node;
mod process;
pub(super) mod track;
mod vma;

use tracker_ebpf::{FaultEntry, MarkerEvent, TableLevel, WpMode};

use super::facts::Signal;
use super::family::Family;

/// All families.
pub static FAMILIES: &[Family] = &[
    vma::FAULTS,
    vma::MARKERS,
    vma::PAGE_TABLES_ALLOCATED,
    vma::PAGES,
    vma::VMA_BYTES,
    vma::VMA_INFO,
    process::PAGE_TABLES_FREED,
    process::PAGE_TABLE_BYTES,
    process::FAULT_WAIT,
    process::PROCESS_INFO,
    node::FAULTS,
    node::MARKERS,
    node::PAGE_TABLES_ALLOCATED,
    node::FAULT_WAIT,
    node::ARM,
    node::SCAN,
    track::WRITTEN,
    track::UNKNOWN,
    track::VANISHED,
    track::ROUNDS,
    track::TRACKED,
    track::INTERVAL,
    track::CPU,
    track::INFO,
    explain::REPORTED,
    explain::MISSED,
    explain::VERIFIED,
    explain::LOST,
    explain::SAMPLE,
    track::NODE_WRITTEN,
    track::NODE_CPU,
    track::BUDGET,
    track::PROCESSES,
    track::FAILURES,
    agent::BUILD_INFO,
    agent::LEVEL,
    agent::PROBE_ATTACHED,
    agent::PROBE_MISSED,
    agent::PROBE_EVENTS,
    agent::RECORD_FAILURES,
    agent::MAP_ENTRIES,
    agent::MAP_CAPACITY,
    agent::VMAS_FOLDED,
    agent::SCAN_TIMESTAMP,
    agent::COLLECTOR_DURATION,
    agent::COLLECTOR_SUCCESS,
    agent::CPU_SECONDS,
    agent::RESIDENT_BYTES,
    agent::VIRTUAL_BYTES,
    agent::OPEN_FDS,
    agent::MAX_FDS,
    agent::THREADS,
    agent::START_TIME,
];

/// For families that do not depend on hooks.
fn no_signals() -> Vec<Signal> {
    Vec::new()
}

fn fault_signals() -> Vec<Signal> {
    fault_kinds()
        .map(|(mode, entry)| Signal::Fault(mode, entry))
        .collect()
}

fn marker_signals() -> Vec<Signal> {
    MarkerEvent::ALL.map(Signal::Marker).to_vec()
}

fn allocated_signals() -> Vec<Signal> {
    TableLevel::ALL.map(Signal::TableAllocated).to_vec()
}

fn freed_signals() -> Vec<Signal> {
    TableLevel::ALL.map(Signal::TableFreed).to_vec()
}

fn fault_wait_signals() -> Vec<Signal> {
    vec![Signal::FaultWait]
}

/// Every kind of fault.
fn fault_kinds() -> impl Iterator<Item = (WpMode, FaultEntry)> {
    (WpMode::ALL.into_iter()).flat_map(|mode| FaultEntry::ALL.map(move |entry| (mode, entry)))
}
