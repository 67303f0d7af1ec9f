//! What a row of the table consists of.

use anyhow::Result;
use tracker_ebpf::WpMode;
use uffd::UffdFeatures;

use crate::needs::TestNeed;
use crate::row_run::RowRun;

/// A row of the table. Its full name is `NAME-sync` or `NAME-async`.
pub struct WorkloadRow {
    /// Name without the mode.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// The modes in which it makes sense.
    pub modes: &'static [WpMode],
    /// What it needs besides the mode.
    pub needs: &'static [TestNeed],
    /// The events that its userfaultfd reports.
    pub events: UffdFeatures,
    /// Whether another process writes into this one.
    pub needs_writer: bool,
    /// Whether several threads write.
    pub needs_threads: bool,
    /// Runs it, and records what must be counted.
    pub run: fn(&mut RowRun) -> Result<()>,
}

impl WorkloadRow {
    /// A row for both modes that needs nothing.
    pub const fn new(
        name: &'static str,
        about: &'static str,
        run: fn(&mut RowRun) -> Result<()>,
    ) -> Self {
        Self {
            name,
            about,
            modes: &WpMode::ALL,
            needs: &[],
            events: UffdFeatures(0),
            needs_writer: false,
            needs_threads: false,
            run,
        }
    }

    /// The row without sync mode, in which it makes no sense.
    pub const fn only_async(self) -> Self {
        Self {
            modes: &[WpMode::Async],
            ..self
        }
    }

    /// The row with what it needs besides the mode.
    pub const fn needs(self, needs: &'static [TestNeed]) -> Self {
        Self { needs, ..self }
    }

    /// The row with events that its userfaultfd reports.
    pub const fn events(self, events: UffdFeatures) -> Self {
        Self { events, ..self }
    }

    /// The row with another process that writes into this one.
    pub const fn with_writer(self) -> Self {
        Self {
            needs_writer: true,
            ..self
        }
    }

    /// The row with several threads that write.
    pub const fn with_threads(self) -> Self {
        Self {
            needs_threads: true,
            ..self
        }
    }

    /// The name with the mode: `NAME-sync` or `NAME-async`.
    pub fn full_name(&self, mode: WpMode) -> String {
        format!("{}-{}", self.name, mode.as_str())
    }
}
