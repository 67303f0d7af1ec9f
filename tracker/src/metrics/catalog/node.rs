//! Families of the node as a whole: every combination is there from the start at 0, and never goes
//! down while the agent lives.

use tracker_ebpf::MeasuredTime;

use super::super::family::{FamilyKind, FamilyRows, FamilySamples, FamilySpec};
use super::vma::{self, add_faults, add_markers, add_tables};
use crate::model::{CountSignal, SeriesView};

pub(super) const FAMILIES: &[FamilySpec] = &[
    FAULTS,
    MARKERS,
    PAGE_TABLES_ALLOCATED,
    FAULT_WAIT,
    ARM,
    SCAN,
];

const FAULTS: FamilySpec = FamilySpec {
    name: "uffdwp_node_faults_total",
    labels: &["mode", "entry"],
    help: "Write-protect faults of all processes since the agent started, whatever exited \
        meanwhile. Labels as in uffdwp_faults_total.",
    example: "rate(uffdwp_node_faults_total[5m])",
    rows: FamilyRows::Node(|view, samples| add_faults(samples, &[], &view.node, None)),
    ..vma::FAULTS
};

const MARKERS: FamilySpec = FamilySpec {
    name: "uffdwp_node_markers_total",
    labels: &["event"],
    help: "Pte markers of all processes since the agent started, whatever exited meanwhile. Labels \
        as in uffdwp_markers_total.",
    example: "increase(uffdwp_node_markers_total{event=\"dropped\"}[1h])",
    rows: FamilyRows::Node(|view, samples| add_markers(samples, &[], &view.node)),
    ..vma::MARKERS
};

const PAGE_TABLES_ALLOCATED: FamilySpec = FamilySpec {
    name: "uffdwp_node_page_tables_allocated_total",
    labels: &["level", "cause"],
    help: "Page tables allocated for memory of all processes that use uffd-wp since the agent \
        started, whatever exited meanwhile. Labels as in uffdwp_page_tables_allocated_total.",
    example: "sum by (cause) (rate(uffdwp_node_page_tables_allocated_total[5m]))",
    rows: FamilyRows::Node(|view, samples| {
        add_tables(samples, &[], &view.node, |_, _| true);
    }),
    ..vma::PAGE_TABLES_ALLOCATED
};

const FAULT_WAIT: FamilySpec = FamilySpec {
    name: "uffdwp_fault_wait_seconds",
    kind: FamilyKind::Histogram,
    unit: "seconds",
    labels: &[],
    help: "How long a thread waited until a handler resolved its write-protect fault.",
    source: "handle_userfault, entry to return",
    exactness: "exact",
    example: "histogram_quantile(0.99, rate(uffdwp_fault_wait_seconds_bucket[5m]))",
    signals: &[CountSignal::FaultWait],
    rows: FamilyRows::Node(|view, samples| histogram(view, samples, MeasuredTime::FaultWait)),
};

const ARM: FamilySpec = FamilySpec {
    name: "uffdwp_arm_seconds",
    kind: FamilyKind::Histogram,
    unit: "seconds",
    labels: &[],
    help: "How long one UFFDIO_WRITEPROTECT that arms took.",
    source: "userfaultfd_ioctl, entry to return, around uffd_wp_range",
    exactness: "exact",
    example: "histogram_quantile(0.99, rate(uffdwp_arm_seconds_bucket[5m]))",
    signals: &[CountSignal::ArmTime],
    rows: FamilyRows::Node(|view, samples| histogram(view, samples, MeasuredTime::Arm)),
};

const SCAN: FamilySpec = FamilySpec {
    name: "uffdwp_scan_seconds",
    kind: FamilyKind::Histogram,
    unit: "seconds",
    labels: &[],
    help: "How long one PAGEMAP_SCAN took; those of the agent are left out where the hook task_vma \
        is attached, which tells them apart.",
    source: "do_pagemap_scan, entry to return",
    exactness: "exact",
    example: "histogram_quantile(0.99, rate(uffdwp_scan_seconds_bucket[5m]))",
    signals: &[CountSignal::ScanTime],
    rows: FamilyRows::Node(|view, samples| histogram(view, samples, MeasuredTime::Scan)),
};

fn histogram(view: &SeriesView, samples: &mut FamilySamples<'_>, time: MeasuredTime) {
    if let Some(histogram) = &view.reading.durations[time as usize] {
        samples.histogram(histogram);
    }
}
