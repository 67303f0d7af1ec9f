//! What the metrics must say afterwards: each row writes down the events it causes.

use serde::Serialize;
use tracker_ebpf::{FaultEntry, MarkerEvent, TableCause, WpMode};
use uffd::PAGE_SIZE;

use crate::area::MappedArea;
use crate::tables::PageTables;

/// One series and its value, as on `/metrics`. `vma` is `None` for what is counted per process:
/// freed tables, and tables outside of registered VMAs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedSample {
    /// Name of the metric family.
    pub family: &'static str,
    /// The process.
    pub pid: u32,
    /// First address of the VMA.
    #[serde(serialize_with = "as_hex")]
    pub vma: Option<u64>,
    /// The remaining labels in the family's order, backing first where it has one.
    pub labels: Vec<(&'static str, &'static str)>,
    /// What was gained (counters) or is (gauges).
    pub value: u64,
    /// The same is true of further VMAs.
    #[serde(skip_serializing_if = "VmaRepeat::is_once")]
    pub repeat: VmaRepeat,
}

/// VMAs of which the same is foretold: `count` of them, their starts `stride` bytes apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VmaRepeat {
    /// How many, with the first.
    pub count: u64,
    /// Distance of their starts in bytes.
    pub stride: u64,
}

impl VmaRepeat {
    const ONCE: Self = Self {
        count: 1,
        stride: 0,
    };

    fn is_once(&self) -> bool {
        *self == Self::ONCE
    }
}

fn as_hex<S: serde::Serializer>(vma: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
    vma.map(|start| format!("{start:x}")).serialize(to)
}

/// The expected samples of a row; series that are not in it do not change.
#[derive(Debug)]
pub struct EventLedger {
    /// The process whose events are written down next.
    pid: u32,
    /// The VMAs they are written down for.
    repeat: VmaRepeat,
    samples: Vec<ExpectedSample>,
    /// Allocated less freed in our own process.
    tables: i64,
    /// Areas of our own process with the pages armed at the end.
    armed: Vec<(MappedArea, u64)>,
}

impl EventLedger {
    /// An empty one for this process. Its memory is allocated before a row is measured.
    pub fn new() -> Self {
        Self {
            pid: std::process::id(),
            repeat: VmaRepeat::ONCE,
            samples: Vec::with_capacity(64),
            tables: 0,
            armed: Vec::with_capacity(8),
        }
    }

    /// Writes down what happens to another process.
    pub fn of_process(&mut self, pid: u32, write: impl FnOnce(&mut Self)) {
        let own = std::mem::replace(&mut self.pid, pid);
        write(self);
        self.pid = own;
    }

    /// Writes down what happens to each of `count` VMAs, of which the first is named.
    pub fn of_each(&mut self, count: u64, stride: u64, write: impl FnOnce(&mut Self)) {
        let once = std::mem::replace(&mut self.repeat, VmaRepeat { count, stride });
        write(self);
        self.repeat = once;
    }

    /// `uffdwp_faults_total`.
    pub fn faults(&mut self, area: &MappedArea, mode: WpMode, entry: FaultEntry, count: u64) {
        let labels = [
            ("backing", area.kind.backing()),
            ("mode", mode.as_str()),
            ("entry", entry.as_str()),
        ];
        self.add("uffdwp_faults_total", Some(area), &labels, count);
    }

    /// `uffdwp_markers_total`.
    pub fn markers(&mut self, area: &MappedArea, event: MarkerEvent, count: u64) {
        let labels = [("backing", area.kind.backing()), ("event", event.as_str())];
        self.add("uffdwp_markers_total", Some(area), &labels, count);
    }

    /// `uffdwp_page_tables_allocated_total` of a registered area.
    pub fn tables(&mut self, area: &MappedArea, cause: TableCause, tables: PageTables) {
        self.add_tables(Some(area), Some(area.kind.backing()), cause, tables);
    }

    /// `uffdwp_page_tables_allocated_total` of memory that is not registered (any more).
    pub fn untracked_tables(&mut self, cause: TableCause, tables: PageTables) {
        self.add_tables(None, None, cause, tables);
    }

    fn add_tables(
        &mut self,
        area: Option<&MappedArea>,
        backing: Option<&'static str>,
        cause: TableCause,
        tables: PageTables,
    ) {
        for (level, count) in tables.by_level() {
            let own = [("level", level.as_str()), ("cause", cause.as_str())];
            let labels: Vec<_> = backing
                .map(|name| ("backing", name))
                .into_iter()
                .chain(own)
                .collect();
            self.add("uffdwp_page_tables_allocated_total", area, &labels, count);
        }
        if self.is_own() {
            self.tables += (tables.total() * self.repeat.count) as i64;
        }
    }

