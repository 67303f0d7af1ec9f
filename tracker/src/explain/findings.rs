//! Findings grow by a round at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::model::{
    AnswerTally, CauseSight, ExplainFindings, ExplainedRound, PageSampling, ReportedPages,
    RoundFindings, VmaFindings,
};
use pages::track::{TrackHeader, TrackedMapping};

/// Extents kept for the picture, of all rounds: 200 MB.
const MOST_EXTENTS: usize = 2 << 20;

impl ExplainFindings {
    /// None yet.
    #[must_use]
    pub fn new(header: TrackHeader, seen: CauseSight, sampling: PageSampling) -> Self {
        Self {
            header,
            seen,
            sampling,
            rounds: Vec::new(),
            tally: AnswerTally::new(),
            vmas: Vec::new(),
            places: BTreeMap::new(),
            stacks: BTreeMap::new(),
            verdict_unknown: BTreeMap::new(),
            cause_unknown: BTreeMap::new(),
            missed: Vec::new(),
            verified: 0,
            events: 0,
            dropped: 0,
            tracked: 0,
            memory: 0,
            hashed: 0,
            took: Duration::ZERO,
            frozen: (Duration::ZERO, Duration::ZERO),
            story: None,
            against: None,
        }
    }

    /// Adds a round. `flags` tells the `VmFlags` of a mapping.
    pub fn add(&mut self, round: &ExplainedRound, flags: impl Fn(&TrackedMapping) -> String) {
        let mut line = RoundFindings {
            number: round.round.number,
            at: round.round.at,
            tally: AnswerTally::new(),
            missed: 0,
            events: round.round.events.clone(),
            reported: Vec::new(),
        };
        for (mapping, reported) in &round.reported {
            let vma = self.vma(mapping, &flags);
            for pages in reported {
                let count = pages.pages();
                *self.vmas[vma].tally.entry(pages.why).or_default() += count;
                self.add_pages(pages, count);
                *line.tally.entry(pages.why).or_default() += count;
            }
        }
        for (mapping, missed) in &round.missed {
            let vma = self.vma(mapping, &flags);
            for pages in missed {
                let count = uffd::pages_in(&pages.range);
                self.vmas[vma].missed += count;
                line.missed += count;
                self.missed.push((Arc::clone(mapping), pages.clone()));
            }
        }
        let extents = |reported: &[(Arc<TrackedMapping>, Vec<ReportedPages>)]| -> usize {
            reported.iter().map(|(_, pages)| pages.len()).sum()
        };
        let kept: usize = self.rounds.iter().map(|line| extents(&line.reported)).sum();
        if kept + extents(&round.reported) <= MOST_EXTENTS {
            line.reported.clone_from(&round.reported);
        }
        self.rounds.push(line);
        let tracked = round.round.mappings.iter().map(|row| row.pages.tracked);
        self.tracked = self.tracked.max(tracked.sum());
        self.verified += round.verified;
        self.events += round.events;
        self.dropped += round.dropped;
        self.took += round.took;
    }

    fn add_pages(&mut self, pages: &ReportedPages, count: u64) {
        *self.tally.entry(pages.why).or_default() += count;
        if let Some(place) = pages.place {
            let tally = self.places.entry(place).or_default();
            *tally.entry(pages.why).or_default() += count;
        }
        if let Some(reason) = pages.verdict_unknown {
            *self.verdict_unknown.entry(reason).or_default() += count;
        }
        if let Some(reason) = pages.cause_unknown {
            *self.cause_unknown.entry(reason).or_default() += count;
        }
    }

    /// The place in the list of a mapping's findings: the same start and name are the same.
    fn vma(
        &mut self,
        mapping: &Arc<TrackedMapping>,
        flags: impl Fn(&TrackedMapping) -> String,
    ) -> usize {
        let key = |mapping: &TrackedMapping| (mapping.start, mapping.name.clone());
        let wanted = key(mapping);
        match self
            .vmas
            .binary_search_by(|vma| key(&vma.mapping).cmp(&wanted))
        {
            Ok(at) => {
                self.vmas[at].mapping = Arc::clone(mapping);
                at
            }
            Err(at) => {
                let vma = VmaFindings {
                    mapping: Arc::clone(mapping),
                    flags: flags(mapping),
                    tally: AnswerTally::new(),
                    missed: 0,
                };
                self.vmas.insert(at, vma);
                at
            }
        }
    }
}

impl ReportedPages {
    /// Its length in pages of 4 KiB.
    #[must_use]
    pub fn pages(&self) -> u64 {
        uffd::pages_in(&self.range)
    }
}
