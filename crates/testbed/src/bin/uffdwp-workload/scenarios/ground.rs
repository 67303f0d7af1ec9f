//! Where scenarios act: mappings at random addresses, of which random pages are hit.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use rustix::fs::MemfdFlags;
use rustix::mm::Advice;
use uffd::{PAGE_SIZE, PMD_SIZE};

use super::ScenarioArguments;
use crate::area::{MappedArea, MemoryKind};
use crate::needs::{MachineFacts, SkipReason, TestNeed};

/// The GiBs of address space to choose from: a process maps nothing there unless it asks for it.
const GIBS: Range<u64> = 16 << 10..80 << 10;
/// Huge pages per scenario.
const UNITS: u64 = 4;

/// A mapping, and the pages that something is done to.
pub struct ScenarioGround {
    /// All of the mapping.
    pub area: MappedArea,
    /// Numbers of the 4 KiB pages that are hit, ascending.
    pub hit: Vec<u64>,
}

impl ScenarioGround {
    /// Does `work` to each page that is hit.
    pub fn each(&self, mut work: impl FnMut(u64) -> Result<()>) -> Result<()> {
        self.hit.iter().try_for_each(|page| work(*page))
    }

    /// The pages that are hit, as areas that are as long as possible.
    pub fn parts(&self) -> impl Iterator<Item = MappedArea> + use<'_> {
        runs(&self.hit)
            .into_iter()
            .map(|run| self.area.pages_part(run))
    }

    /// Calls madvise(2) for the pages that are hit.
    pub fn advise(&self, advice: Advice) -> Result<()> {
        self.parts().try_for_each(|part| part.advise(advice))
    }

    /// Reads all pages of the mapping.
    pub fn load(&self) {
        (0..self.area.pages()).for_each(|page| self.area.load(page));
    }

    /// Stores to each page that is hit something else than it holds.
    pub fn store(&self) {
        self.hit
            .iter()
            .for_each(|page| self.area.store(*page, other(self.area.word(*page))));
    }

    /// Stores to each page that is hit something that no page holds, without looking at it.
    pub fn store_blindly(&self) {
        self.hit
            .iter()
            .for_each(|page| self.area.store(*page, u64::MAX));
    }
}

/// Another word, and not zero.
fn other(word: u64) -> u64 {
    word ^ 1 << 40
}

impl fmt::Display for ScenarioGround {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.area.range();
        write!(f, "{start:x} {end:x} ")?;
        if self.hit.is_empty() {
            return f.write_str("-");
        }
        for (index, run) in runs(&self.hit).into_iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", run.start, run.end - 1)?;
        }
        Ok(())
    }
}

