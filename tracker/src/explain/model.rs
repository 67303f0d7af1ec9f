//! What explaining tells: verdicts, causes, and what they rest on. The same words in the text, as JSON, in HTML and in
//! metrics.
//!
//! Pages are counted in units of 4 KiB whatever their size.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tracker_ebpf::EventKind;

use pages::track::{SessionEvent, TrackHeader, TrackRound, TrackedMapping};

/// Names of an enum's values, as everywhere: in output, metrics and JSON.
macro_rules! words {
    ($type:ident { $($variant:ident => $word:literal),* $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

/// Whether it was true: the content of a reported page, compared with what it was when it was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportVerdict {
    /// Another content.
    Changed,
    /// The same content: a false positive.
    Unchanged,
    /// All zeroes now, and not before.
    Zeroed,
    /// Not there any more, so that there is nothing to compare.
    Gone,
    /// Not known; [`UnknownReason`] says why.
    Unknown,
}

words!(ReportVerdict {
    Changed => "changed",
    Unchanged => "unchanged",
    Zeroed => "zeroed",
    Gone => "gone",
    Unknown => "unknown",
});

/// What took the protection off a reported page: the last of the kernel's events since it was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportCause {
    /// A store of a thread of the process.
    UserStore,
    /// A system call of the process that writes to its memory, such as read(2).
    KernelCopy,
    /// process_vm_writev(2), /proc/PID/mem, io_uring, mlock(2), MADV_POPULATE_WRITE, a futex: the kernel does not tell
    /// them apart.
    RemoteOrPin,
    /// MADV_DONTNEED, MADV_FREE and reclaim.
    Zap,
    /// KSM merged it.
    Ksm,
    /// Another part of the huge page that it is in, or was in, was written or given up.
    HugeUnit,
    /// mremap(2) or UFFDIO_MOVE, to here or away from here.
    Move,
    /// The process was forked: a child has no tracking of its parent's.
    Fork,
    /// The range was unregistered for a while.
    Unregister,
    /// A guard page was installed or removed.
    Guard,
    /// Nobody armed it.
    NeverArmed,
    /// No event tells; [`UnknownReason`] says why.
    Unknown,
}

words!(ReportCause {
    UserStore => "user-store",
    KernelCopy => "kernel-copy",
    RemoteOrPin => "remote-or-pin",
    Zap => "zap",
    Ksm => "ksm",
    HugeUnit => "huge-unit",
    Move => "move",
    Fork => "fork",
    Unregister => "unregister",
    Guard => "guard",
    NeverArmed => "never-armed",
    Unknown => "unknown",
});

impl ReportCause {
    /// Whether somebody wrote, or took hold of the page to write, there or to another part of its huge page.
    #[must_use]
    pub const fn is_write(self) -> bool {
        matches!(
            self,
            Self::UserStore | Self::KernelCopy | Self::RemoteOrPin | Self::HugeUnit
        )
    }
}

/// Why a verdict or a cause is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnknownReason {
    /// Verdict: this page is not in the sample.
    NotSampled,
    /// Verdict: there is no valid image of it from before, as at its first round, or since it was written while it was read.
    NoImageBefore,
    /// Verdict: it was written again before its content could be read.
    WrittenAgain,
    /// Verdict: it is in swap, and reading it would bring it back.
    Swapped,
    /// Verdict: its file's page is not mapped, and reading it would map it.
    NotMapped,
    /// Verdict: the process does not let us read it.
    Unreadable,
    /// Cause: events were dropped since it was armed.
    EventsDropped,
    /// Cause: on this kernel, or with this privilege, not all that could have done it can be seen.
    NotSeen,
    /// Cause: everything can be seen, and nothing was: the bit was lost.
    BitLost,
}

words!(UnknownReason {
    NotSampled => "not-sampled",
    NoImageBefore => "no-image-before",
    WrittenAgain => "written-again",
    Swapped => "swapped",
    NotMapped => "not-mapped",
    Unreadable => "unreadable",
    EventsDropped => "events-dropped",
    NotSeen => "not-seen",
    BitLost => "bit-lost",
});

/// What can change content without a report (docs/hooks.md, kernel.md section 4): the candidates for a missed page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MissCandidate {
    /// Another mapping of the same memory, here or in another process, or pwrite(2) to its file.
    SecondMapping,
    /// A hole was punched, or the file truncated: content is zero, markers survive.
    HolePunch,
    /// The process emptied it (MADV_DONTNEED), or moved it away, and the kernel does not report that: of hugetlb memory and
    /// private mappings of files none does, of huge pages and whole page tables none before the fix of mid-2026, of
    /// anonymous pages none before 6.4.
    Emptied,
    /// A buffer pinned before it was armed (io_uring, RDMA, O_DIRECT): the device writes past the page tables.
    PinnedBuffer,
}

