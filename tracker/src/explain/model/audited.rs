//! What the process's own tracker does wrong.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::{CallerThread, PlaceId};

/// Declares [`AuditKind`]: one entry for each thing that is looked for.
macro_rules! audit_kinds {
    ($(
        $kind:ident = $word:literal {
            fault: $fault:literal,
            pages: $pages:literal,
            advice: $advice:literal,
        }
    )*) => {
        /// Something that a tracker does, and that makes its answers wrong or dear. Each is one
        /// entry, with all that is said of it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the entry says what it is")]
        pub enum AuditKind {
            $($kind,)*
        }

        impl AuditKind {
            /// All of them: what is looked for.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// As it is written, in text and JSON.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }

            /// What the tracker does.
            #[must_use]
            pub const fn fault(self) -> &'static str {
                match self { $(Self::$kind => $fault,)* }
            }

            /// What became of the pages that are counted.
            #[must_use]
            pub const fn pages(self) -> &'static str {
                match self { $(Self::$kind => $pages,)* }
            }

            /// What to do.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$kind => $advice,)* }
            }
        }
    };
}

audit_kinds! {
    ReadThenArm = "read-then-arm" {
        fault: "it asks which pages are written, and arms them later",
        pages: "written for the first time in between, and reported in no round",
        advice: "let one PAGEMAP_SCAN with PM_SCAN_WP_MATCHING do both, or arm before you copy, \
                 or hold the process meanwhile",
    }
    ScanCutShort = "scan-cut-short" {
        fault: "a scan ended before the end of its range, because its vec was full or max_pages \
                reached, and the next scan, if there was any, did not go on there",
        pages: "not looked at",
        advice: "scan again from walk_end until walk_end is the end of the range",
    }
    NeverArmed = "never-armed" {
        fault: "memory is registered for write protection, and none of it was armed",
        pages: "counted as written whenever somebody asks; nobody is told of writes to them",
        advice: "arm the whole range right after UFFDIO_REGISTER",
    }
    ArmedInPart = "armed-in-part" {
        fault: "memory is registered for write protection, and only a part of it was armed",
        pages: "not armed, and counted as written whenever somebody asks",
        advice: "arm the whole range right after UFFDIO_REGISTER, or register less",
    }
    ReadFirst = "read-first" {
        fault: "every page of private memory was read before it was armed, also those that nobody \
                had written",
        pages: "there only because they were read: they map the zero page, and take page tables \
                and the time to read and to arm them",
        advice: "ask for UFFD_FEATURE_WP_UNPOPULATED (Linux 6.4), which arms what is not there, \
                 and do not read it",
    }
    ArmedAbsent = "armed-absent" {
        fault: "UFFDIO_WRITEPROTECT arms private memory that is not there, without \
                UFFD_FEATURE_WP_UNPOPULATED: that protects nothing",
        pages: "came to be there later without protection, and nobody was told of the write",
        advice: "ask for UFFD_FEATURE_WP_UNPOPULATED (Linux 6.4), or arm once the pages are there",
    }
    FilledUnarmed = "filled-unarmed" {
        fault: "it fills pages of armed memory by UFFDIO_COPY, ZEROPAGE, CONTINUE or MOVE without a \
                mode that arms them",
        pages: "not armed until a later call arms them: no message tells of writes to them, and \
                they count as written whenever somebody asks",
        advice: "use UFFDIO_COPY_MODE_WP or UFFDIO_CONTINUE_MODE_WP; UFFDIO_ZEROPAGE and \
                 UFFDIO_MOVE have no such mode: arm what they fill before anybody may write to it",
    }
    ArmedInVain = "armed-in-vain" {
        fault: "UFFDIO_WRITEPROTECT arms what is armed already",
        pages: "armed already, and not written since",
        advice: "arm only what was written; PAGEMAP_SCAN with PM_SCAN_WP_MATCHING does",
    }
    ExtraCategories = "extra-categories" {
        fault: "a scan asks for more than PAGE_IS_WRITTEN, and so leaves the kernel's fast path",
        pages: "walked that way",
        advice: "have category_mask and return_mask be PAGE_IS_WRITTEN and the other masks 0; ask \
                 for the rest apart, and seldom",
    }
    HugeSharedPage = "huge-shared-page" {
        fault: "PAGEMAP_SCAN arms huge pages of shared memory as one, and a single write takes \
                the protection off all 512 pages",
        pages: "without protection after that",
        advice: "arm such memory with UFFDIO_WRITEPROTECT, which splits its huge pages, or use \
                 MADV_NOHUGEPAGE",
    }
    HugetlbUnit = "hugetlb-unit" {
        fault: "the memory is of hugetlb, where a write takes the protection off the whole huge \
                page",
        pages: "without protection after that",
        advice: "compare what is reported before you copy it, or use smaller pages",
    }
    Emptied = "emptied" {
        fault: "armed pages of private memory were given back (MADV_DONTNEED, MADV_FREE), and \
                their protection with them, without UFFD_FEATURE_EVENT_REMOVE",
        pages: "armed in the ranges that were given back",
        advice: "ask for UFFD_FEATURE_EVENT_REMOVE, and arm the range again",
    }
    ForkedWithoutEvent = "forked-without-event" {
        fault: "the process forks while its memory is armed, without UFFD_FEATURE_EVENT_FORK",
        pages: "not protected in the child",
        advice: "ask for UFFD_FEATURE_EVENT_FORK if the child is to be tracked",
    }
    MovedWithoutEvent = "moved-without-event" {
        fault: "mremap(2) moves armed memory, without UFFD_FEATURE_EVENT_REMAP",
        pages: "without protection, and registered no more where they are now",
        advice: "ask for UFFD_FEATURE_EVENT_REMAP, and register what has moved",
    }
    SoftDirtyAbsent = "soft-dirty-absent" {
        fault: "it clears soft-dirty bits by /proc/PID/clear_refs, and this kernel has none: the \
                write succeeds and does nothing",
        pages: "told by bit 55 of pagemap, which is never set here",
        advice: "use a kernel with CONFIG_MEM_SOFT_DIRTY, or UFFD_FEATURE_WP_ASYNC; try on a page \
                 of your own whether a write sets the bit",
    }
    Merged = "merged" {
        fault: "KSM merges armed memory, which takes the protection off pages that do not change",
        pages: "merged",
        advice: "use MADV_UNMERGEABLE, or compare what is reported before you copy it",
    }
}

