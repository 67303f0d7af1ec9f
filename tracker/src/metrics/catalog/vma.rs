//! Families with a row per VMA.

use prometheus::proto::LabelPair;
use tracker_ebpf::{FaultEntry, MarkerEvent, TableCause, TableLevel, WpMode};

use super::super::family::{FamilyKind, FamilyRows, FamilySamples, FamilySpec};
use super::super::label::{self, pair};
use super::super::labelled::hex;
use crate::model::{CountSignal, ProcessRow, VmaCounters, VmaRow};

pub(super) const FAMILIES: &[FamilySpec] = &[
    FAULTS,
    MARKERS,
    PAGE_TABLES_ALLOCATED,
    PAGES,
    VMA_BYTES,
    VMA_INFO,
];

pub(super) const FAULTS: FamilySpec = FamilySpec {
    name: "uffdwp_faults_total",
    kind: FamilyKind::Counter,
    unit: "faults",
    labels: &["pid", "comm", "vma", "backing", "mode", "entry"],
    help: "Write-protect faults of userfaultfd by what they found: pte is a write to an armed \
        page, marker an access to a pte marker, huge a write to an armed PMD or hugetlb entry. The \
        first write over a marker counts one marker and one pte, an async write to an armed THP \
        one huge and one pte.",
    source: "do_wp_page, handle_userfault, do_swap_page, __split_huge_pmd, hugetlb_fault",
    exactness: "exact",
    example: "topk(5, sum by (pid, comm) (rate(uffdwp_faults_total[5m])))",
    signals: &CountSignal::FAULTS,
    rows: FamilyRows::Vma(|line, samples| {
        add_faults(samples, &line.labels, line.counts, line.mode);
    }),
};

/// One sample per kind of fault, without what a VMA cannot have because of its mode.
pub(super) fn add_faults(
    samples: &mut FamilySamples<'_>,
    row: &[LabelPair],
    counts: &VmaCounters,
    only: Option<WpMode>,
) {
    for mode in WpMode::ALL {
        for entry in FaultEntry::ALL {
            let value = counts.faults[mode as usize][entry as usize];
            let possible = only.is_none_or(|only| only == mode) || value > 0;
            if possible && samples.has(CountSignal::Fault(mode, entry)) {
                let labels = [("mode", mode.as_str()), ("entry", entry.as_str())];
                samples.count(row, labels, value);
            }
        }
    }
}

pub(super) const MARKERS: FamilySpec = FamilySpec {
    name: "uffdwp_markers_total",
    kind: FamilyKind::Counter,
    unit: "pte markers",
    labels: &["pid", "comm", "vma", "backing", "event"],
    help: "Pte markers of userfaultfd write-protection: installed where no page was, consumed by a \
        fault that put a page there, dropped without one (resolved, zapped, unmapped).",
    source: "uffd_wp_range, make_uffd_wp_pte and unmap_page_range (installed, dropped), \
        do_swap_page and hugetlb_fault (consumed)",
    exactness: "consumed exact; installed and dropped estimated: the entries of a range are \
        counted before the kernel changes them, since change_pte_range and zap_pte_range are \
        inlined",
    example: "sum by (pid, event) (rate(uffdwp_markers_total[5m]))",
    signals: &CountSignal::MARKERS,
    rows: FamilyRows::Vma(|line, samples| add_markers(samples, &line.labels, line.counts)),
};

/// One sample per event.
pub(super) fn add_markers(
    samples: &mut FamilySamples<'_>,
    row: &[LabelPair],
    counts: &VmaCounters,
) {
    for event in MarkerEvent::ALL {
        if samples.has(CountSignal::Marker(event)) {
            let labels = [("event", event.as_str())];
            samples.count(row, labels, counts.markers[event as usize]);
        }
    }
}

