//! What each verdict, cause and reason means, and what somebody can do about it, in a sentence.

use super::{MissCandidate, ReportCause, ReportVerdict, SecondOnly, UnknownReason};

/// What a verdict says.
pub(super) const fn verdict(verdict: ReportVerdict) -> &'static str {
    match verdict {
        ReportVerdict::Changed => "another content than when it was armed: the report is true",
        ReportVerdict::Unchanged => "the same content as when it was armed: a false positive",
        ReportVerdict::Zeroed => {
            "all zeroes now, and not before: true, but there is nothing to copy"
        }
        ReportVerdict::Gone => "unmapped before it could be read",
        ReportVerdict::Unknown => "its content could not be compared",
    }
}

/// What happened to a page, for each cause.
pub(super) const fn cause(cause: ReportCause) -> &'static str {
    match cause {
        ReportCause::UserStore => "a thread of the process stored to it",
        ReportCause::KernelCopy => "a system call copied into it, as read(2) does",
        ReportCause::RemoteOrPin => {
            "somebody took hold of the page to write to it: process_vm_writev(2), ptrace(2) or \
             /proc/PID/mem, mlock(2), MADV_POPULATE_WRITE, io_uring, a futex"
        }
        ReportCause::Zap => "it was given back: MADV_DONTNEED, or MADV_FREE and reclaim",
        ReportCause::Ksm => "KSM merged it with another page of the same content",
        ReportCause::HugeUnit => "another part of its huge page was written or given back",
        ReportCause::Move => "mremap(2) or UFFDIO_MOVE brought it to this address, or took it away",
        ReportCause::Fork => {
            "it belongs to a child: fork(2) does not pass the protection on by itself"
        }
        ReportCause::Unregister => "its range was unregistered for a while",
        ReportCause::Guard => "a guard page was installed or removed there",
        ReportCause::Filled => {
            "their tracker filled it by UFFDIO_COPY, ZEROPAGE, CONTINUE or POISON, without a mode \
             that arms it"
        }
        ReportCause::NeverArmed => {
            "nobody had armed it: a page that is not armed counts as written"
        }
        ReportCause::Unknown => "no event tells what it was",
    }
}

/// What to change, in the tracker or in the tracked program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CauseAdvice {
    CompareBeforeStore,
    TestForZeroes,
    UseAnotherBuffer,
    PinBeforeArming,
    SkipGivenBack,
    StopMerging,
    SplitHugePages,
    SkipMovedAway,
    FollowMoves,
    FollowForks,
    ArmAgain,
    SkipGuards,
    FillArmed,
    ArmEverything,
    AskCheck,
}

impl CauseAdvice {
    /// What helps against reports of this cause with this verdict; `None`: there is nothing wrong.
    pub(super) const fn of(cause: ReportCause, verdict: ReportVerdict) -> Option<Self> {
        use ReportCause::{
            Filled, Fork, Guard, HugeUnit, KernelCopy, Ksm, Move, NeverArmed, RemoteOrPin,
            Unregister, UserStore, Zap,
        };
        use ReportVerdict::{Changed, Gone, Unchanged, Unknown, Zeroed};
        Some(match (cause, verdict) {
            (UserStore, Unchanged) => Self::CompareBeforeStore,
            (UserStore, Zeroed) => Self::TestForZeroes,
            (KernelCopy, Unchanged) => Self::UseAnotherBuffer,
            (RemoteOrPin, Unchanged) => Self::PinBeforeArming,
            (Zap, Unchanged | Zeroed | Gone) => Self::SkipGivenBack,
            (Ksm, Unchanged | Unknown) => Self::StopMerging,
            (HugeUnit, Unchanged | Zeroed | Unknown) => Self::SplitHugePages,
            (Move, Zeroed | Gone) => Self::SkipMovedAway,
            (Move, Changed | Unchanged | Unknown) => Self::FollowMoves,
            (Fork, _) => Self::FollowForks,
            (Unregister, _) => Self::ArmAgain,
            (Guard, _) => Self::SkipGuards,
            (Filled, _) => Self::FillArmed,
            (NeverArmed, _) => Self::ArmEverything,
            (ReportCause::Unknown, _) => Self::AskCheck,
            (UserStore | KernelCopy | RemoteOrPin, Gone | Unknown)
            | (KernelCopy | RemoteOrPin, Zeroed)
            | (Ksm, Zeroed | Gone)
            | (HugeUnit, Gone)
            | (Zap, Unknown)
            | (_, Changed) => return None,
        })
    }

