//! Rows out of two answers of an agent: what was counted, and how fast. Pure functions.

use std::collections::HashMap;

use uffd::PAGE_SIZE;

use super::usage::{MemoryNow, NodeUsage, ProcessUsage, VmaUsage};

/// A process, whatever has its pid later.
pub(crate) type ProcessId = (u32, u64);

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RowId {
    Process(ProcessId),
    Vma(ProcessId, String),
}

/// A line of the table. `None`: not known, which is not 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UsageRow {
    pub id: RowId,
    pub pid: u32,
    pub comm: String,
    /// VMAs of a process.
    pub vmas: Option<u64>,
    /// What names a VMA.
    pub vma: Option<String>,
    pub backing: Option<String>,
    /// File or mapping of a VMA, cgroup of a process.
    pub name: Option<String>,
    pub exited: bool,
    pub memory: MemoryNow,
    pub faults: Option<u64>,
    pub faults_per_second: Option<f64>,
    /// Page tables allocated in a VMA, in bytes; all that a process has now (`VmPTE`).
    pub table_bytes: Option<u64>,
    /// Seconds that threads waited for a handler, in each second.
    pub waiting: Option<f64>,
    /// Reported pages that had not changed, of those that were compared.
    pub unchanged: Option<(u64, u64)>,
    pub strategy: Option<String>,
}

/// What an earlier answer had counted: the rates of the next one come from it.
#[derive(Debug, Default)]
struct EarlierCounts {
    counts: HashMap<RowId, (Option<u64>, Option<f64>)>,
    seconds: f64,
}

impl EarlierCounts {
    fn of(earlier: Option<&NodeUsage>, now: &NodeUsage) -> Self {
        // An agent that was started anew counts from 0.
        let earlier = earlier.filter(|earlier| earlier.uptime_seconds < now.uptime_seconds);
        let Some(earlier) = earlier else {
            return Self::default();
        };
        let mut counts = HashMap::new();
        for process in &earlier.processes {
            let id = process_id(process);
            let wait = process.fault_wait_seconds;
            counts.insert(RowId::Process(id), (process.counted.faults(), wait));
            for vma in &process.vmas {
                let id = RowId::Vma(id, vma.vma.clone());
                counts.insert(id, (vma.counted.faults(), None));
            }
        }
        Self {
            counts,
            seconds: now.uptime_seconds - earlier.uptime_seconds,
        }
    }

    /// Faults in a second, and seconds waited in a second. What is new began at 0.
    fn rates(
        &self,
        id: &RowId,
        faults: Option<u64>,
        wait: Option<f64>,
    ) -> (Option<f64>, Option<f64>) {
        if self.seconds <= 0.0 {
            return (None, None);
        }
        let (faults_before, wait_before) = self.counts.get(id).copied().unwrap_or_default();
        let rate = |gain: f64| gain.max(0.0) / self.seconds;
        let faults = faults.map(|now| now.saturating_sub(faults_before.unwrap_or(0)));
        let wait = wait.map(|now| now - wait_before.unwrap_or(0.0));
        (faults.map(|gain| rate(gain as f64)), wait.map(rate))
    }
}

/// A row for each process.
pub(crate) fn process_rows(earlier: Option<&NodeUsage>, now: &NodeUsage) -> Vec<UsageRow> {
    let before = EarlierCounts::of(earlier, now);
    let row = |process: &ProcessUsage| {
        let id = RowId::Process(process_id(process));
        let faults = process.counted.faults();
        let (rate, waiting) = before.rates(&id, faults, process.fault_wait_seconds);
        UsageRow {
            id,
            pid: process.pid,
            comm: process.comm.clone(),
            vmas: Some(process.vmas.iter().filter(|vma| !vma.exited).count() as u64),
            vma: None,
            backing: None,
            name: process.cgroup.clone(),
            exited: process.exited,
            memory: process.memory(),
            faults,
            faults_per_second: rate,
            table_bytes: process.page_table_bytes,
            waiting,
            unchanged: process.tracked.as_ref().and_then(|it| it.unchanged()),
            strategy: process.tracked.as_ref().map(|it| it.strategy.clone()),
        }
    };
    now.processes.iter().map(row).collect()
}

/// A row for each VMA of one process, or of all.
pub(crate) fn vma_rows(
    earlier: Option<&NodeUsage>,
    now: &NodeUsage,
    of: Option<ProcessId>,
) -> Vec<UsageRow> {
    let before = EarlierCounts::of(earlier, now);
    let processes = now.processes.iter();
    let processes = processes.filter(|process| of.is_none_or(|id| id == process_id(process)));
    let row = |process: &ProcessUsage, vma: &VmaUsage| {
        let id = RowId::Vma(process_id(process), vma.vma.clone());
        let faults = vma.counted.faults();
        let (rate, _) = before.rates(&id, faults, None);
        UsageRow {
            id,
            pid: process.pid,
            comm: process.comm.clone(),
            vmas: None,
            vma: Some(vma.vma.clone()),
            backing: Some(vma.backing.clone()),
            name: vma.name.clone(),
            exited: vma.exited || process.exited,
            memory: vma.now,
            faults,
            faults_per_second: rate,
            table_bytes: vma.counted.page_tables().map(|tables| tables * PAGE_SIZE),
            waiting: None,
            unchanged: None,
            strategy: None,
        }
    };
    processes
        .flat_map(|process| process.vmas.iter().map(move |vma| row(process, vma)))
        .collect()
}

pub(crate) const fn process_id(process: &ProcessUsage) -> ProcessId {
    (process.pid, process.start_boottime_ns)
}
