//! What each cause and reason means, and what somebody can do about it, in a sentence.

use super::{Candidate, Cause, OnlyThere, Reason, Verdict};

/// What a verdict says.
#[must_use]
pub const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Changed => "another content than when it was armed: the report is true",
        Verdict::Unchanged => "the same content as when it was armed: a false positive",
        Verdict::Zeroed => "all zeroes now, and not before: true, but there is nothing to copy",
        Verdict::Gone => "unmapped before it could be read",
        Verdict::Unknown => "its content could not be compared",
    }
}

/// What happened.
#[must_use]
pub const fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::UserStore => "a thread of the process stored to it",
        Cause::KernelCopy => "a system call copied into it, as read(2) does",
        Cause::RemoteOrPin => {
            "somebody took hold of the page to write to it: process_vm_writev(2), ptrace(2) or /proc/PID/mem, \
             mlock(2), MADV_POPULATE_WRITE, io_uring, a futex"
        }
        Cause::Zap => "it was given back: MADV_DONTNEED, or MADV_FREE and reclaim",
        Cause::Ksm => "KSM merged it with another page of the same content",
        Cause::HugeUnit => "another part of its huge page was written or given back",
        Cause::Move => "mremap(2) or UFFDIO_MOVE brought it to this address, or took it away",
        Cause::Fork => "it is of a child: fork(2) does not pass the protection on by itself",
        Cause::Unregister => "its range was unregistered for a while",
        Cause::Guard => "a guard page was installed or removed there",
        Cause::NeverArmed => "nobody had armed it: a page that is not armed counts as written",
        Cause::Unknown => "no event tells what it was",
    }
}

/// What to change, in the tracker or in the tracked program; `None`: there is nothing wrong.
#[must_use]
pub const fn advice(cause: Cause, verdict: Verdict) -> Option<&'static str> {
    use Verdict::{Changed, Gone, Unchanged, Unknown, Zeroed};
    Some(match (cause, verdict) {
        (Cause::UserStore, Unchanged) => {
            "compare before the store, in the code named above; or have the tracker compare a hash of each \
             reported page, since no protection tells the same value from another"
        }
        (Cause::UserStore, Zeroed) => {
            "the program clears memory by storing zeroes: test for a page of zeroes before copying it, or have \
             the program give it back with MADV_DONTNEED"
        }
        (Cause::KernelCopy, Unchanged) => {
            "the system call brought the bytes that were there already: let it write to a buffer that is not \
             tracked, or compare a hash of each reported page"
        }
        (Cause::RemoteOrPin, Unchanged) => {
            "do not mlock(2), MADV_POPULATE_WRITE or register buffers after arming: each reports all its pages \
             and changes none; do it before, or use MADV_POPULATE_READ"
        }
        (Cause::Zap, Unchanged | Zeroed | Gone) => {
            "pages given back need no dump, they read as zero: PAGEMAP_SCAN tells them, PAGE_IS_PRESENT and \
             PAGE_IS_SWAPPED are off or PAGE_IS_PFNZERO is on"
        }
        (Cause::Ksm, Unchanged | Unknown) => {
            "KSM changes no content: MADV_UNMERGEABLE on the range (or prctl PR_SET_MEMORY_MERGE off) while it \
             is tracked, or tolerate one report for each merge"
        }
        (Cause::HugeUnit, Unchanged | Zeroed | Unknown) => {
            "have pages of 4 KiB there: MADV_NOHUGEPAGE; for huge pages of shmem arming with \
             UFFDIO_WRITEPROTECT suffices, which splits them (PAGEMAP_SCAN does not); hugetlb has one report for \
             each huge page, so compare its parts"
        }
        (Cause::Move, Zeroed | Gone) => {
            "pages moved away need no dump, they read as zero: PAGEMAP_SCAN tells them, PAGE_IS_PRESENT and \
             PAGE_IS_SWAPPED are off"
        }
        (Cause::Move, Changed | Unchanged | Unknown) => {
            "ask for UFFD_FEATURE_EVENT_REMAP: protection then moves along with mremap(2); what UFFDIO_MOVE \
             brings has to be armed again"
        }
        (Cause::Fork, _) => {
            "ask for UFFD_FEATURE_EVENT_FORK: the child then has protection and a userfaultfd of its own; \
             without it, its first round is everything"
        }
        (Cause::Unregister, _) => {
            "somebody unregisters while you track: arm at once after UFFDIO_REGISTER, and take one round of that \
             range as everything"
        }
        (Cause::Guard, _) => {
            "guard pages have no content: leave them out (PAGE_IS_GUARD from 6.18 on)"
        }
        (Cause::NeverArmed, _) => {
            "arm the whole range right after UFFDIO_REGISTER, and what is mapped later as soon as you see it; \
             WP_ASYNC and WP_UNPOPULATED arm also pages that are not there yet"
        }
        (Cause::Unknown, _) => {
            "look at the reasons why it is not known; tracker check says which hook is absent and how to get it"
        }
        (Cause::UserStore | Cause::KernelCopy | Cause::RemoteOrPin, Gone | Unknown)
        | (Cause::KernelCopy | Cause::RemoteOrPin, Zeroed)
        | (Cause::Ksm, Zeroed | Gone)
        | (Cause::HugeUnit, Gone)
        | (Cause::Zap, Unknown)
        | (_, Changed) => return None,
    })
}