    /// The advice in a sentence.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::CompareBeforeStore => {
                "compare before the store, in the code named above; or have the tracker compare a \
                 hash of each reported page, since no protection tells the same value from another"
            }
            Self::TestForZeroes => {
                "the program clears memory by storing zeroes: test for a page of zeroes before \
                 copying it, or have the program give it back with MADV_DONTNEED"
            }
            Self::UseAnotherBuffer => {
                "the system call brought the bytes that were there already: let it write to a \
                 buffer that is not tracked, or compare a hash of each reported page"
            }
            Self::PinBeforeArming => {
                "do not mlock(2), MADV_POPULATE_WRITE or register buffers after arming: each \
                 reports all its pages and changes none; do it before, or use MADV_POPULATE_READ"
            }
            Self::SkipGivenBack => {
                "pages given back need no dump, they read as zero: PAGEMAP_SCAN tells them, \
                 PAGE_IS_PRESENT and PAGE_IS_SWAPPED are off or PAGE_IS_PFNZERO is on"
            }
            Self::StopMerging => {
                "KSM changes no content: MADV_UNMERGEABLE on the range (or prctl \
                 PR_SET_MEMORY_MERGE off) while it is tracked, or tolerate one report for each \
                 merge"
            }
            Self::SplitHugePages => {
                "have pages of 4 KiB there: MADV_NOHUGEPAGE; for huge pages of shmem arming with \
                 UFFDIO_WRITEPROTECT suffices, which splits them (PAGEMAP_SCAN does not); hugetlb \
                 has one report for each huge page, so compare its parts"
            }
            Self::SkipMovedAway => {
                "pages moved away need no dump, they read as zero: PAGEMAP_SCAN tells them, \
                 PAGE_IS_PRESENT and PAGE_IS_SWAPPED are off"
            }
            Self::FollowMoves => {
                "ask for UFFD_FEATURE_EVENT_REMAP: protection then moves along with mremap(2); \
                 what UFFDIO_MOVE brings has to be armed again"
            }
            Self::FollowForks => {
                "ask for UFFD_FEATURE_EVENT_FORK: the child then has protection and a userfaultfd \
                 of its own; without it, its first round is everything"
            }
            Self::ArmAgain => {
                "somebody unregisters while you track: arm at once after UFFDIO_REGISTER, and \
                 take one round of that range as everything"
            }
            Self::SkipGuards => {
                "guard pages have no content: leave them out (PAGE_IS_GUARD from 6.18 on)"
            }
            Self::FillArmed => {
                "fill pages with UFFDIO_COPY_MODE_WP or UFFDIO_CONTINUE_MODE_WP, or arm them \
                 afterwards: what is filled and not armed counts as written"
            }
            Self::ArmEverything => {
                "arm the whole range right after UFFDIO_REGISTER, and what is mapped later as \
                 soon as you see it; WP_ASYNC and WP_UNPOPULATED also arm pages that are not \
                 there yet"
            }
            Self::AskCheck => {
                "look at the reasons why it is not known; tracker check says which hook is absent \
                 and how to get it"
            }
        }
    }
}

