//! One scrape: the model's rows with their labels, and what the agent says about itself.

use std::sync::LazyLock;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, MetricFamily};
use tracker_ebpf::WpMode;

use super::catalog::FAMILIES;
use super::facts::AgentFacts;
use super::label::{self, pair};
use super::selfstats::SelfStats;
use crate::model::{Counts, Detail, Gauges, ProcessCounts, ProcessRow, View, VmaRow};

/// Value of a label for what has no row of its own.
pub const OTHER: &str = "other";

/// Everything one scrape shows.
#[derive(Debug)]
pub struct Scrape {
    pub(super) view: View,
    pub(super) facts: AgentFacts,
    pub(super) process: SelfStats,
    /// Rows of the VMA families.
    pub(super) vmas: Vec<VmaLine>,
    /// Rows of the process families.
    pub(super) processes: Vec<ProcessLine>,
}

/// A row of the VMA families: one VMA, `vma="other"` of a process, or `pid="other"`.
#[derive(Debug)]
pub(super) struct VmaLine {
    pub labels: Vec<LabelPair>,
    pub counts: Counts,
    /// `None` once it exited.
    pub gauges: Option<Gauges>,
    /// The only mode it can have; `None` if it can have both.
    pub mode: Option<WpMode>,
}

/// A row of the process families: one process or `pid="other"`.
#[derive(Debug)]
pub(super) struct ProcessLine {
    pub labels: Vec<LabelPair>,
    pub counts: ProcessCounts,
    pub page_table_bytes: Option<u64>,
}

impl Scrape {
    /// Labels every row once.
    #[must_use]
    pub fn new(view: View, facts: AgentFacts, process: SelfStats) -> Self {
        let (mut vmas, mut processes) = (Vec::new(), Vec::new());
        if view.detail > Detail::Node {
            for row in &view.processes {
                add_process(row, &mut vmas, &mut processes);
            }
            add_other(&view, &mut vmas, &mut processes);
        }
        Self {
            view,
            facts,
            process,
            vmas,
            processes,
        }
    }

    /// Rows of the VMA families.
    pub(super) fn rows(&self) -> usize {
        self.vmas.len()
    }
}

fn add_process(row: &ProcessRow, vmas: &mut Vec<VmaLine>, processes: &mut Vec<ProcessLine>) {
    let labels = process_labels(row);
    vmas.extend(row.vmas.iter().map(|vma| VmaLine {
        labels: vma_labels(&labels, &hex(vma), vma.backing.as_str()),
        counts: vma.counts,
        gauges: (!vma.exited).then_some(vma.gauges),
        mode: vma.mode,
    }));
    vmas.push(VmaLine {
        labels: vma_labels(&labels, OTHER, OTHER),
        counts: row.other,
        gauges: (!row.exited).then_some(row.other_gauges),
        mode: None,
    });
    processes.push(ProcessLine {
        labels,
        counts: row.counts,
        page_table_bytes: row.page_table_bytes,
    });
}

fn add_other(view: &View, vmas: &mut Vec<VmaLine>, processes: &mut Vec<ProcessLine>) {
    let labels = vec![pair("pid", OTHER), pair("comm", OTHER)];
    vmas.push(VmaLine {
        labels: vma_labels(&labels, OTHER, OTHER),
        counts: view.other,
        gauges: Some(view.other_gauges),
        mode: None,
    });
    processes.push(ProcessLine {
        labels,
        counts: view.other_process,
        page_table_bytes: Some(view.other_page_table_bytes),
    });
}

/// `pid, comm`
pub(super) fn process_labels(row: &ProcessRow) -> Vec<LabelPair> {
    vec![
        pair("pid", row.pid.to_string()),
        pair("comm", label::text(&row.comm)),
    ]
}

fn vma_labels(process: &[LabelPair], vma: &str, backing: &str) -> Vec<LabelPair> {
    let mut labels = process.to_vec();
    labels.extend([pair("vma", vma), pair("backing", backing)]);
    labels
}

/// The start of a VMA as its label.
pub(super) fn hex(vma: &VmaRow) -> String {
    format!("{:#x}", vma.start)
}

static DESCS: LazyLock<Vec<Desc>> = LazyLock::new(|| {
    let desc = |family: &super::Family| {
        let labels = family.labels.iter().map(ToString::to_string).collect();
        let help = family.help.to_owned();
        Desc::new(family.name.to_owned(), help, labels, Default::default()).ok()
    };
    FAMILIES.iter().filter_map(desc).collect()
});

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        DESCS.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        FAMILIES
            .iter()
            .filter_map(|family| family.gather(self))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_valid_descriptor() {
        assert_eq!(DESCS.len(), FAMILIES.len());
    }
}
