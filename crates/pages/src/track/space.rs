//! One address space, tracked: each round looks at its mappings, and what is tracked follows them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;
use uffd::{Backing, Pagemap, ProcessGone, UffdError, pages_in, unless_unseen};

use super::attach::AttachedProcess;
use super::borders;
use super::holder::{self, UffdHolder};
use super::mapping_limit::{MappingExcess, MappingLimit};
use super::model::{MappingCount, MappingRound, PageExtent, TrackedMapping, TrackedPages};
use super::others::{GiveBack, OtherUffds};
use super::parts::RoundParts;
use super::passed_over::PassedOverMappings;
use super::populated::{self, PageOwner, PagePresence, PopulatedPages};
use super::untracked::{UntrackedDetail, UntrackedMapping, UntrackedPages, UntrackedReason};
use super::vmas::{FoundMapping, MappingLook, MappingReader};
use super::{SessionEvent, TrackNote};
use crate::cgroup;
use crate::inject::{InjectError, ProcessLife, ProcessLifeline, UffdGuard};
use crate::strategy::{StrategyFacts, TrackedArea, TrackingStrategy, WrittenRun, without};

/// The name of memory that only its own process can read (memfd_secret(2)).
const SECRET: &str = "/secretmem";
/// Every so many rounds, what belonged to another userfaultfd is tried again.
const RETRY: u64 = 8;

/// One address space, tracked until the process executes another program.
pub(super) struct TrackedSpace {
    pub strategy: Box<dyn TrackingStrategy>,
    /// Tells whether the address space still is the process's.
    pub lifeline: ProcessLifeline,
    guard: Option<UffdGuard>,
    /// It was told that the guard has let go.
    guard_told: bool,
    populated: PopulatedPages,
    reader: MappingReader,
    others: OtherUffds,
    limit: MappingLimit,
    /// How many mappings are left behind that merge with nothing any more.
    kept_apart: usize,
    /// Where the ends of mappings begin that are left alone while they grow.
    growing: BTreeSet<u64>,
    max_mapping: u64,
    /// What belonged to another userfaultfd once is never tried again.
    pub leaves_others: bool,
    /// What is tracked, by address.
    areas: Vec<TrackedArea>,
    /// What was found since the last whole round.
    parts: RoundParts,
    passed_over: PassedOverMappings,
    /// What was not looked at in the last round.
    untracked: Vec<UntrackedMapping>,
    /// Who holds another userfaultfd for it, once somebody was looked for.
    holder: Option<Option<UffdHolder>>,
    /// What the next round tells.
    events: Vec<SessionEvent>,
    /// Whether everything was given back at the end of this round.
    gave_back: bool,
    /// That everything was given back for good, once it was told.
    excess: Option<MappingExcess>,
    /// What was armed for the first time in this round.
    fresh: Vec<Range<u64>>,
    /// What was tracked, and is no longer mapped as it was.
    gone: Vec<Range<u64>>,
    /// Pages reported since the last call of [`Self::take_events`] that need not be written.
    in_doubt: u64,
    /// Whole rounds so far.
    rounds: u64,
    /// How many mappings there were in the last one.
    mapping_count: Option<MappingCount>,
}

