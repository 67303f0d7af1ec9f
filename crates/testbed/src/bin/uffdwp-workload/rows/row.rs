//! What a row of the table says.

use anyhow::Result;
use tracker_ebpf::WpMode;
use uffd::UffdFeatures;

use crate::needs::TestNeed;
use crate::row_run::RowRun;

/// One row of the table; its full name is `NAME-sync` or `NAME-async`.
pub struct WorkloadRow {
    /// Name without the mode.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Modes it makes sense in.
    pub modes: &'static [WpMode],
    /// What it needs besides.
    pub needs: &'static [TestNeed],
    /// Events its userfaultfd reports.
    pub events: UffdFeatures,
    /// A second process writes into this one.
    pub needs_writer: bool,
    /// Several threads write.
    pub needs_threads: bool,
    /// Does it, and writes down what must be counted.
    pub run: fn(&mut RowRun) -> Result<()>,
}

impl WorkloadRow {
    /// A row of both modes that needs nothing.
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

    /// It makes no sense in sync mode.
    pub const fn only_async(self) -> Self {
        Self {
            modes: &[WpMode::Async],
            ..self
        }
    }

    /// What it needs besides the mode.
    pub const fn needs(self, needs: &'static [TestNeed]) -> Self {
        Self { needs, ..self }
    }

    /// Events its userfaultfd reports.
    pub const fn events(self, events: UffdFeatures) -> Self {
        Self { events, ..self }
    }

    /// A second process writes into this one.
    pub const fn with_writer(self) -> Self {
        Self {
            needs_writer: true,
            ..self
        }
    }

    /// Several threads write.
    pub const fn with_threads(self) -> Self {
        Self {
            needs_threads: true,
            ..self
        }
    }

    /// `NAME-sync` or `NAME-async`.
    pub fn full_name(&self, mode: WpMode) -> String {
        format!("{}-{}", self.name, mode.as_str())
    }
}
