//! What a row works with: its userfaultfd, its helpers, and the ledger that it writes.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tracker_ebpf::{FaultEntry, MarkerEvent, TableCause, WpMode};
use uffd::{
    CountMethod, CountProgress, PageCounter, Pagemap, PagemapEntry, RegisterMode, UffdFeatures,
    Userfaultfd,
};

use crate::area::{MappedArea, MemoryKind};
use crate::child::ForkedChild;
use crate::crew::ThreadCrew;
use crate::handler::{self, SyncHandler};
use crate::ledger::EventLedger;
use crate::needs::{MachineFacts, SkipReason};
use crate::rows::WorkloadRow;
use crate::writer::RemoteWriter;

/// The size of a row.
#[derive(Clone, Copy, Debug)]
pub struct RowSize {
    /// Pages of 4 KiB per area.
    pub pages: u64,
    /// Threads, in rows that use several.
    pub threads: u64,
    /// Rounds of arming and writing, in rows that repeat.
    pub rounds: u64,
}

/// A comparison of two numbers that must be equal.
#[derive(Debug, Serialize)]
pub struct RowCheck {
    /// What was measured.
    pub what: &'static str,
    /// The number that the row foretold.
    pub expected: i64,
    /// The number that the kernel reports.
    pub measured: i64,
}

/// A run of a row. Everything is allocated before the row starts, so that all page tables that are
/// measured are its own.
pub struct RowRun {
    /// Size of the row.
    pub size: RowSize,
    /// What this kernel and machine can do.
    pub facts: MachineFacts,
    /// Whether the kernel or a handler resolves its faults.
    pub mode: WpMode,
    /// The userfaultfd of the row.
    pub uffd: Arc<Userfaultfd>,
    /// What the metrics must say afterwards.
    pub expect: EventLedger,
    /// Comparisons with what this process sees itself.
    pub checks: Vec<RowCheck>,
    /// Pagemap of this process.
    pub pagemap: Pagemap,
    handler: Option<SyncHandler>,
    writer: Option<RemoteWriter>,
    crew: Option<ThreadCrew>,
    children: Vec<ForkedChild>,
    areas: u64,
}

impl RowRun {
    /// Prepares a row: the process that writes into ours, the userfaultfd, its handler, the
    /// threads.
    pub fn prepare(
        row: &WorkloadRow,
        mode: WpMode,
        size: RowSize,
        facts: MachineFacts,
    ) -> Result<Self> {
        let writer = if row.needs_writer {
            Some(RemoteWriter::start()?)
        } else {
            None
        };
        let features = features(mode, row.events, facts.kernel.features);
        let uffd = Arc::new(open(features, &facts)?);
        let handler = if handler::is_needed(features) {
            Some(SyncHandler::start(uffd.clone())?)
        } else {
            None
        };
        let crew = if row.needs_threads {
            Some(ThreadCrew::start(size.threads)?)
        } else {
            None
        };
        let pagemap = Pagemap::own().context("is /proc mounted?")?;
        Ok(Self {
            size,
            facts,
            mode,
            uffd,
            expect: EventLedger::new(),
            checks: Vec::with_capacity(8),
            pagemap,
            handler,
            writer,
            crew,
            children: Vec::with_capacity(1),
            areas: 0,
        })
    }

    /// Maps the next area and registers it for write-protection.
    pub fn tracked(&mut self, kind: MemoryKind) -> Result<MappedArea> {
        self.tracked_for(kind, self.size.pages, RegisterMode::WP)
    }

    /// Maps the next area, `pages` of 4 KiB long, and registers it.
    pub fn tracked_for(
        &mut self,
        kind: MemoryKind,
        pages: u64,
        mode: RegisterMode,
    ) -> Result<MappedArea> {
        let area = MappedArea::map(kind, self.areas, pages, &self.facts.directory)?;
        self.areas += 1;
        self.uffd.register(&area.range(), mode)?;
        if let Some(handler) = &self.handler {
            handler.set_unit(kind.unit());
        }
        Ok(area)
    }

    /// Maps and registers the next area and writes every unit: all pages are there, none is armed.
    pub fn populated(&mut self, kind: MemoryKind) -> Result<MappedArea> {
        let area = self.tracked(kind)?;
        let faults = area.write_all();
        self.check("page faults of populating", area.units(), faults);
        self.expect.tables(&area, TableCause::Fault, area.tables());
        Ok(area)
    }

    /// Like [`RowRun::populated`], and arms every page.
    pub fn armed(&mut self, kind: MemoryKind) -> Result<MappedArea> {
        let area = self.populated(kind)?;
        self.uffd.arm(&area.range())?;
        Ok(area)
    }