pub(super) const PAGE_TABLES_ALLOCATED: FamilySpec = FamilySpec {
    name: "uffdwp_page_tables_allocated_total",
    kind: FamilyKind::Counter,
    unit: "page tables of 4 KiB",
    labels: &["pid", "comm", "vma", "backing", "level", "cause"],
    help: "Page tables allocated for memory of processes that use uffd-wp, by level and by the \
        operation that needed them. Tables that lost a race and were freed are not counted. The \
        series of the pmd and pud levels appear with the first such table.",
    source: "pmd_install, pgtable_trans_huge_deposit, __pmd_alloc, __pud_alloc",
    exactness: "exact: allocated minus freed is the change of VmPTE",
    example: "sum by (pid, cause) (increase(uffdwp_page_tables_allocated_total[1h])) * 4096",
    signals: &CountSignal::TABLES_ALLOCATED,
    rows: FamilyRows::Vma(|line, samples| {
        let wanted = |level, value| level == TableLevel::Pte || value > 0;
        add_tables(samples, &line.labels, line.counts, wanted);
    }),
};

/// One sample per level and cause that is wanted.
pub(super) fn add_tables(
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

const PAGES: FamilySpec = FamilySpec {
    name: "uffdwp_pages",
    kind: FamilyKind::Gauge,
    unit: "pages of 4 KiB",
    labels: &["pid", "comm", "vma", "backing", "state"],
    help: "Pages by state as the last background scan saw them; armed and written together are all \
        pages of the VMA. What was never armed counts as written, as in the kernel.",
    source: "PAGEMAP_SCAN of /proc/PID/pagemap, which changes nothing",
    exactness: "exact at the time of the scan, see uffdwp_scan_timestamp_seconds",
    example: "sum by (pid) (uffdwp_pages{state=\"written\"}) / sum by (pid) (uffdwp_pages)",
    signals: &[CountSignal::Pages],
    rows: FamilyRows::Vma(|line, samples| {
        if let Some(pages) = line.gauges.and_then(|gauges| gauges.pages) {
            samples.count(&line.labels, [("state", "armed")], pages.armed);
            samples.count(&line.labels, [("state", "written")], pages.written);
        }
    }),
};

const VMA_BYTES: FamilySpec = FamilySpec {
    name: "uffdwp_vma_bytes",
    kind: FamilyKind::Gauge,
    unit: "bytes",
    labels: &["pid", "comm", "vma", "backing"],
    help: "Size of memory registered for write-protection.",
    source: "vm_start and vm_end of struct vm_area_struct, by iter/task_vma or /proc/PID/smaps",
    exactness: "exact at the last discovery",
    example: "sum(uffdwp_vma_bytes)",
    signals: &[],
    rows: FamilyRows::Vma(|line, samples| {
        if let Some(gauges) = &line.gauges {
            samples.count(&line.labels, [], gauges.bytes);
        }
    }),
};

const VMA_INFO: FamilySpec = FamilySpec {
    name: "uffdwp_vma_info",
    kind: FamilyKind::Gauge,
    unit: "always 1",
    labels: &["pid", "vma", "end", "name", "features"],
    help: "What else is known about a VMA with series of its own, to join on pid and vma: its end, \
        the file or mapping name, and the features of its userfaultfd (UFFD_FEATURE_* in hex).",
    source: "/proc/PID/maps and /proc/PID/fdinfo",
    exactness: "as of the last discovery",
    example: "rate(uffdwp_faults_total[5m]) * on (pid, vma) group_left (name) uffdwp_vma_info",
    signals: &[],
    rows: FamilyRows::Vma(|line, samples| {
        if let Some((process, vma)) = line.own {
            samples.count(&vma_info_labels(process, vma), [], 1);
        }
    }),
};

fn vma_info_labels(process: &ProcessRow, vma: &VmaRow) -> [LabelPair; 5] {
    let features = vma.features.map(hex);
    [
        pair("pid", process.pid.to_string()),
        pair("vma", hex(vma.start)),
        pair("end", hex(vma.end)),
        pair("name", label::text(vma.name.as_deref().unwrap_or_default())),
        pair("features", features.unwrap_or_default()),
    ]
}
