//! What explaining says of one round.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use pages::track::{TrackRound, TrackedMapping};
use uffd::pages_in;

use super::{MissCandidate, ReportCause, ReportVerdict, UnknownReason};

/// What is said of a reported page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportAnswer {
    /// Whether the report was true.
    pub verdict: ReportVerdict,
    /// What took the protection off.
    pub cause: ReportCause,
}

/// Pages by answer.
pub type AnswerTally = BTreeMap<ReportAnswer, u64>;

/// A code location with the way to it, interned: the same stack has the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId(pub u32);

/// Reported pages next to each other with the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedPages {
    /// Their addresses.
    pub range: Range<u64>,
    /// What is said of them.
    pub why: ReportAnswer,
    /// Why the verdict is not known.
    pub verdict_unknown: Option<UnknownReason>,
    /// Why the cause is not known.
    pub cause_unknown: Option<UnknownReason>,
    /// Where it was done.
    pub place: Option<PlaceId>,
    /// The thread that did it: its id and name.
    pub thread: Option<(u32, Arc<str>)>,
}

impl ReportedPages {
    /// How many pages of 4 KiB they are.
    #[must_use]
    pub fn pages(&self) -> u64 {
        pages_in(&self.range)
    }

    /// Whether the same is said of others.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let range = self.range.clone();
        *self
            == Self {
                range,
                ..other.clone()
            }
    }
}

/// Pages next to each other that changed and were not reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedPages {
    /// The round in which they were seen to have changed.
    pub round: u64,
    /// Their addresses.
    pub range: Range<u64>,
    /// Whether they are all zeroes now.
    pub zeroed: bool,
    /// What could have done it, the likeliest first.
    pub candidates: Vec<MissCandidate>,
}

impl MissedPages {
    /// How many pages of 4 KiB they are.
    #[must_use]
    pub fn pages(&self) -> u64 {
        pages_in(&self.range)
    }

    /// Whether the same is said of others.
    pub(crate) fn is_as(&self, other: &Self) -> bool {
        let range = self.range.clone();
        *self
            == Self {
                range,
                ..other.clone()
            }
    }
}

/// Such pages, with their mapping.
pub type MissedRange = (Arc<TrackedMapping>, MissedPages);

/// For every mapping with pages of a kind: all of those, by address.
pub type ByMapping<T> = Vec<(Arc<TrackedMapping>, Vec<T>)>;

/// A round, explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRound {
    /// As tracked.
    pub round: TrackRound,
    /// What was reported.
    pub reported: ByMapping<ReportedPages>,
    /// What changed and was not reported.
    pub missed: ByMapping<MissedPages>,
    /// Clean pages whose content was compared.
    pub verified: u64,
    /// Events of the kernel that were read in this round.
    pub events: u64,
    /// Events that were lost: the ring was full, or the kernel ran no program for them.
    pub dropped: u64,
    /// What reading and hashing took.
    pub took: Duration,
    /// For how long the process stood still meanwhile. `None`: it ran.
    pub stood_still: Option<Duration>,
}

impl ExplainedRound {
    /// Adds what was found out in this round of clean pages that were compared in the one before.
    pub(crate) fn late(&mut self, missed: ByMapping<MissedPages>) {
        let pages = missed.iter().flat_map(|(_, pages)| pages);
        self.verified += pages.map(|it| pages_in(&it.range)).sum::<u64>();
        self.missed.extend(missed);
    }
}

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoundKind {
    /// The first looks: content is read to have images, and nothing is answered.
    Settling,
    /// It counts.
    Counted,
}

impl RoundKind {
    /// Round 0 and those that follow it to settle have the number 0.
    pub(crate) const fn of(round: &TrackRound) -> Self {
        match round.number {
            0 => Self::Settling,
            _ => Self::Counted,
        }
    }
}
