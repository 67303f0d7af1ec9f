//! Work that the kernel does on memory of our own, so that whoever watches the kernel can be seen
//! to see it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::{io, ptr};

use rustix::io::Errno;
use rustix::thread::CpuSet;

use crate::scratch::KernelWrite;
use crate::{
    PAGE_SIZE, PMD_SIZE, PageRegion, Pagemap, PagemapEntry, RegisterMode, ScanQuery,
    ScratchMapping, UffdError, UffdFeatures, Userfaultfd, maps,
};

/// How often most work is done.
const TIMES: u64 = 4;
/// What one entry of the topmost table spans with four levels of tables.
const TOP_SPAN: u64 = 1 << 39;
/// The end of what user space has with four levels.
const USER_END: u64 = 1 << 47;

/// One kind of work: what the kernel does for it, and no more than that.
///
/// Each takes at most a few milliseconds and 4 MiB, waits for nobody, and leaves nothing behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelExercise {
    /// Writes to pages that are new (`handle_mm_fault`).
    Touch,
    /// The kernel writes to armed pages of a userfaultfd that nobody handles: it asks, and gives
    /// up (`do_wp_page`, `handle_userfault`; `UFFD_FEATURE_SIGBUS`).
    WriteArmed,
    /// Reads where a marker is (`do_swap_page`).
    ReadMarker,
    /// `UFFDIO_WRITEPROTECT` (`userfaultfd_ioctl`, `uffd_wp_range`).
    Arm,
    /// `UFFDIO_UNREGISTER` (`userfaultfd_clear_vma`).
    Unregister,
    /// `PAGEMAP_SCAN` that arms what was written (`do_pagemap_scan`, `make_uffd_wp_pte`).
    Scan,
    /// Reads of `/proc/PID/pagemap` (`pagemap_read`).
    ReadPagemap,
    /// Writes to `/proc/PID/clear_refs` of what it does not know: it refuses, and clears nothing
    /// (`clear_refs_write`).
    ClearRefs,
    /// `MADV_DONTNEED` (`unmap_page_range`).
    Drop,
    /// `MADV_FREE` (`madvise_free_pte_range`).
    Free,
    /// `MADV_FREE`, then `MADV_PAGEOUT` (`try_to_unmap_one`).
    Reclaim,
    /// A page where nothing else is for 512 GiB is mapped and unmapped: page tables of all levels
    /// are allocated and freed (`pmd_install`, `__pmd_alloc`, `__pud_alloc` and their opposites).
    Tables,
    /// fork(2), and the child ends at once (`copy_page_range`, `__mmdrop`).
    Fork,
    /// mremap(2) to another place (`move_page_tables`).
    Move,
    /// `MAP_POPULATE` (`populate_vma_page_range`).
    Populate,
    /// `MADV_POPULATE_READ` (`faultin_page_range`).
    MadvisePopulate,
    /// The kernel writes to hugetlb memory, and is refused before a page is taken from the pool
    /// (`hugetlb_fault`, `huge_pte_alloc`); the memory is unmapped (`__unmap_hugepage_range`).
    Hugetlb,
    /// A transparent huge page is mapped, split and emptied (`__split_huge_pmd`, `zap_huge_pmd`).
    HugePage,
    /// Guard pages are installed and removed (`guard_install_set_pte`).
    Guard,
}

