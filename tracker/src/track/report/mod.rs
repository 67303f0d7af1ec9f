//! What a recording tells: tables, and a heat map of address by time.
//!
//! [`RecordingReport`] counts in two passes over the recording, round by round, since a recording
//! may be larger than memory: the first finds what is to be counted, the second counts it, and each
//! heat map takes another. `tables`, `terminal` and `picture` show it, with the tools of the print
//! room.

mod areas;
mod counts;
mod heat;
mod layout;
pub(crate) mod picture;
mod rounds;
mod shared;
pub(crate) mod tables;
mod tally;
pub(crate) mod terminal;
mod totals;

use std::time::Duration;

use pages::track::{SessionEvent, TrackHeader, TrackRound, UntrackedPages};

use super::recording::{
    MemoryBudget, OverBudget, RecordingEnding, RecordingError, RecordingSource,
};
use crate::print::span::{MappingSpan, SpanBook};
use areas::{AreaBook, AreaCounts};
use layout::MappingLayout;
use rounds::{RoundCounts, WrittenSets};
use shared::FileCounts;
use tally::DifferentPages;
use totals::RecordingTotals;

/// Bytes of an event that are kept beside its text.
const EVENT: u64 = 64;

/// All that is counted of a recording.
#[derive(Debug)]
pub(crate) struct RecordingReport<'a> {
    source: &'a RecordingSource,
    header: TrackHeader,
    /// `None`: it is damaged after these rounds.
    ending: Option<RecordingEnding>,
    totals: RecordingTotals,
    rounds: Vec<RoundCounts>,
    /// Rounds in which something happened.
    events: Vec<RoundEvents>,
    /// By address.
    areas: Vec<AreaCounts>,
    /// Shared memory.
    files: Vec<FileCounts>,
}

/// What happened to the process in a round.
#[derive(Clone, Debug)]
struct RoundEvents {
    number: u64,
    /// Since the first arming.
    at: Duration,
    events: Vec<SessionEvent>,
}

impl<'a> RecordingReport<'a> {
    /// Counts everything that is shown. Of a damaged recording that is what comes before the
    /// damage, which is returned, too.
    ///
    /// # Errors
    /// If it cannot be read, or takes more memory than its budget.
    pub(crate) fn new(
        source: &'a RecordingSource,
    ) -> Result<(Self, Option<RecordingError>), RecordingError> {
        let mut reader = source.reader()?;
        let mut first = FirstPass::default();
        let damage = loop {
            let budget = *reader.budget();
            match reader.next_beside(first.held()) {
                Ok(Some(round)) => first.round(round, &budget)?,
                Ok(None) => break None,
                Err(damage @ RecordingError::Damaged { .. }) => break Some(damage),
                Err(error) => return Err(error),
            }
        };
        let (header, ending) = (reader.header().clone(), reader.ending().cloned());
        let mut report = Self {
            source,
            header,
            ending,
            totals: RecordingTotals::default(),
            rounds: first.rounds,
            events: first.events,
            areas: Vec::new(),
            files: Vec::new(),
        };
        report.count(first.spans.into_vec(), first.sets, first.not_looked_at)?;
        Ok((report, damage))
    }

    /// The second pass.
    fn count(
        &mut self,
        spans: Vec<MappingSpan>,
        sets: WrittenSets,
        not_looked_at: UntrackedPages,
    ) -> Result<(), RecordingError> {
        let mut areas = AreaBook::new(spans);
        let mut layout = MappingLayout::default();
        self.again(|i, round| {
            let is_new = layout.round(i, &round.mappings, |_, _| ());
            areas.round(&round.mappings, is_new);
        })?;
        let (areas, private) = areas.finish(&sets);
        (self.areas, self.files) = (areas, sets.into_files());
        let shared = self.files.iter().map(FileCounts::pages);
        let pages = shared.fold(private, DifferentPages::and);
        self.totals = RecordingTotals::of(&self.rounds, pages, not_looked_at);
        Ok(())
    }

    /// Reads the rounds again.
    fn again(&self, mut round: impl FnMut(usize, &TrackRound)) -> Result<(), RecordingError> {
        let mut reader = self.source.reader()?;
        // A recording that still grows is shown up to where it was.
        for i in 0..self.rounds.len() {
            round(i, reader.next_round()?.ok_or(RecordingError::Changed)?);
        }
        Ok(())
    }
}

/// What is found out first: which mappings there are, and how often each page was written.
#[derive(Debug, Default)]
struct FirstPass {
    layout: MappingLayout,
    spans: SpanBook,
    sets: WrittenSets,
    rounds: Vec<RoundCounts>,
    not_looked_at: UntrackedPages,
    events: Vec<RoundEvents>,
    /// Bytes of `events`.
    events_held: u64,
}

impl FirstPass {
    fn round(&mut self, round: &TrackRound, budget: &MemoryBudget) -> Result<(), OverBudget> {
        let before = self.held();
        let is_new = self
            .layout
            .round(self.rounds.len(), &round.mappings, |_, _| ());
        if is_new {
            for told in &round.mappings {
                self.spans.add(&told.mapping);
                budget.check(self.held().saturating_sub(before))?;
            }
        }
        self.rounds.push(self.sets.round(round, is_new, budget)?);
        self.not_looked_at = self.not_looked_at.most(&round.not_looked_at);
        if !round.events.is_empty() {
            let bytes = round
                .events
                .iter()
                .map(|event| event.to_string().len() as u64);
            self.events_held += bytes.map(|bytes| EVENT + 4 * bytes).sum::<u64>();
            self.events.push(RoundEvents {
                number: round.number,
                at: round.at,
                events: round.events.clone(),
            });
        }
        budget.check(self.held().saturating_sub(before))
    }

    /// Bytes of memory that this takes, and what becomes of it.
    fn held(&self) -> u64 {
        // A span becomes an area, and one of the heat map; rounds become those of the heat map.
        let rounds = self.rounds.len() * size_of::<RoundCounts>() * 2;
        let spans = self.layout.held() + 4 * self.spans.held();
        self.sets.held() + spans + self.events_held + rounds as u64
    }
}

#[cfg(test)]
mod tests;
