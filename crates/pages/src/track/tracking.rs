//! One address space, tracked: its mappings are looked at in each round, and what is tracked follows them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::io::Errno;

use super::attach::AttachedProcess;
use super::borders;
use super::model::{MappingRound, PageExtent, TrackedMapping, TrackedPages};
use super::others::OtherUffds;
use super::parts::RoundParts;
use super::passed_over::{PassedOverMapping, PassedOverReason};
use super::populated::{self, PagePresence, PopulatedPages};
use super::vmas::{FoundMapping, MappingReader};
use super::{SessionEvent, TrackNote};
use crate::inject::{ProcessLife, ProcessLifeline};
use crate::strategy::{StrategyFacts, TrackedArea, TrackingStrategy, WrittenRun};
use uffd::{Pagemap, ProcessGone, UffdError, pages_in};

/// One address space, tracked until the process executes another program.
pub(super) struct TrackedSpace {
    /// How.
    pub strategy: Box<dyn TrackingStrategy>,
    /// Whether it is still the process's.
    pub lifeline: ProcessLifeline,
    populated: PopulatedPages,
    reader: MappingReader,
    others: OtherUffds,
    max_mapping: u64,
    /// What is tracked, by address.
    areas: Vec<TrackedArea>,
    /// What was found since the last whole round.
    parts: RoundParts,
    /// Mappings that cannot be tracked, by start.
    passed_over: BTreeMap<u64, PassedOverMapping>,
    /// What is told with the next round.
    events: Vec<SessionEvent>,
    /// Whether everything was given back at the end of this round.
    gave_back: bool,
    /// What was armed for the first time in this round.
    fresh: Vec<std::ops::Range<u64>>,
    /// Whole ones.
    rounds: u64,
}

/// What came of a hole.
enum HoleOutcome {
    /// It is tracked, noted, or left to the next round.
    Settled,
    /// It was refused as memory that cannot be tracked, or it is not mapped any more.
    Doubtful,
}

/// Rounds after which it is tried again to track what belonged to another userfaultfd.
const RETRY: u64 = 8;

