//! Everything that came of explaining a process, and how it grows by a round at a time.

use pages::inject::InterruptedCall;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pages::strategy::StrategyName;
use pages::track::{SessionEvent, TrackEnd, TrackHeader, TrackedMapping, UntrackedPages};
use uffd::pages_in;

use super::{
    AnswerTally, AuditFindings, ByMapping, CauseSight, ExplainedRound, MissedPages, MissedRange,
    PageSampling, PlaceId, ReportOwner, ReportedPages, SecondOnly, UnknownReason,
};

/// Extents kept for the picture, of all rounds: 200 MB.
const MOST_EXTENTS: usize = 2 << 20;

/// Everything that came of explaining a process.
#[derive(Clone, Debug)]
pub struct ExplainFindings {
    /// Whose reports they are about.
    pub owner: ReportOwner,
    /// Who, how, since when.
    pub header: TrackHeader,
    /// What can be seen of causes.
    pub seen: CauseSight,
    /// Which pages have their content looked at.
    pub sampling: PageSampling,
    /// Rounds, without those that did not count.
    pub rounds: Vec<RoundFindings>,
    /// All reported pages, each as often as it was reported.
    pub tally: AnswerTally,
    /// The same by VMA, by address.
    pub vmas: Vec<VmaFindings>,
    /// The same by the place that did it.
    pub places: BTreeMap<PlaceId, AnswerTally>,
    /// The places.
    pub stacks: BTreeMap<PlaceId, CodePlace>,
    /// Code that could not be named, and why.
    pub unnamed: Vec<UnnamedCode>,
    /// Pages with an unknown verdict, by reason.
    pub verdict_unknown: BTreeMap<UnknownReason, u64>,
    /// Pages with an unknown cause, by reason.
    pub cause_unknown: BTreeMap<UnknownReason, u64>,
    /// What changed and was not reported, with its VMA.
    pub missed: Vec<MissedRange>,
    /// Clean pages whose content was compared, each as often as it was.
    pub verified: u64,
    /// Events of the kernel that were read.
    pub events: u64,
    /// Events that were lost: the ring was full, or the kernel ran no program for them.
    pub dropped: u64,
    /// Reported pages, in `tally`, that were not armed again by the end: their content is that of
    /// the last look. Only where pages are observed.
    pub not_rearmed: u64,
    /// Pages, not in `tally`, that were not armed when they were looked at first, and not armed
    /// again by the end: whether their tracker was told of them nobody knows.
    pub perhaps_reported: u64,
    /// Armed pages, not in `tally`, that were written in memory which was not registered any more
    /// when it was looked at next.
    pub never_observed: u64,
    /// The most pages tracked, or observed, in one round.
    pub tracked: u64,
    /// For each reason the most pages that were not looked at in one round.
    pub not_looked_at: UntrackedPages,
    /// The most bytes that images took.
    pub memory: u64,
    /// Bytes that were read and hashed.
    pub hashed: u64,
    /// What reading and hashing took.
    pub took: Duration,
    /// What naming code took, beside that.
    pub naming: NamingCost,
    /// For how long the process stood still.
    pub frozen: FrozenTime,
    /// What that did to calls, and to those of how many threads.
    pub interrupted: BTreeMap<InterruptedCall, usize>,
    /// The story of a page, if asked for.
    pub story: Option<PageStory>,
    /// A second strategy, if asked for.
    pub against: Option<AgainstFindings>,
    /// What the process's own tracker does wrong; `None`: it has none.
    pub audit: Option<AuditFindings>,
    /// Why it ended, and what was asked for; `None`: nobody told.
    pub end: Option<ExplainEnd>,
}

/// Why explaining ended, beside what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainEnd {
    /// Why.
    pub why: TrackEnd,
    /// So many rounds were asked for.
    pub rounds: Option<u64>,
    /// So much time was asked for.
    pub duration: Option<Duration>,
}

/// For how long a process stood still; zero if it was not to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrozenTime {
    /// In all rounds.
    pub whole: Duration,
    /// In the longest of them.
    pub longest: Duration,
}

/// One round in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundFindings {
    /// Counts from 1.
    pub number: u64,
    /// Since tracking began.
    pub at: Duration,
    /// How it came beside the time at which it was due.
    pub delay: RoundDelay,
    /// What reading and hashing took.
    pub took: Duration,
    /// Reported pages.
    pub tally: AnswerTally,
    /// Missed pages.
    pub missed: u64,
    /// Clean pages whose content was compared.
    pub verified: u64,
    /// Events that were lost.
    pub dropped: u64,
    /// Pages that were not looked at.
    pub not_looked_at: UntrackedPages,
    /// What happened to the process.
    pub events: Vec<SessionEvent>,
    /// Every reported page, for the picture.
    pub reported: ByMapping<ReportedPages>,
}