/// What the audit of the process's own tracker came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFindings {
    /// Whether its calls are seen.
    pub sight: AuditSight,
    /// Calls that were looked at.
    pub calls: u64,
    /// Calls that were lost: then less may be told than there was.
    pub dropped: u64,
    /// What it does wrong.
    pub found: Vec<AuditFinding>,
    /// Threads that waited for a handler: the one that waited longest in all first.
    pub waits: Vec<HandlerWaits>,
    /// How often each thread answered a wait by UFFDIO_WRITEPROTECT, and on which CPU.
    pub answers: BTreeMap<(CallerThread, u32), u64>,
    /// Whether there was memory that was registered before looking began, and of whose userfaultfd
    /// nobody knows the features.
    pub features_unknown: bool,
    /// How often each thread cleared the soft-dirty bits of the process.
    pub cleared: BTreeMap<CallerThread, u64>,
}

impl AuditKind {
    /// Whether it takes the features of the userfaultfd to tell it.
    const fn needs_features(self) -> bool {
        matches!(
            self,
            Self::ArmedAbsent | Self::Emptied | Self::ForkedWithoutEvent | Self::MovedWithoutEvent
        )
    }
}

impl AuditFindings {
    /// What was looked for everywhere.
    pub(crate) fn looked_for(&self) -> impl Iterator<Item = AuditKind> {
        let all = AuditKind::ALL.iter().copied();
        all.filter(|kind| !(self.features_unknown && kind.needs_features()))
    }

    /// What was not looked for in some of the memory.
    pub(crate) fn not_looked_for(&self) -> impl Iterator<Item = AuditKind> {
        let all = AuditKind::ALL.iter().copied();
        all.filter(|kind| self.features_unknown && kind.needs_features())
    }
}

/// Whether the calls of a tracker are seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSight {
    /// All are.
    Complete,
    /// Some or all are not.
    Gaps(Vec<String>),
}

/// Something that the process's tracker does, and that makes its answers wrong or dear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFinding {
    /// What it is.
    pub kind: AuditKind,
    /// The call.
    pub place: Option<PlaceId>,
    /// The call before it that it has to do with: of [`AuditKind::ReadThenArm`] the one that reads.
    pub earlier: Option<PlaceId>,
    /// Who made the call.
    pub caller: Option<CallerThread>,
    /// How often.
    pub times: u64,
    /// Pages of 4 KiB, each as often as it was so: [`AuditKind::pages`] says what became of them.
    pub pages: u64,
    /// Of [`AuditKind::ReadThenArm`]: pages that had been written before and stood open in between:
    /// whether they were written again nobody knows.
    pub open: u64,
    /// Of [`AuditKind::ReadFirst`]: page tables of 4 KiB that have such pages only.
    pub tables: u64,
    /// What the calls took in all, as far as it was in vain; of [`AuditKind::ReadThenArm`] how long
    /// pages stood open.
    pub took: Duration,
    /// The longest of them.
    pub longest: Duration,
    /// The first ranges of these pages.
    pub ranges: Vec<Range<u64>>,
}

impl AuditFinding {
    /// Ranges that are kept of a finding.
    pub(crate) const RANGES: usize = 8;

    /// Adds what was found elsewhere of the same.
    pub(crate) fn add(&mut self, other: Self) {
        for (sum, more) in [
            (&mut self.times, other.times),
            (&mut self.pages, other.pages),
            (&mut self.open, other.open),
            (&mut self.tables, other.tables),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.took = self.took.saturating_add(other.took);
        self.longest = self.longest.max(other.longest);
        for range in other.ranges {
            if self.ranges.len() < Self::RANGES && !self.ranges.contains(&range) {
                self.ranges.push(range);
            }
        }
    }
}

/// How long a thread waited for a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerWaits {
    /// The thread.
    pub caller: CallerThread,
    /// How often.
    pub times: u64,
    /// In all.
    pub whole: Duration,
    /// At most.
    pub longest: Duration,
    /// The page of the longest.
    pub page: u64,
}