impl KernelExercise {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Touch,
        Self::WriteArmed,
        Self::ReadMarker,
        Self::Arm,
        Self::Unregister,
        Self::Scan,
        Self::ReadPagemap,
        Self::ClearRefs,
        Self::Drop,
        Self::Free,
        Self::Reclaim,
        Self::Tables,
        Self::Fork,
        Self::Move,
        Self::Populate,
        Self::MadvisePopulate,
        Self::Hugetlb,
        Self::HugePage,
        Self::Guard,
    ];

    /// How often at least the kernel does it in one run.
    #[must_use]
    pub const fn times(self) -> u64 {
        match self {
            Self::Fork | Self::HugePage => 1,
            _ => TIMES,
        }
    }

    /// What is done, in words to be read after "exercise: ".
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Touch => "writing to new pages",
            Self::WriteArmed => "writing to armed pages",
            Self::ReadMarker => "reading over markers",
            Self::Arm => "arming",
            Self::Unregister => "unregistering",
            Self::Scan => "scanning",
            Self::ReadPagemap => "reading pagemap",
            Self::ClearRefs => "writing to clear_refs",
            Self::Drop => "emptying memory",
            Self::Free => "giving pages up (MADV_FREE)",
            Self::Reclaim => "having pages reclaimed",
            Self::Tables => "allocating and freeing page tables",
            Self::Fork => "forking",
            Self::Move => "moving memory (mremap)",
            Self::Populate => "populating memory (MAP_POPULATE)",
            Self::MadvisePopulate => "populating memory (madvise)",
            Self::Hugetlb => "faulting in hugetlb memory",
            Self::HugePage => "splitting a huge page",
            Self::Guard => "installing guard pages",
        }
    }

    /// Has the kernel do it, [`Self::times`] times.
    ///
    /// # Errors
    /// If the kernel or this machine refuses: it has no such thing, or none to spare.
    pub fn run(self) -> Result<(), UffdError> {
        match self {
            Self::Touch => touched().map(drop),
            Self::WriteArmed => write_armed(),
            Self::ReadMarker => read_marker(),
            Self::Arm => arm(),
            Self::Unregister => unregister(),
            Self::Scan => scan(),
            Self::ReadPagemap => read_pagemap(),
            Self::ClearRefs => clear_refs(),
            Self::Drop => repeat(|memory| memory.drop_pages()),
            Self::Free => repeat(|memory| memory.advise_by_number(0..TIMES, libc::MADV_FREE)),
            Self::Reclaim => reclaim(),
            Self::Tables => tables(),
            Self::Fork => fork(),
            Self::Move => touched()?.move_to_and_fro(TIMES),
            Self::Populate => {
                (0..TIMES).try_for_each(|_| ScratchMapping::populated(PAGE_SIZE).map(drop))
            }
            Self::MadvisePopulate => {
                repeat(|memory| memory.advise_by_number(0..1, libc::MADV_POPULATE_READ))
            }
            Self::Hugetlb => (0..TIMES).try_for_each(|_| hugetlb()),
            Self::HugePage => huge_page(),
            Self::Guard => guard(),
        }
    }
}

/// Anonymous memory of which every page is there.
fn touched() -> Result<ScratchMapping, UffdError> {
    let memory = ScratchMapping::anonymous(TIMES * PAGE_SIZE)?;
    (0..TIMES).for_each(|page| memory.write(page));
    Ok(memory)
}

/// Does it to memory that is there, again and again.
fn repeat(work: impl Fn(&ScratchMapping) -> Result<(), UffdError>) -> Result<(), UffdError> {
    let memory = touched()?;
    (0..TIMES).try_for_each(|_| {
        memory.write(0);
        work(&memory)
    })
}

fn registered(
    memory: &ScratchMapping,
    features: UffdFeatures,
    mode: RegisterMode,
) -> Result<Userfaultfd, UffdError> {
    let fd = Userfaultfd::open().or_else(|_| Userfaultfd::open_user_mode_only())?;
    fd.enable(features)?;
    fd.register(&memory.range(), mode)?;
    Ok(fd)
}

/// The kernel writes to a page, and must be refused, since nobody handles its fault.
fn refused(memory: &ScratchMapping, page: u64) -> Result<(), UffdError> {
    match memory.write_by_kernel(page) {
        KernelWrite::Refused => Ok(()),
        KernelWrite::Done => Err(unable("a write was not refused by", "a scratch mapping")),
    }
}