    /// `uffdwp_page_tables_freed_total`, which is per process.
    pub fn freed(&mut self, tables: PageTables) {
        for (level, count) in tables.by_level() {
            let labels = [("level", level.as_str())];
            self.add("uffdwp_page_tables_freed_total", None, &labels, count);
        }
        if self.is_own() {
            self.tables -= (tables.total() * self.repeat.count) as i64;
        }
    }

    /// `uffdwp_pages` and `uffdwp_vma_bytes` at the end: `armed` of 4 KiB, all others written.
    pub fn pages(&mut self, area: &MappedArea, armed: u64) {
        let backing = ("backing", area.kind.backing());
        let written = area.pages() - armed;
        self.gauge(
            "uffdwp_pages",
            area,
            vec![backing, ("state", "armed")],
            armed,
        );
        self.gauge(
            "uffdwp_pages",
            area,
            vec![backing, ("state", "written")],
            written,
        );
        self.gauge(
            "uffdwp_vma_bytes",
            area,
            vec![backing],
            area.pages() * PAGE_SIZE,
        );
        if self.is_own() {
            self.armed.push((*area, armed));
        }
    }

    /// The samples, in the order they were written down.
    pub fn samples(&self) -> &[ExpectedSample] {
        &self.samples
    }

    /// What `VmPTE` of our own process gains, in tables.
    pub fn table_balance(&self) -> i64 {
        self.tables
    }

    /// Areas of our own process with the pages armed at the end.
    pub fn armed(&self) -> &[(MappedArea, u64)] {
        &self.armed
    }

    /// Messages that handlers receive in all: sync faults on pages, not on markers.
    pub fn messages(&self) -> u64 {
        let is_message = |sample: &&ExpectedSample| {
            sample.family == "uffdwp_faults_total"
                && sample.labels.contains(&("mode", "sync"))
                && !sample.labels.contains(&("entry", "marker"))
        };
        self.samples
            .iter()
            .filter(is_message)
            .map(|sample| sample.value * sample.repeat.count)
            .sum()
    }

    fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Adds to a counter; nothing added leaves no sample.
    fn add(
        &mut self,
        family: &'static str,
        area: Option<&MappedArea>,
        labels: &[(&'static str, &'static str)],
        value: u64,
    ) {
        let (pid, vma, repeat) = (self.pid, area.map(|area| area.range().start), self.repeat);
        let same = |s: &&mut ExpectedSample| {
            (s.family, s.pid, s.vma, s.repeat) == (family, pid, vma, repeat) && s.labels == labels
        };
        match self.samples.iter_mut().find(same) {
            Some(sample) => sample.value += value,
            None if value == 0 => (),
            None => self.samples.push(ExpectedSample {
                family,
                pid,
                vma,
                labels: labels.to_vec(),
                value,
                repeat,
            }),
        }
    }

    /// Sets a gauge, which is there at 0 too.
    fn gauge(
        &mut self,
        family: &'static str,
        area: &MappedArea,
        labels: Vec<(&'static str, &'static str)>,
        value: u64,
    ) {
        let (pid, vma) = (self.pid, Some(area.range().start));
        self.samples.push(ExpectedSample {
            family,
            pid,
            vma,
            labels,
            value,
            repeat: self.repeat,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_and_allocated_balance() {
        let mut ledger = EventLedger::new();
        ledger.untracked_tables(
            TableCause::Fault,
            PageTables {
                pte: 3,
                pmd: 1,
                pud: 1,
            },
        );
        ledger.freed(PageTables::pte(2));
        assert_eq!(ledger.table_balance(), 3);
        ledger.of_process(1, |other| {
            other.untracked_tables(TableCause::Fork, PageTables::pte(9))
        });
        assert_eq!(
            ledger.table_balance(),
            3,
            "another process has its own VmPTE"
        );
    }

    #[test]
    fn what_is_true_of_each_vma_counts_for_all() {
        let mut ledger = EventLedger::new();
        ledger.of_each(100, 8192, |each| {
            each.untracked_tables(TableCause::Fault, PageTables::pte(1))
        });
        assert_eq!(ledger.table_balance(), 100);
        assert_eq!(ledger.samples().len(), 1);
        assert_eq!(
            ledger.samples()[0].repeat,
            VmaRepeat {
                count: 100,
                stride: 8192
            }
        );
    }

    #[test]
    fn the_same_series_is_one_sample() {
        let mut ledger = EventLedger::new();
        ledger.freed(PageTables::pte(2));
        ledger.freed(PageTables::pte(3));
        assert_eq!(ledger.samples().len(), 1);
        assert_eq!(ledger.samples()[0].value, 5);
    }
}