/// How a round came beside the time at which it was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundDelay {
    /// Rounds before it that were left out: the one before them took longer than the interval.
    pub left_out: u64,
    /// How much later than due it was begun.
    pub late: Duration,
}

/// What it took to name code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamingCost {
    /// Addresses that were to be named.
    pub addresses: u64,
    /// Files, and what is like one, in which they lie.
    pub modules: u64,
    /// What naming took after the last round, when the process was free.
    pub after: Duration,
    /// What holding files took, in all rounds.
    pub during: Duration,
}

/// What one VMA came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmaFindings {
    /// The newest mapping with this start and name.
    pub mapping: Arc<TrackedMapping>,
    /// Its `VmFlags` in smaps, such as `rd wr mr mw me ac sd uw`.
    pub flags: String,
    /// Reported pages.
    pub tally: AnswerTally,
    /// Pages that changed and were not reported.
    pub missed: u64,
}

/// One frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StackFrame {
    /// Its address.
    pub address: u64,
    /// Function, demangled; empty if no symbol is known.
    pub function: String,
    /// Source file and line, if debug information is there.
    pub line: Option<(String, u32)>,
    /// The file it lies in and the offset there (`/usr/bin/redis-server+0x1234`), `[kernel]`, or
    /// `[anon]` for code made at run time.
    pub module: String,
    /// Whether it was inlined into the next frame.
    pub inlined: bool,
}

/// Where something was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodePlace {
    /// The user stack, the innermost frame first. Empty for a kernel thread.
    pub user: Vec<StackFrame>,
    /// The kernel stack, the innermost frame first. Empty for a store, where it is always the page
    /// fault.
    pub kernel: Vec<StackFrame>,
    /// The system call that the thread was in.
    pub syscall: Option<String>,
}

/// Code that has no names because what the process made could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnnamedCode {
    /// The file.
    pub module: String,
    /// Why.
    pub why: String,
}

/// The story of one page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageStory {
    /// Its address.
    pub page: u64,
    /// By time.
    pub lines: Vec<StoryLine>,
}

/// One thing that happened to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryLine {
    /// Since tracking began.
    pub at: Duration,
    /// What, in words.
    pub what: String,
    /// Where in the code.
    pub place: Option<PlaceId>,
}

/// Where a second strategy disagrees, over all rounds, in pages of 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgainstFindings {
    /// The second strategy.
    pub strategy: StrategyName,
    /// Reported by both in the same round.
    pub both: u64,
    /// Reported only by the one that explains.
    pub only_here: AnswerTally,
    /// Reported only by the second.
    pub only_there: BTreeMap<SecondOnly, u64>,
}

impl StackFrame {
    /// The module of code made at run time.
    pub(crate) const ANONYMOUS: &str = "[anon]";
    /// How the module of the kernel's code for processes begins.
    pub(crate) const VDSO: &str = "[vdso]";
}

impl FrozenTime {
    /// Adds a round in which it stood still.
    pub(crate) fn add(&mut self, stood: Duration) {
        self.whole += stood;
        self.longest = self.longest.max(stood);
    }
}

impl AgainstFindings {
    pub(crate) fn new(strategy: StrategyName) -> Self {
        Self {
            strategy,
            both: 0,
            only_here: AnswerTally::new(),
            only_there: BTreeMap::new(),
        }
    }

    /// Counts pages that only the second one reported.
    pub(crate) fn there(&mut self, why: SecondOnly, pages: u64) {
        if pages != 0 {
            *self.only_there.entry(why).or_default() += pages;
        }
    }
}

impl ExplainFindings {
    pub(crate) fn new(header: TrackHeader, seen: CauseSight, sampling: PageSampling) -> Self {
        Self {
            owner: ReportOwner::Ours,
            header,
            seen,
            sampling,
            rounds: Vec::new(),
            tally: AnswerTally::new(),
            vmas: Vec::new(),
            places: BTreeMap::new(),
            stacks: BTreeMap::new(),
            unnamed: Vec::new(),
            verdict_unknown: BTreeMap::new(),
            cause_unknown: BTreeMap::new(),
            missed: Vec::new(),
            verified: 0,
            events: 0,
            dropped: 0,
            not_rearmed: 0,
            perhaps_reported: 0,
            never_observed: 0,
            tracked: 0,
            not_looked_at: UntrackedPages::default(),
            memory: 0,
            hashed: 0,
            took: Duration::ZERO,
            naming: NamingCost::default(),
            frozen: FrozenTime::default(),
            interrupted: BTreeMap::new(),
            story: None,
            against: None,
            audit: None,
            end: None,
        }
    }

