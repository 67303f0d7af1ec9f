//! One address space, tracked: each round looks at its mappings, and what is tracked follows them.

use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;
use uffd::{Pagemap, ProcessGone, UffdError, pages_in};

use super::attach::AttachedProcess;
use super::borders;
use super::model::{MappingRound, PageExtent, TrackedMapping, TrackedPages};
use super::others::OtherUffds;
use super::parts::RoundParts;
use super::passed_over::{PassedOverMappings, PassedOverReason};
use super::populated::{self, PagePresence, PopulatedPages};
use super::vmas::{FoundMapping, MappingReader};
use super::{SessionEvent, TrackNote};
use crate::inject::{ProcessLife, ProcessLifeline};
use crate::strategy::{StrategyFacts, TrackedArea, TrackingStrategy, WrittenRun};

/// Every so many rounds, what belonged to another userfaultfd is tried again.
const RETRY: u64 = 8;

/// One address space, tracked until the process executes another program.
pub(super) struct TrackedSpace {
    pub strategy: Box<dyn TrackingStrategy>,
    /// Tells whether the address space still is the process's.
    pub lifeline: ProcessLifeline,
    populated: PopulatedPages,
    reader: MappingReader,
    others: OtherUffds,
    max_mapping: u64,
    /// What is tracked, by address.
    areas: Vec<TrackedArea>,
    /// What was found since the last whole round.
    parts: RoundParts,
    passed_over: PassedOverMappings,
    /// What the next round tells.
    events: Vec<SessionEvent>,
    /// Whether everything was given back at the end of this round.
    gave_back: bool,
    /// What was armed for the first time in this round.
    fresh: Vec<Range<u64>>,
    /// Whole rounds so far.
    rounds: u64,
}

/// What became of a hole.
enum HoleOutcome {
    /// It is tracked, noted, or left to the next round.
    Settled,
    /// It was refused as memory that cannot be tracked, or it is no longer mapped.
    Doubtful,
}

impl TrackedSpace {
    /// Tracks nothing yet.
    pub(super) fn open(
        pid: u32,
        facts: &StrategyFacts,
        attached: AttachedProcess,
        max_mapping: u64,
    ) -> Result<Self, UffdError> {
        let scans = facts.behaviour.written.is_some();
        Ok(Self {
            strategy: attached.strategy,
            lifeline: attached.lifeline,
            populated: PopulatedPages::new(Pagemap::open(pid)?, scans),
            reader: MappingReader::open(pid)?,
            others: OtherUffds::open(pid)?,
            max_mapping,
            areas: Vec::new(),
            parts: RoundParts::default(),
            passed_over: PassedOverMappings::default(),
            events: Vec::new(),
            gave_back: false,
            fresh: Vec::new(),
            rounds: 0,
        })
    }

    /// Makes a round: reads what is tracked and arms it again, and arms what is new for the first
    /// time. If it fails, the next round tells what it has read by then.
    pub(super) fn round(&mut self) -> Result<Vec<MappingRound>, UffdError> {
        self.fresh.clear();
        self.gave_back = false;
        let vmas = self.read_areas()?;
        if let Some(descriptor) = self.newcomer()? {
            let rows = std::mem::take(&mut self.parts).rows(&self.areas, &vmas);
            self.give_back(descriptor)?;
            self.rounds += 1;
            return Ok(rows);
        }
        self.take_holes(&vmas)?;
        self.fit(&vmas);
        self.strategy.end_round()?;
        if self.lifeline.life()? != ProcessLife::Same {
            let pid = self.lifeline.pid();
            return Err(ProcessGone { pid }.into());
        }
        self.rounds += 1;
        Ok(std::mem::take(&mut self.parts).rows(&self.areas, &vmas))
    }