/// Why it is not known, and what would help.
#[must_use]
pub const fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::NotSampled => {
            "not in the sample: allow more memory for content to have more of them"
        }
        Reason::NoImageBefore => {
            "no valid image from before, as in a page's first round, or when it was written while it was read"
        }
        Reason::WrittenAgain => {
            "written again before it could be read, as hot pages are: with --freeze the process stands still meanwhile"
        }
        Reason::Swapped => "in swap: reading it would bring it back",
        Reason::NotMapped => "its file's page is not mapped: reading it would map it",
        Reason::Unreadable => "the process does not let us read it",
        Reason::EventsDropped => {
            "events were dropped since it was armed: fewer, shorter rounds help"
        }
        Reason::NotSeen => {
            "not all that could have done it can be seen on this kernel, with this privilege"
        }
        Reason::BitLost => "everything can be seen, and nothing was: the kernel lost the bit",
    }
}

/// What may have changed a page behind the protection, and how to catch it.
#[must_use]
pub const fn candidate(candidate: Candidate) -> &'static str {
    match candidate {
        Candidate::Emptied => {
            "the process emptied it (MADV_DONTNEED) or moved it away: hugetlb memory and private mappings of files keep \
             their protection then, and older kernels tell it of anonymous memory for single pages only, or not at all"
        }
        Candidate::SecondMapping => {
            "the same memory was written through another mapping, here or in another process, or by pwrite(2) \
             to its file: uffd-wp protects mappings, not memory, so track all of them"
        }
        Candidate::HolePunch => {
            "a hole was punched or the file truncated: content is zero and markers stay; \
             UFFD_FEATURE_EVENT_REMOVE tells of MADV_REMOVE"
        }
        Candidate::PinnedBuffer => {
            "a device or io_uring wrote to a buffer that was pinned before it was armed: take such buffers as \
             written in every round"
        }
    }
}

/// Why only a second strategy reports a page, in a line.
#[must_use]
pub const fn only_there(why: OnlyThere) -> &'static str {
    match why {
        OnlyThere::NextRound => "written between the two readings; the next round tells it",
        OnlyThere::NewMapping => {
            "in a mapping that is new, which is soft-dirty as a whole; here its pages are told as unknown if they are there"
        }
        OnlyThere::Changed => "changed: a false negative here",
        OnlyThere::Unexplained => {
            "reported in neither round here, with the same content: soft-dirty also tells what mremap(2) or a \
             new VMA flag touched"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_false_positive_has_advice_and_no_true_one_of_a_write() {
        for cause in Cause::ALL {
            assert!(advice(*cause, Verdict::Unchanged).is_some(), "{cause}");
        }
        for cause in [Cause::UserStore, Cause::KernelCopy, Cause::RemoteOrPin] {
            assert_eq!(advice(cause, Verdict::Changed), None);
        }
    }

    #[test]
    fn sentences_go_on_in_a_line() {
        let causes = Cause::ALL.iter().map(|c| cause(*c));
        let reasons = Reason::ALL.iter().map(|r| reason(*r));
        let candidates = Candidate::ALL.iter().map(|c| candidate(*c));
        let verdicts = Verdict::ALL.iter().map(|v| verdict(*v));
        let all = |c: Cause| Verdict::ALL.iter().filter_map(move |v| advice(c, *v));
        let advices = Cause::ALL.iter().copied().flat_map(all);
        for text in causes
            .chain(reasons)
            .chain(candidates)
            .chain(verdicts)
            .chain(advices)
        {
            assert!(!text.ends_with('.') && !text.contains("  ") && !text.contains('\n'));
        }
    }
}