fn unable(what: &'static str, on: &str) -> UffdError {
    UffdError::system(what, on, Errno::OPNOTSUPP)
}

fn write_armed() -> Result<(), UffdError> {
    let memory = touched()?;
    let fd = registered(&memory, UffdFeatures::SIGBUS, RegisterMode::WP)?;
    fd.arm(&memory.range())?;
    (0..TIMES).try_for_each(|page| refused(&memory, page))
}

fn read_marker() -> Result<(), UffdError> {
    let memory = ScratchMapping::shared(TIMES * PAGE_SIZE)?;
    let fd = registered(&memory, UffdFeatures::WP_HUGETLBFS_SHMEM, RegisterMode::WP)?;
    fd.arm(&memory.range())?;
    (0..TIMES).for_each(|page| _ = memory.read(page));
    Ok(())
}

fn arm() -> Result<(), UffdError> {
    let memory = touched()?;
    let fd = registered(&memory, UffdFeatures::default(), RegisterMode::WP)?;
    (0..TIMES).try_for_each(|_| fd.arm(&memory.range()))
}

fn unregister() -> Result<(), UffdError> {
    let memory = touched()?;
    let fd = registered(&memory, UffdFeatures::default(), RegisterMode::WP)?;
    (0..TIMES).try_for_each(|_| {
        fd.register(&memory.range(), RegisterMode::WP)?;
        fd.unregister(&memory.range())
    })
}

fn scan() -> Result<(), UffdError> {
    let memory = touched()?;
    let _registered = registered(&memory, UffdFeatures::WP_ASYNC, RegisterMode::WP)?;
    let pagemap = Pagemap::own()?;
    let mut regions = [PageRegion::default(); TIMES as usize];
    (0..TIMES).try_for_each(|page| {
        memory.write(page);
        let query = &ScanQuery::WRITTEN_AND_ARM;
        pagemap
            .scan_once(&memory.range(), query, &mut regions)
            .map(drop)
    })
}

fn read_pagemap() -> Result<(), UffdError> {
    let memory = touched()?;
    let pagemap = Pagemap::own()?;
    let mut entries = [PagemapEntry::default(); TIMES as usize];
    (0..TIMES).try_for_each(|_| pagemap.read(&memory.range(), &mut entries).map(drop))
}

fn clear_refs() -> Result<(), UffdError> {
    const PATH: &str = "/proc/self/clear_refs";
    let mut file = OpenOptions::new()
        .write(true)
        .open(PATH)
        .map_err(|error| UffdError::system("cannot open", PATH, error))?;
    for _ in 0..TIMES {
        match file.write(b"0") {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => (),
            other => {
                other.map_err(|error| UffdError::system("cannot write", PATH, error))?;
            }
        }
    }
    Ok(())
}

fn reclaim() -> Result<(), UffdError> {
    let memory = touched()?;
    memory.advise_by_number(0..TIMES, libc::MADV_FREE)?;
    memory.advise_by_number(0..TIMES, libc::MADV_PAGEOUT)
}

fn tables() -> Result<(), UffdError> {
    let start = lonely_place()?;
    (0..TIMES).try_for_each(|_| {
        let memory = ScratchMapping::at(start, PAGE_SIZE)?;
        memory.write(0);
        Ok(())
    })
}

/// An address in the middle of what one entry of the topmost table spans, where nothing is mapped.
fn lonely_place() -> Result<u64, UffdError> {
    let mut taken = Vec::new();
    for vma in maps(std::process::id())? {
        let vma = vma?;
        taken.extend(vma.start / TOP_SPAN..=(vma.end - 1) / TOP_SPAN);
    }
    let mut spans = 1..USER_END / TOP_SPAN;
    let free = spans.find(|span| !taken.contains(span));
    let free = free.ok_or_else(|| unable("no 512 GiB are free in", "our address space"))?;
    Ok(free * TOP_SPAN + TOP_SPAN / 2)
}

