//! The trial: a strategy tracks a scratch mapping of this process, of which every access is known.
//!
//! Kernels do not keep what they promise: `clear_refs` succeeds where there are no soft-dirty bits,
//! and stable kernels have changed what "written" means to `PAGEMAP_SCAN`. Only a trial tells.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Serialize, Serializer};
use uffd::{Backing, KernelBehaviour, PAGE_SIZE, PMD_SIZE, ScratchMapping, UffdError, Userfaultfd};

use super::area::{TrackedArea, WrittenRun};
use super::observer::FaultTimeObserver;
use super::start::{StartResult, StrategyStart, StrategyTarget, start};
use super::verdict::StrategyRefusal;
use super::{StrategyName, TrackingStrategy};

/// What one strategy did with one kind of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StrategyTrial {
    /// The strategy.
    pub strategy: StrategyName,
    /// What its pages come from.
    #[serde(serialize_with = "word")]
    pub backing: Backing,
    /// The result.
    pub outcome: StrategyOutcome,
}

/// The result of a trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "kebab-case")]
pub enum StrategyOutcome {
    /// Every write was reported, and no page that nobody touched.
    Works(ExtraReports),
    /// The kernel refused, or a report was wrong: why.
    Fails(TrialFailure),
    /// It could not be tried: why.
    Untried(UntriedReason),
}

/// Why a trial failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrialFailure {
    /// A write was not reported.
    #[error("misses a write to a page that is there")]
    MissesWrite,
    /// A write to a page that was not there before was not reported.
    #[error("misses the first write to a page")]
    MissesFirstWrite,
    /// A page was reported that nobody touched in this round.
    #[error("reports a page that was left alone")]
    ReportsAlone,
    /// Pages were reported before anybody wrote.
    #[error("reports pages to which nobody has written")]
    ReportsQuiet,
    /// An access waited for an answer that did not come.
    #[error("an access still waited after {0:?}")]
    Stuck(Duration),
    /// Arming the area was refused with EINVAL.
    #[error("such memory cannot be tracked by it here")]
    NotRegistered,
    /// The strategy did not start, or the kernel refused something: the words of the error.
    #[error("{0}")]
    Refused(String),
}

impl TrialFailure {
    /// Whether something was reported that nobody has written.
    const fn is_too_much(&self) -> bool {
        matches!(self, Self::ReportsAlone | Self::ReportsQuiet)
    }

    /// Whether a report was wrong: no refusal of the kernel's, but a fault of the strategy.
    #[must_use]
    pub const fn is_wrong_report(&self) -> bool {
        matches!(
            self,
            Self::MissesWrite | Self::MissesFirstWrite | Self::ReportsAlone | Self::ReportsQuiet
        )
    }
}

impl From<UffdError> for TrialFailure {
    fn from(error: UffdError) -> Self {
        Self::Refused(error.to_string())
    }
}

impl Serialize for TrialFailure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why there was nothing to try a strategy on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UntriedReason {
    /// The pool of huge pages is too small.
    #[error("it takes {PAGES} free huge pages (vm.nr_hugepages)")]
    NoHugePages,
    /// Every file at hand is on tmpfs, whose pages are shmem.
    #[error("there is no file to try it on that is not on tmpfs; set TMPDIR, now {0:?}")]
    NoFile(PathBuf),
    /// The kernel refused the mapping: the words of the error.
    #[error("{0}")]
    NoMemory(String),
}

