//! Page tables.

use prometheus::proto::LabelPair;
use tracker_ebpf::{TableCause, TableLevel};

use super::super::family::{FamilyKind, FamilyRows, FamilySamples, FamilySpec};
use crate::model::VmaCounters;
use crate::probes::CountSignal;

pub(super) const FAMILIES: &[FamilySpec] = &[
    ALLOCATED,
    PROCESS_ALLOCATED,
    FREED,
    TABLE_BYTES,
    NODE_ALLOCATED,
];

const ALLOCATED: FamilySpec = FamilySpec {
    name: "uffdwp_page_tables_allocated_total",
    kind: FamilyKind::Counter,
    unit: "page tables of 4 KiB",
    labels: &["pid", "comm", "vma", "backing", "level", "cause"],
    help: "Page tables allocated for memory of processes that use uffd-wp, by level and by the \
        operation that needed them. Tables that lost a race and were freed are not counted. The \
        series of the pmd and pud levels appear with the first such table.",
    source: "pmd_install, pgtable_trans_huge_deposit, __pmd_alloc, __pud_alloc",
    exactness: "exact: all that a process allocated minus all that it freed is the change of VmPTE",
    example: "4096 * sum by (pid, comm, cause) (uffdwp_page_tables_allocated_total)",
    signals: &CountSignal::TABLES_ALLOCATED,
    rows: FamilyRows::Vma(|line, samples| {
        let wanted = |level, value| level == TableLevel::Pte || value > 0;
        add_tables(samples, &line.labels, line.counts, wanted);
    }),
};

const PROCESS_ALLOCATED: FamilySpec = FamilySpec {
    name: "uffdwp_process_page_tables_allocated_total",
    labels: &["pid", "comm", "level"],
    help: "Page tables allocated for memory of a process that uses uffd-wp, whatever became of the \
        VMA that needed them: the series of VMAs disappear with them, this one stays as long as \
        the process.",
    example: "uffdwp_process_page_tables_allocated_total - on (pid, comm, level) \
        uffdwp_page_tables_freed_total",
    rows: FamilyRows::Process(|line, samples| {
        for level in TableLevel::ALL {
            if samples.has(CountSignal::TableAllocated(level)) {
                let tables = line.total.tables[level as usize].iter().sum();
                samples.count(&line.labels, [("level", level.as_str())], tables);
            }
        }
    }),
    ..ALLOCATED
};

const NODE_ALLOCATED: FamilySpec = FamilySpec {
    name: "uffdwp_node_page_tables_allocated_total",
    labels: &["level", "cause"],
    help: "Page tables allocated for memory of all processes that use uffd-wp since the agent \
        started, whatever exited meanwhile. Labels as in uffdwp_page_tables_allocated_total.",
    example: "sum by (cause) (rate(uffdwp_node_page_tables_allocated_total[5m]))",
    rows: FamilyRows::Node(|view, samples| {
        add_tables(samples, &[], &view.node, |_, _| true);
    }),
    ..ALLOCATED
};

/// One sample per level and cause that is wanted.
fn add_tables(
    samples: &mut FamilySamples<'_>,
    row: &[LabelPair],
    counts: &VmaCounters,
    wanted: impl Fn(TableLevel, u64) -> bool,
) {
    for level in TableLevel::ALL {
        if !samples.has(CountSignal::TableAllocated(level)) {
            continue;
        }
        for cause in TableCause::ALL {
            let value = counts.tables[level as usize][cause as usize];
            if wanted(level, value) {
                let labels = [("level", level.as_str()), ("cause", cause.as_str())];
                samples.count(row, labels, value);
            }
        }
    }
}

const FREED: FamilySpec = FamilySpec {
    name: "uffdwp_page_tables_freed_total",
    kind: FamilyKind::Counter,
    unit: "page tables of 4 KiB",
    labels: &["pid", "comm", "level"],
    help: "Page tables freed by processes that use uffd-wp. Arming allocates tables that stay when \
        the userfaultfd is closed.",
    source: "___pte_free_tlb, ___pmd_free_tlb, ___pud_free_tlb, pte_free_defer, \
        pgtable_trans_huge_withdraw",
    exactness: "exact: all that a process allocated minus all that it freed is the change of VmPTE",
    example: "sum by (pid) (rate(uffdwp_page_tables_freed_total[5m]))",
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

const TABLE_BYTES: FamilySpec = FamilySpec {
    name: "uffdwp_page_table_bytes",
    kind: FamilyKind::Gauge,
    unit: "bytes",
    labels: &["pid", "comm"],
    help: "Memory in page tables of a process that uses uffd-wp.",
    source: "VmPTE of /proc/PID/status (mm->pgtables_bytes)",
    exactness: "exact when it was asked: at each discovery that finds that it has run, or has \
        other VMAs; where more than 64 have run, 64 are asked at a time, in turns",
    example: "sum by (pid, comm) (uffdwp_page_table_bytes) > 64 * 1024 * 1024",
    signals: &[],
    rows: FamilyRows::Process(|line, samples| {
        if let Some(bytes) = line.page_table_bytes {
            samples.count(&line.labels, [], bytes);
        }
    }),
};