words!(MissCandidate {
    SecondMapping => "second-mapping",
    HolePunch => "hole-punch",
    Emptied => "emptied",
    PinnedBuffer => "pinned-buffer",
});

/// Verdict and cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportAnswer {
    /// Whether it was true.
    pub verdict: ReportVerdict,
    /// What did it.
    pub cause: ReportCause,
}

/// Pages by verdict and cause.
pub type AnswerTally = BTreeMap<ReportAnswer, u64>;

/// A code location with the way to it, interned: the same stack is the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId(pub u32);

/// One frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StackFrame {
    /// Its address.
    pub address: u64,
    /// Function, demangled; empty if no symbol is known.
    pub function: String,
    /// Source file and line, if debug information is there.
    pub line: Option<(String, u32)>,
    /// The file it lies in and the offset there (`/usr/bin/redis-server+0x1234`), `[kernel]`, or `[anon]` for code made
    /// at run time.
    pub module: String,
    /// Whether it was inlined into the next frame.
    pub inlined: bool,
}

/// Where something was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodePlace {
    /// The user stack, the innermost frame first. Empty for a kernel thread.
    pub user: Vec<StackFrame>,
    /// The kernel stack, the innermost frame first. Empty for a store, where it is always the page fault.
    pub kernel: Vec<StackFrame>,
    /// The system call that the thread was in.
    pub syscall: Option<String>,
}

/// Reported pages next to each other with the same answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedPages {
    /// Their addresses.
    pub range: Range<u64>,
    /// Verdict and cause.
    pub why: ReportAnswer,
    /// Why the verdict is not known.
    pub verdict_unknown: Option<UnknownReason>,
    /// Why the cause is not known.
    pub cause_unknown: Option<UnknownReason>,
    /// Where it was done.
    pub place: Option<PlaceId>,
    /// Thread (its id and name) that did it.
    pub thread: Option<(u32, Arc<str>)>,
}

/// Pages next to each other that changed and were not reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissedPages {
    /// Their addresses.
    pub range: Range<u64>,
    /// Now all zeroes.
    pub zeroed: bool,
    /// What could have done it, the likeliest first.
    pub candidates: Vec<MissCandidate>,
}

/// A round, explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRound {
    /// As tracked.
    pub round: TrackRound,
    /// For every mapping with reported pages: all of those, by address.
    pub reported: Vec<(Arc<TrackedMapping>, Vec<ReportedPages>)>,
    /// For every mapping with missed pages: those, by address.
    pub missed: Vec<(Arc<TrackedMapping>, Vec<MissedPages>)>,
    /// Clean pages whose content was compared.
    pub verified: u64,
    /// Events of the kernel read in this round, and those dropped.
    pub events: u64,
    /// Events that were lost: the ring was full, or the kernel ran no program for them.
    pub dropped: u64,
    /// What reading and hashing took.
    pub took: Duration,
    /// For how long the process stood still meanwhile. `None`: it ran.
    pub stood_still: Option<Duration>,
}

/// Which pages have their content looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSampling {
    /// One page of so many, chosen by a hash of its address; 1: all.
    pub one_of: u64,
}

/// How to explain.
#[derive(Clone, Debug)]
pub struct ExplainOptions {
    /// How to track.
    pub track: pages::track::TrackOptions,
    /// Content looked at, at most, in bytes: with more memory than that pages are sampled.
    pub content_limit: u64,
    /// A page whose whole story is kept.
    pub page: Option<u64>,
    /// A second strategy on the same rounds: one of [`super::second_strategies`].
    pub against: Option<pages::strategy::StrategyName>,
    /// Whether the process stands still in each round until what was reported has been read.
    pub freeze: bool,
    /// Whether [`ExplainFindings`] grow by each round: without them memory stays bounded however long it goes on.
    pub findings: bool,
}

/// An event of the kernel about pages of the process, without its stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageEvent {
    /// When: CLOCK_MONOTONIC, in nanoseconds.
    pub time: u64,
    /// The pages.
    pub range: Range<u64>,
    /// A second address: what was accessed, or where it came from.
    pub address: u64,
    /// What happened, as the kernel told it.
    pub kind: EventKind,
    /// What it means.
    pub meaning: EventMeaning,
    /// Process and thread.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: Arc<str>,
    /// Where.
    pub place: Option<PlaceId>,
}

impl PageEvent {
    /// Whether it is about the page at an address.
    #[must_use]
    pub fn is_about(&self, page: u64) -> bool {
        self.range.contains(&page) || self.left().is_some_and(|left| left.contains(&page))
    }

    /// From where pages were moved. If that is still mapped (`MREMAP_DONTUNMAP`, `UFFDIO_MOVE`), nothing is there then.
    #[must_use]
    pub fn left(&self) -> Option<Range<u64>> {
        let length = self.range.end - self.range.start;
        let is_move = self.meaning == EventMeaning::Disarms(ReportCause::Move);
        is_move.then(|| self.address..self.address.saturating_add(length))
    }
}