impl Serialize for UntriedReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a round reports besides writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExtraReports {
    /// A page that was only read, for the first time.
    pub first_reads: bool,
    /// A page that was emptied.
    pub zaps: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn word<S: Serializer>(backing: &Backing, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(backing.as_str())
}

/// After how long an access of the scratch mapping counts as stuck.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pages by number: left alone; there and written; first written; first read; emptied.
const ALONE: u64 = 0;
const THERE: u64 = 1;
const FIRST: u64 = 2;
const READ: u64 = 3;
const EMPTIED: u64 = 4;
const PAGES: u64 = 5;

/// How often a strategy that is told what happens is tried again after it has reported too much.
const OBSERVED_TRIES: usize = 3;

/// Tries one strategy on one kind of memory.
pub(super) fn run(
    strategy: StrategyName,
    backing: Backing,
    behaviour: &KernelBehaviour,
    observer: Option<&Arc<dyn FaultTimeObserver>>,
) -> StrategyTrial {
    let mut needs = strategy.entry().needs.iter();
    let missing = needs.find(|need| strategy.is_observed() && !need.is_met(behaviour));
    let once = || match TrialGround::new(backing) {
        Err(reason) => StrategyOutcome::Untried(reason),
        // To attach eBPF programs for nothing takes long.
        Ok(_) if let Some(need) = missing => {
            let refusal = StrategyRefusal::Kernel(*need);
            StrategyOutcome::Fails(TrialFailure::Refused(refusal.to_string()))
        }
        Ok(ground) => match start_own(strategy, behaviour, observer) {
            Err(error) => StrategyOutcome::Fails(TrialFailure::Refused(error.to_string())),
            Ok(started) => ground.round_trip(started),
        },
    };
    let mut outcome = once();
    for _ in 0..OBSERVED_TRIES {
        // Events that others made the kernel lose are no fault of the strategy.
        let may_pass = matches!(&outcome, StrategyOutcome::Fails(why) if why.is_too_much());
        if !(strategy.is_observed() && may_pass) {
            break;
        }
        outcome = once();
    }
    StrategyTrial {
        strategy,
        backing,
        outcome,
    }
}

/// Starts a strategy on this process.
fn start_own(
    name: StrategyName,
    behaviour: &KernelBehaviour,
    observer: Option<&Arc<dyn FaultTimeObserver>>,
) -> StartResult {
    if let StrategyStart::OwnProcess(start) = name.entry().start {
        // SAFETY: it is given one scratch mapping, which outlives it and is touched by the trial
        // only.
        return unsafe { start() };
    }
    let open = || Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only());
    let target = StrategyTarget {
        pid: std::process::id(),
        uffd: name.needs_descriptor().then(open).transpose()?,
        behaviour: *behaviour,
        observer: observer.cloned(),
        detailed: false,
    };
    start(name, target)
}

/// The scratch mapping as an area.
struct TrialGround {
    scratch: ScratchMapping,
    area: TrackedArea,
}

impl TrialGround {
    fn new(backing: Backing) -> Result<Self, UntriedReason> {
        let page_size = if backing == Backing::Hugetlb {
            PMD_SIZE
        } else {
            PAGE_SIZE
        };
        let length = PAGES * page_size;
        let scratch = match backing {
            Backing::Anon => ScratchMapping::anonymous(length),
            Backing::Shmem => ScratchMapping::shared(length),
            Backing::Hugetlb => ScratchMapping::hugetlb(length),
            Backing::File => ScratchMapping::of_file(&regular_file()?, length),
        };
        let scratch = scratch.map_err(|error| match backing {
            Backing::Hugetlb => UntriedReason::NoHugePages,
            _ => UntriedReason::NoMemory(error.to_string()),
        })?;
        let range = scratch.range();
        let area = TrackedArea {
            range,
            backing,
            page_size,
            shared: backing == Backing::Shmem,
        };
        Ok(Self { scratch, area })
    }

