//! The books: every gain is added once, to the series its owner has at that moment.

use super::counts::{Counts, ProcessCounts};
use super::input::{Input, Releases};
use super::limits::Limits;
use super::view::View;

/// Series of processes and VMAs, bounded, whose sum never goes down.
#[derive(Debug)]
pub struct Model {
    limits: Limits,
}

impl Model {
    /// A model with nothing counted.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// Takes one reading in. The records returned have been read to the end.
    pub fn collect(&mut self, input: &Input<'_>) -> Releases {
        let _ = input;
        Releases::default()
    }

    /// The rows as of the last collection.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            detail: self.limits.detail,
            processes: Vec::new(),
            other: Counts::default(),
            other_process: ProcessCounts::default(),
            other_gauges: Default::default(),
            other_page_table_bytes: 0,
            retired: Counts::default(),
            retired_process: ProcessCounts::default(),
            node: Counts::default(),
            node_process: ProcessCounts::default(),
            folded: 0,
            oldest_scan_unix_seconds: None,
            durations: [None; 3],
            losses: [0; 4],
            vma_records: Default::default(),
            mm_records: Default::default(),
        }
    }
}