    /// Adds a round. `flags` tells the `VmFlags` of a mapping.
    pub(crate) fn add(
        &mut self,
        round: &ExplainedRound,
        flags: impl Fn(&TrackedMapping) -> String,
    ) {
        let mut line = RoundFindings {
            number: round.round.number,
            at: round.round.at,
            delay: RoundDelay::default(),
            took: round.took,
            tally: AnswerTally::new(),
            missed: 0,
            verified: round.verified,
            dropped: round.dropped,
            not_looked_at: round.round.not_looked_at.clone(),
            events: round.round.events.clone(),
            reported: Vec::new(),
        };
        self.add_reported(&mut line, &round.reported, &flags);
        self.add_missed(&mut line, &round.missed, &flags);
        let kept: usize = self.rounds.iter().map(|line| extents(&line.reported)).sum();
        if kept + extents(&round.reported) <= MOST_EXTENTS {
            line.reported.clone_from(&round.reported);
        }
        self.rounds.push(line);
        self.tracked = self.tracked.max(round.round.tracked());
        self.not_looked_at = self.not_looked_at.most(&round.round.not_looked_at);
        self.verified += round.verified;
        self.events += round.events;
        self.dropped += round.dropped;
        self.took += round.took;
    }

    /// Adds reports that are known when everything is over, to the last round. `VmFlags` are known
    /// by then.
    pub(crate) fn add_last(&mut self, reported: &ByMapping<ReportedPages>) {
        if self.rounds.is_empty() {
            return;
        }
        self.add_late(reported, &Vec::new());
        let pages = reported.iter().flat_map(|(_, pages)| pages);
        self.not_rearmed += pages.map(ReportedPages::pages).sum::<u64>();
    }

    /// Adds to the last round what was found out after it, of a process that was gone before the
    /// next.
    pub(crate) fn add_late(
        &mut self,
        reported: &ByMapping<ReportedPages>,
        missed: &ByMapping<MissedPages>,
    ) {
        let Some(mut line) = self.rounds.pop() else {
            return;
        };
        let flags = |_: &TrackedMapping| String::new();
        self.add_reported(&mut line, reported, &flags);
        line.reported.extend(reported.iter().cloned());
        self.add_missed(&mut line, missed, &flags);
        self.rounds.push(line);
    }

    fn add_missed(
        &mut self,
        line: &mut RoundFindings,
        missed: &ByMapping<MissedPages>,
        flags: &impl Fn(&TrackedMapping) -> String,
    ) {
        for (mapping, missed) in missed {
            let vma = self.vma(mapping, flags);
            for pages in missed {
                let count = pages_in(&pages.range);
                self.vmas[vma].missed += count;
                line.missed += count;
                self.missed.push((Arc::clone(mapping), pages.clone()));
            }
        }
    }

    fn add_reported(
        &mut self,
        line: &mut RoundFindings,
        reported: &ByMapping<ReportedPages>,
        flags: &impl Fn(&TrackedMapping) -> String,
    ) {
        for (mapping, reported) in reported {
            let vma = self.vma(mapping, flags);
            for pages in reported {
                let count = pages.pages();
                *self.vmas[vma].tally.entry(pages.why).or_default() += count;
                self.add_pages(pages, count);
                *line.tally.entry(pages.why).or_default() += count;
            }
        }
    }

    /// Rounds that were left out.
    pub(crate) fn left_out(&self) -> u64 {
        let left_out = self.rounds.iter().map(|round| round.delay.left_out);
        left_out.fold(0, u64::saturating_add)
    }

    /// How much later than due a round was begun, at most.
    pub(crate) fn latest(&self) -> Duration {
        let late = self.rounds.iter().map(|round| round.delay.late);
        late.max().unwrap_or_default()
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

    /// Where the findings of a mapping are in the list: the same start and name are the same.
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

fn extents(reported: &ByMapping<ReportedPages>) -> usize {
    reported.iter().map(|(_, pages)| pages.len()).sum()
}
