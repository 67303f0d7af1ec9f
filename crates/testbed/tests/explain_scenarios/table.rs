//! What must come of each scenario, on each class of kernels, by what the kernel's code does.

use pages::strategy::StrategyName;
use tracker::explain::MissCandidate;
use tracker::explain::ReportCause::{
    self, Guard, HugeUnit, KernelCopy, Ksm, Move, NeverArmed, RemoteOrPin, UserStore, Zap,
};
use tracker::explain::ReportVerdict::{self, Changed, Unchanged, Unknown, Zeroed};
use uffd::WrittenMeaning;

use testbed::script::FACTS;

/// Kernels that behave alike in what is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelClass {
    /// Asynchronous mode; what has no entry counts as written, with or without a page table.
    Fixed,
    /// Asynchronous mode; what has no page table counts as not written.
    Old,
    /// Synchronous mode; anonymous memory has no markers, so what has no entry cannot be armed.
    Sync,
    /// Asynchronous mode, with a strategy that neither arms nor reports what has no entry.
    NoneIsClean,
    /// Asynchronous mode, with a strategy that arms as [`Self::NoneIsClean`], and is told by eBPF
    /// programs what is emptied.
    FaultTime,
}

impl KernelClass {
    /// The class of this kernel, with the strategy that explains most there.
    pub fn here() -> Self {
        match FACTS.behaviour.written {
            Some(WrittenMeaning::Fixed) => Self::Fixed,
            Some(WrittenMeaning::Old | WrittenMeaning::Mixed) => Self::Old,
            None => Self::Sync,
        }
    }

    /// The strategy with which it is explained.
    pub fn strategy(self) -> StrategyName {
        match self {
            Self::Fixed | Self::Old => StrategyName::Markers,
            Self::Sync => StrategyName::Sync,
            Self::NoneIsClean => StrategyName::NoneIsClean,
            Self::FaultTime => StrategyName::FaultTime,
        }
    }
}

/// What comes of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFate {
    /// Neither reported nor changed.
    Quiet,
    /// Reported.
    Reported(ReportVerdict, ReportCause),
    /// All but one are reported; the kernel decides which.
    AllButOne(ReportVerdict, ReportCause),
    /// In a new mapping, so unknown.
    New(ReportVerdict, ReportCause),
    /// Changed but not reported; this is among what may have done it.
    Missed { zeroed: bool, by: MissCandidate },
    /// Changed, not reported, and not mapped: nobody can know without mapping it.
    Hidden,
    /// Not done: the kernel refuses it because of the tracking.
    Refused,
}

/// What comes of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct ScenarioFates {
    /// The pages that something is done to.
    pub hit: PageFate,
    /// Other pages in huge pages of which one is hit.
    pub around: PageFate,
    /// All others.
    pub rest: PageFate,
}

/// A scenario, and what comes of it.
#[derive(Debug)]
pub struct ScenarioRow {
    /// Name of the scenario.
    pub scenario: &'static str,
    fixed: ScenarioFates,
    old: Option<ScenarioFates>,
    sync: Option<ScenarioFates>,
    none: Option<ScenarioFates>,
    fault_time: Option<ScenarioFates>,
}

impl ScenarioRow {
    /// What comes of it on a class of kernels.
    pub fn fates(&self, class: KernelClass) -> ScenarioFates {
        let other = match class {
            KernelClass::Fixed => None,
            KernelClass::Old => self.old,
            KernelClass::Sync => self.sync,
            KernelClass::NoneIsClean => self.none,
            KernelClass::FaultTime => self.fault_time,
        };
        other.unwrap_or(self.fixed)
    }

    const fn around(mut self, around: PageFate) -> Self {
        self.fixed.around = around;
        self
    }

    const fn rest(mut self, rest: PageFate) -> Self {
        self.fixed.around = rest;
        self.fixed.rest = rest;
        self
    }

    const fn old(mut self, hit: PageFate) -> Self {
        self.old = Some(ScenarioFates { hit, ..self.fixed });
        self
    }

    const fn sync(mut self, hit: PageFate) -> Self {
        self.sync = Some(ScenarioFates { hit, ..self.fixed });
        self
    }

    const fn none_is_clean(mut self, hit: PageFate) -> Self {
        self.none = Some(ScenarioFates { hit, ..self.fixed });
        self
    }