    /// Reads what is tracked and arms it again; returns the mappings that it now fits.
    fn read_areas(&mut self) -> Result<Vec<FoundMapping>, UffdError> {
        let vmas = self.reader.read()?;
        self.fit(&vmas);
        let mut incomplete = Vec::new();
        for area in self.areas.clone() {
            if !self.read(&area)? {
                incomplete.push(area);
            }
        }
        if incomplete.is_empty() {
            return Ok(vmas);
        }
        let vmas = self.reader.read()?;
        // A mapping is registered as a whole or not at all: one that was found without is another
        // one by now, and nothing in it is tracked. Where there are several, or none, the next
        // round knows the borders.
        incomplete.retain(|area| borders::is_one(&vmas, &area.range));
        self.lose(&incomplete);
        self.fit(&vmas);
        Ok(vmas)
    }

    /// Begins to track what is new.
    fn take_holes(&mut self, vmas: &[FoundMapping]) -> Result<(), UffdError> {
        self.passed_over.keep(vmas);
        if self.strategy.name().pays_for_absent() {
            let events = self.passed_over.pass_over_large(vmas, self.max_mapping);
            self.events.extend(events);
        }
        let again = self.rounds.is_multiple_of(RETRY);
        let wanted = |found: &&FoundMapping| !self.passed_over.skips(found, again);
        let mut doubtful = Vec::new();
        for hole in borders::holes(&self.areas, vmas.iter().filter(wanted)) {
            match self.take(&hole, vmas, false)? {
                HoleOutcome::Doubtful => doubtful.push(hole),
                HoleOutcome::Settled => (),
            }
        }
        if doubtful.is_empty() {
            return Ok(());
        }
        let now = self.reader.read()?;
        // What is gone or has changed, the next round sees as it is then.
        doubtful.retain(|hole| mapping_at(vmas, hole) == mapping_at(&now, hole));
        for hole in doubtful {
            self.take(&hole, &now, true)?;
        }
        Ok(())
    }

    /// The descriptor of a userfaultfd that the process has opened since the last round, if ours is
    /// in its way.
    fn newcomer(&mut self) -> Result<Option<i32>, UffdError> {
        if self.strategy.name().needs_descriptor() {
            self.others.news()
        } else {
            Ok(None)
        }
    }

    /// Lets go of everything until the next round.
    fn give_back(&mut self, descriptor: i32) -> Result<(), UffdError> {
        for area in std::mem::take(&mut self.areas) {
            self.strategy.forget(&area)?;
        }
        self.gave_back = true;
        self.events.push(SessionEvent::GaveBack { descriptor });
        Ok(())
    }

    /// Fits what is tracked to the borders of the mappings, and counts what is no longer mapped.
    fn fit(&mut self, vmas: &[FoundMapping]) {
        self.areas.sort_by_key(|area| area.range.start);
        let fitted = borders::fit(&self.areas, vmas);
        let (old, new) = borders::changes(&self.areas, &fitted);
        if !old.is_empty() || !new.is_empty() {
            self.strategy.redraw(&old, &new);
        }
        for area in &old {
            let left: u64 = borders::overlapping(&fitted, &area.range)
                .map(|kept| {
                    let start = kept.range.start.max(area.range.start);
                    pages_in(&(start..kept.range.end.min(area.range.end)))
                })
                .sum();
            self.parts.vanished(area, area.pages() - left);
        }
        self.areas = fitted;
    }

    /// Gives up areas in which nothing is tracked any more, though something is mapped there.
    fn lose(&mut self, lost: &[TrackedArea]) {
        self.areas.retain(|area| !lost.contains(area));
        self.strategy.redraw(lost, &[]);
        for area in lost {
            self.parts.vanished(area, area.pages());
        }
    }

    /// Reads one area and arms it again. False: part of it is no longer tracked.
    fn read(&mut self, area: &TrackedArea) -> Result<bool, UffdError> {
        let mut written = Vec::new();
        let stats = self.strategy.round(area, &mut written)?;
        let counts = TrackedPages {
            armed: stats.armed,
            touched: stats.touched,
            zapped: stats.zapped,
            ..TrackedPages::default()
        };
        let extents = written.into_iter().map(extent);
        self.parts.add(area.range.start, counts, extents);
        Ok(stats.vanished == 0)
    }