/// Why it is not known, and what would help.
pub(super) const fn reason(reason: UnknownReason) -> &'static str {
    match reason {
        UnknownReason::NotSampled => {
            "not in the sample: allow more memory for content to have more of them"
        }
        UnknownReason::NoImageBefore => {
            "no valid image from before, as in a page's first round, or when it was written while \
             it was read"
        }
        UnknownReason::WrittenAgain => {
            "written again before it could be read, as hot pages are: with --freeze the process \
             stands still meanwhile"
        }
        UnknownReason::Swapped => "in swap: reading it would bring it back",
        UnknownReason::NotMapped => "its file's page is not mapped: reading it would map it",
        UnknownReason::Unreadable => "the process does not let us read it",
        UnknownReason::BetweenLooks => {
            "armed at two looks with different content: reported and armed again in between, or not \
             reported; a shorter --interval tells more"
        }
        UnknownReason::ShortRound => {
            "its tracker armed it, and it was written again before it could be read in between"
        }
        UnknownReason::MaybeReleased => {
            "not armed any more, without an event of a write: its tracker, which answers writes \
             itself, may have released it, and was told nothing then"
        }
        UnknownReason::BeforeLooking => {
            "not armed when it was looked at for the first time: written before, or never armed"
        }
        UnknownReason::EventsDropped => {
            "events were dropped since it was armed: fewer, shorter rounds help"
        }
        UnknownReason::InDoubt => {
            "fault-time lost events and reported all that they may have been about, perhaps this, \
             too; markers needs none"
        }
        UnknownReason::NotSeen => {
            "not all that could have done it can be seen on this kernel, with this privilege"
        }
        UnknownReason::BitLost => {
            "every hook is attached, and none told of it: the kernel lost the bit"
        }
    }
}

/// What may have changed a page behind the protection, and how to catch it.
pub(super) const fn candidate(candidate: MissCandidate) -> &'static str {
    match candidate {
        MissCandidate::Emptied => {
            "the process emptied it (MADV_DONTNEED) or moved it away: hugetlb memory and private \
             mappings of files keep their protection then, and older kernels tell it of anonymous \
             memory for single pages only, or not at all"
        }
        MissCandidate::SecondMapping => {
            "the same memory was written through another mapping, here or in another process, or \
             by pwrite(2) to its file: uffd-wp protects mappings, not memory, so track all of them"
        }
        MissCandidate::HolePunch => {
            "a hole was punched or the file truncated: content is zero and markers stay; \
             UFFD_FEATURE_EVENT_REMOVE tells of MADV_REMOVE"
        }
        MissCandidate::PinnedBuffer => {
            "a device or io_uring wrote to a buffer that was pinned before it was armed: take \
             such buffers as written in every round"
        }
    }
}

/// Why only a second strategy reports a page, in a line.
pub(super) const fn second_only(why: SecondOnly) -> &'static str {
    match why {
        SecondOnly::NextRound => "written between the two readings; the next round tells it",
        SecondOnly::NewMapping => {
            "in a mapping that is new, which is soft-dirty as a whole; here its pages are told as \
             unknown if they are there"
        }
        SecondOnly::Changed => "changed: a false negative here",
        SecondOnly::Unexplained => {
            "reported in neither round here, with the same content: soft-dirty also tells what \
             mremap(2) or a new VMA flag touched"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_false_positive_has_advice_and_no_true_one_of_a_write() {
        for cause in ReportCause::ALL {
            let advice = CauseAdvice::of(*cause, ReportVerdict::Unchanged);
            assert!(advice.is_some(), "{cause}");
        }
        for cause in [
            ReportCause::UserStore,
            ReportCause::KernelCopy,
            ReportCause::RemoteOrPin,
        ] {
            assert_eq!(CauseAdvice::of(cause, ReportVerdict::Changed), None);
        }
    }

    #[test]
    fn sentences_go_on_in_a_line() {
        let causes = ReportCause::ALL.iter().map(|c| cause(*c));
        let reasons = UnknownReason::ALL.iter().map(|r| reason(*r));
        let candidates = MissCandidate::ALL.iter().map(|c| candidate(*c));
        let verdicts = ReportVerdict::ALL.iter().map(|v| verdict(*v));
        let all = |c: ReportCause| {
            let advices = ReportVerdict::ALL.iter();
            advices.filter_map(move |v| CauseAdvice::of(c, *v))
        };
        let advices = ReportCause::ALL.iter().copied().flat_map(all);
        for text in causes
            .chain(reasons)
            .chain(candidates)
            .chain(verdicts)
            .chain(advices.map(CauseAdvice::text))
        {
            assert!(!text.ends_with('.') && !text.contains("  ") && !text.contains('\n'));
        }
    }
}