    /// With both strategies that arm only what is there.
    const fn unarmed(self, hit: PageFate) -> Self {
        self.none_is_clean(hit).fault_time(hit)
    }

    const fn fault_time(mut self, hit: PageFate) -> Self {
        self.fault_time = Some(ScenarioFates { hit, ..self.fixed });
        self
    }

    /// `fault-time` leaves this memory alone.
    const fn left_alone(mut self) -> Self {
        self.fault_time = Some(ScenarioFates {
            hit: PageFate::Quiet,
            around: PageFate::Quiet,
            rest: PageFate::Quiet,
        });
        self
    }

    const fn fault_time_around(mut self, around: PageFate) -> Self {
        let base = match self.fault_time {
            Some(fates) => fates,
            None => self.fixed,
        };
        self.fault_time = Some(ScenarioFates { around, ..base });
        self
    }

    const fn none_is_clean_around(mut self, around: PageFate) -> Self {
        let base = match self.none {
            Some(fates) => fates,
            None => self.fixed,
        };
        self.none = Some(ScenarioFates { around, ..base });
        self
    }
}

const fn row(scenario: &'static str, hit: PageFate) -> ScenarioRow {
    let fixed = ScenarioFates {
        hit,
        around: PageFate::Quiet,
        rest: PageFate::Quiet,
    };
    ScenarioRow {
        scenario,
        fixed,
        old: None,
        sync: None,
        none: None,
        fault_time: None,
    }
}

const fn reported(verdict: ReportVerdict, cause: ReportCause) -> PageFate {
    PageFate::Reported(verdict, cause)
}

use PageFate::{Hidden, Quiet, Refused};
const SECOND_MAPPING: PageFate = PageFate::Missed {
    zeroed: false,
    by: MissCandidate::SecondMapping,
};
const PINNED: PageFate = PageFate::Missed {
    zeroed: false,
    by: MissCandidate::PinnedBuffer,
};
const EMPTIED: PageFate = PageFate::Missed {
    zeroed: true,
    by: MissCandidate::Emptied,
};
const PUNCHED: PageFate = PageFate::Missed {
    zeroed: true,
    by: MissCandidate::HolePunch,
};

