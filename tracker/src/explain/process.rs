//! A process, explained: the reports of this tracker, and those of a tracker that is there already.

use std::ops::Range;
use std::os::fd::BorrowedFd;

use pages::inject::ProcessLifeline;
use pages::strategy::StrategyFacts;
use pages::track::{TrackError, TrackHeader, TrackRound, UntrackedReason};

use super::explainer::{ExplainStep, Explainer};
use super::model::{
    ExplainFindings, ExplainOptions, ExplainedRound, PageSampling, ReportOwner, RoundDelay,
};
use super::observe::TrackerObserver;
use super::source::EventHub;

/// Whose reports are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportsAsked {
    /// Those of this tracker: memory that belongs to others is passed over.
    Ours,
    /// Those of a tracker that is there already: nothing is tracked.
    Theirs,
    /// Both, each in its own memory.
    #[default]
    Both,
}

/// A process that is explained.
pub struct ProcessExplainer<'h> {
    pid: u32,
    events: Option<&'h EventHub>,
    facts: StrategyFacts,
    options: ExplainOptions,
    asked: ReportsAsked,
    lifeline: ProcessLifeline,
    ours: Option<Explainer>,
    theirs: Option<TrackerObserver>,
    /// What is tracked by us, by address.
    tracked: Vec<Range<u64>>,
    first: TrackRound,
    refused: Option<TrackError>,
}

/// What a round came to.
#[derive(Debug)]
pub enum ProcessStep {
    /// A round.
    Round {
        /// Of our tracking.
        ours: Option<Box<ExplainedRound>>,
        /// Of what belongs to others.
        theirs: Option<Box<ExplainedRound>>,
    },
    /// The process has ended.
    Exited,
}

impl<'h> ProcessExplainer<'h> {
    /// Begins with whatever was asked for. If both were and we cannot track, those of others are
    /// explained alone; see [`Self::refused`].
    ///
    /// # Errors
    /// As [`Explainer::begin`] and [`TrackerObserver::begin`].
    pub fn begin(
        pid: u32,
        facts: StrategyFacts,
        events: Option<&'h EventHub>,
        options: ExplainOptions,
        asked: ReportsAsked,
    ) -> Result<Self, TrackError> {
        let mut process = Self {
            pid,
            events,
            facts,
            options,
            asked,
            lifeline: ProcessLifeline::open(pid).map_err(TrackError::kernel(pid))?,
            ours: None,
            theirs: None,
            tracked: Vec::new(),
            first: TrackRound::default(),
            refused: None,
        };
        if asked != ReportsAsked::Theirs {
            process.track()?;
        }
        if asked != ReportsAsked::Ours && process.is_of_others() {
            process.observe()?;
        }
        let found = process
            .theirs
            .as_ref()
            .is_some_and(TrackerObserver::has_any);
        match process.refused.take_if(|_| !found) {
            Some(refused) => Err(refused),
            None => Ok(process),
        }
    }

