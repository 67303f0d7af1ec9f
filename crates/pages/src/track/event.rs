//! What a round tells besides its pages: what happened to the process, and to what is tracked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::model::TrackedMapping;
use super::others::OwnUffd;
use super::untracked::UntrackedMapping;
use crate::strategy::StrategyName;

/// One event. Its text is for people; decisions match the variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// A mapping cannot be tracked.
    PassedOver(UntrackedMapping),
    /// A mapping that could not be tracked is, from now on.
    Freed(Arc<TrackedMapping>),
    /// The process opened a userfaultfd itself: everything was given back for a while.
    GaveBack {
        /// How that was seen.
        own: OwnUffd,
        /// For how long; longer if it goes on trying.
        left: Duration,
    },
    /// It came near the most mappings that it may have: everything was given back for good.
    MappingLimit {
        /// How many it had.
        mappings: usize,
        /// `vm.max_map_count`.
        most: usize,
    },
    /// It executed another program, and cannot be attached to at the moment.
    NotAttached {
        /// Why.
        reason: String,
    },
    /// Now it can be stopped, and is tracked with the strategy that another one stood in for.
    BetterStrategy {
        /// That.
        strategy: StrategyName,
        /// For how long one of its threads stood still, or all.
        stopped: Duration,
    },
    /// What would tell which pages were written was lost, as page faults that eBPF programs did not
    /// see: so many pages are reported that need not be.
    InDoubt {
        /// Pages of 4 KiB.
        pages: u64,
    },
    /// This process stood still, and whoever guards against that let go of everything.
    StoodStill,
    /// The process executed another program, and was attached to again.
    Executed {
        /// The new program's name.
        comm: String,
        /// For how long one of its threads stood still, or all.
        stopped: Duration,
    },
    /// A child is tracked from now on.
    ChildFollowed {
        /// Its pid.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// A child cannot be tracked, or not any further.
    ChildLost {
        /// Its pid.
        pid: u32,
        /// Why.
        reason: String,
    },
    /// A child has ended.
    ChildEnded {
        /// Its pid.
        pid: u32,
    },
    /// Something happened to a child.
    OfChild {
        /// Its pid.
        pid: u32,
        /// What.
        event: Box<SessionEvent>,
    },
    /// So many events more than a round tells.
    More(usize),
    /// From a recording, which holds the text only.
    Recorded(String),
}

impl fmt::Display for SessionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PassedOver(passed_over) => passed_over.fmt(f),
            Self::Freed(mapping) => {
                write!(f, "{} is free, and tracked from now on", mapping.place())
            }
            Self::GaveBack { own, left } => {
                match own {
                    OwnUffd::Created => f.write_str("has created a userfaultfd itself"),
                    OwnUffd::Held { descriptor } => {
                        write!(f, "opened a userfaultfd itself (descriptor {descriptor})")
                    }
                }?;
                write!(
                    f,
                    ": all memory was given back for {:.1} s, and for as long as it goes on \
                     trying, so that it can register what it wants; the rest is then tracked \
                     again, its pages as unknown",
                    left.as_secs_f64()
                )
            }
            Self::MappingLimit { mappings, most } => write!(
                f,
                "has {mappings} mappings, of {most} that it may have (vm.max_map_count): registered \
                 memory does not merge with what is mapped beside it, so all memory was given back \
                 for good, before its calls fail; what it wrote since the round before is not known; \
                 raise vm.max_map_count, or take a strategy that registers nothing (hash, soft-dirty)"
            ),
            Self::NotAttached { reason } => write!(
                f,
                "executes another program, and nothing of that is looked at until it can be \
                 attached to, which is tried each round: {reason}"
            ),
            Self::BetterStrategy { strategy, stopped } => write!(
                f,
                "is tracked with {strategy} from now on, since it could be stopped (for {:.2} ms); \
                 its pages are unknown at first",
                stopped.as_secs_f64() * 1e3
            ),
            Self::InDoubt { pages } => write!(
                f,
                "{pages} of the written pages are in doubt: events were lost that would tell \
                 whether they were written, so all are reported"
            ),
            Self::StoodStill => f.write_str(
                "waited for tracker, which stood still (a stop signal, the freezer, a machine that \
                 is too busy), and was let go by its guard: what it wrote since the round before \
                 is not known; it is tracked again from the next round on",
            ),
            Self::Executed { comm, stopped } => write!(
                f,
                "executes another program, {comm}: attached again (stopped for {:.2} ms); \
                 its first pages are unknown",
                stopped.as_secs_f64() * 1e3
            ),
            Self::ChildFollowed { pid, comm } => write!(
                f,
                "child {pid} ({comm}) is tracked from now on, its first pages as unknown"
            ),
            Self::ChildLost { pid, reason } => {
                write!(
                    f,
                    "child {pid} is not tracked, whatever it writes: {reason}"
                )
            }
            Self::ChildEnded { pid } => write!(
                f,
                "child {pid} has ended: what it wrote since the round before is not seen"
            ),
            Self::OfChild { pid, event } => write!(f, "child {pid}: {event}"),
            Self::More(mappings) => write!(f, "and the like of {mappings} other mappings"),
            Self::Recorded(text) => f.write_str(text),
        }
    }
}

impl Serialize for SessionEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