/// One row per scenario of `uffdwp-workload scenarios`.
pub const TABLE: &[ScenarioRow] = &[
    // do_wp_page, FAULT_FLAG_USER: whatever is stored.
    row("store", reported(Changed, UserStore)),
    row("store-same", reported(Unchanged, UserStore)),
    row("store-shmem", reported(Changed, UserStore)),
    // userfaultfd_register: files only in asynchronous mode, so it is not tracked otherwise.
    row("store-file", reported(Changed, UserStore)).sync(Quiet),
    // do_anonymous_page keeps the marker's bit; the second fault is do_wp_page. Without a marker
    // nothing was armed.
    row("store-hole", reported(Changed, UserStore))
        .sync(reported(Changed, NeverArmed))
        .unarmed(reported(Changed, NeverArmed)),
    // do_fault does the same; what the file held before was not mapped.
    row("store-hole-shmem", reported(Unknown, UserStore)).unarmed(reported(Unknown, NeverArmed)),
    // do_wp_page under copy_to_user: FAULT_FLAG_INTERRUPTIBLE without USER.
    row("read", reported(Changed, KernelCopy)),
    row("read-same", reported(Unchanged, KernelCopy)),
    // pin_user_pages_remote, get_user_pages_remote: FAULT_FLAG_REMOTE, neither USER nor
    // INTERRUPTIBLE. access_remote_vm may not wait for an answer (no FAULT_FLAG_ALLOW_RETRY), so
    // handle_userfault answers SIGBUS.
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
    // zap_pte_range leaves no marker in anonymous memory (pte_install_uffd_wp_if_needed). A scan
    // takes the empty entry for written; without markers it looks as if nothing had ever been
    // there.
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
    // Where the empty table is freed (PT_RECLAIM), pagemap_scan_pte_hole sees it; in the old
    // meaning that is not written.
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
    // guard_install_set_pte makes an entry without the bit, which faults; guard_remove_pte_entry
    // leaves none.
    row("guard", reported(Unknown, Guard)),
    row("guard-removed", reported(Zeroed, Guard)).none_is_clean(EMPTIED),
    // The bit is in a swap entry and comes back with the page (do_swap_page).
    row("swap", Quiet),
    row("swap-load", Quiet),
    row("swap-store", reported(Changed, UserStore)),
    // change_pte_range puts the bit into swap entries too. What they hold cannot be read without
    // swapping it in.
    row("swapped", Quiet),
    row("swapped-load", Quiet),
    row("swapped-store", reported(Unknown, UserStore)),
    // __split_huge_pmd copies the bit to all 512 entries, and do_wp_page then clears it in one.
    row("thp-store", reported(Changed, UserStore)),
    row("thp-zap-part", reported(Zeroed, Zap))
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    // zap_huge_pmd leaves no table, except for a moment.
    row("thp-zap", reported(Zeroed, Zap))
        .old(EMPTIED)
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    // do_huge_pmd_anonymous_page maps the huge zero page, without the bit.
    row("thp-zap-load", reported(Zeroed, Zap)).none_is_clean(EMPTIED),
    // UFFDIO_WRITEPROTECT splits a huge page of a file into markers (change_pmd_range), so no page
    // is mapped when it is armed.
    row("shmem-thp-store", reported(Unknown, UserStore))
        .unarmed(reported(Changed, UserStore))
        .none_is_clean_around(reported(Unchanged, HugeUnit))
        .fault_time_around(reported(Unchanged, HugeUnit)),
    row("shmem-thp-zap", Quiet),
    // One bit for 512.
    row("hugetlb-store", reported(Changed, UserStore))
        .around(reported(Unchanged, HugeUnit))
        .left_alone(),
    row("hugetlb-store-hole", reported(Unknown, UserStore))
        .around(reported(Unknown, HugeUnit))
        .none_is_clean(reported(Unknown, NeverArmed))
        .none_is_clean_around(reported(Unknown, NeverArmed))
        .left_alone(),
    // __unmap_hugepage_range leaves a marker; what is mapped then is zero and armed.
    row("hugetlb-zap-load", EMPTIED).left_alone(),
    // replace_page: a new entry without the bit; the page that all are merged with keeps its entry.
    row("ksm", PageFate::AllButOne(Unchanged, Ksm)),
    // mremap_userfaultfd_prep drops the context: a new mapping, told as one.
    row("move", PageFate::New(Unchanged, Move)).rest(PageFate::New(Unchanged, Move)),
    row("move-store", PageFate::New(Changed, Move)).rest(PageFate::New(Unchanged, Move)),
    // move_page_tables, and move_pages_pte, leave nothing behind.
    row("move-keep", reported(Zeroed, Move))
        .sync(EMPTIED)
        .none_is_clean(EMPTIED),
    row("uffd-move", reported(Zeroed, Move)).none_is_clean(EMPTIED),
    row("map", PageFate::New(Unknown, NeverArmed)),
    // copy_present_pte write-protects for the parent too, and leaves its bit.
    row("fork", Quiet),
    row("fork-store", reported(Changed, UserStore)),
    row("fork-shared", SECOND_MAPPING),
    // Other page tables, or none.
    row("second-mapping", SECOND_MAPPING),
    row("pwrite", SECOND_MAPPING),
    // unmap_mapping_range without ZAP_FLAG_DROP_MARKER; a read then maps the new, empty page armed.
    row("punch", PUNCHED),
    row("punch-unread", Hidden),
    row("remove", PUNCHED),
    row("truncate", PUNCHED),
    // A marker is left, because the mapping is not anonymous, although its pages were; the file has
    // zeroes.
    row("file-zap-load", EMPTIED)
        .sync(Quiet)
        .fault_time(reported(Zeroed, Zap)),
    row("load", Quiet),
    // do_anonymous_page maps the zero page with the marker's bit. Without a marker it is there but
    // not armed.
    row("load-hole", Quiet)
        .sync(reported(Unchanged, NeverArmed))
        .none_is_clean(Quiet),
    row("protect", Quiet),
    // zap_pte_range and try_to_unmap_one leave markers in memory that is not anonymous.
    row("zap-shmem", Quiet),
    row("unmap-shmem", Quiet),
    // hpage_collapse_scan_pmd refuses armed entries.
    row("collapse", Quiet),
    // remove_migration_pte carries the bit.
    row("compact", Quiet),
];

/// The row of a scenario.
pub fn find(scenario: &str) -> &'static ScenarioRow {
    let row = TABLE.iter().find(|row| row.scenario == scenario);
    row.unwrap_or_else(|| panic!("the table has no row {scenario}"))
}