/// On one CPU: what was the child's last is dropped there when we run again.
fn fork() -> Result<(), UffdError> {
    on_this_cpu(fork_and_wait)?
}

/// Does something on the CPU that this thread is on, as do the threads that it starts meanwhile.
///
/// # Errors
/// If the kernel does not let the thread choose its CPU (`sched_setaffinity`).
pub fn on_this_cpu<T>(work: impl FnOnce() -> T) -> Result<T, UffdError> {
    let cannot = |e| UffdError::system("cannot choose a CPU for", "this thread", e);
    let everywhere = rustix::thread::sched_getaffinity(None).map_err(cannot)?;
    let mut here = CpuSet::new();
    here.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &here).map_err(cannot)?;
    let done = work();
    rustix::thread::sched_setaffinity(None, &everywhere).map_err(cannot)?;
    Ok(done)
}

/// From now on no ordinary thread preempts this one (`SCHED_FIFO`, the lowest priority). A thread
/// that is preempted in an eBPF program keeps it from running for others on that CPU.
///
/// # Errors
/// EPERM: without CAP_SYS_NICE or a limit of RLIMIT_RTPRIO.
pub fn prevent_preemption() -> Result<(), UffdError> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: it reads one `sched_param`; 0 is this thread.
    let done = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(UffdError::system(
        "cannot set the policy of",
        "this thread",
        error,
    ))
}

fn fork_and_wait() -> Result<(), UffdError> {
    // SAFETY: the child only ends, which is async-signal-safe.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it does not return, and runs nothing of ours.
        unsafe { libc::_exit(0) }
    }
    let failed = |what| {
        Err(UffdError::system(
            what,
            "a child",
            io::Error::last_os_error(),
        ))
    };
    if child < 0 {
        return failed("cannot fork");
    }
    // SAFETY: it is our own child, and nobody else waits for it; the status is not asked for.
    while unsafe { libc::waitpid(child, ptr::null_mut(), 0) } < 0 {
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return failed("cannot wait for");
        }
    }
    Ok(())
}

/// Pages that are missing are asked for, and nobody answers: so none is taken.
fn hugetlb() -> Result<(), UffdError> {
    let memory = ScratchMapping::hugetlb_unreserved(PMD_SIZE)?;
    let _registered = registered(&memory, UffdFeatures::SIGBUS, RegisterMode::MISSING)?;
    refused(&memory, 0)
}

fn huge_page() -> Result<(), UffdError> {
    let huge = || {
        let memory = ScratchMapping::huge(PMD_SIZE)?;
        memory.write(0);
        let before = minor_faults();
        memory.write(PMD_SIZE / PAGE_SIZE - 1);
        if minor_faults() == before {
            Ok(memory)
        } else {
            Err(unable(
                "no transparent huge page came for",
                "a scratch mapping",
            ))
        }
    };
    let (split, emptied) = (huge()?, huge()?);
    split.drop_range(1..2)?;
    emptied.drop_pages()
}

/// Faults of this thread so far that needed no I/O (getrusage(2)).
fn minor_faults() -> i64 {
    // SAFETY: all zeroes are a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it fills one rusage; it cannot fail with these arguments.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_minflt
}

fn guard() -> Result<(), UffdError> {
    let memory = touched()?;
    (0..TIMES).try_for_each(|_| {
        memory.install_guards(0..1)?;
        memory.remove_guards(0..1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What this machine lacks is refused with a reason, and nothing hangs or is killed.
    #[test]
    fn each_runs_or_says_why_not() {
        for exercise in KernelExercise::ALL {
            if let Err(error) = exercise.run() {
                eprintln!("{}: {error}", exercise.as_str());
            }
        }
        for exercise in [
            KernelExercise::Touch,
            KernelExercise::Drop,
            KernelExercise::Tables,
        ] {
            assert!(exercise.run().is_ok(), "{}", exercise.as_str());
        }
    }
}