/// What an event means for the pages it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventMeaning {
    /// Takes the protection off, for that reason.
    Disarms(ReportCause),
    /// A huge page lost its bits; the page at the event's `address` was accessed by a store (with that cause).
    DisarmsUnit(ReportCause),
    /// As `Disarms`, for anonymous memory only: in other memory the bit survives as a marker.
    DisarmsAnonymous(ReportCause),
    /// Disarms some of its pages, and nothing tells which: counts for those of which nothing else is told.
    DisarmsSome(ReportCause),
    /// Takes no protection off; told in a page's story.
    Tells,
}

/// How much of what can be a cause is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseSight {
    /// Everything.
    pub complete: bool,
    /// What is not, in words, for people; empty if complete.
    pub not: Vec<String>,
}

/// What one VMA came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmaFindings {
    /// Which; the newest of those with this start and name.
    pub mapping: Arc<TrackedMapping>,
    /// Its `VmFlags` in smaps, such as `rd wr mr mw me ac sd uw`.
    pub flags: String,
    /// Reported pages.
    pub tally: AnswerTally,
    /// Pages that changed and were not reported.
    pub missed: u64,
}

/// One round in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundFindings {
    /// Counts from 1.
    pub number: u64,
    /// Since tracking began.
    pub at: Duration,
    /// Reported pages.
    pub tally: AnswerTally,
    /// Missed pages.
    pub missed: u64,
    /// What happened to the process.
    pub events: Vec<SessionEvent>,
    /// Every reported page, for the picture.
    pub reported: Vec<(Arc<TrackedMapping>, Vec<ReportedPages>)>,
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
    /// The second strategy's name.
    pub strategy: String,
    /// Reported by both in the same round.
    pub both: u64,
    /// Reported only by the one that explains.
    pub only_here: AnswerTally,
    /// Reported only by the second.
    pub only_there: BTreeMap<SecondOnly, u64>,
}

impl AgainstFindings {
    /// Nothing yet.
    #[must_use]
    pub fn new(name: pages::strategy::StrategyName) -> Self {
        Self {
            strategy: name.to_string(),
            both: 0,
            only_here: AnswerTally::new(),
            only_there: BTreeMap::new(),
        }
    }

    /// Counts pages that only the second one reported.
    pub fn there(&mut self, why: SecondOnly, pages: u64) {
        if pages != 0 {
            *self.only_there.entry(why).or_default() += pages;
        }
    }
}

/// Why only the second strategy reports a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecondOnly {
    /// Written between the two readings: ours tells it in the next round.
    NextRound,
    /// In a mapping that is new: soft-dirty reports all of it.
    NewMapping,
    /// Its content has changed: a false negative of ours.
    Changed,
    /// Ours reports it in neither round, and its content is the same.
    Unexplained,
}

words!(SecondOnly {
    NextRound => "next-round",
    NewMapping => "new-mapping",
    Changed => "changed",
    Unexplained => "unexplained",
});

/// Everything that came of explaining a process.
#[derive(Clone, Debug)]
pub struct ExplainFindings {
    /// Who, how, since when.
    pub header: TrackHeader,
    /// What can be seen of causes.
    pub seen: CauseSight,
    /// Which pages have their content looked at.
    pub sampling: PageSampling,
    /// Rounds, the first arming not among them.
    pub rounds: Vec<RoundFindings>,
    /// All reported pages, each as often as it was reported.
    pub tally: AnswerTally,
    /// The same by VMA, by address.
    pub vmas: Vec<VmaFindings>,
    /// The same by the place that did it.
    pub places: BTreeMap<PlaceId, AnswerTally>,
    /// The places.
    pub stacks: BTreeMap<PlaceId, CodePlace>,
    /// Pages with an unknown verdict, by reason.
    pub verdict_unknown: BTreeMap<UnknownReason, u64>,
    /// Pages with an unknown cause, by reason.
    pub cause_unknown: BTreeMap<UnknownReason, u64>,
    /// What changed and was not reported, with its VMA.
    pub missed: Vec<(Arc<TrackedMapping>, MissedPages)>,
    /// Clean pages whose content was compared, each as often as it was.
    pub verified: u64,
    /// Events of the kernel that were read.
    pub events: u64,
    /// Events that were lost: the ring was full, or the kernel ran no program for them.
    pub dropped: u64,
    /// The most pages tracked in one round.
    pub tracked: u64,
    /// Bytes of images that are held, at most.
    pub memory: u64,
    /// Bytes that were read and hashed.
    pub hashed: u64,
    /// What reading and hashing took.
    pub took: Duration,
    /// For how long the process stood still in all rounds, and in the longest; zero if it was not to.
    pub frozen: (Duration, Duration),
    /// The story of a page, if asked for.
    pub story: Option<PageStory>,
    /// A second strategy, if asked for.
    pub against: Option<AgainstFindings>,
}
