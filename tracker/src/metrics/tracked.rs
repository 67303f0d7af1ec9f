//! What a tracked process shows: one type of row, and how each thing is read off it.
//!
//! The catalog has one [`TrackedField`] for each thing: with a family of `/metrics`, or for
//! `/status` alone.

use std::borrow::Cow;
use std::time::Duration;

use pages::track::{MappingCount, UntrackedPages};
use prometheus::proto::LabelPair;

use super::family::{FamilyKind, FamilySamples, FamilySpec};
use crate::explain::AnswerTally;
use crate::model::ProcessKey;

/// One process that is, or a while ago was, tracked. Pages are of 4 KiB.
#[derive(Clone, Debug)]
pub struct TrackedRow {
    /// Which one; no other row has its pid.
    pub process: ProcessKey,
    /// Its name when it was attached to; any bytes.
    pub comm: Vec<u8>,
    /// What selects it, as given on the command line.
    pub selector: String,
    /// The strategy that tracks it.
    pub strategy: String,
    /// How long it stood still to be attached to; `None` if it did not.
    pub stopped: Option<Duration>,
    /// What else its owner should know.
    pub notes: Vec<String>,
    /// When it ended or was let go, on the agent's clock; `None` while it is tracked.
    pub ended: Option<Duration>,
    /// Rounds, without the first arming.
    pub rounds: u64,
    /// Pages tracked in the last round.
    pub tracked_pages: u64,
    /// Those of them that are shared memory.
    pub shared_pages: u64,
    /// Pages that were mapped and not looked at in the last round.
    pub not_looked_at: UntrackedPages,
    /// How many mappings it had in the last round, and may have; `None`: they were not counted.
    pub mapping_count: Option<MappingCount>,
    /// Pages written, each once for each round.
    pub written_pages: u64,
    /// Pages that were there before they were armed.
    pub unknown_pages: u64,
    /// Pages unmapped from one round to the next.
    pub vanished_pages: u64,
    /// Pages reported as written because what tells of writes was lost.
    pub in_doubt_pages: u64,
    /// From the last round to the next.
    pub interval: Duration,
    /// Whether that is longer than asked for.
    pub over_budget: bool,
    /// CPU time of the last round.
    pub last_cost: Duration,
    /// CPU time of attaching and of all rounds.
    pub cpu: Duration,
    /// What explaining it came to; `None` if it is only tracked.
    pub explained: Option<ExplainedTotals>,
}

/// What explaining a process came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplainedTotals {
    /// Reported pages by verdict and cause.
    pub reported: AnswerTally,
    /// Pages that changed and were not reported.
    pub missed: u64,
    /// Clean pages that were compared.
    pub verified: u64,
    /// Events of the kernel that were lost.
    pub lost: u64,
    /// One page in this many is compared.
    pub one_of: u64,
    /// What memory of it came to that belongs to the userfaultfd of another tracker; `None`: there
    /// was none.
    pub observed: Option<ObservedTotals>,
}

/// What the reports of a tracker that is there already came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedTotals {
    /// Reported pages by verdict and cause.
    pub reported: AnswerTally,
    /// Pages that changed and were not reported.
    pub missed: u64,
    /// Armed pages that were compared.
    pub verified: u64,
}

/// One thing that a tracked process shows.
#[derive(Clone, Copy, Debug)]
pub struct TrackedField {
    /// Its key in `/status`.
    pub key: &'static str,
    /// How it is read off a row.
    pub read: TrackedReading,
}

/// How a field is read off a row.
#[derive(Clone, Copy, Debug)]
pub enum TrackedReading {
    /// Every tracked process has it.
    Process(fn(&TrackedRow) -> TrackedValue<'_>),
    /// Only an explained process has it; `/status` shows it below `explained`.
    Explained(fn(&ExplainedTotals) -> TrackedValue<'_>),
    /// Only an explained process with another tracker has it; `/status` shows it below `observed`.
    Observed(fn(&ObservedTotals) -> TrackedValue<'_>),
}

/// What a field says.
#[derive(Clone, Debug, PartialEq)]
pub enum TrackedValue<'a> {
    /// A number of things.
    Count(u64),
    /// A number of things, if they were counted.
    MaybeCount(Option<u64>),
    /// How long something took or takes.
    Seconds(Duration),
    /// How long something took, if it happened.
    MaybeSeconds(Option<Duration>),
    /// One thing in this many; as a metric, their share.
    OneOf(u64),
    /// Yes or no.
    Flag(bool),
    /// A word; as a metric, the label of a series that is always 1.
    Word(Cow<'a, str>),
    /// Sentences for people.
    Notes(&'a [String]),
    /// Pages by verdict and cause.
    Pages(&'a AnswerTally),
    /// Pages by the reason why they are not looked at.
    Untracked(&'a UntrackedPages),
}

impl TrackedRow {
    /// Whether it is still tracked.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.ended.is_none()
    }
}

impl TrackedField {
    /// What the field says of a process; `None` if the process has no such thing.
    #[must_use]
    pub fn of<'a>(&self, row: &'a TrackedRow) -> Option<TrackedValue<'a>> {
        match self.read {
            TrackedReading::Process(read) => Some(read(row)),
            TrackedReading::Explained(read) => row.explained.as_ref().map(read),
            TrackedReading::Observed(read) => {
                let explained = row.explained.as_ref()?;
                explained.observed.as_ref().map(read)
            }
        }
    }

    /// Adds its samples of one process. What ended keeps its counters and has no gauges.
    pub(super) fn sample(
        &self,
        family: &FamilySpec,
        row: &TrackedRow,
        labels: &[LabelPair],
        samples: &mut FamilySamples<'_>,
    ) {
        if family.kind == FamilyKind::Gauge && !row.is_live() {
            return;
        }
        match self.of(row) {
            Some(TrackedValue::Count(count) | TrackedValue::MaybeCount(Some(count))) => {
                samples.count(labels, [], count)
            }
            Some(TrackedValue::Seconds(time) | TrackedValue::MaybeSeconds(Some(time))) => {
                samples.add(labels, [], time.as_secs_f64());
            }
            Some(TrackedValue::OneOf(n)) => samples.add(labels, [], 1.0 / n.max(1) as f64),
            Some(TrackedValue::Flag(yes)) => samples.count(labels, [], u64::from(yes)),
            Some(TrackedValue::Word(word)) => {
                let name = family.labels.last().copied().unwrap_or_default();
                samples.count(labels, [(name, &word)], 1);
            }
            Some(TrackedValue::Pages(tally)) => {
                for (why, pages) in tally {
                    let (verdict, cause) = (why.verdict.as_str(), why.cause.as_str());
                    samples.count(labels, [("verdict", verdict), ("cause", cause)], *pages);
                }
            }
            Some(TrackedValue::Untracked(untracked)) => {
                for (reason, pages) in untracked.iter() {
                    samples.count(labels, [("reason", reason.as_str())], pages);
                }
            }
            // Sentences are no numbers.
            Some(
                TrackedValue::Notes(_)
                | TrackedValue::MaybeSeconds(None)
                | TrackedValue::MaybeCount(None),
            )
            | None => {}
        }
    }
}