    fn round_trip(self, strategy: Box<dyn TrackingStrategy>) -> StrategyOutcome {
        /// Soft-dirty bits are cleared for the whole process: one trial at a time.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        match self.rounds(strategy) {
            Ok(seen) => StrategyOutcome::Works(seen),
            Err(reason) => StrategyOutcome::Fails(reason),
        }
    }

    fn rounds(
        &self,
        mut strategy: Box<dyn TrackingStrategy>,
    ) -> Result<ExtraReports, TrialFailure> {
        for page in [ALONE, THERE, EMPTIED] {
            self.store(page, 1);
        }
        strategy.arm(&self.area).map_err(refusal)?;
        strategy.end_round()?;
        let quiet = self.round(&mut *strategy)?;
        if !quiet.is_empty() {
            return Err(TrialFailure::ReportsQuiet);
        }
        let mut strategy = self.touch(strategy, || {
            self.store(THERE, 2);
            self.store(FIRST, 2);
            self.load(READ);
            self.zap(EMPTIED);
        })?;
        let first = self.round(&mut *strategy)?;
        judge(&first)?;
        let mut strategy = self.touch(strategy, || {
            self.store(THERE, 3);
            self.store(FIRST, 3);
        })?;
        judge(&self.round(&mut *strategy)?)?;
        strategy.release()?;
        Ok(ExtraReports {
            first_reads: first.contains(&READ),
            zaps: first.contains(&EMPTIED),
        })
    }

    /// Makes accesses in a thread of their own, since they may have to wait for the strategy. A
    /// strategy that leaves them waiting is dropped, which frees them.
    fn touch(
        &self,
        strategy: Box<dyn TrackingStrategy>,
        accesses: impl FnOnce() + Send,
    ) -> Result<Box<dyn TrackingStrategy>, TrialFailure> {
        let (done, finished) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                accesses();
                // Nobody waits for it any more if that took too long.
                let _ = done.send(());
            });
            match finished.recv_timeout(PATIENCE) {
                Ok(()) => Ok(strategy),
                Err(_) => {
                    drop(strategy);
                    Err(TrialFailure::Stuck(PATIENCE))
                }
            }
        })
    }

    /// The numbers of the pages that a round reports.
    fn round(&self, strategy: &mut dyn TrackingStrategy) -> Result<BTreeSet<u64>, UffdError> {
        let mut written = Vec::new();
        strategy.round(&self.area, &mut written)?;
        strategy.end_round()?;
        let number = |at: u64| (at - self.area.range.start) / self.area.page_size;
        let numbers = |w: &WrittenRun| number(w.range.start)..number(w.range.end - 1) + 1;
        Ok(written.iter().flat_map(numbers).collect())
    }

    fn store(&self, page: u64, value: u8) {
        self.scratch.store(self.first_small(page), value);
    }

    fn load(&self, page: u64) {
        self.scratch.read(self.first_small(page));
    }

    fn zap(&self, page: u64) {
        let range = self.first_small(page)..self.first_small(page + 1);
        // If this fails nothing is emptied, and the report has nothing of it.
        let _ = self.scratch.drop_range(range);
    }

    fn first_small(&self, page: u64) -> u64 {
        page * self.area.page_size / PAGE_SIZE
    }
}

fn judge(reported: &BTreeSet<u64>) -> Result<(), TrialFailure> {
    if !reported.contains(&THERE) {
        Err(TrialFailure::MissesWrite)
    } else if !reported.contains(&FIRST) {
        Err(TrialFailure::MissesFirstWrite)
    } else if reported.contains(&ALONE) {
        Err(TrialFailure::ReportsAlone)
    } else {
        Ok(())
    }
}

fn refusal(error: UffdError) -> TrialFailure {
    if error.errno() == Some(Errno::INVAL) {
        TrialFailure::NotRegistered
    } else {
        error.into()
    }
}

/// A regular file of some pages, not on tmpfs, whose pages are shmem: the program itself, or a new
/// file.
fn regular_file() -> Result<File, UntriedReason> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    for open in [own_program, unnamed_in_temp_dir] {
        let Ok(file) = open() else { continue };
        if rustix::fs::fstatfs(&file).is_ok_and(|system| system.f_type != TMPFS_MAGIC) {
            return Ok(file);
        }
    }
    Err(UntriedReason::NoFile(std::env::temp_dir()))
}

fn own_program() -> io::Result<File> {
    File::open("/proc/self/exe")
}

fn unnamed_in_temp_dir() -> io::Result<File> {
    let (flags, mode) = (
        OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
        Mode::RUSR | Mode::WUSR,
    );
    let file = File::from(rustix::fs::open(std::env::temp_dir(), flags, mode)?);
    file.set_len(PAGES * PAGE_SIZE)?;
    Ok(file)
}
