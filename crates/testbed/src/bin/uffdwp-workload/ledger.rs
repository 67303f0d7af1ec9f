//! What the metrics must say afterwards: each row records the events that it causes.

use serde::Serialize;
use tracker_ebpf::{FaultEntry, MarkerEvent, TableCause, WpMode};
use uffd::PAGE_SIZE;

use crate::area::MappedArea;
use crate::tables::PageTables;

/// One series and its value, as on `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedSample {
    /// The family of the series.
    pub family: &'static str,
    /// Pid of the process.
    pub pid: u32,
    /// First address of the VMA; `None` for what is counted per process: freed tables, and tables
    /// outside registered VMAs.
    #[serde(serialize_with = "as_hex")]
    pub vma: Option<u64>,
    /// The other labels in the order of the family, backing first if it has one.
    pub labels: Vec<(&'static str, &'static str)>,
    /// How much a counter gained, or the value of a gauge.
    pub value: u64,
    /// The VMAs of which the same is true.
    #[serde(skip_serializing_if = "VmaRepeat::is_once")]
    pub repeat: VmaRepeat,
}

/// VMAs of which the same is foretold, at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VmaRepeat {
    /// How many VMAs, with the first.
    pub count: u64,
    /// Distance of their starts, in bytes.
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

/// The expected samples of a row; other series do not change.
#[derive(Debug)]
pub struct EventLedger {
    /// The process whose events are recorded next.
    pid: u32,
    /// The VMAs for which they are recorded.
    repeat: VmaRepeat,
    samples: Vec<ExpectedSample>,
    /// Tables allocated less tables freed in our own process.
    tables: i64,
    /// Areas of our own process, with the number of pages armed at the end.
    armed: Vec<(MappedArea, u64)>,
}

impl EventLedger {
    /// An empty ledger for this process. It allocates memory now, before a row is measured.
    pub fn new() -> Self {
        Self {
            pid: std::process::id(),
            repeat: VmaRepeat::ONCE,
            samples: Vec::with_capacity(64),
            tables: 0,
            armed: Vec::with_capacity(8),
        }
    }

    /// Records what happens to another process.
    pub fn of_process(&mut self, pid: u32, write: impl FnOnce(&mut Self)) {
        let own = std::mem::replace(&mut self.pid, pid);
        write(self);
        self.pid = own;
    }

    /// Records what happens to each of `count` VMAs; `write` names the first.
    pub fn of_each(&mut self, count: u64, stride: u64, write: impl FnOnce(&mut Self)) {
        let once = std::mem::replace(&mut self.repeat, VmaRepeat { count, stride });
        write(self);
        self.repeat = once;
    }

    /// Adds to `uffdwp_faults_total`.
    pub fn faults(&mut self, area: &MappedArea, mode: WpMode, entry: FaultEntry, count: u64) {
        let labels = [
            ("backing", area.kind.backing()),
            ("mode", mode.as_str()),
            ("entry", entry.as_str()),
        ];
        self.add("uffdwp_faults_total", Some(area), &labels, count);
    }

    /// Adds to `uffdwp_markers_total`.
    pub fn markers(&mut self, area: &MappedArea, event: MarkerEvent, count: u64) {
        let labels = [("backing", area.kind.backing()), ("event", event.as_str())];
        self.add("uffdwp_markers_total", Some(area), &labels, count);
    }

    /// Adds to `uffdwp_page_tables_allocated_total` of a registered area.
    pub fn tables(&mut self, area: &MappedArea, cause: TableCause, tables: PageTables) {
        self.add_tables(Some(area), Some(area.kind.backing()), cause, tables);
    }

    /// Adds to `uffdwp_page_tables_allocated_total` of memory that is not registered (any more).
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

    /// Adds to `uffdwp_page_tables_freed_total`, which is per process.
    pub fn freed(&mut self, tables: PageTables) {
        for (level, count) in tables.by_level() {
            let labels = [("level", level.as_str())];
            self.add("uffdwp_page_tables_freed_total", None, &labels, count);
        }
        if self.is_own() {
            self.tables -= (tables.total() * self.repeat.count) as i64;
        }
    }

    /// Sets `uffdwp_pages` and `uffdwp_vma_bytes` at the end: `armed` pages of 4 KiB, all others
    /// written.
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

    /// The samples in the order in which they were recorded.
    pub fn samples(&self) -> &[ExpectedSample] {
        &self.samples
    }

    /// How many tables `VmPTE` of our own process gains.
    pub fn table_balance(&self) -> i64 {
        self.tables
    }

    /// Areas of our own process, with the number of pages armed at the end.
    pub fn armed(&self) -> &[(MappedArea, u64)] {
        &self.armed
    }

    /// How many messages handlers receive: sync faults on pages, not on markers.
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

    /// Adds to a counter; adding nothing leaves no sample.
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

    /// Sets a gauge, which exists at 0 too.
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