impl TrackedSpace {
    /// With nothing tracked yet.
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
            passed_over: BTreeMap::new(),
            events: Vec::new(),
            gave_back: false,
            fresh: Vec::new(),
            rounds: 0,
        })
    }

    /// One round: what is tracked is read and armed again, what is new is armed for the first time. What it has read
    /// by the time it fails, the next one tells.
    pub(super) fn round(&mut self) -> Result<Vec<MappingRound>, UffdError> {
        let mut vmas = self.reader.read()?;
        self.fresh.clear();
        self.gave_back = false;
        self.fit(&vmas);
        let mut incomplete = Vec::new();
        for area in self.areas.clone() {
            if !self.read(&area)? {
                incomplete.push(area);
            }
        }
        if !incomplete.is_empty() {
            vmas = self.reader.read()?;
            // A mapping is registered as a whole or not at all: one that was found without is another one by now, and
            // nothing in it is tracked. Where there are several, or none, the next round knows the borders.
            incomplete.retain(|area| borders::is_one(&vmas, &area.range));
            self.lose(&incomplete);
            self.fit(&vmas);
        }
        if let Some(number) = self.newcomer()? {
            let parts = std::mem::take(&mut self.parts);
            let rows = parts.rows(&self.areas, &vmas);
            self.give_back(number)?;
            self.rounds += 1;
            return Ok(rows);
        }
        let again = self.rounds.is_multiple_of(RETRY);
        self.passed_over.retain(|start, passed_over| {
            let at = vmas.binary_search_by_key(start, |found| found.mapping.start);
            at.is_ok_and(|index| vmas[index].mapping == passed_over.mapping)
        });
        self.pass_over_large(&vmas);
        let wanted = vmas.iter().filter(|found| {
            let passed_over = self.passed_over.get(&found.mapping.start);
            passed_over.is_none_or(|passed_over| again && passed_over.reason.may_pass())
        });
        let mut doubtful = Vec::new();
        for hole in borders::holes(&self.areas, wanted) {
            match self.take(&hole, &vmas, false)? {
                HoleOutcome::Doubtful => doubtful.push(hole),
                HoleOutcome::Settled => (),
            }
        }
        if !doubtful.is_empty() {
            let now = self.reader.read()?;
            // What is gone or has changed, the next round sees as it is then.
            doubtful.retain(|hole| mapping_at(&vmas, hole) == mapping_at(&now, hole));
            for hole in doubtful {
                self.take(&hole, &now, true)?;
            }
        }
        self.fit(&vmas);
        self.strategy.end_round()?;
        if self.lifeline.life()? != ProcessLife::Same {
            let pid = self.lifeline.pid();
            return Err(ProcessGone { pid }.into());
        }
        self.rounds += 1;
        Ok(std::mem::take(&mut self.parts).rows(&self.areas, &vmas))
    }

    /// A userfaultfd that the process has opened since the last round, if ours is in its way.
    fn newcomer(&mut self) -> Result<Option<i32>, UffdError> {
        if self.strategy.name().needs_descriptor() {
            self.others.news()
        } else {
            Ok(None)
        }
    }

    /// Lets go of everything until the next round.
    fn give_back(&mut self, number: i32) -> Result<(), UffdError> {
        for area in std::mem::take(&mut self.areas) {
            self.strategy.forget(&area)?;
        }
        self.gave_back = true;
        self.events
            .push(SessionEvent::GaveBack { descriptor: number });
        Ok(())
    }

    /// Draws the borders of what is tracked where the mappings have theirs, and counts what is not mapped any more.
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

    /// Areas of which nothing is tracked any more, though something is mapped there.
    fn lose(&mut self, lost: &[TrackedArea]) {
        self.areas.retain(|area| !lost.contains(area));
        self.strategy.redraw(lost, &[]);
        for area in lost {
            self.parts.vanished(area, area.pages());
        }
    }

    /// Reads one area and arms it again. False: part of it was not tracked.
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

    /// Begins to track a hole. If that cannot be, it is noted. `sure`: it was there after it had been refused.
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
                let Some(reason) = PassedOverReason::of(&error) else {
                    return Err(error);
                };
                // It may be registered already, and refuse only to be armed.
                self.strategy.forget(hole)?;
                self.pass_over(hole, vmas, reason);
                return Ok(HoleOutcome::Settled);
            }
        }
        // What came in between is armed and there; it cannot be told from what was there before.
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
        let passed_over = self.passed_over.range(..=hole.range.start).next_back();
        let freed = passed_over.filter(|(_, it)| hole.range.start < it.mapping.end);
        if let Some(start) = freed.map(|(start, _)| *start)
            && let Some(freed) = self.passed_over.remove(&start)
        {
            self.events.push(SessionEvent::Freed(freed.mapping));
        }
        Ok(HoleOutcome::Settled)
    }

    /// Notes mappings that would cost more memory than they may.
    fn pass_over_large(&mut self, vmas: &[FoundMapping]) {
        if !self.strategy.name().pays_for_absent() {
            return;
        }
        let most = self.max_mapping;
        let large = vmas.iter().filter(|found| {
            found.wanted
                && found.mapping.end - found.mapping.start > most
                && !self.passed_over.contains_key(&found.mapping.start)
        });
        for area in large.map(FoundMapping::area).collect::<Vec<_>>() {
            let bytes = area.range.end - area.range.start;
            self.pass_over(&area, vmas, PassedOverReason::TooLarge { bytes, most });
        }
    }

    /// Notes that a mapping cannot be tracked.
    fn pass_over(&mut self, hole: &TrackedArea, vmas: &[FoundMapping], reason: PassedOverReason) {
        let Some(mapping) = mapping_at(vmas, hole) else {
            return;
        };
        let passed_over = PassedOverMapping {
            mapping: mapping.clone(),
            reason,
        };
        let event = SessionEvent::PassedOver(passed_over.clone());
        if self
            .passed_over
            .insert(mapping.start, passed_over)
            .is_none()
        {
            self.events.push(event);
        }
    }

    /// Whether everything was given back at the end of the last round.
    pub(super) const fn gave_back(&self) -> bool {
        self.gave_back
    }

    /// What was armed for the first time in the last round.
    pub(super) fn fresh(&self) -> &[std::ops::Range<u64>] {
        &self.fresh
    }

    /// What happened since they were taken last; not thousands of them.
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
        let passed_over = self.passed_over.values().cloned();
        let mut notes: Vec<_> = passed_over.map(TrackNote::PassedOver).collect();
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

/// Unmapped meanwhile, or the process is going away: the next look at the mappings tells.
fn is_passing(error: &UffdError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::NOENT | Errno::NOMEM | Errno::SRCH)
    )
}
