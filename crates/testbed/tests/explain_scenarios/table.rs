//! What has to come of each scenario, on each class of kernels: written down from what the kernel's code does.

use pages::strategy::StrategyName;
use tracker::explain::MissCandidate;
use tracker::explain::ReportCause::{
    self, Guard, HugeUnit, KernelCopy, Ksm, Move, NeverArmed, RemoteOrPin, UserStore, Zap,
};
use tracker::explain::ReportVerdict::{self, Changed, Unchanged, Unknown, Zeroed};
use uffd::WrittenMeaning;

use testbed::script::FACTS;

/// Kernels that behave alike, as to what is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Asynchronous, and what has no entry counts as written whatever held it.
    Fixed,
    /// Asynchronous, and what has no page table counts as not written.
    Old,
    /// Synchronous, and anonymous memory has no markers: what has no entry cannot be armed.
    Sync,
    /// Asynchronous, and tracked so that what has no entry is neither armed nor reported.
    NoneIsClean,
}

impl Class {
    /// That of this kernel, with the strategy that explains most there.
    pub fn here() -> Self {
        match FACTS.behaviour.written {
            Some(WrittenMeaning::Fixed) => Self::Fixed,
            Some(WrittenMeaning::Old | WrittenMeaning::Mixed) => Self::Old,
            None => Self::Sync,
        }
    }

    /// The strategy that explains use there.
    pub fn strategy(self) -> StrategyName {
        match self {
            Self::Fixed | Self::Old => StrategyName::Markers,
            Self::Sync => StrategyName::Sync,
            Self::NoneIsClean => StrategyName::NoneIsClean,
        }
    }
}

/// What comes of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Not reported, and not changed.
    Quiet,
    /// Reported.
    Reported(ReportVerdict, ReportCause),
    /// All but one of them reported, the kernel decides which.
    AllButOne(ReportVerdict, ReportCause),
    /// In a new mapping: told as unknown.
    New(ReportVerdict, ReportCause),
    /// Changed, and not reported; among what may have done it is this.
    Missed { zeroed: bool, by: MissCandidate },
    /// Changed, not reported, and not mapped: nobody can know without mapping it.
    Hidden,
    /// It is not done: the kernel refuses it because of the tracking.
    Refused,
}

/// What comes of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Fates {
    /// The pages that something is done to.
    pub hit: Fate,
    /// Other pages of huge pages in which one is hit.
    pub around: Fate,
    /// All others.
    pub rest: Fate,
}

/// A scenario, and what comes of it.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub scenario: &'static str,
    fixed: Fates,
    old: Option<Fates>,
    sync: Option<Fates>,
    none: Option<Fates>,
}

impl Row {
    /// On a class of kernels.
    pub fn fates(&self, class: Class) -> Fates {
        let other = match class {
            Class::Fixed => None,
            Class::Old => self.old,
            Class::Sync => self.sync,
            Class::NoneIsClean => self.none,
        };
        other.unwrap_or(self.fixed)
    }

    const fn around(mut self, around: Fate) -> Self {
        self.fixed.around = around;
        self
    }

    const fn rest(mut self, rest: Fate) -> Self {
        self.fixed.around = rest;
        self.fixed.rest = rest;
        self
    }

    const fn old(mut self, hit: Fate) -> Self {
        self.old = Some(Fates { hit, ..self.fixed });
        self
    }

    const fn sync(mut self, hit: Fate) -> Self {
        self.sync = Some(Fates { hit, ..self.fixed });
        self
    }

    const fn none_is_clean(mut self, hit: Fate) -> Self {
        self.none = Some(Fates { hit, ..self.fixed });
        self
    }

    const fn none_is_clean_around(mut self, around: Fate) -> Self {
        let base = match self.none {
            Some(fates) => fates,
            None => self.fixed,
        };
        self.none = Some(Fates { around, ..base });
        self
    }
}

const fn row(scenario: &'static str, hit: Fate) -> Row {
    let fixed = Fates {
        hit,
        around: Fate::Quiet,
        rest: Fate::Quiet,
    };
    Row {
        scenario,
        fixed,
        old: None,
        sync: None,
        none: None,
    }
}

const fn reported(verdict: ReportVerdict, cause: ReportCause) -> Fate {
    Fate::Reported(verdict, cause)
}