/// The runs of adjacent numbers.
fn runs(pages: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for &page in pages {
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

/// Maps memory for scenarios.
pub struct GroundMaker {
    random: fastrand::Rng,
    pages: u64,
    machine: bool,
    directory: PathBuf,
    facts: MachineFacts,
    taken: BTreeSet<u64>,
}

impl GroundMaker {
    /// A maker for the command line.
    pub fn new(arguments: &ScenarioArguments, random: fastrand::Rng) -> Result<Self> {
        Ok(Self {
            random,
            pages: arguments.pages,
            machine: arguments.machine,
            directory: arguments.dir.clone(),
            facts: MachineFacts::gather(&arguments.dir)?,
            taken: BTreeSet::new(),
        })
    }

    /// Skips the scenario unless `what` may be changed, which is a setting of the machine.
    pub fn may_change_machine(&self, what: &str) -> Result<()> {
        if self.machine {
            return Ok(());
        }
        Err(SkipReason::Machine(format!("{what} is not changed without --machine")).into())
    }

    /// An address in a GiB of its own, at any page of a page table.
    pub fn address(&mut self) -> u64 {
        self.gib() + self.random.u64(0..PMD_SIZE / PAGE_SIZE) * PAGE_SIZE
    }

    /// An address in a GiB of its own, at the start of a page table.
    pub fn table_address(&mut self) -> u64 {
        self.gib()
    }

    fn gib(&mut self) -> u64 {
        let gib = loop {
            let gib = self.random.u64(GIBS);
            if self.taken.insert(gib) {
                break gib;
            }
        };
        (gib << 30) + self.random.u64(0..128) * PMD_SIZE
    }

    /// Maps and fills memory, and hits half of the pages, or one page in each of half of the huge
    /// pages.
    pub fn some(&mut self, kind: MemoryKind) -> Result<ScenarioGround> {
        let ground = self.hole(kind)?;
        self.fill(&ground.area);
        Ok(ground)
    }

    /// Maps and fills memory, and hits all of it.
    pub fn all(&mut self, kind: MemoryKind) -> Result<ScenarioGround> {
        let area = self.some(kind)?.area;
        Ok(Self::whole(area))
    }

    /// Maps and fills memory, and hits half of the huge pages.
    pub fn some_units(&mut self, kind: MemoryKind) -> Result<ScenarioGround> {
        let ground = self.some(kind)?;
        let of_unit = kind.unit() / PAGE_SIZE;
        let around = |page: u64| page / of_unit * of_unit..(page / of_unit + 1) * of_unit;
        let hit = ground.hit.iter().flat_map(|page| around(*page)).collect();
        Ok(ScenarioGround { hit, ..ground })
    }

    /// Like [`Self::some`], but empty.
    pub fn hole(&mut self, kind: MemoryKind) -> Result<ScenarioGround> {
        self.check(kind)?;
        let area = if kind.unit() == PAGE_SIZE {
            MappedArea::map_at(kind, self.address(), self.pages, &self.directory)?
        } else {
            let pages = UNITS * kind.unit() / PAGE_SIZE;
            MappedArea::map_at(kind, self.table_address(), pages, &self.directory)?
        };
        Ok(self.hit(area))
    }

    /// A memfd that is mapped, filled and hit like [`Self::some`].
    pub fn memfd(&mut self) -> Result<(File, ScenarioGround)> {
        let memfd = rustix::fs::memfd_create("scenario", MemfdFlags::CLOEXEC)?;
        let area = MappedArea::map_file(MemoryKind::Memfd, self.address(), self.pages, &memfd)?;
        self.fill(&area);
        Ok((memfd.into(), self.hit(area)))
    }

    /// An area of which all is hit.
    pub fn whole(area: MappedArea) -> ScenarioGround {
        ScenarioGround {
            area,
            hit: (0..area.pages()).collect(),
        }
    }

    /// An area of anonymous pages, filled, at the start of a page table.
    pub fn anonymous(&mut self, pages: u64) -> Result<MappedArea> {
        let address = self.table_address();
        let area = MappedArea::map_at(MemoryKind::Anon, address, pages, &self.directory)?;
        self.fill(&area);
        Ok(area)
    }

    /// Hits half of an area.
    fn hit(&mut self, area: MappedArea) -> ScenarioGround {
        let of_unit = area.kind.unit() / PAGE_SIZE;
        let mut units: Vec<u64> = (0..area.units()).collect();
        self.random.shuffle(&mut units);
        units.truncate(units.len().div_ceil(2));
        units.sort_unstable();
        let mut page = |unit: u64| unit * of_unit + self.random.u64(0..of_unit);
        let hit = units.into_iter().map(&mut page).collect();
        ScenarioGround { area, hit }
    }

    /// Stores a word to every page, no two the same: their lowest byte is 1, and their highest is
    /// 0.
    fn fill(&mut self, area: &MappedArea) {
        for page in 0..area.pages() {
            area.store(page, self.random.u64(0..1 << 24) << 32 | page << 8 | 1);
        }
    }

    fn check(&self, kind: MemoryKind) -> Result<()> {
        let need = match kind {
            MemoryKind::Thp => TestNeed::Thp,
            MemoryKind::ShmemThp => TestNeed::ShmemThp,
            MemoryKind::Hugetlb => TestNeed::Hugetlb,
            MemoryKind::FilePrivate | MemoryKind::FileShared => TestNeed::RegularFile,
            _ => return Ok(()),
        };
        Ok(self.facts.check(need)?)
    }
}