    /// Begins to track.
    fn track(&mut self) -> Result<(), TrackError> {
        let (facts, options) = (self.facts.clone(), self.options.clone());
        match Explainer::begin(self.pid, facts, self.events, options) {
            Ok((mut ours, first)) => {
                if self.asked == ReportsAsked::Both {
                    ours.leave_others();
                }
                self.tracked = tracked(&first);
                self.first = first;
                self.ours = Some(ours);
            }
            Err(error) if self.asked == ReportsAsked::Both && !error.is_gone() => {
                self.refused = Some(error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Begins to observe, with a first look.
    fn observe(&mut self) -> Result<(), TrackError> {
        let begun = TrackerObserver::begin(self.pid, &self.facts, self.events, &self.options);
        let mut theirs = begun?;
        theirs.step(&self.tracked)?;
        self.theirs = Some(theirs);
        Ok(())
    }

    /// Whether memory may belong to others: smaps, which tells, is dear to read.
    fn is_of_others(&self) -> bool {
        let Some(ours) = &self.ours else { return true };
        let mut untracked = ours.untracked().iter();
        untracked.any(|it| it.reason == UntrackedReason::OtherUserfaultfd)
    }

    /// Who is explained, and how: as we track it, if we do; else as it is observed.
    pub fn header(&self) -> Option<&TrackHeader> {
        self.main().map(|findings| &findings.header)
    }

    /// Which pages have their content looked at.
    #[must_use]
    pub fn sampling(&self) -> PageSampling {
        let all = PageSampling { one_of: 1 };
        self.main().map_or(all, |findings| findings.sampling)
    }

    fn main(&self) -> Option<&ExplainFindings> {
        let theirs = self.theirs.as_ref().map(TrackerObserver::findings);
        self.ours.as_ref().map(Explainer::findings).or(theirs)
    }

    /// Our first arming; nothing of what belongs to others. It is given once.
    pub fn take_first(&mut self) -> TrackRound {
        std::mem::take(&mut self.first)
    }

    /// Why we do not track, although that was asked for.
    #[must_use]
    pub const fn refused(&self) -> Option<&TrackError> {
        self.refused.as_ref()
    }

    /// Readable when the process has ended.
    #[must_use]
    pub const fn lifeline(&self) -> &ProcessLifeline {
        &self.lifeline
    }

    /// Readable once a round is wanted before it is due ([`Explainer::early`]).
    #[must_use]
    pub fn early(&self) -> Option<BorrowedFd<'_>> {
        self.ours.as_ref().and_then(Explainer::early)
    }

    /// Readable when a tracker that is there already has armed pages: [`Self::catch_up`] should read
    /// them before they are written again.
    #[must_use]
    pub fn arming(&self) -> Option<BorrowedFd<'_>> {
        self.theirs.as_ref().and_then(TrackerObserver::arming)
    }

    /// Looks at what a tracker that is there already has armed since the last round.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub fn catch_up(&mut self) -> Result<(), TrackError> {
        self.theirs
            .as_mut()
            .map_or(Ok(()), TrackerObserver::catch_up)
    }

    /// What is found until now: of others first. Of those only if any of their memory was seen, or
    /// if nothing else was asked for.
    pub fn findings(&self) -> impl Iterator<Item = &ExplainFindings> {
        let theirs = self.theirs.as_ref().filter(|theirs| self.is_shown(theirs));
        let theirs = theirs.map(TrackerObserver::findings);
        let ours = self.ours.as_ref().map(Explainer::findings);
        theirs.into_iter().chain(ours)
    }

    /// Tells how late the round was that was made last.
    pub fn delayed(&mut self, delay: RoundDelay) {
        if let Some(ours) = &mut self.ours {
            ours.delayed(delay);
        }
        if let Some(theirs) = &mut self.theirs {
            theirs.delayed(delay);
        }
    }

    /// Makes a round.
    ///
    /// # Errors
    /// If the kernel refuses something that is not the process's end.
    pub fn step(&mut self) -> Result<ProcessStep, TrackError> {
        let ours = match &mut self.ours {
            None => None,
            Some(ours) => match ours.step()? {
                ExplainStep::Round(round) => Some(round),
                ExplainStep::Exited => return Ok(ProcessStep::Exited),
            },
        };
        if let Some(round) = &ours {
            self.tracked = tracked(&round.round);
        }
        let theirs = match &mut self.theirs {
            Some(theirs) => match theirs.step(&self.tracked)? {
                ExplainStep::Round(round) => Some(round),
                ExplainStep::Exited if ours.is_some() => None,
                ExplainStep::Exited => return Ok(ProcessStep::Exited),
            },
            None => None,
        };
        if self.theirs.is_none() && self.asked != ReportsAsked::Ours && self.is_of_others() {
            self.observe()?;
        }
        Ok(ProcessStep::Round { ours, theirs })
    }

    /// Ends it: everything that we armed is disarmed and nobody waits. Then code gets its names.
    ///
    /// # Errors
    /// If the kernel refuses to disarm something.
    pub fn end(mut self) -> Result<Vec<ExplainFindings>, TrackError> {
        // Before the names, which take their time.
        if let Some(theirs) = &mut self.theirs {
            theirs.close();
        }
        let ours = self.ours.take().map(Explainer::end).transpose()?;
        let theirs = self.theirs.take();
        let theirs = theirs.filter(|theirs| self.is_shown(theirs));
        let theirs = theirs.map(TrackerObserver::end);
        Ok(theirs.into_iter().chain(ours).collect())
    }

    fn is_shown(&self, theirs: &TrackerObserver) -> bool {
        self.asked == ReportsAsked::Theirs || theirs.has_any()
    }
}

impl ReportsAsked {
    /// All of them, as they are written.
    pub const ALL: [(Self, &'static str); 3] = [
        (Self::Ours, ReportOwner::Ours.as_str()),
        (Self::Theirs, ReportOwner::Theirs.as_str()),
        (Self::Both, "both"),
    ];
}

/// What a round has tracked, by address.
fn tracked(round: &TrackRound) -> Vec<Range<u64>> {
    let rows = round.mappings.iter().filter(|row| row.pages.tracked != 0);
    let ranges = rows.map(|row| row.mapping.start..row.mapping.end);
    ranges.collect()
}
