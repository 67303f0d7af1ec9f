//! How long things took.

use tracker_ebpf::MeasuredTime;

use super::super::family::{FamilyKind, FamilyRows, FamilySamples, FamilySpec, seconds};
use crate::model::SeriesView;
use crate::probes::CountSignal;

pub(super) const FAMILIES: &[FamilySpec] = &[PROCESS_FAULT_WAIT, FAULT_WAIT, ARM, SCAN];

const PROCESS_FAULT_WAIT: FamilySpec = FamilySpec {
    name: "uffdwp_process_fault_wait_seconds_total",
    kind: FamilyKind::Counter,
    unit: "seconds, summed over threads",
    labels: &["pid", "comm"],
    help: "Time that threads of the process waited until a handler resolved their write-protect \
        fault.",
    source: "handle_userfault, entry to return",
    exactness: "exact to the clock; the time of a wait counts when it is over",
    example: "rate(uffdwp_process_fault_wait_seconds_total[5m])",
    signals: &[CountSignal::Time(MeasuredTime::FaultWait)],
    rows: FamilyRows::Process(|line, samples| {
        samples.add(&line.labels, [], seconds(line.counts.fault_wait_ns));
    }),
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
    signals: &[CountSignal::Time(MeasuredTime::FaultWait)],
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
    signals: &[CountSignal::Time(MeasuredTime::Arm)],
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
    signals: &[CountSignal::Time(MeasuredTime::Scan)],
    rows: FamilyRows::Node(|view, samples| histogram(view, samples, MeasuredTime::Scan)),
};

fn histogram(view: &SeriesView, samples: &mut FamilySamples<'_>, time: MeasuredTime) {
    if let Some(histogram) = &view.reading.durations[time as usize] {
        samples.histogram(histogram);
    }
}