use Fate::{Hidden, Quiet, Refused};
const SECOND_MAPPING: Fate = Fate::Missed {
    zeroed: false,
    by: MissCandidate::SecondMapping,
};
const PINNED: Fate = Fate::Missed {
    zeroed: false,
    by: MissCandidate::PinnedBuffer,
};
const EMPTIED: Fate = Fate::Missed {
    zeroed: true,
    by: MissCandidate::Emptied,
};
const PUNCHED: Fate = Fate::Missed {
    zeroed: true,
    by: MissCandidate::HolePunch,
};

/// One row per scenario of `uffdwp-workload scenarios`.
pub const TABLE: &[Row] = &[
    // do_wp_page, FAULT_FLAG_USER: whatever is stored.
    row("store", reported(Changed, UserStore)),
    row("store-same", reported(Unchanged, UserStore)),
    row("store-shmem", reported(Changed, UserStore)),
    // userfaultfd_register: files only in asynchronous mode, so it is not tracked otherwise.
    row("store-file", reported(Changed, UserStore)).sync(Quiet),
    // do_anonymous_page takes the marker's bit along; the second fault is do_wp_page. Without a marker nothing was armed.
    row("store-hole", reported(Changed, UserStore))
        .sync(reported(Changed, NeverArmed))
        .none_is_clean(reported(Changed, NeverArmed)),
    // do_fault does the same; what the file held before was not mapped.
    row("store-hole-shmem", reported(Unknown, UserStore))
        .none_is_clean(reported(Unknown, NeverArmed)),
    // do_wp_page under copy_to_user: FAULT_FLAG_INTERRUPTIBLE without USER.
    row("read", reported(Changed, KernelCopy)),
    row("read-same", reported(Unchanged, KernelCopy)),
    // pin_user_pages_remote, get_user_pages_remote: FAULT_FLAG_REMOTE, neither USER nor INTERRUPTIBLE. access_remote_vm may
    // not wait for an answer (no FAULT_FLAG_ALLOW_RETRY), so handle_userfault answers SIGBUS.
    row("vm-writev", reported(Changed, RemoteOrPin)),
    row("remote-mem", reported(Changed, RemoteOrPin)).sync(Refused),
    row("self-mem", reported(Changed, RemoteOrPin)).sync(Refused),
    // fixup_user_fault, without `unlocked` and thus without ALLOW_RETRY.
    row("futex", reported(Changed, RemoteOrPin)).sync(Refused),
    // populate_vma_page_range: FOLL_WRITE for private mappings only.
    row("mlock", reported(Unchanged, RemoteOrPin)),
    row("mlock-shared", Quiet),
    // faultin_page_range: FOLL_WRITE always.
    row("populate-write", reported(Unchanged, RemoteOrPin)),
    row("populate-write-shmem", reported(Unchanged, RemoteOrPin)),
    // pin_user_pages(FOLL_WRITE | FOLL_LONGTERM); before 6.5 without ALLOW_RETRY.
    row("register-buffers", reported(Unchanged, RemoteOrPin)).sync(Refused),
    // The device, here a copy in the kernel, writes to the page and not to an address.
    row("read-fixed", PINNED),
    // zap_pte_range: no marker is left in anonymous memory (pte_install_uffd_wp_if_needed). A scan takes the empty entry
    // for written; without markers it looks as if nothing had ever been there.
    row("zap", reported(Zeroed, Zap))
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    row("zap-load", reported(Zeroed, Zap)).none_is_clean(EMPTIED),
    row("zap-store", reported(Changed, Zap)),
    row("store-zap", reported(Zeroed, Zap))
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    row("zap-zeroes", reported(Unchanged, Zap))
        .sync(Quiet)
        .none_is_clean(Quiet),
    // Where the empty table is freed (PT_RECLAIM), pagemap_scan_pte_hole sees it, in the old meaning as not written.
    row("zap-table", reported(Zeroed, Zap))
        .old(EMPTIED)
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    // try_to_unmap_one drops a clean lazily freed page as a zap does.
    row("free-reclaim", reported(Zeroed, Zap))
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    // madvise_free_pte_range drops entries of pages in swap at once.
    row("free-swapped", reported(Zeroed, Zap))
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    // guard_install_set_pte: an entry without the bit, which faults; guard_remove_pte_entry leaves none.
    row("guard", reported(Unknown, Guard)),
    row("guard-removed", reported(Zeroed, Guard)).none_is_clean(EMPTIED),
    // The bit is in a swap entry and comes back with the page (do_swap_page).
    row("swap", Quiet),
    row("swap-load", Quiet),
    row("swap-store", reported(Changed, UserStore)),
    // change_pte_range puts the bit into swap entries, too. What they held cannot be read without swapping it in.
    row("swapped", Quiet),
    row("swapped-load", Quiet),
    row("swapped-store", reported(Unknown, UserStore)),
    // __split_huge_pmd takes the bit to all 512 entries, do_wp_page then off one of them.
    row("thp-store", reported(Changed, UserStore)),
    row("thp-zap-part", reported(Zeroed, Zap))
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    // zap_huge_pmd leaves no table, but for a moment.
    row("thp-zap", reported(Zeroed, Zap))
        .old(EMPTIED)
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    // do_huge_pmd_anonymous_page maps the huge zero page, without the bit.
    row("thp-zap-load", reported(Zeroed, Zap)).none_is_clean(EMPTIED),
    // UFFDIO_WRITEPROTECT of a file's huge page (change_pmd_range) splits it into markers: no page is mapped when it is
    // armed.
    row("shmem-thp-store", reported(Unknown, UserStore))
        .none_is_clean(reported(Changed, UserStore))
        .none_is_clean_around(reported(Unchanged, HugeUnit)),
    row("shmem-thp-zap", Quiet),
    // One bit for 512.
    row("hugetlb-store", reported(Changed, UserStore)).around(reported(Unchanged, HugeUnit)),
    row("hugetlb-store-hole", reported(Unknown, UserStore))
        .around(reported(Unknown, HugeUnit))
        .none_is_clean(reported(Unknown, NeverArmed))
        .none_is_clean_around(reported(Unknown, NeverArmed)),
    // __unmap_hugepage_range leaves a marker; what is mapped then is zero and armed.
    row("hugetlb-zap-load", EMPTIED),
    // replace_page: a new entry without the bit; the page that all are merged with keeps its entry.
    row("ksm", Fate::AllButOne(Unchanged, Ksm)),
    // mremap_userfaultfd_prep drops the context: a new mapping, told as one.
    row("move", Fate::New(Unchanged, Move)).rest(Fate::New(Unchanged, Move)),
    row("move-store", Fate::New(Changed, Move)).rest(Fate::New(Unchanged, Move)),
    // move_page_tables, and move_pages_pte, leave nothing behind.
    row("move-keep", reported(Zeroed, Move))
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    row("uffd-move", reported(Zeroed, Move)).none_is_clean(EMPTIED),
    row("map", Fate::New(Unknown, NeverArmed)),
    // copy_present_pte write-protects for the parent too, and leaves its bit.
    row("fork", Quiet),
    row("fork-store", reported(Changed, UserStore)),
    row("fork-shared", SECOND_MAPPING),
    // Other page tables, or none.
    row("second-mapping", SECOND_MAPPING),
    row("pwrite", SECOND_MAPPING),
    // unmap_mapping_range without ZAP_FLAG_DROP_MARKER; a read then maps the new, empty page, armed.
    row("punch", PUNCHED),
    row("punch-unread", Hidden),
    row("remove", PUNCHED),
    row("truncate", PUNCHED),
    // A marker is left, as the mapping is not anonymous, though its pages were; the file holds zeroes.
    row("file-zap-load", EMPTIED).sync(Quiet),
    row("load", Quiet),
    // do_anonymous_page maps the zero page with the marker's bit. Without a marker it is there and not armed.
    row("load-hole", Quiet)
        .sync(reported(Unchanged, NeverArmed))
        .none_is_clean(Quiet),
    row("protect", Quiet),
    // zap_pte_range and try_to_unmap_one leave markers where it is not anonymous.
    row("zap-shmem", Quiet),
    row("unmap-shmem", Quiet),
    // hpage_collapse_scan_pmd refuses armed entries.
    row("collapse", Quiet),
    // remove_migration_pte carries the bit.
    row("compact", Quiet),
];

/// The row of a scenario.
pub fn find(scenario: &str) -> &'static Row {
    let row = TABLE.iter().find(|row| row.scenario == scenario);
    row.unwrap_or_else(|| panic!("the table has no row {scenario}"))
}
