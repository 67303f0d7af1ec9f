//! The rows of a scrape with their labels, made once for all families.

use prometheus::proto::LabelPair;
use tracker_ebpf::WpMode;

use super::label::{self, pair};
use super::rows::ScrapeRows;
use super::tracked::TrackedRow;
use crate::model::{
    ProcessCounters, ProcessRow, SeriesDetail, SeriesView, VmaCounters, VmaGauges, VmaLabel, VmaRow,
};

/// Value of a label for what has no row of its own.
const OTHER: &str = "other";

/// The rows of a scrape with their labels.
#[derive(Debug)]
pub(super) struct LabelledRows<'a> {
    pub rows: &'a ScrapeRows,
    pub vmas: Vec<VmaLine<'a>>,
    pub processes: Vec<ProcessLine<'a>>,
    pub tracked: Vec<TrackedLine<'a>>,
}

/// A row of the VMA families: one VMA, `vma="other"` of a process, or `pid="other"`.
#[derive(Debug)]
pub(super) struct VmaLine<'a> {
    /// `pid`, `comm`, `vma`, `backing`.
    pub labels: Vec<LabelPair>,
    pub counts: &'a VmaCounters,
    /// `None` once it exited.
    pub gauges: Option<VmaGauges>,
    /// The only mode it can have; `None` if it can have both.
    pub mode: Option<WpMode>,
    /// The process and the VMA; `None` for a sum of several.
    pub own: Option<OwnVma<'a>>,
}

/// A VMA with series of its own.
#[derive(Debug)]
pub(super) struct OwnVma<'a> {
    pub process: &'a ProcessRow,
    pub vma: &'a VmaRow,
    label: VmaLabel,
}

impl OwnVma<'_> {
    /// What names it: the label `vma`.
    pub(super) fn name(&self) -> String {
        match self.label {
            VmaLabel::Number => self.vma.number.to_string(),
            VmaLabel::Address => hex(self.vma.start),
        }
    }

    /// The label `end`; empty, which is none, where addresses are not shown.
    pub(super) fn end(&self) -> String {
        match self.label {
            VmaLabel::Number => String::new(),
            VmaLabel::Address => hex(self.vma.end),
        }
    }
}

/// A row of the process families: one process or `pid="other"`.
#[derive(Debug)]
pub(super) struct ProcessLine<'a> {
    /// `pid`, `comm`.
    pub labels: Vec<LabelPair>,
    pub counts: &'a ProcessCounters,
    /// What all its VMAs counted, those that are gone among them, and what belongs to none.
    pub total: &'a VmaCounters,
    pub page_table_bytes: Option<u64>,
    /// The process; `None` for a sum of several.
    pub own: Option<&'a ProcessRow>,
}

/// A process that is tracked.
#[derive(Debug)]
pub(super) struct TrackedLine<'a> {
    /// `pid`, `comm`.
    pub labels: Vec<LabelPair>,
    pub row: &'a TrackedRow,
}

impl<'a> LabelledRows<'a> {
    pub(super) fn new(rows: &'a ScrapeRows) -> Self {
        let mut lines = Self {
            rows,
            vmas: Vec::new(),
            processes: Vec::new(),
            tracked: Vec::new(),
        };
        if rows.counted.detail > SeriesDetail::Node {
            for row in &rows.counted.processes {
                lines.add_process(row);
            }
            lines.add_other(&rows.counted);
            let tracked = rows.tracking.iter().flat_map(|rows| &rows.processes);
            lines.tracked.extend(tracked.map(|row| TrackedLine {
                labels: process_labels(row.process.pid, &row.comm),
                row,
            }));
        }
        lines
    }

    fn add_process(&mut self, row: &'a ProcessRow) {
        let labels = process_labels(row.pid, &row.comm);
        let label = self.rows.vma_label;
        self.vmas.extend(row.vmas.iter().map(|vma| {
            let own = OwnVma {
                process: row,
                vma,
                label,
            };
            VmaLine {
                labels: vma_labels(&labels, &own.name(), vma.backing.as_str()),
                counts: &vma.counts,
                gauges: (!vma.exited).then_some(vma.gauges),
                mode: vma.mode,
                own: Some(own),
            }
        }));
        self.vmas.push(VmaLine {
            labels: vma_labels(&labels, OTHER, OTHER),
            counts: &row.other,
            gauges: (!row.exited).then_some(row.other_gauges),
            mode: None,
            own: None,
        });
        self.processes.push(ProcessLine {
            labels,
            counts: &row.counts,
            total: &row.total,
            page_table_bytes: row.page_table_bytes,
            own: Some(row),
        });
    }

    fn add_other(&mut self, view: &'a SeriesView) {
        let labels = vec![pair("pid", OTHER), pair("comm", OTHER)];
        self.vmas.push(VmaLine {
            labels: vma_labels(&labels, OTHER, OTHER),
            counts: &view.other,
            gauges: Some(view.other_gauges),
            mode: None,
            own: None,
        });
        self.processes.push(ProcessLine {
            labels,
            counts: &view.other_process,
            total: &view.other,
            page_table_bytes: Some(view.other_page_table_bytes),
            own: None,
        });
    }
}

fn process_labels(pid: u32, comm: &[u8]) -> Vec<LabelPair> {
    vec![
        pair("pid", pid.to_string()),
        pair("comm", label::text(comm)),
    ]
}

fn vma_labels(process: &[LabelPair], vma: &str, backing: &str) -> Vec<LabelPair> {
    let mut labels = process.to_vec();
    labels.extend([pair("vma", vma), pair("backing", backing)]);
    labels
}

/// An address or a set of flags as the value of a label.
pub(super) fn hex(number: u64) -> String {
    format!("{number:#x}")
}