/// What became of a hole.
enum HoleOutcome {
    /// It is tracked.
    Tracked {
        /// Some of it was touched before.
        touched: bool,
    },
    /// It is noted, or left to the next round.
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
        let limit = MappingLimit::watch(pid, attached.strategy.emergency_release())?;
        let others = OtherUffds::open(pid, attached.strategy.name().needs_descriptor())?;
        Ok(Self {
            strategy: attached.strategy,
            lifeline: attached.lifeline,
            guard: attached.guard,
            guard_told: false,
            populated: PopulatedPages::new(Pagemap::open(pid)?, scans),
            reader: MappingReader::open(pid)?,
            others,
            limit,
            kept_apart: 0,
            growing: BTreeSet::new(),
            max_mapping,
            leaves_others: false,
            areas: Vec::new(),
            parts: RoundParts::default(),
            passed_over: PassedOverMappings::default(),
            untracked: Vec::new(),
            holder: None,
            events: Vec::new(),
            gave_back: false,
            excess: None,
            fresh: Vec::new(),
            gone: Vec::new(),
            in_doubt: 0,
            rounds: 0,
            mapping_count: None,
        })
    }

    /// Makes a round: reads what is tracked and arms it again, and arms what is new for the first
    /// time. If it fails, the next round tells what it has read by then.
    pub(super) fn round(&mut self) -> Result<Vec<MappingRound>, UffdError> {
        self.fresh.clear();
        self.gone.clear();
        self.gave_back = false;
        let vmas = self.read_areas()?;
        if self.is_let_go()? {
            return self.let_go(&vmas);
        }
        if let Some(GiveBack { begins, left }) = self.wanted_back()? {
            let rows = std::mem::take(&mut self.parts).rows(&self.areas, &vmas);
            self.give_back()?;
            let event = begins.map(|own| SessionEvent::GaveBack { own, left });
            self.events.extend(event);
            self.note_untracked(&vmas);
            self.rounds += 1;
            return Ok(rows);
        }
        self.take_holes(&vmas)?;
        if self.is_let_go()? {
            return self.let_go(&vmas);
        }
        self.fit(&vmas);
        self.strategy.end_round()?;
        if self.lifeline.life()? != ProcessLife::Same {
            let pid = self.lifeline.pid();
            return Err(ProcessGone { pid }.into());
        }
        self.note_untracked(&vmas);
        self.rounds += 1;
        Ok(std::mem::take(&mut self.parts).rows(&self.areas, &vmas))
    }

    /// Reads what is tracked and arms it again; returns the mappings that it now fits.
    fn read_areas(&mut self) -> Result<Vec<FoundMapping>, UffdError> {
        let vmas = self.reader.read()?;
        self.mapping_count = Some(MappingCount {
            now: vmas.len(),
            most: self.limit.most(),
        });
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
        self.pass_over_secret(vmas);
        self.pass_over_large(vmas);
        let again = self.rounds.is_multiple_of(RETRY) && !self.leaves_others;
        self.growing.clear();
        let mut doubtful = Vec::new();
        for look in [MappingLook::Writable, MappingLook::Unwritable] {
            self.areas.sort_by_key(|area| area.range.start);
            let wanted = |found: &&FoundMapping| {
                self.look(found) == look && !self.passed_over.skips(found, again)
            };
            let holes = borders::holes(&self.areas, vmas.iter().filter(wanted));
            let continued: Vec<_> = holes.iter().map(|hole| self.continued(hole)).collect();
            for (hole, continued) in holes.into_iter().zip(continued) {
                // Each hole takes some system calls, and the process goes on meanwhile.
                if self.limit.is_over() {
                    return Ok(());
                }
                let (pages, kept) = (hole.pages(), self.kept_apart);
                if continued.is_some_and(|before| self.limit.leaves_to_grow(kept, pages, before)) {
                    self.growing.insert(hole.range.start);
                    continue;
                }
                match self.take(&hole, look, vmas, false)? {
                    HoleOutcome::Doubtful => doubtful.push((hole, look)),
                    HoleOutcome::Tracked { touched } => {
                        self.kept_apart += usize::from(touched && continued.is_some());
                    }
                    HoleOutcome::Settled => (),
                }
            }
        }
        if doubtful.is_empty() {
            return Ok(());
        }
        let now = self.reader.read()?;
        // What is gone or has changed, the next round sees as it is then.
        doubtful.retain(|(hole, _)| mapping_at(vmas, hole) == mapping_at(&now, hole));
        for (hole, look) in doubtful {
            self.take(&hole, look, &now, true)?;
        }
        Ok(())
    }

    /// The private memory that a hole continues, in pages, if it is tracked. The areas are sorted.
    fn continued(&self, hole: &TrackedArea) -> Option<u64> {
        let after = |area: &TrackedArea| area.range.end < hole.range.start;
        let before = self.areas.get(self.areas.partition_point(after))?;
        let continues = before.range.end == hole.range.start && before.is_like(hole);
        (continues && !hole.shared).then(|| before.pages())
    }

    /// How a mapping is to be looked at with this strategy.
    fn look(&self, found: &FoundMapping) -> MappingLook {
        let secret = found.mapping.name.starts_with(SECRET);
        match found.look {
            MappingLook::Untracked(_) => found.look,
            _ if secret && self.strategy.name().reads_content() => {
                MappingLook::Untracked(UntrackedReason::Secret)
            }
            MappingLook::Unwritable if !self.strategy.tracks_unwritable() => {
                MappingLook::Untracked(UntrackedReason::NotWritable)
            }
            look => look,
        }
    }

    /// Passes over mappings that the strategy cannot read.
    fn pass_over_secret(&mut self, vmas: &[FoundMapping]) {
        let reason = UntrackedReason::Secret;
        for found in vmas {
            if self.look(found) == MappingLook::Untracked(reason) {
                let event = self
                    .passed_over
                    .add(&found.mapping, reason, UntrackedDetail::None);
                self.events.extend(event);
            }
        }
    }

    /// Passes over mappings that would cost more memory than they may.
    fn pass_over_large(&mut self, vmas: &[FoundMapping]) {
        if !self.strategy.name().pays_for_absent() {
            return;
        }
        let pays = |found: &&FoundMapping| {
            let pays = match self.look(found) {
                MappingLook::Writable => true,
                // A scan finds what is there, and the rest costs nothing.
                MappingLook::Unwritable => !self.populated.scans(),
                MappingLook::Untracked(_) => false,
            };
            // What is tracked has been paid for.
            pays && !borders::holes(&self.areas, std::iter::once(*found)).is_empty()
        };
        let large: Vec<_> = vmas.iter().filter(pays).collect();
        let events =
            self.passed_over
                .pass_over_large(&large, self.max_mapping, cgroup::memory_left);
        self.events.extend(events);
    }

    /// Notes what is mapped and not tracked at the end of a round.
    fn note_untracked(&mut self, vmas: &[FoundMapping]) {
        self.untracked.clear();
        for found in vmas {
            let range = found.area().range;
            let tracked: u64 = borders::overlapping(&self.areas, &range)
                .map(TrackedArea::pages)
                .sum();
            let pages = pages_in(&range).saturating_sub(tracked);
            if pages == 0 {
                continue;
            }
            let untracked = match (self.passed_over.get(range.start), self.look(found)) {
                (Some(passed_over), _) => UntrackedMapping {
                    pages,
                    ..passed_over.clone()
                },
                (None, look) => UntrackedMapping {
                    mapping: found.mapping.clone(),
                    reason: match look {
                        MappingLook::Untracked(reason) => reason,
                        _ if self.excess.is_some() => UntrackedReason::MappingLimit,
                        _ if self.gave_back => UntrackedReason::GivenBack,
                        _ if self.growing.contains(&range.start) => UntrackedReason::Growing,
                        _ => UntrackedReason::Changing,
                    },
                    detail: UntrackedDetail::None,
                    pages,
                },
            };
            self.untracked.push(untracked);
        }
    }

    /// How many mappings there were in the last round.
    pub(super) const fn mapping_count(&self) -> Option<MappingCount> {
        self.mapping_count
    }

    /// What was not looked at in the last round.
    pub(super) fn untracked(&self) -> &[UntrackedMapping] {
        &self.untracked
    }

    /// The same as counts.
    pub(super) fn untracked_pages(&self) -> UntrackedPages {
        let each = |untracked: &UntrackedMapping| (untracked.reason, untracked.pages);
        self.untracked.iter().map(each).collect()
    }

    /// What to say of a refusal besides the reason.
    fn detail(&mut self, reason: UntrackedReason) -> UntrackedDetail {
        if reason != UntrackedReason::OtherUserfaultfd {
            return UntrackedDetail::None;
        }
        let pid = self.lifeline.pid();
        let holder = self.holder.get_or_insert_with(|| holder::find(pid));
        holder
            .clone()
            .map_or(UntrackedDetail::None, UntrackedDetail::Holder)
    }

    /// Whether the process needs its memory for a userfaultfd of its own, if ours is in the way.
    fn wanted_back(&mut self) -> Result<Option<GiveBack>, UffdError> {
        if self.strategy.name().needs_descriptor() {
            self.others.give_back()
        } else {
            Ok(None)
        }
    }

    /// Readable once the process has created a userfaultfd, until the next round.
    pub(super) fn early(&self) -> Option<BorrowedFd<'_>> {
        self.others.created()
    }

    /// Lets go of everything until the next round.
    fn give_back(&mut self) -> Result<(), UffdError> {
        for area in std::mem::take(&mut self.areas) {
            self.strategy.forget(&area)?;
        }
        self.gave_back = true;
        Ok(())
    }

    /// Whether somebody else has let go of everything; notes why.
    fn is_let_go(&mut self) -> Result<bool, UffdError> {
        if let Some(excess) = self.limit.excess()? {
            if self.excess.replace(excess).is_none() {
                let MappingExcess { mappings, most } = excess;
                let event = SessionEvent::MappingLimit { mappings, most };
                self.events.push(event);
            }
            return Ok(true);
        }
        let has_ended = self.guard.as_ref().is_some_and(UffdGuard::has_ended);
        if has_ended && !std::mem::replace(&mut self.guard_told, true) {
            self.events.push(SessionEvent::StoodStill);
        }
        Ok(has_ended)
    }

    /// Sets another guard after one has let go, and that was told.
    pub(super) fn renew_guard(&mut self) -> Result<(), InjectError> {
        if let Some(guard) = &mut self.guard
            && self.guard_told
        {
            guard.renew()?;
            self.guard_told = false;
        }
        Ok(())
    }

    /// A round of a process that was let go: what was tracked is gone, with all that was written
    /// since the round before.
    fn let_go(&mut self, vmas: &[FoundMapping]) -> Result<Vec<MappingRound>, UffdError> {
        for area in &self.areas {
            self.parts.vanished(area, area.pages());
            self.gone.push(area.range.clone());
        }
        self.give_back()?;
        self.note_untracked(vmas);
        self.rounds += 1;
        Ok(std::mem::take(&mut self.parts).rows(&self.areas, vmas))
    }

    /// Nothing of it is tracked any more: it is no longer the process's. Notes what is mapped in
    /// place of it, as far as that can be seen.
    pub(super) fn abandon(&mut self) -> Result<(), UffdError> {
        self.fresh.clear();
        self.gone = self.areas.drain(..).map(|area| area.range).collect();
        self.parts = RoundParts::default();
        let found = MappingReader::open(self.lifeline.pid()).and_then(|mut now| now.read());
        let found = unless_unseen(found)?.unwrap_or_default();
        let untracked = |found: &FoundMapping| UntrackedMapping {
            mapping: found.mapping.clone(),
            reason: match found.look {
                MappingLook::Untracked(reason) => reason,
                _ => UntrackedReason::NotAttached,
            },
            detail: UntrackedDetail::None,
            pages: pages_in(&found.area().range),
        };
        self.untracked = found.iter().map(untracked).collect();
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
            let gone = without(std::slice::from_ref(area), &fitted);
            self.parts.vanished(area, gone.iter().map(pages_in).sum());
            self.gone.extend(gone);
        }
        self.areas = fitted;
    }

    /// Gives up areas in which nothing is tracked any more, though something is mapped there.
    fn lose(&mut self, lost: &[TrackedArea]) {
        let starts: BTreeSet<u64> = lost.iter().map(|area| area.range.start).collect();
        self.areas
            .retain(|area| !starts.contains(&area.range.start));
        self.strategy.redraw(lost, &[]);
        for area in lost {
            self.parts.vanished(area, area.pages());
            self.gone.push(area.range.clone());
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
        self.in_doubt += stats.in_doubt;
        Ok(stats.vanished == 0)
    }

    /// Begins to track a hole; if that cannot be, notes why. `sure`: the mapping was looked at
    /// again after a first refusal.
    fn take(
        &mut self,
        hole: &TrackedArea,
        look: MappingLook,
        vmas: &[FoundMapping],
        sure: bool,
    ) -> Result<HoleOutcome, UffdError> {
        let sparse = look == MappingLook::Unwritable;
        // Of a file that was not writable only what the process has a copy of can be written.
        let whose = if sparse && hole.backing == Backing::File {
            PageOwner::Process
        } else {
            PageOwner::Anybody
        };
        let mut there = Vec::new();
        self.populated
            .append(&hole.range, PagePresence::Anywhere, whose, &mut there)?;
        let armed = if sparse {
            self.strategy.arm_sparse(hole)
        } else {
            self.strategy.arm(hole)
        };
        match armed {
            Ok(()) => (),
            Err(error) if is_passing(&error) => return Ok(HoleOutcome::Settled),
            // Also the answer where nothing is mapped any more.
            Err(error) if !sure && error.errno() == Some(Errno::INVAL) => {
                return Ok(HoleOutcome::Doubtful);
            }
            Err(error) => {
                let reason = UntrackedReason::of(&error).ok_or(error)?;
                // It may be registered already, and refuse only to be armed.
                self.strategy.forget(hole)?;
                let detail = self.detail(reason);
                if let Some(mapping) = mapping_at(vmas, hole) {
                    let event = self.passed_over.add(mapping, reason, detail);
                    self.events.extend(event);
                }
                return Ok(HoleOutcome::Settled);
            }
        }
        // What appeared in between is armed and there; nothing tells it from what was there before.
        let mut now = Vec::new();
        self.populated
            .append(&hole.range, PagePresence::InMemory, whose, &mut now)?;
        let touched = !there.is_empty();
        self.areas.push(hole.clone());
        self.fresh.push(hole.range.clone());
        let unknown = populated::union(there, now, hole.page_size);
        let counts = TrackedPages {
            armed: if sparse {
                unknown.iter().map(PageExtent::pages).sum()
            } else {
                hole.pages()
            },
            ..TrackedPages::default()
        };
        self.parts.add(hole.range.start, counts, unknown);
        let freed = self.passed_over.free(hole.range.start);
        self.events.extend(freed.map(SessionEvent::Freed));
        Ok(HoleOutcome::Tracked { touched })
    }

    /// Whether everything was given back at the end of the last round.
    pub(super) const fn gave_back(&self) -> bool {
        self.gave_back
    }

    /// What was armed for the first time in the last round.
    pub(super) fn fresh(&self) -> &[Range<u64>] {
        &self.fresh
    }

    /// What was tracked before the last round, and is no longer mapped as it was.
    pub(super) fn gone(&self) -> &[Range<u64>] {
        &self.gone
    }

    /// What happened since the last call, but never thousands of events.
    pub(super) fn take_events(&mut self) -> Vec<SessionEvent> {
        const MOST: usize = 32;
        let mut events = std::mem::take(&mut self.events);
        let pages = std::mem::take(&mut self.in_doubt);
        if pages != 0 {
            events.insert(0, SessionEvent::InDoubt { pages });
        }
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
        let seen = self.others.sight().cloned();
        notes.extend(seen.map(|seen| TrackNote::RegistersInVain { seen }));
        notes.extend(self.limit.note());
        if self.guard.as_ref().is_some_and(|guard| !guard.is_apart()) {
            notes.push(TrackNote::FrozenTogether);
        }
        if self.others.any() && name.needs_descriptor() {
            notes.push(TrackNote::HoldsUserfaultfd);
        }
        let is_of_file = |area: &TrackedArea| area.backing == Backing::File;
        if name.needs_descriptor() && self.areas.iter().any(is_of_file) {
            notes.push(TrackNote::NoFaultAround);
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
