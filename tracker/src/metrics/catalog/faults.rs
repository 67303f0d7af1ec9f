//! Write-protect faults.

use prometheus::proto::LabelPair;
use tracker_ebpf::{FaultEntry, WpMode};

use super::super::family::{FamilyKind, FamilyRows, FamilySamples, FamilySpec};
use crate::model::VmaCounters;
use crate::probes::CountSignal;

pub(super) const FAMILIES: &[FamilySpec] = &[FAULTS, NODE_FAULTS];

const FAULTS: FamilySpec = FamilySpec {
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

const NODE_FAULTS: FamilySpec = FamilySpec {
    name: "uffdwp_node_faults_total",
    labels: &["mode", "entry"],
    help: "Write-protect faults of all processes since the agent started, whatever exited \
        meanwhile. Labels as in uffdwp_faults_total.",
    example: "rate(uffdwp_node_faults_total[5m])",
    rows: FamilyRows::Node(|view, samples| add_faults(samples, &[], &view.node, None)),
    ..FAULTS
};

/// One sample per kind of fault, without what a VMA cannot have because of its mode.
fn add_faults(
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
