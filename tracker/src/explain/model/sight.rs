//! How much of what can be a cause is seen.

use std::fmt;

/// What can be a cause and is not seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CauseSight {
    gaps: Vec<SightGap>,
}

/// One thing that is not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SightGap {
    /// Nothing is: nobody asked for the kernel's events.
    NotAsked,
    /// Nothing is: the process cannot be watched.
    NotWatched {
        /// The process.
        pid: u32,
        /// What the kernel says.
        error: String,
    },
    /// Only what tracepoints tell is.
    OnlyTracepoints {
        /// Why there are no hooks.
        reason: String,
    },
    /// What one hook would see is not.
    NoHook {
        /// The hook.
        hook: String,
        /// Why it is not attached.
        reason: String,
    },
    /// Nothing is since the process has executed another program.
    NotWatchedAgain {
        /// What the kernel says.
        error: String,
    },
}

impl CauseSight {
    /// With these gaps.
    #[must_use]
    pub fn new(gaps: Vec<SightGap>) -> Self {
        Self { gaps }
    }

    /// Whether everything is seen.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }

    /// What is not seen, in words.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        self.gaps.iter().map(ToString::to_string).collect()
    }

    /// From now on something more is not seen.
    pub(crate) fn lose(&mut self, gap: SightGap) {
        self.gaps.push(gap);
    }
}

impl fmt::Display for SightGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => f.write_str("no cause: the kernel's events were not asked for"),
            Self::NotWatched { pid, error } => {
                write!(f, "no cause: process {pid} cannot be watched: {error}")
            }
            Self::OnlyTracepoints { reason } => write!(
                f,
                "only stores, system calls that write to memory, and MADV_DONTNEED, MADV_FREE, \
                 mlock and mremap are seen, through tracepoints; KSM, reclaim, huge pages and \
                 other processes are not: {reason}"
            ),
            Self::NoHook { hook, reason } => write!(f, "{hook}: {reason}"),
            Self::NotWatchedAgain { error } => {
                write!(
                    f,
                    "no causes after it has executed another program: {error}"
                )
            }
        }
    }
}
