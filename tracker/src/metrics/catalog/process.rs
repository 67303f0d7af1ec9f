//! Families with a row per process.

use tracker_ebpf::TableLevel;

use super::super::family::{FamilyKind, FamilyRows, FamilySpec, seconds};
use super::super::label::{self, pair};
use crate::model::CountSignal;

pub(super) const FAMILIES: &[FamilySpec] = &[
    PAGE_TABLES_FREED,
    PAGE_TABLE_BYTES,
    FAULT_WAIT,
    PROCESS_INFO,
];

const PAGE_TABLES_FREED: FamilySpec = FamilySpec {
    name: "uffdwp_page_tables_freed_total",
    kind: FamilyKind::Counter,
    unit: "page tables of 4 KiB",
    labels: &["pid", "comm", "level"],
    help: "Page tables freed by processes that use uffd-wp. Arming allocates tables that stay when \
        the userfaultfd is closed.",
    source: "___pte_free_tlb, ___pmd_free_tlb, ___pud_free_tlb, pte_free_defer, \
        pgtable_trans_huge_withdraw",
    exactness: "exact: allocated minus freed is the change of VmPTE",
    example: "sum by (pid) (uffdwp_page_tables_allocated_total) - on (pid) sum by (pid) \
        (uffdwp_page_tables_freed_total)",
    signals: &CountSignal::TABLES_FREED,
    rows: FamilyRows::Process(|line, samples| {
        for level in TableLevel::ALL {
            if samples.has(CountSignal::TableFreed(level)) {
                let labels = [("level", level.as_str())];
                samples.count(&line.labels, labels, line.counts.freed[level as usize]);
            }
        }
    }),
};

const PAGE_TABLE_BYTES: FamilySpec = FamilySpec {
    name: "uffdwp_page_table_bytes",
    kind: FamilyKind::Gauge,
    unit: "bytes",
    labels: &["pid", "comm"],
    help: "Memory in page tables of a process that uses uffd-wp.",
    source: "VmPTE of /proc/PID/status (mm->pgtables_bytes)",
    exactness: "exact at the last discovery",
    example: "sum by (pid, comm) (uffdwp_page_table_bytes) > 64 * 1024 * 1024",
    signals: &[],
    rows: FamilyRows::Process(|line, samples| {
        if let Some(bytes) = line.page_table_bytes {
            samples.count(&line.labels, [], bytes);
        }
    }),
};

const FAULT_WAIT: FamilySpec = FamilySpec {
    name: "uffdwp_process_fault_wait_seconds_total",
    kind: FamilyKind::Counter,
    unit: "seconds, summed over threads",
    labels: &["pid", "comm"],
    help: "Time that threads of the process waited until a handler resolved their write-protect \
        fault.",
    source: "handle_userfault, entry to return",
    exactness: "exact to the clock; the time of a wait counts when it is over",
    example: "rate(uffdwp_process_fault_wait_seconds_total[5m])",
    signals: &[CountSignal::FaultWait],
    rows: FamilyRows::Process(|line, samples| {
        samples.add(&line.labels, [], seconds(line.counts.fault_wait_ns));
    }),
};

const PROCESS_INFO: FamilySpec = FamilySpec {
    name: "uffdwp_process_info",
    kind: FamilyKind::Gauge,
    unit: "always 1",
    labels: &["pid", "comm", "cgroup"],
    help: "What else is known about a process with series of its own, to join on pid: its cgroup.",
    source: "/proc/PID/cgroup",
    exactness: "as of the last discovery",
    example: "rate(uffdwp_faults_total[5m]) * on (pid) group_left (cgroup) uffdwp_process_info",
    signals: &[],
    rows: FamilyRows::Process(|line, samples| {
        if let Some(process) = line.own {
            let cgroup = process.cgroup.as_deref().unwrap_or_default();
            let mut labels = line.labels.clone();
            labels.push(pair("cgroup", label::text(cgroup)));
            samples.count(&labels, [], 1);
        }
    }),
};