    /// Maps and registers the next area and arms it while it is empty: it is full of markers, and
    /// has the tables that hold them.
    pub fn marked(&mut self, kind: MemoryKind) -> Result<MappedArea> {
        let area = self.tracked(kind)?;
        self.uffd.arm(&area.range())?;
        self.expect.tables(&area, TableCause::Arm, area.tables());
        self.expect
            .markers(&area, MarkerEvent::Installed, area.units());
        Ok(area)
    }

    /// Expects that every unit was written once while armed, and that none is armed any more.
    pub fn expect_written(&mut self, area: &MappedArea) {
        self.expect
            .faults(area, self.mode, entry(area.kind), area.units());
        self.expect.pages(area, 0);
    }

    /// Expects that every unit was accessed once while it was a marker.
    pub fn expect_consumed(&mut self, area: &MappedArea) {
        self.expect
            .faults(area, self.mode, FaultEntry::Marker, area.units());
        self.expect
            .markers(area, MarkerEvent::Consumed, area.units());
    }

    /// Compares a number with the one that was foretold.
    pub fn check(&mut self, what: &'static str, expected: u64, measured: u64) {
        self.checks.push(RowCheck {
            what,
            expected: expected as i64,
            measured: measured as i64,
        });
    }

    /// Whether the page at an address is armed, as pagemap shows it.
    pub fn is_armed(&self, address: u64) -> Result<bool> {
        let mut entries = [PagemapEntry::default()];
        self.pagemap.read(&(address..address + 1), &mut entries)?;
        Ok(entries[0].armed())
    }

    /// The process that writes into ours.
    pub fn writer(&mut self) -> Result<&mut RemoteWriter> {
        self.writer
            .as_mut()
            .context("this row was prepared without a writer process")
    }

    /// Runs `work` on every thread of the crew, with its number, and waits for all of them.
    pub fn on_all_threads(&self, work: impl Fn(u64) + Send + Sync + 'static) -> Result<()> {
        self.crew
            .as_ref()
            .context("this row was prepared without threads")?
            .run(work);
        Ok(())
    }

    /// Keeps a child alive until the process ends.
    pub fn keep(&mut self, child: ForkedChild) {
        self.children.push(child);
    }

    /// The handler of sync mode and of events.
    pub fn handler(&self) -> Option<&SyncHandler> {
        self.handler.as_ref()
    }

    /// How many messages the handler answered; `None` without a handler.
    pub fn messages(&self) -> Option<u64> {
        self.handler.as_ref().map(SyncHandler::faults)
    }

    /// The armed pages of an area, counted as the agent counts them.
    pub fn count_armed(&self, area: &MappedArea) -> Result<u64> {
        let method = CountMethod::choose(&self.facts.kernel, area.kind == MemoryKind::Hugetlb);
        let mut counter = PageCounter::new(area.range(), method);
        loop {
            match counter.step(&self.pagemap, u64::MAX)? {
                CountProgress::More => (),
                CountProgress::Done(count) => return Ok(count.armed),
            }
        }
    }
}

/// What a write to an armed unit of this kind counts as.
pub fn entry(kind: MemoryKind) -> FaultEntry {
    match kind {
        MemoryKind::Thp | MemoryKind::ShmemThp | MemoryKind::Hugetlb => FaultEntry::Huge,
        _ => FaultEntry::Pte,
    }
}

/// The first and the second half of an area, in units.
pub fn halves(area: &MappedArea) -> [Range<u64>; 2] {
    let middle = area.units() / 2;
    [0..middle, middle..area.units()]
}

/// Sync mode asks for the features that make markers, as far as they are offered.
fn features(mode: WpMode, events: UffdFeatures, offered: UffdFeatures) -> UffdFeatures {
    let own = match mode {
        WpMode::Async => UffdFeatures::WP_ASYNC,
        WpMode::Sync => offered & (UffdFeatures::WP_UNPOPULATED | UffdFeatures::WP_HUGETLBFS_SHMEM),
    };
    own | events
}

fn open(features: UffdFeatures, facts: &MachineFacts) -> Result<Userfaultfd> {
    let uffd = if facts.kernel_faults {
        Userfaultfd::open()?
    } else {
        Userfaultfd::open_user_mode_only()?
    };
    match uffd.enable(features) {
        Err(error) if error.errno() == Some(rustix::io::Errno::PERM) => Err(SkipReason::Machine(
            "following forks needs CAP_SYS_PTRACE: run as root".to_owned(),
        )
        .into()),
        result => result.map(|_| uffd).map_err(Into::into),
    }
}