    /// Begins to track a hole; if that cannot be, notes why. `sure`: the mapping was looked at
    /// again after a first refusal.
    fn take(
        &mut self,
        hole: &TrackedArea,
        vmas: &[FoundMapping],
        sure: bool,
    ) -> Result<HoleOutcome, UffdError> {
        let mut there = Vec::new();
        self.populated
            .append(&hole.range, PagePresence::Anywhere, &mut there)?;
        match self.strategy.arm(hole) {
            Ok(()) => (),
            Err(error) if is_passing(&error) => return Ok(HoleOutcome::Settled),
            // Also the answer where nothing is mapped any more.
            Err(error) if !sure && error.errno() == Some(Errno::INVAL) => {
                return Ok(HoleOutcome::Doubtful);
            }
            Err(error) => {
                let reason = PassedOverReason::of(&error).ok_or(error)?;
                // It may be registered already, and refuse only to be armed.
                self.strategy.forget(hole)?;
                if let Some(mapping) = mapping_at(vmas, hole) {
                    self.events.extend(self.passed_over.add(mapping, reason));
                }
                return Ok(HoleOutcome::Settled);
            }
        }
        // What appeared in between is armed and there; nothing tells it from what was there before.
        let mut now = Vec::new();
        self.populated
            .append(&hole.range, PagePresence::InMemory, &mut now)?;
        self.areas.push(hole.clone());
        self.fresh.push(hole.range.clone());
        let counts = TrackedPages {
            armed: hole.pages(),
            ..TrackedPages::default()
        };
        let unknown = populated::union(there, now, hole.page_size);
        self.parts.add(hole.range.start, counts, unknown);
        let freed = self.passed_over.free(hole.range.start);
        self.events.extend(freed.map(SessionEvent::Freed));
        Ok(HoleOutcome::Settled)
    }

    /// Whether everything was given back at the end of the last round.
    pub(super) const fn gave_back(&self) -> bool {
        self.gave_back
    }

    /// What was armed for the first time in the last round.
    pub(super) fn fresh(&self) -> &[Range<u64>] {
        &self.fresh
    }

    /// What happened since the last call, but never thousands of events.
    pub(super) fn take_events(&mut self) -> Vec<SessionEvent> {
        const MOST: usize = 32;
        let mut events = std::mem::take(&mut self.events);
        if events.len() > MOST {
            let more = events.len() - MOST;
            events.truncate(MOST);
            events.push(SessionEvent::More(more));
        }
        events
    }

    /// What cannot be tracked, and what the strategy does to others.
    pub(super) fn notes(&self) -> Vec<TrackNote> {
        let mut notes: Vec<_> = self.passed_over.iter().map(TrackNote::PassedOver).collect();
        let name = self.strategy.name();
        if name.needs_descriptor() {
            notes.push(TrackNote::RegistersInVain);
        }
        if self.others.any() && name.needs_descriptor() {
            notes.push(TrackNote::HoldsUserfaultfd);
        }
        notes.extend(name.caveat().map(TrackNote::Strategy));
        notes
    }
}

/// The mapping that a hole is in.
fn mapping_at<'a>(vmas: &'a [FoundMapping], hole: &TrackedArea) -> Option<&'a Arc<TrackedMapping>> {
    let at = vmas.partition_point(|found| found.mapping.end <= hole.range.start);
    let mapping = vmas.get(at).map(|found| &found.mapping);
    mapping.filter(|mapping| mapping.start <= hole.range.start)
}

fn extent(written: WrittenRun) -> PageExtent {
    PageExtent {
        range: written.range,
        unit: written.unit,
        unknown: false,
    }
}

/// Whether it was unmapped meanwhile, or the process is going away: the next round tells.
fn is_passing(error: &UffdError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::NOENT | Errno::NOMEM | Errno::SRCH)
    )
}
