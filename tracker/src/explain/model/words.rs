//! The words of explaining: verdicts, causes, and why either is not known. They are the same in the
//! text, in JSON, in HTML and in metrics.

/// Names the values of an enum.
macro_rules! words {
    ($type:ident { $($variant:ident => $word:literal),* $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// As it is written.
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

/// Whether a report was true: the content of a page, compared with what it was when it was armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportVerdict {
    /// Another content.
    Changed,
    /// The same content: a false positive.
    Unchanged,
    /// All zeroes now, and not before.
    Zeroed,
    /// Not there any more: there is nothing to compare.
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

/// What took the protection off a reported page: the last of the kernel's events since it was
/// armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportCause {
    /// A store of a thread of the process.
    UserStore,
    /// A system call of the process that writes to its memory, such as read(2).
    KernelCopy,
    /// process_vm_writev(2), /proc/PID/mem, io_uring, mlock(2), MADV_POPULATE_WRITE, a futex: the
    /// kernel does not tell them apart.
    RemoteOrPin,
    /// MADV_DONTNEED, MADV_FREE and reclaim.
    Zap,
    /// KSM merged it.
    Ksm,
    /// Another part of the huge page that it is in, or was in, was written or given up.
    HugeUnit,
    /// mremap(2) or UFFDIO_MOVE, to here or away from here.
    Move,
    /// The process was forked: a child does not inherit its parent's tracking.
    Fork,
    /// The range was unregistered for a while.
    Unregister,
    /// A guard page was installed or removed.
    Guard,
    /// Their tracker filled it, and did not arm it: UFFDIO_COPY, ZEROPAGE, CONTINUE or POISON.
    Filled,
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
    Filled => "filled",
    NeverArmed => "never-armed",
    Unknown => "unknown",
});

impl ReportCause {
    /// Whether somebody wrote, or took hold of the page to write, there or to another part of its
    /// huge page.
    pub(crate) const fn is_write(self) -> bool {
        matches!(
            self,
            Self::UserStore | Self::KernelCopy | Self::RemoteOrPin | Self::HugeUnit
        )
    }
}

/// Whose reports are explained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportOwner {
    /// Those of this tracker, in memory that it armed itself.
    #[default]
    Ours,
    /// Those of a tracker that was there before, in memory that belongs to its userfaultfd.
    Theirs,
}

words!(ReportOwner {
    Ours => "ours",
    Theirs => "theirs",
});

/// Why a verdict or a cause is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnknownReason {
    /// Verdict: this page is not in the sample.
    NotSampled,
    /// Verdict: there is no valid image of it from before, as in its first round, or since it was
    /// written while it was read.
    NoImageBefore,
    /// Verdict: it was written again before its content could be read.
    WrittenAgain,
    /// Verdict: it is in swap, and reading it would bring it back.
    Swapped,
    /// Verdict: its file's page is not mapped, and reading it would map it.
    NotMapped,
    /// Verdict: the process does not let us read it.
    Unreadable,
    /// Verdict: two looks saw it armed, with different content: it was reported and armed again in
    /// between, or not reported at all.
    BetweenLooks,
    /// Verdict: its tracker armed it, and it was written again, before it could be read in between.
    ShortRound,
    /// Verdict: no event tells of a write, and its tracker, which answers writes itself, may have
    /// taken the protection off of its own accord.
    MaybeReleased,
    /// Cause: its protection was off when it was looked at for the first time.
    BeforeLooking,
    /// Cause: events were dropped since it was armed.
    EventsDropped,
    /// Cause: the strategy lost events, and reported all that they may have been about.
    InDoubt,
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
    BetweenLooks => "between-looks",
    ShortRound => "short-round",
    MaybeReleased => "maybe-released",
    BeforeLooking => "before-looking",
    EventsDropped => "events-dropped",
    InDoubt => "in-doubt",
    NotSeen => "not-seen",
    BitLost => "bit-lost",
});

/// What can change content without a report (docs/hooks.md): the candidates for a missed page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MissCandidate {
    /// Another mapping of the same memory, here or in another process, or pwrite(2) to its file.
    SecondMapping,
    /// A hole was punched, or the file truncated: content is zero, markers survive.
    HolePunch,
    /// The process emptied it (MADV_DONTNEED) or moved it away, and the kernel does not report
    /// that: no kernel does of hugetlb memory and private mappings of files, none before the fix of
    /// mid-2026 of huge pages and whole page tables, none before 6.4 of anonymous pages.
    Emptied,
    /// A buffer that was pinned before it was armed (io_uring, RDMA, O_DIRECT): the device writes
    /// past the page tables.
    PinnedBuffer,
}

words!(MissCandidate {
    SecondMapping => "second-mapping",
    HolePunch => "hole-punch",
    Emptied => "emptied",
    PinnedBuffer => "pinned-buffer",
});

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
