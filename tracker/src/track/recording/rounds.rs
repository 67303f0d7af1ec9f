//! Rounds out of frames: each is the one before with what is new in it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pages::track::{MappingRound, SessionEvent, TrackRound, TrackedMapping, TrackedPages};

use super::cursor::{FrameCursor, FrameError};
use super::extents::DiskExtents;
use super::format::{DiskMapping, DiskPages, DiskSharedPlace, DiskUntracked, MAX_MAPPINGS};
use super::{FrameDamage, MemoryBudget};

/// Bytes of an event beside its text: here, and when it is shown.
const EVENT: u64 = 64;
/// Bytes that a text of an event takes for each of its own until it is printed.
const EVENT_TEXT: u64 = 4;

/// Bytes that a reason takes for each of its own.
const UNTRACKED: u64 = 16;

/// What the frames so far have told, and the last round, which is changed in place.
#[derive(Default)]
pub(super) struct RoundDecoder {
    slots: Vec<(Arc<TrackedMapping>, TrackedPages)>,
    /// The slot of each mapping of the round.
    order: Vec<u32>,
    /// Whether a slot is there more than once: what is told of one is told of all that follow.
    has_twins: bool,
    round: TrackRound,
    /// Mappings of the round with extents.
    written: Vec<usize>,
    /// Bytes of all slots.
    held: u64,
}

impl RoundDecoder {
    /// The round that was decoded last.
    pub(super) fn round(&self) -> &TrackRound {
        &self.round
    }

    /// Makes the next round of the last one. `is_wide`: with what format 1 does not have.
    ///
    /// # Errors
    /// If it is damaged or takes too much memory; the round is neither then.
    pub(super) fn decode(
        &mut self,
        mut cursor: FrameCursor<'_>,
        is_wide: bool,
        budget: &mut MemoryBudget,
    ) -> Result<(), FrameError> {
        let (number, at, lasted, took): (u64, Duration, Duration, Duration) = cursor.take()?;
        (self.round.number, self.round.at) = (number, at);
        (self.round.lasted, self.round.took) = (lasted, took);
        let before = self.bytes();
        let described = self.describe(&mut cursor, budget)?;
        let is_ordered = self.order(&mut cursor, budget)?;
        if is_ordered || !described.is_empty() {
            self.lay_out(budget)?;
        } else {
            for position in self.written.drain(..) {
                if let Some(told) = self.round.mappings.get_mut(position) {
                    told.written = Vec::new();
                }
            }
        }
        budget.kept = budget.kept.saturating_sub(before) + self.bytes();
        let mut round = *budget;
        self.entries(&mut cursor, &mut round)?;
        self.events(&mut cursor, &mut round)?;
        if is_wide {
            self.share(&mut cursor, &described)?;
            round.check(cursor.left() as u64 * UNTRACKED)?;
            if let Some(untracked) = cursor.take::<Option<DiskUntracked>>()? {
                self.round.not_looked_at = untracked.try_into()?;
            }
        }
        Ok(cursor.end()?)
    }

    /// Bytes of what stays from round to round.
    fn bytes(&self) -> u64 {
        let mapping = size_of::<MappingRound>() + size_of::<u32>();
        self.held + (self.round.mappings.len() * mapping) as u64
    }

    /// Takes the mappings that are new; returns their slots.
    fn describe(
        &mut self,
        cursor: &mut FrameCursor<'_>,
        budget: &MemoryBudget,
    ) -> Result<BTreeSet<u32>, FrameError> {
        let mut described = BTreeSet::new();
        let before = self.held;
        for _ in 0..cursor.count()? {
            let (slot, mapping): (u32, DiskMapping) = cursor.take()?;
            let mapping = Arc::new(TrackedMapping::try_from(mapping)?);
            self.held += bytes_of(&mapping);
            let told = (mapping, TrackedPages::default());
            // Slots are given in order: a large number is no reason to make room for so many.
            if slot as usize == self.slots.len() {
                self.slots.push(told);
            } else {
                let known = self.slots.get_mut(slot as usize);
                let known = known.ok_or(FrameDamage::SlotOrder)?;
                self.held -= bytes_of(&known.0);
                *known = told;
            }
            budget.check(self.held.saturating_sub(before))?;
            described.insert(slot);
        }
        Ok(described)
    }

    /// Takes where those of the new mappings that are shared have their pages.
    fn share(
        &mut self,
        cursor: &mut FrameCursor<'_>,
        described: &BTreeSet<u32>,
    ) -> Result<(), FrameError> {
        let count = cursor.count()?;
        for _ in 0..count {
            let (slot, place): (u32, DiskSharedPlace) = cursor.take()?;
            let known = self.slots.get_mut(slot as usize);
            let known = known.filter(|_| described.contains(&slot));
            let (mapping, _) = known.ok_or(FrameDamage::Absent)?;
            Arc::make_mut(mapping).shared = Some(place.into());
        }
        if count > 0 {
            for (told, slot) in self.round.mappings.iter_mut().zip(&self.order) {
                if let Some((mapping, _)) = self.slots.get(*slot as usize) {
                    told.mapping = Arc::clone(mapping);
                }
            }
        }
        Ok(())
    }

