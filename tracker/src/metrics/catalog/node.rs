//! Families of the node as a whole: every combination is there from the start at 0, and never
//! goes down while the agent lives.

use tracker_ebpf::MeasuredTime;

use super::super::facts::Signal;
use super::super::family::{Family, Kind, Samples};
use super::super::scrape::Scrape;
use super::fault_wait_signals;
use super::vma::{self, add_faults, add_markers, add_tables};

pub(super) const FAULTS: Family = Family {
    name: "uffdwp_node_faults_total",
    labels: &["mode", "entry"],
    help: "Write-protect faults of all processes since the agent started, whatever exited meanwhile. Labels as in uffdwp_faults_total.",
    example: "rate(uffdwp_node_faults_total[5m])",
    samples: |scrape, samples| {
        let available = &scrape.facts.availability;
        add_faults(samples, available, &[], &scrape.view.node, None);
    },
    ..vma::FAULTS
};

pub(super) const MARKERS: Family = Family {
    name: "uffdwp_node_markers_total",
    labels: &["event"],
    help: "Pte markers of all processes since the agent started, whatever exited meanwhile. Labels as in uffdwp_markers_total.",
    example: "increase(uffdwp_node_markers_total{event=\"dropped\"}[1h])",
    samples: |scrape, samples| {
        add_markers(samples, &scrape.facts.availability, &[], &scrape.view.node);
    },
    ..vma::MARKERS
};

pub(super) const PAGE_TABLES_ALLOCATED: Family = Family {
    name: "uffdwp_node_page_tables_allocated_total",
    labels: &["level", "cause"],
    help: "Page tables allocated for memory of all processes that use uffd-wp since the agent started, whatever exited meanwhile. Labels as in uffdwp_page_tables_allocated_total.",
    example: "sum by (cause) (rate(uffdwp_node_page_tables_allocated_total[5m]))",
    samples: |scrape, samples| {
        let available = &scrape.facts.availability;
        add_tables(samples, available, &[], &scrape.view.node, |_, _| true);
    },
    ..vma::PAGE_TABLES_ALLOCATED
};

pub(super) const FAULT_WAIT: Family = Family {
    name: "uffdwp_fault_wait_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    help: "How long a thread waited until a handler resolved its write-protect fault.",
    source: "handle_userfault, entry to return",
    exactness: "exact",
    example: "histogram_quantile(0.99, rate(uffdwp_fault_wait_seconds_bucket[5m]))",
    signals: fault_wait_signals,
    samples: |scrape, samples| histogram(scrape, samples, MeasuredTime::FaultWait),
};

pub(super) const ARM: Family = Family {
    name: "uffdwp_arm_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    help: "How long one UFFDIO_WRITEPROTECT that arms took.",
    source: "userfaultfd_ioctl, entry to return, around uffd_wp_range",
    exactness: "exact",
    example: "histogram_quantile(0.99, rate(uffdwp_arm_seconds_bucket[5m]))",
    signals: || vec![Signal::ArmTime],
    samples: |scrape, samples| histogram(scrape, samples, MeasuredTime::Arm),
};

pub(super) const SCAN: Family = Family {
    name: "uffdwp_scan_seconds",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: &[],
    help: "How long one PAGEMAP_SCAN took; those of the agent are left out where the hook task_vma is attached, which tells them apart.",
    source: "do_pagemap_scan, entry to return",
    exactness: "exact",
    example: "histogram_quantile(0.99, rate(uffdwp_scan_seconds_bucket[5m]))",
    signals: || vec![Signal::ScanTime],
    samples: |scrape, samples| histogram(scrape, samples, MeasuredTime::Scan),
};

fn histogram(scrape: &Scrape, samples: &mut Samples, duration: MeasuredTime) {
    if let Some(histogram) = &scrape.view.durations[duration as usize] {
        samples.histogram(histogram);
    }
}
