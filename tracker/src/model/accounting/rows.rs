//! The books as rows to show.

use super::super::series::{ProcessRow, SeriesView, VmaGauges, VmaRow};
use super::super::snapshot::ProcessKey;
use super::SeriesBooks;
use super::process::{ProcessAccount, VmaAccount};

impl SeriesBooks {
    /// The rows as of the last collection.
    #[must_use]
    pub fn view(&self) -> SeriesView {
        let slots = self.limits.process_slots().min(self.processes.len());
        let mut view = SeriesView {
            detail: self.limits.detail,
            processes: Vec::with_capacity(slots),
            other: self.sums.other,
            other_process: self.sums.other_process,
            other_gauges: VmaGauges::default(),
            other_page_table_bytes: 0,
            retired: self.sums.retired,
            retired_process: self.sums.retired_process,
            node: self.sums.node,
            node_process: self.sums.node_process,
            outcomes: self.sums.outcomes,
            folded: 0,
            oldest_scan_unix_seconds: None,
            reading: self.last,
        };
        for (key, process) in &self.processes {
            note_vmas(process, &mut view);
            if process.series {
                view.processes.push(row(*key, process));
            } else {
                for vma in process.vmas.values() {
                    view.other_gauges.add(&vma.gauges());
                }
                view.other_page_table_bytes += process.facts.page_table_bytes.unwrap_or(0);
            }
        }
        view
    }
}

fn note_vmas(process: &ProcessAccount, view: &mut SeriesView) {
    for vma in process.vmas.values().filter(|v| v.exited.is_none()) {
        let own = process.series && vma.series.is_some();
        view.folded += u64::from(!own);
        if let Some(scan) = vma.scan {
            let oldest = view.oldest_scan_unix_seconds.unwrap_or(f64::INFINITY);
            view.oldest_scan_unix_seconds = Some(oldest.min(scan.unix_seconds));
        }
    }
}

fn row(key: ProcessKey, process: &ProcessAccount) -> ProcessRow {
    let mut other_gauges = VmaGauges::default();
    let mut vmas = Vec::new();
    for vma in process.vmas.values() {
        match vma_row(vma) {
            Some(row) => vmas.push(row),
            None => other_gauges.add(&vma.gauges()),
        }
    }
    let live = process.exited.is_none();
    ProcessRow {
        pid: key.pid,
        start_boottime_ns: key.start_boottime_ns,
        comm: process.comm.clone(),
        exited: !live,
        cgroup: process.facts.cgroup.clone(),
        page_table_bytes: process.facts.page_table_bytes.filter(|_| live),
        counts: process.counts,
        other: process.other,
        total: process.total,
        other_gauges,
        vmas,
    }
}

fn vma_row(vma: &VmaAccount) -> Option<VmaRow> {
    Some(VmaRow {
        number: vma.serial,
        start: vma.start,
        end: vma.end,
        backing: vma.backing,
        mode: vma.mode,
        features: vma.features,
        name: vma.name.clone(),
        exited: vma.exited.is_some(),
        counts: **vma.series.as_ref()?,
        gauges: vma.gauges(),
    })
}