    /// Takes the order of mappings, if it is another.
    fn order(
        &mut self,
        cursor: &mut FrameCursor<'_>,
        budget: &MemoryBudget,
    ) -> Result<bool, FrameError> {
        if !cursor.take::<bool>()? {
            return Ok(false);
        }
        let count = cursor.count()?;
        if count > MAX_MAPPINGS {
            return Err(FrameDamage::Mappings.into());
        }
        budget.check((count * size_of::<u32>()) as u64)?;
        self.order = Vec::with_capacity(count);
        for _ in 0..count {
            self.order.push(cursor.take()?);
        }
        Ok(true)
    }

    /// Makes the list of mappings anew, with nothing written.
    fn lay_out(&mut self, budget: &MemoryBudget) -> Result<(), FrameError> {
        self.written = Vec::new();
        self.round.mappings = Vec::new();
        let mapping = size_of::<MappingRound>() + size_of::<u32>();
        budget.check((self.order.len() * mapping) as u64)?;
        let mut mappings = Vec::with_capacity(self.order.len());
        let mut seen = vec![false; self.slots.len()];
        self.has_twins = false;
        for slot in &self.order {
            let known = self.slots.get(*slot as usize);
            let (mapping, pages) = known.ok_or(FrameDamage::Undescribed)?;
            mappings.push(MappingRound {
                mapping: Arc::clone(mapping),
                pages: *pages,
                written: Vec::new(),
            });
            if let Some(seen) = seen.get_mut(*slot as usize) {
                self.has_twins |= std::mem::replace(seen, true);
            }
        }
        self.round.mappings = mappings;
        Ok(())
    }

    /// Takes what is new of mappings.
    fn entries(
        &mut self,
        cursor: &mut FrameCursor<'_>,
        budget: &mut MemoryBudget,
    ) -> Result<(), FrameError> {
        let mut next = 0_usize;
        for _ in 0..cursor.count()? {
            let skip = usize::try_from(cursor.take::<u64>()?).unwrap_or(usize::MAX);
            let position = next.saturating_add(skip);
            self.take_over(next, position);
            let slot = self.order.get(position).ok_or(FrameDamage::Absent)?;
            let told = self.round.mappings.get_mut(position);
            let told = told.ok_or(FrameDamage::Absent)?;
            told.pages = TrackedPages::from(&cursor.take::<DiskPages>()?);
            told.written = DiskExtents::decode(cursor, told.mapping.start, budget)?;
            if !told.written.is_empty() {
                self.written.push(position);
                budget.kept += size_of_val(told.written.as_slice()) as u64;
            }
            if let Some((_, pages)) = self.slots.get_mut(*slot as usize) {
                *pages = told.pages;
            }
            next = position + 1;
        }
        self.take_over(next, self.order.len());
        Ok(())
    }

    /// Gives the mappings from `from` to `until`, of which nothing is told, what was told of their
    /// slots.
    fn take_over(&mut self, from: usize, until: usize) {
        if !self.has_twins {
            return;
        }
        let until = until.min(self.order.len());
        let told = self.round.mappings.get_mut(from..until).unwrap_or_default();
        let slots = self.order.get(from..until).unwrap_or_default();
        for (told, slot) in told.iter_mut().zip(slots) {
            if let Some((_, pages)) = self.slots.get(*slot as usize) {
                told.pages = *pages;
            }
        }
    }

    /// Takes what happened.
    fn events(
        &mut self,
        cursor: &mut FrameCursor<'_>,
        budget: &mut MemoryBudget,
    ) -> Result<(), FrameError> {
        self.round.events = Vec::new();
        for _ in 0..cursor.count()? {
            let event: String = cursor.take()?;
            budget.kept += event_bytes(&event);
            budget.check(0)?;
            self.round.events.push(SessionEvent::Recorded(event));
        }
        Ok(())
    }
}

/// Bytes that an event takes until it is printed.
fn event_bytes(text: &str) -> u64 {
    EVENT + EVENT_TEXT * text.len() as u64
}

/// Bytes that a mapping takes, and its slot.
fn bytes_of(mapping: &TrackedMapping) -> u64 {
    let slot = size_of::<(Arc<TrackedMapping>, TrackedPages)>() + size_of::<TrackedMapping>();
    (slot + mapping.name.len()) as u64
}
