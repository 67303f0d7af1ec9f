//! What is told of a process and its tracker from one look to the next, in parts.

use std::ops::Range;

use uffd::UffdFeatures;

use crate::explain::audit::{TheirLook, TheirMapping};
use crate::explain::evidence::FreshEvents;
use crate::explain::model::{
    ByMapping, ExplainedRound, MissedPages, ReportedPages, TrackerCall, WatchedEvent,
};

/// What has been gathered since the last look at everything.
#[derive(Default)]
pub(super) struct GatheredSince {
    pub events: Vec<WatchedEvent>,
    pub calls: Vec<TrackerCall>,
    pub fresh: FreshEvents,
    pub answers: PartAnswers,
}

/// What is said of parts that were looked at.
#[derive(Default)]
pub(super) struct PartAnswers {
    pub reported: ByMapping<ReportedPages>,
    pub missed: ByMapping<MissedPages>,
    pub verified: u64,
    /// See [`TheirLook`].
    pub only_read: Vec<Range<u64>>,
    pub unprotected: Vec<Range<u64>>,
}

impl PartAnswers {
    /// Adds what is said of another part.
    pub(super) fn add(&mut self, other: Self) {
        self.reported.extend(other.reported);
        self.missed.extend(other.missed);
        self.verified += other.verified;
        self.only_read.extend(other.only_read);
        self.unprotected.extend(other.unprotected);
    }

    /// Adds all of it to a round; what is left is for the audit of memory that is made of these.
    pub(super) fn enter(
        self,
        explained: &mut ExplainedRound,
        mappings: Vec<TheirMapping>,
        features: Option<UffdFeatures>,
    ) -> TheirLook {
        explained.reported.extend(self.reported);
        explained.missed.extend(self.missed);
        explained.verified += self.verified;
        TheirLook {
            mappings,
            only_read: self.only_read,
            unprotected: self.unprotected,
            features,
        }
    }
}
