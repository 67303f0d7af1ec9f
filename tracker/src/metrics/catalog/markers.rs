//! Pte markers.

use prometheus::proto::LabelPair;
use tracker_ebpf::MarkerEvent;

use super::super::family::{FamilyKind, FamilyRows, FamilySamples, FamilySpec};
use crate::model::VmaCounters;
use crate::probes::CountSignal;

pub(super) const FAMILIES: &[FamilySpec] = &[MARKERS, NODE_MARKERS];

const MARKERS: FamilySpec = FamilySpec {
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

const NODE_MARKERS: FamilySpec = FamilySpec {
    name: "uffdwp_node_markers_total",
    labels: &["event"],
    help: "Pte markers of all processes since the agent started, whatever exited meanwhile. Labels \
        as in uffdwp_markers_total.",
    example: "increase(uffdwp_node_markers_total{event=\"dropped\"}[1h])",
    rows: FamilyRows::Node(|view, samples| add_markers(samples, &[], &view.node)),
    ..MARKERS
};

/// One sample per event.
fn add_markers(samples: &mut FamilySamples<'_>, row: &[LabelPair], counts: &VmaCounters) {
    for event in MarkerEvent::ALL {
        if samples.has(CountSignal::Marker(event)) {
            let labels = [("event", event.as_str())];
            samples.count(row, labels, counts.markers[event as usize]);
        }
    }
}
